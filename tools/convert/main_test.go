package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
)

// TestMain runs the program itself where a test starts this binary as one.
func TestMain(m *testing.M) {
	if os.Getenv("CONVERT_TEST_MAIN") == "1" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program is the converter with arguments, as a process.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "CONVERT_TEST_MAIN=1")
	return cmd
}

// run returns what the program printed and its exit status.
func run(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := program(t, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func tinyConfig(t *testing.T) string {
	t.Helper()
	data, err := json.Marshal(&config.Config{
		HiddenSize: 64, NumHiddenLayers: 2, NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 32, IntermediateSize: 96, VocabSize: 200,
		MaxPositionEmbeddings: 64, RMSNormEps: 1e-6, RopeTheta: 1e6, BosTokenID: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// The whole round as a user goes it: synth, convert, inspect, verify, damage, verify.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	hf, packed := filepath.Join(dir, "hf"), filepath.Join(dir, "packed")
	expect := func(want int, words []string, args ...string) {
		t.Helper()
		stdout, stderr, status := run(t, args...)
		if status != want {
			t.Fatalf("%v: exit status %d\n%s%s", args, status, stdout, stderr)
		}
		text := stdout
		if want != 0 {
			text = stderr
		}
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%v: no %q in\n%s", args, w, text)
			}
		}
	}
	expect(0, []string{"--dtype", "verify", "inspect", "synth"})
	expect(0, []string{"hidden 64", "seed 4"}, "synth", "--config", tinyConfig(t), "--seed", "4", "--out", hf)
	expect(0, []string{"untied", "lm_head.weight", "qkv_proj [256, 64]", "warning: there is no tokenizer.json", "q4, 1 shards"}, "--in", hf, "--out", packed, "--dtype", "q4")
	expect(0, []string{"4.61 bits", "config.json", "model.layers.N.mlp.up_proj.weight"}, "inspect", packed)
	expect(0, []string{"model.layers.1.mlp.up_proj.weight"}, "inspect", "--all", packed)
	expect(0, []string{"is sound", "1 shards"}, "verify", packed)
	expect(1, []string{"not empty", "--force"}, "--in", hf, "--out", packed)
	expect(0, []string{"q8, 1 shards"}, "--in", hf, "--out", packed, "--dtype", "q8", "--force", "--shard-mib", "1", "--workers", "1")
	expect(1, []string{"q5", "bf16, q8 or q4"}, "--in", hf, "--out", packed+"2", "--dtype", "q5")
	expect(1, []string{"--in and --out"}, "--in", hf)
	expect(1, []string{"no such file"}, "--in", hf+"2", "--out", packed+"2")
	expect(1, []string{"shards of"}, "--in", hf, "--out", packed+"2", "--shard-mib", "129")
	expect(1, []string{"--preset or --config"}, "synth", "--out", hf+"2")
	expect(1, []string{"--out is needed"}, "synth", "--preset", "0.6b")
	expect(1, []string{"qwen3-32b"}, "synth", "--preset", "33b", "--out", hf+"2")
	expect(1, []string{"not a packed model directory"}, "verify", hf)
	expect(1, []string{"unknown command"}, "frobnicate")

	shard := filepath.Join(packed, "model-00001-of-00001.safetensors")
	data, err := os.ReadFile(shard)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 4
	if err := os.WriteFile(shard, data, 0o644); err != nil {
		t.Fatal(err)
	}
	expect(0, nil, "inspect", packed) // reads no weights
	expect(1, []string{"model-00001-of-00001.safetensors is damaged"}, "verify", packed)
	if err := os.Truncate(shard, 5000); err != nil {
		t.Fatal(err)
	}
	expect(1, []string{"model-00001-of-00001.safetensors has 5000 bytes"}, "verify", packed)
	expect(1, []string{"model-00001-of-00001.safetensors has 5000 bytes"}, "inspect", packed)
}

// Ctrl-C ends the program at once, with status 1, a word, and nothing left on disk.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	cmd := program(t, "synth", "--preset", "qwen3-32b", "--out", filepath.Join(dir, "hf"))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if found, _ := filepath.Glob(filepath.Join(dir, ".hf.partial-*", "new", "*.safetensors")); len(found) > 0 {
			break
		}
		if time.Now().After(deadline) {
			cmd.Process.Kill()
			t.Fatal("nothing was begun")
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(stderr)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 1 || !strings.Contains(string(text), "interrupted") {
		t.Errorf("exit status %d: %s", status, text)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 10 << 20: "10.0 MiB", 335 << 20: "335 MiB", 3<<30 + 1<<29: "3.50 GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// Where output is piped, progress is a plain line now and then, and nothing at all when quiet.
func TestPlainMeter(t *testing.T) {
	var b bytes.Buffer
	m := newMeter(&b, "packing", false)
	m.set(1<<20, 4<<20)
	if b.Len() > 0 {
		t.Errorf("a line at once: %q", b.String())
	}
	m.last = m.last.Add(-plainEvery)
	m.set(2<<20, 4<<20)
	m.set(1<<20, 4<<20) // a late goroutine
	m.finish()
	if got := b.String(); !strings.HasPrefix(got, "packing: 2.00 MiB of 4.00 MiB (50%), ") || strings.ContainsAny(got, "\r\x1b") || strings.Count(got, "\n") != 1 {
		t.Errorf("%q", got)
	}
	quiet := newMeter(&b, "packing", true)
	b.Reset()
	quiet.last = quiet.last.Add(-plainEvery)
	quiet.set(1, 2)
	if b.Len() > 0 || quiet.done != 1 {
		t.Errorf("%q", b.String())
	}
}
