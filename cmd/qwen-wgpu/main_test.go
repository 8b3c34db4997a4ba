package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/ref"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/internal/chattest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// result is what a command line gave.
type result struct {
	code     int
	out, err string
}

func run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	code := execute(t.Context(), args, strings.NewReader(stdin), &out, &errOut)
	r := result{code, out.String(), errOut.String()}
	if strings.Contains(r.err, "goroutine") || strings.Contains(r.err, "internal error") {
		t.Errorf("qwen-wgpu %s panics:\n%s", strings.Join(args, " "), r.err)
	}
	return r
}

// succeed runs a command line that must.
func succeed(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	r := run(t, stdin, args...)
	if r.code != 0 {
		t.Fatalf("qwen-wgpu %s: exit status %d: %s", strings.Join(args, " "), r.code, r.err)
	}
	return r
}

// fail runs a command line that must fail with all of want in its message and nothing on standard output.
func fail(t *testing.T, code int, want []string, args ...string) {
	t.Helper()
	r := run(t, "", args...)
	if r.code != code || r.out != "" || !strings.HasPrefix(r.err, "qwen-wgpu: ") {
		t.Errorf("qwen-wgpu %s: exit status %d, want %d; stdout %q, stderr %q", strings.Join(args, " "), r.code, code, r.out, r.err)
	}
	for _, w := range want {
		if !strings.Contains(r.err, w) {
			t.Errorf("qwen-wgpu %s: the message %q lacks %q", strings.Join(args, " "), r.err, w)
		}
	}
}

// TestMain runs the program itself where a test asks for a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("QWEN_WGPU_TEST_PROGRAM") == "1" {
		main()
	}
	os.Exit(m.Run())
}

func program(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), "QWEN_WGPU_TEST_PROGRAM=1"), env...)
	return cmd
}

// TestNoGPU hides all drivers from the Vulkan loader.
func TestNoGPU(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("hides the drivers of Linux's Vulkan loader")
	}
	none := []string{"VK_DRIVER_FILES=/nonexistent", "VK_ICD_FILENAMES=/nonexistent"}
	model := chattest.Model(t, chattest.Plain)
	out, err := program(t, none, "run", "--model", model, "--device", "gpu", "--ids", "5", "-n", "2").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "mesa-vulkan-drivers") || strings.Contains(string(out), "goroutine") {
		t.Errorf("--device gpu: %v, %s", err, out)
	}
	if out, err := program(t, none, "run", "--model", model, "--ids", "5", "-n", "2").CombinedOutput(); err != nil || !strings.Contains(string(out), "CPU") {
		t.Errorf("--device auto: %v, %s", err, out)
	}
	chat := program(t, none, "chat", "--model", model, "-n", "2")
	chat.Stdin = strings.NewReader("hello\n")
	if out, err := chat.CombinedOutput(); err != nil || !strings.Contains(string(out), "because no GPU was found; `qwen-wgpu doctor` says what is missing") {
		t.Errorf("chat: %v, %s", err, out)
	}
	out, err = program(t, none, "doctor").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Install") || !strings.Contains(string(out), "the CPU in plain Go, as no GPU was found") {
		t.Errorf("doctor: %v, %s", err, out)
	}
}

// TestTooLittleMemory asks for a KV cache of some 100 GiB.
func TestTooLittleMemory(t *testing.T) {
	model := edited(t, chattest.Model(t, chattest.Plain), "config.json", replaced(`"max_position_embeddings": 4096`, `"max_position_embeddings": 134217728`))
	args := []string{"run", "--model", model, "--no-verify", "--kv", "f32", "--ids", "5", "--context", "134217728"}
	weightBytes, kvBytes, available, err := ref.PlanMemory(goldentest.OpenModel(t, model), ref.Options{NumPages: 134217728 / 16, KVDType: runner.KVF32})
	if err != nil {
		t.Fatal(err)
	}
	if available > 0 && weightBytes+kvBytes > available {
		fail(t, 1, []string{"KV cache of 134217728 tokens 128.00 GiB", "memory are available", "shorter context"}, append(args, "--device", "cpu")...)
	}
	withGPU(t)
	fail(t, 1, []string{"KV cache of 134217728 tokens", "use a context of at most"}, append(args, "--device", "gpu")...)
}

// TestInterrupt stops an answer: what was said stays said.
func TestInterrupt(t *testing.T) {
	model := chattest.Model(t, chattest.Plain)
	cmd := program(t, nil, "run", "--model", model, "--device", "cpu", "--ids", "5", "--greedy", "--logit-bias", "120=100")
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil || !bytes.HasSuffix(rest, []byte("\n")) {
		t.Errorf("%q, %v", rest, err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 || !strings.Contains(errOut.String(), "ended by cancelled") {
		t.Errorf("%v: %s", err, errOut.String())
	}
}

// TestEndWhileWaiting ends a chat that waits for its input.
func TestEndWhileWaiting(t *testing.T) {
	cmd := program(t, nil, "chat", "--model", chattest.Model(t, chattest.Plain), "--device", "cpu", "-n", "3")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "hello\n")
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out)
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("exit status %d", cmd.ProcessState.ExitCode())
	}
}

func withGPU(t *testing.T) {
	t.Helper()
	if os.Getenv("QWEN_WGPU_NO_GPU") == "1" {
		t.Skip("QWEN_WGPU_NO_GPU=1")
	}
}

// edited is a copy of a packed directory with one file changed; a nil change removes it.
func edited(t *testing.T, dir, file string, change func([]byte) []byte) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(copied, file)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		if err := os.WriteFile(path, change(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

func replaced(old, new string) func([]byte) []byte {
	return func(data []byte) []byte { return bytes.Replace(data, []byte(old), []byte(new), 1) }
}

const shard = "model-00001-of-00001.safetensors"

// TestBadModels: every way in which a model directory can be wrong is an error that says what and where.
func TestBadModels(t *testing.T) {
	hf := chattest.Checkpoint(t, chattest.Plain)
	dir := goldentest.PackDir(t, hf, weights.Q8)
	data, err := os.ReadFile(filepath.Join(dir, shard))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, shard)
	for _, c := range []struct {
		name, dir string
		want      []string
	}{
		{"absent", filepath.Join(dir, "nowhere"), []string{"nowhere does not exist"}},
		{"a file", file, []string{"is a file", "directory"}},
		{"empty", t.TempDir(), []string{"manifest.json", "not a packed model directory"}},
		{"a checkpoint", hf, []string{"convert --in " + hf + " --out " + hf + "-q8 --dtype q8", "Hugging Face checkpoint"}},
		{"no shard", edited(t, dir, shard, nil), []string{shard}},
		{"a truncated shard", edited(t, dir, shard, func(b []byte) []byte { return b[:len(b)/2] }), []string{shard, "truncated"}},
		{"an empty shard", edited(t, dir, shard, func([]byte) []byte { return nil }), []string{shard, "0 bytes"}},
		{"a changed shard", edited(t, dir, shard, func(b []byte) []byte { b[len(b)-5] ^= 1; return b }), []string{shard, "SHA-256", "convert it again"}},
		{"another hash", edited(t, dir, "manifest.json", anotherHash), []string{shard, "SHA-256"}},
		{"no config", edited(t, dir, "config.json", nil), []string{"config.json"}},
		{"another architecture", edited(t, dir, "config.json", replaced("Qwen3ForCausalLM", "LlamaForCausalLM")), []string{"LlamaForCausalLM", "not supported"}},
		{"another shape", edited(t, dir, "config.json", replaced(`"hidden_size": 64`, `"hidden_size": 96`)), []string{"96"}},
		{"no shape", edited(t, dir, "config.json", replaced("num_hidden_layers", "other")), []string{"num_hidden_layers"}},
		{"config that is no JSON", edited(t, dir, "config.json", func(b []byte) []byte { return b[:20] }), []string{"config"}},
		{"manifest that is no JSON", edited(t, dir, "manifest.json", func(b []byte) []byte { return b[:50] }), []string{"manifest"}},
		{"a tokenizer that is no JSON", edited(t, dir, "tokenizer.json", func([]byte) []byte { return []byte("{") }), []string{"tokenizer.json"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fail(t, 1, c.want, "run", "--model", c.dir, "--ids", "1,2", "-n", "2", "--device", "cpu")
		})
	}
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(data, again) {
		t.Error("the model directory was changed")
	}
}

func anotherHash(manifest []byte) []byte {
	var m struct {
		Shards []struct{ SHA256 string }
	}
	if json.Unmarshal(manifest, &m) != nil || len(m.Shards) == 0 {
		return nil
	}
	return bytes.Replace(manifest, []byte(m.Shards[0].SHA256), []byte(strings.Repeat("0", 64)), 1)
}

// TestBadRequests: wrong requests of a good model. Exit status 2 is a wrong command line.
func TestBadRequests(t *testing.T) {
	model := chattest.Model(t, chattest.Plain)
	ids := goldentest.RandomModel(t, 1, weights.BF16) // without a tokenizer
	cpu := []string{"--model", model, "--device", "cpu"}
	with := func(args ...string) []string { return append(args, cpu...) }
	for _, c := range []struct {
		code int
		want []string
		args []string
	}{
		{1, []string{"token 1 of the prompt is 300", "[0, 300)"}, with("run", "--ids", "5,300")},
		{1, []string{"token 0 of the prompt is -1"}, with("run", "--ids", "-1")},
		{2, []string{"number 2", `"x"`}, with("run", "--ids", "5,x")},
		{2, []string{"--ids", "PROMPT"}, with("run")},
		{2, []string{"--ids", "PROMPT"}, with("run", "--ids", "5", "text")},
		{2, []string{"-3 is negative"}, with("run", "--ids", "5", "-n", "-3")},
		{2, []string{"temperature", "-1"}, with("run", "--ids", "5", "-t", "-1")},
		{2, []string{"top_p", "2"}, with("run", "--ids", "5", "--top-p", "2")},
		{2, []string{"exclude each other"}, with("run", "--ids", "5", "--greedy", "-t", "1")},
		{2, []string{"exclude each other"}, with("run", "--think", "--no-think", "x")},
		{2, []string{"logit-bias", "ID=BIAS"}, with("run", "--ids", "5", "--logit-bias", "7")},
		{2, []string{"logit_bias", "300", "[0, 300)"}, with("run", "--ids", "5", "--logit-bias", "300=1")},
		{2, []string{"--logprobs 21"}, with("run", "--ids", "5", "--logprobs", "21")},
		{2, []string{"drop-oldest"}, with("chat", "--overflow", "ignore")},
		{2, []string{"--device", "tpu"}, []string{"run", "--model", model, "--device", "tpu", "--ids", "5"}},
		{2, []string{"f8"}, with("run", "--ids", "5", "--kv", "f8")},
		{1, []string{"5000", "1 to 4096"}, with("run", "--ids", "5", "--context", "5000")},
		{1, []string{"the prompt has 4 tokens", "the context holds 3"}, with("run", "--ids", "5,6,7,8", "--context", "3")},
		{1, []string{"the conversation has", "the context holds 16"}, with("run", "--context", "16", strings.Repeat("long ", 20))},
		{1, []string{"no tokenizer.json", "--ids"}, []string{"run", "--model", ids, "--device", "cpu", "hello"}},
		{1, []string{"no tokenizer.json"}, []string{"chat", "--model", ids, "--device", "cpu"}},
		{1, []string{"nowhere.json"}, with("run", "--tools", "nowhere.json", "x")},
		{2, []string{"--ids"}, with("trace", "--out", "x")},
		{2, []string{"--out"}, with("trace", "--ids", "5")},
		{1, []string{"outside the model's vocabulary"}, with("trace", "--ids", "999", "--out", filepath.Join(t.TempDir(), "x"))},
		{1, []string{"context"}, with("trace", "--ids", "5", "-n", "100", "--context", "20", "--out", filepath.Join(t.TempDir(), "x"))},
		{2, []string{"unknown flag", "--nope"}, with("run", "--nope")},
		{2, []string{"--file"}, []string{"template"}},
		{1, []string{"nowhere.jinja"}, []string{"template", "--file", "nowhere.jinja"}},
		{2, []string{"--tokenizer"}, []string{"tokenize"}},
	} {
		fail(t, c.code, c.want, c.args...)
	}
}

func TestBadGPU(t *testing.T) {
	withGPU(t)
	model := chattest.Model(t, chattest.Plain)
	fail(t, 1, []string{"no name contains", "Voodoo", "there are"}, "run", "--model", model, "--ids", "5", "--adapter", "Voodoo")
}

func TestRun(t *testing.T) {
	model := chattest.Model(t, chattest.Plain)
	base := []string{"run", "--model", model, "--device", "cpu", "--seed", "7", "-n", "12"}
	for id, bias := range chattest.SpeakPlainly() {
		base = append(base, "--logit-bias", strings.Join([]string{jsonOf(t, id), jsonOf(t, bias)}, "="))
	}
	with := func(args ...string) []string { return append(base[:len(base):len(base)], args...) }

	answer := succeed(t, "", with("hello")...)
	if !strings.Contains(answer.err, "CPU") || !strings.Contains(answer.err, "tokens/s") || !strings.Contains(answer.err, "ended by length") {
		t.Errorf("figures: %q", answer.err)
	}
	if strings.ContainsRune(answer.out, 0x1b) || len(answer.out) < 12 {
		t.Errorf("answer %q", answer.out)
	}
	if again := succeed(t, "", with("hello")...); again.out != answer.out {
		t.Errorf("one seed, two answers: %q and %q", answer.out, again.out)
	}
	if piped := succeed(t, "hello", with("-")...); piped.out != answer.out {
		t.Errorf("from standard input: %q, want %q", piped.out, answer.out)
	}
	ids := strings.Split(strings.TrimSpace(succeed(t, "", with("--print-ids", "hello")...).out), ",")
	if len(ids) != 12 {
		t.Errorf("%d ids: %v", len(ids), ids)
	}
	// What the template makes of hello, given as ids.
	prompt := succeed(t, `{"messages": [{"role": "user", "content": "hello"}], "add_generation_prompt": true}`, "template", "--file", filepath.Join(chattest.Checkpoint(t, chattest.Plain), "tokenizer_config.json"))
	encoded := succeed(t, jsonOf(t, prompt.out), "tokenize", "--jsonl", "--tokenizer", filepath.Join(model, "tokenizer.json"))
	list := strings.Trim(strings.TrimSpace(encoded.out), "[]")
	if byIDs := succeed(t, "", with("--ids", list, "--print-ids")...); byIDs.out != strings.Join(ids, ",")+"\n" {
		t.Errorf("by ids %q, in the template %q", byIDs.out, ids)
	}
	if byIDs := succeed(t, "", with("--ids", list)...); byIDs.out != answer.out {
		t.Errorf("text by ids %q, want %q", byIDs.out, answer.out)
	}
	if raw := succeed(t, "", with("--raw", prompt.out)...); raw.out != answer.out {
		t.Errorf("raw %q, want %q", raw.out, answer.out)
	}
	stop := answer.out[5:7]
	want := answer.out[:strings.Index(answer.out, stop)] + "\n"
	for _, mode := range [][]string{{"hello"}, {"--raw", prompt.out}} {
		if got := succeed(t, "", with(append(mode, "--stop", stop)...)...); got.out != want || !strings.Contains(got.err, "ended by stop") {
			t.Errorf("%s up to %q: %q, want %q (%s)", mode[0], stop, got.out, want, got.err)
		}
	}
	if lines := strings.Split(strings.TrimSpace(succeed(t, "", with("--logprobs", "2", "hello")...).out), "\n"); len(lines) != 12 || strings.Count(lines[0], "\t") != 3 {
		t.Errorf("log-probabilities: %q", lines)
	}
	if full := run(t, "", "run", "--model", model, "--device", "cpu", "--ids", "5,6,7,8", "--context", "8", "--ignore-eos"); full.code != 0 || !strings.Contains(full.err, "stopped: engine: the context is full") {
		t.Errorf("up to the end of the context: %+v", full)
	}
}

// TestRunShowsThinking: reasoning goes between tags through a pipe, and can be hidden.
func TestRunShowsThinking(t *testing.T) {
	model := chattest.Model(t, chattest.Plain+"<think>\n")
	args := []string{"run", "--model", model, "--device", "cpu", "--greedy", "-n", "5", "--logit-bias", "120=100", "hello"}
	if got := succeed(t, "", args...); got.out != "<think>\nxxxxx\n</think>\n" {
		t.Errorf("%q", got.out)
	}
	if got := succeed(t, "", append(args, "--hide-thinking")...); got.out != "" {
		t.Errorf("hidden: %q", got.out)
	}
}

func TestChat(t *testing.T) {
	model := chattest.Model(t, chattest.Plain)
	saved := filepath.Join(t.TempDir(), "chat.json")
	args := []string{"chat", "--model", model, "--device", "cpu", "--greedy", "-n", "4", "--logit-bias", "120=100"}
	got := succeed(t, "hello\n\"\"\"\none\ntwo\"\"\"\nthree \\\nfour\n/nothink\n/system be kind\n/regenerate\n/save "+saved+"\n/stats\n/help\n/clear\n/load "+saved+"\n/system\nlast", args...)
	if got.out != strings.Repeat("xxxx\n", 5) {
		t.Errorf("answers %q", got.out)
	}
	if strings.ContainsRune(got.out+got.err, 0x1b) {
		t.Errorf("escape codes in a pipe: %q %q", got.out, got.err)
	}
	for _, want := range []string{"Model   " + model, "Runs on CPU", "[4 tokens at ", "prompt 0 cached + ", "Thinking is off", "The system message is set", "7 messages saved", "7 messages loaded",
		"be kind", "reused", "context  ", "pages of 16 tokens in use", "/regenerate", "The conversation is cleared"} {
		if !strings.Contains(got.err, want) {
			t.Errorf("the notes lack %q:\n%s", want, got.err)
		}
	}
	data, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	var file savedChat
	if err := json.Unmarshal(data, &file); err != nil || len(file.Messages) != 7 || file.Messages[3].Content != "one\ntwo" || file.Messages[5].Content != "three \nfour" || file.Messages[6].Content != "xxxx" {
		t.Errorf("%v, %s", err, data)
	}
	for _, bad := range []string{"/nope", "/save", "/load nowhere.json", "/regenerate", "\"\"\"\nopen", "open \\", "/load " + filepath.Join(model, "config.json")} {
		if r := run(t, bad, args...); r.code != 1 {
			t.Errorf("%q: exit status %d, %s", bad, r.code, r.err)
		}
	}
}

// TestChatOverflow: an error with the numbers, or whole turns left out and said so.
func TestChatOverflow(t *testing.T) {
	model := chattest.Model(t, chattest.Plain)
	args := []string{"chat", "--model", model, "--device", "cpu", "--greedy", "-n", "4", "--logit-bias", "120=100", "--context", "96"}
	talk := strings.Repeat("something to say\n", 6)
	if r := run(t, talk, args...); r.code != 1 || !strings.Contains(r.err, "the context holds 96, of which 4 are kept for the answer") {
		t.Errorf("%+v", r)
	}
	r := succeed(t, talk, append(args, "--overflow", "drop-oldest")...)
	if strings.Count(r.out, "xxxx\n") != 6 || !strings.Contains(r.err, "the oldest 2 messages (") {
		t.Errorf("%+v", r)
	}
}

// TestChatTools: whoever types answers the calls.
func TestChatTools(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tools.json")
	if err := os.WriteFile(file, []byte(`[{"type": "function", "function": {"name": "now", "parameters": {}}}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	model := chattest.Model(t, `{{ tools|tojson }}`+chattest.Plain)
	if r := succeed(t, "hello\n", "chat", "--model", model, "--device", "cpu", "--greedy", "-n", "4", "--logit-bias", "120=100", "--tools", file); r.out != "xxxx\n" {
		t.Errorf("%+v", r)
	}
}

func TestTraceFile(t *testing.T) {
	model := goldentest.RandomModel(t, 1, weights.BF16)
	c := goldentest.OpenModel(t, model).Config
	out := filepath.Join(t.TempDir(), "trace.safetensors")
	succeed(t, "", "trace", "--model", model, "--device", "cpu", "--ids", "5,6,7", "-n", "4", "--kv", "f32", "--out", out)
	f, err := safetensors.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, size := range map[string]int{"hidden.0": 3 * c.HiddenSize, "logits": 3 * c.VocabSize} {
		if v, err := f.Float32(name); err != nil || len(v) != size {
			t.Errorf("%s: %d numbers, want %d (%v)", name, len(v), size, err)
		}
	}
	if v, err := f.Int32("generated"); err != nil || len(v) != 4 {
		t.Errorf("generated %v, %v", v, err)
	}
}

func TestTraceCompare(t *testing.T) {
	withGPU(t)
	model := goldentest.RandomModel(t, 1, weights.BF16)
	got := succeed(t, "", "trace", "--compare", "--model", model, "--ids", "5,6,7", "-n", "3", "--kv", "f32")
	for _, want := range []string{"reference: CPU", "compared:  GPU", "max error", "embed", "final_norm", "logits", "equal within 0.0002 over 3 prompt and 3 generated tokens"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("the table lacks %q:\n%s", want, got.out)
		}
	}
	// No two processors add in the same order.
	r := run(t, "", "trace", "--compare", "--model", model, "--ids", "5,6,7", "--tolerance", "1e-12")
	if r.code != 1 || !strings.Contains(r.err, "the paths differ: first in layers.0.") || !strings.Contains(r.err, "token 0") || !strings.Contains(r.out, "max error") {
		t.Errorf("%+v", r)
	}
}

// TestTraceNamesTheBrokenPage replays the failure that started this project: the GPU path is given a page table whose second
// entry names the third page. From token 32 on, which lies in that page too, the second page's keys are lost.
func TestTraceNamesTheBrokenPage(t *testing.T) {
	withGPU(t)
	model := chattest.Model(t, chattest.Plain)
	ids := strings.TrimSuffix(strings.Repeat("5,6,7,8,9,10,11,12,", 5), ",")
	defer func() { traceFault = nil }()
	traceFault = &kvcache.Fault{ShiftPageTable: true, Entry: 1}
	r := run(t, "", "trace", "--compare", "--model", model, "--ids", ids, "-n", "2", "--kv", "f32", "--chunk", "16", "--context", "64")
	if r.code != 1 || !strings.Contains(r.err, "the paths differ: first in layers.0.attn, token 32,") {
		t.Errorf("%+v", r)
	}
}

func TestTemplate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.jinja")
	if err := os.WriteFile(file, []byte("{% for m in messages %}<{{ m.content }}>{% endfor %}{{ extra|tojson }}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	line := `{"messages": [{"role": "user", "content": "é\n<b>"}], "extra": {"z": 1.0, "a": null}}`
	if got := succeed(t, line+"\n\n"+line, "template", "--file", file, "--jsonl"); got.out != strings.Repeat(`"<é\n<b>>{\"z\": 1.0, \"a\": null}"`+"\n", 2) {
		t.Errorf("%q", got.out)
	}
	if got := succeed(t, line, "template", "--file", file); got.out != "<é\n<b>>{\"z\": 1.0, \"a\": null}" {
		t.Errorf("%q", got.out)
	}
	r := run(t, line+"\n{\n", "template", "--file", file, "--jsonl")
	if r.code != 1 || !strings.Contains(r.err, "line 2: ") {
		t.Errorf("%+v", r)
	}
}

func TestDoctor(t *testing.T) {
	model := chattest.Model(t, chattest.Plain)
	got := succeed(t, "", "doctor", "--model", model)
	for _, want := range []string{"Runs on", "Adapter", "the CPU: fits: ", "KV cache for 4096 tokens in f16", "available"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("doctor does not say %q:\n%s", want, got.out)
		}
	}
	var report struct{ Fits []fit }
	if err := json.Unmarshal([]byte(succeed(t, "", "doctor", "--model", model, "--json").out), &report); err != nil || len(report.Fits) == 0 || !report.Fits[0].Fits {
		t.Errorf("%v, %+v", err, report)
	}
	fail(t, 1, []string{"5000", "1 to 4096"}, "doctor", "--model", model, "--context", "5000")
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := marshalJSON(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
