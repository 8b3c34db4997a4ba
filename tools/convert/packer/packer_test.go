package packer

import (
	"context"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testutil"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/synth"
)

var goldens = []string{"tied-gqa2", "untied-gqa4", "knorm-outliers", "head128-tied"}

// pack converts and opens a checkpoint.
func pack(t *testing.T, in string, o Options) (*weights.Model, Report, string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "packed")
	r, err := ConvertDir(in, out, o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := weights.Open(weights.Dir(out), weights.WithVerify(t.Context(), nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m, r, out
}

func readTensorF32(t *testing.T, dir, name string) []float32 {
	t.Helper()
	r, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v, err := r.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A bf16 conversion keeps every weight bit by bit, at the place that the layout promises.
func TestGoldensBF16(t *testing.T) {
	for _, name := range goldens {
		for _, shardBytes := range []int64{0, 90_000} {
			t.Run(name, func(t *testing.T) {
				in := testutil.Shared(t, "goldens/"+name)
				m, _, _ := pack(t, in, Options{ShardBytes: shardBytes})
				checkExact(t, m, in)
			})
		}
	}
}

func checkExact(t *testing.T, m *weights.Model, in string) {
	t.Helper()
	c := m.Config
	matrix := func(name string) []float32 {
		mat, err := m.Matrix(name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := m.Dequantize(mat)
		if err != nil {
			t.Fatal(err)
		}
		row := make([]float32, mat.Cols)
		for _, i := range []int{0, mat.Rows / 2, mat.Rows - 1} {
			if err := m.Row(mat, i, row); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(row, v[i*mat.Cols:(i+1)*mat.Cols]) {
				t.Fatalf("%s: Row(%d) differs from Dequantize", name, i)
			}
		}
		return v
	}
	same := func(name string, got, want []float32) {
		if !slices.Equal(got, want) {
			t.Fatalf("%s differs", name)
		}
	}
	source := func(name string) []float32 { return readTensorF32(t, in, name) }
	same("embed_tokens", matrix("embed_tokens"), source("model.embed_tokens.weight"))
	if m.HasLMHead() {
		same("lm_head", matrix("lm_head"), source("lm_head.weight"))
	}
	if m.HasLMHead() == c.TieWordEmbeddings {
		t.Fatalf("HasLMHead %v, tied %v", m.HasLMHead(), c.TieWordEmbeddings)
	}
	p, q := "layers.1.", "model.layers.1."
	qkv := append(append(source(q+"self_attn.q_proj.weight"), source(q+"self_attn.k_proj.weight")...), source(q+"self_attn.v_proj.weight")...)
	same("qkv_proj", matrix(p+"qkv_proj"), qkv)
	same("o_proj", matrix(p+"o_proj"), source(q+"self_attn.o_proj.weight"))
	same("down_proj", matrix(p+"down_proj"), source(q+"mlp.down_proj.weight"))
	gate, up := source(q+"mlp.gate_proj.weight"), source(q+"mlp.up_proj.weight")
	var gateUp []float32
	for i := range c.IntermediateSize {
		gateUp = append(gateUp, gate[i*c.HiddenSize:(i+1)*c.HiddenSize]...)
		gateUp = append(gateUp, up[i*c.HiddenSize:(i+1)*c.HiddenSize]...)
	}
	same("gate_up_proj", matrix(p+"gate_up_proj"), gateUp)
	for _, name := range []string{"input_layernorm", "post_attention_layernorm", "q_norm", "k_norm"} {
		v, err := m.Vector(p + name)
		if err != nil {
			t.Fatal(err)
		}
		full := q + name + ".weight"
		if name == "q_norm" || name == "k_norm" {
			full = q + "self_attn." + name + ".weight"
		}
		same(name, v, source(full))
	}
	v, err := m.Vector("norm")
	if err != nil {
		t.Fatal(err)
	}
	same("norm", v, source("model.norm.weight"))
}

// dirFiles reads a whole directory.
func dirFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

// The same checkpoint gives the same bytes: again, on another number of workers, from one file or several, with or
// without the prefix of tensor names.
func TestDeterministic(t *testing.T) {
	m := random(t, odd(), synth.Options{})
	bare := &model{config: m.config, tensors: map[string]rawTensor{}}
	for name, r := range m.tensors {
		bare.tensors[strings.TrimPrefix(name, "model.")] = r
	}
	for _, d := range []weights.DType{weights.BF16, weights.Q8, weights.Q4} {
		_, _, dir := pack(t, m.save(t, false), Options{DType: d, ShardBytes: 40_000, Workers: 1})
		want := dirFiles(t, dir)
		if len(want) < 4 {
			t.Fatalf("%s: only %d files", d, len(want))
		}
		for _, v := range []struct {
			name string
			m    *model
			many bool
			n    int
		}{{"again", m, false, 1}, {"workers", m, false, 5}, {"sharded", m, true, 2}, {"without prefix", bare, true, 2}} {
			_, _, dir := pack(t, v.m.save(t, v.many), Options{DType: d, ShardBytes: 40_000, Workers: v.n})
			got := dirFiles(t, dir)
			if v.m == bare { // the manifest names the checkpoint's tensors
				got["manifest.json"] = strings.ReplaceAll(strings.ReplaceAll(got["manifest.json"],
					`{"name":"layers.`, `{"name":"model.layers.`), `"embed_tokens.weight"`, `"model.embed_tokens.weight"`)
				got["manifest.json"] = regexp.MustCompile(`"(model\.)(layers\.\d+\.(qkv|o|gate_up|down)_proj|layers\.\d+\.\w+norm|layers\.\d+\.[qk]_norm)"`).ReplaceAllString(got["manifest.json"], `"$2"`)
			}
			if !maps.Equal(got, want) {
				for name := range want {
					if got[name] != want[name] {
						t.Errorf("%s, %s: %s differs", d, v.name, name)
					}
				}
			}
		}
	}
}

// sourceRows gives the packed rows of each checkpoint tensor, written down apart from the converter's own plan.
func sourceRows(c *config.Config, matrix string) map[string]func(i int) int {
	layer, kind := "", matrix
	if i := strings.LastIndexByte(matrix, '.'); i >= 0 {
		layer, kind = "model."+matrix[:i+1], matrix[i+1:]
	}
	switch kind {
	case "qkv_proj":
		return map[string]func(int) int{
			layer + "self_attn.q_proj.weight": func(i int) int { return i },
			layer + "self_attn.k_proj.weight": func(i int) int { return c.QDim() + i },
			layer + "self_attn.v_proj.weight": func(i int) int { return c.QDim() + c.KVDim() + i },
		}
	case "gate_up_proj":
		return map[string]func(int) int{
			layer + "mlp.gate_proj.weight": func(i int) int { return 2 * i },
			layer + "mlp.up_proj.weight":   func(i int) int { return 2*i + 1 },
		}
	case "o_proj":
		return map[string]func(int) int{layer + "self_attn.o_proj.weight": func(i int) int { return i }}
	case "down_proj":
		return map[string]func(int) int{layer + "mlp.down_proj.weight": func(i int) int { return i }}
	case "lm_head":
		return map[string]func(int) int{"lm_head.weight": func(i int) int { return i }}
	}
	return map[string]func(int) int{"model.embed_tokens.weight": func(i int) int { return i }}
}

// absmax is the usual choice of scale, from the largest weight of a group alone: amax/127, or max/-8 as in llama.cpp's
// Q4_0.
func absmax(d weights.DType, w []float32) (errSq float64) {
	var top float32
	for _, v := range w {
		if math.Abs(float64(v)) > math.Abs(float64(top)) {
			top = v
		}
	}
	div, low, high := float32(127), -127.0, 127.0
	if d == weights.Q4 {
		div, low, high = -8, -8, 7
	}
	scale := float64(half.F16ToF32(half.F32ToF16(top / div)))
	for _, v := range w {
		q := 0.0
		if scale != 0 {
			q = min(max(math.Round(float64(v)/scale), low), high)
		}
		e := float64(v) - q*scale
		errSq += e * e
	}
	return errSq
}

// The errors in the manifest are those of the packed files, and scales chosen by error beat scales from the largest
// weight on every tensor.
func TestReportedErrors(t *testing.T) {
	random := random(t, odd(), synth.Options{}).save(t, false)
	for _, in := range []string{random, testutil.Shared(t, "goldens/untied-gqa4")} {
		for _, d := range []weights.DType{weights.Q8, weights.Q4} {
			m, _, _ := pack(t, in, Options{DType: d})
			tensors := 0
			var sumErr, sumAbsmax float64
			for i := range m.Manifest.Matrices {
				mat := &m.Manifest.Matrices[i]
				got, err := m.Dequantize(mat)
				if err != nil {
					t.Fatal(err)
				}
				rowsOf := sourceRows(m.Config, mat.Name)
				if len(rowsOf) != len(mat.Sources) {
					t.Fatalf("%s has %d sources, want %d", mat.Name, len(mat.Sources), len(rowsOf))
				}
				for _, s := range mat.Sources {
					tensors++
					packedRow := rowsOf[s.Name]
					want := readTensorF32(t, in, s.Name)
					var errSq, normSq, absmaxSq, maxAbs float64
					for r := range len(want) / mat.Cols {
						row := want[r*mat.Cols : (r+1)*mat.Cols]
						for j, w := range row {
							e := float64(w) - float64(got[packedRow(r)*mat.Cols+j])
							errSq += e * e
							normSq += float64(w) * float64(w)
							maxAbs = max(maxAbs, math.Abs(e))
						}
						for j := 0; j < mat.Cols; j += weights.GroupSize {
							absmaxSq += absmax(d, row[j:min(j+weights.GroupSize, mat.Cols)])
						}
					}
					if rel := math.Sqrt(errSq / normSq); math.Abs(rel/s.Error.RelativeRMS-1) > 1e-9 || maxAbs != s.Error.MaxAbs {
						t.Errorf("%s %s: error %v, max %v; the manifest says %+v", d, s.Name, rel, maxAbs, s.Error)
					}
					if errSq >= absmaxSq {
						t.Errorf("%s %s: squared error %v, by the largest weight alone %v", d, s.Name, errSq, absmaxSq)
					}
					sumErr += errSq / normSq
					sumAbsmax += absmaxSq / normSq
				}
			}
			n := float64(tensors)
			t.Logf("%s: %d tensors, relative RMS error %.5f by error, %.5f by the largest weight", d, tensors, math.Sqrt(sumErr/n), math.Sqrt(sumAbsmax/n))
			if limit := map[weights.DType]float64{weights.Q8: 0.0055, weights.Q4: 0.085}[d]; math.Sqrt(sumErr/n) > limit {
				t.Errorf("%s: relative RMS error %v is above %v", d, math.Sqrt(sumErr/n), limit)
			}
		}
	}
}

// What fills a row up to the stride decodes to zero, and q8 never uses -128.
func TestPaddingAndCodes(t *testing.T) {
	in := random(t, odd(), synth.Options{}).save(t, false)
	for _, d := range []weights.DType{weights.BF16, weights.Q8, weights.Q4} {
		m, _, _ := pack(t, in, Options{DType: d, ShardBytes: 30_000})
		for _, mat := range m.Manifest.Matrices {
			padded := make([]float32, mat.Stride)
			for _, p := range mat.Pieces {
				var data, scales []byte
				collect := func(dst *[]byte) func(int64, []byte) error {
					return func(_ int64, chunk []byte) error { *dst = append(*dst, chunk...); return nil }
				}
				if err := errors.Join(m.Stream(p.Data, 1000, collect(&data)), m.Stream(p.Scales, 1000, collect(&scales))); err != nil {
					t.Fatal(err)
				}
				if p.Data.Offset%16 != 0 || p.Scales.Offset%16 != 0 || len(scales)%4 != 0 {
					t.Fatalf("%s: %+v", mat.Name, p)
				}
				if d == weights.Q8 && slices.Contains(data, 0x80) {
					t.Errorf("%s: the code -128 is used", mat.Name)
				}
				dataRow, scaleRow := d.DataRowBytes(mat.Stride), d.ScaleRowBytes(mat.Stride)
				for r := range int64(p.Rows) {
					d.DecodeRow(padded, data[r*dataRow:], scales[r*scaleRow:])
					for i, v := range padded[mat.Cols:] {
						if v != 0 {
							t.Fatalf("%s row %d: padding %d is %v", mat.Name, r, i, v)
						}
					}
				}
				for _, b := range scales[int64(p.Rows)*scaleRow:] {
					if b != 0 {
						t.Fatalf("%s: scale padding is not zero", mat.Name)
					}
				}
			}
		}
	}
}

func TestOtherDTypes(t *testing.T) {
	base := random(t, odd(), synth.Options{})
	const q = "model.layers.0.self_attn.q_proj.weight"
	variant := func(d safetensors.DType) *model {
		m := &model{config: base.config, tensors: map[string]rawTensor{}}
		for name, r := range base.tensors {
			m.tensors[name] = r.convert(d)
		}
		return m
	}
	// bf16 values widened to f32 come back exactly, without a warning.
	want, _, _ := pack(t, base.save(t, false), Options{})
	wide, r, _ := pack(t, variant(safetensors.F32).save(t, true), Options{})
	for _, name := range []string{"embed_tokens", "layers.1.gate_up_proj"} {
		a, b := dequantize(t, want, name), dequantize(t, wide, name)
		if !slices.Equal(a, b) {
			t.Errorf("%s differs when it comes from f32", name)
		}
	}
	if w := r.Manifest.Warnings; len(w) != 1 || !strings.Contains(w[0], "tokenizer.json") {
		t.Errorf("warnings %q", w)
	}
	// True f32 weights lose digits: every tensor that does is named, with its error.
	fine := variant(safetensors.F32)
	fine.tensors[q] = fine.tensors[q].set(3, 0.1)
	m, r, _ := pack(t, fine.save(t, false), Options{})
	loss := math.Abs(float64(float32(0.1)) - float64(half.BF16ToF32(half.F32ToBF16(0.1))))
	if w := r.Manifest.Warnings; len(w) != 2 || !strings.Contains(w[1], q+" is F32 and lost digits") {
		t.Errorf("warnings %q", w)
	}
	mat, err := m.Matrix("layers.0.qkv_proj")
	if err != nil {
		t.Fatal(err)
	}
	if e := mat.Sources[0].Error; e.MaxAbs != loss || e.RelativeRMS <= 0 {
		t.Errorf("error %+v, want max %v", e, loss)
	}
	// f16 gains arrive exactly.
	f16 := variant(safetensors.F16)
	m, _, _ = pack(t, f16.save(t, false), Options{DType: weights.Q4})
	got, err := m.Vector("layers.0.k_norm")
	if err != nil {
		t.Fatal(err)
	}
	raw := f16.tensors["model.layers.0.self_attn.k_norm.weight"]
	for i, v := range got {
		if v != element(raw.dtype, raw.data, i) {
			t.Errorf("k_norm[%d] is %v", i, v)
		}
	}
}

func dequantize(t *testing.T, m *weights.Model, name string) []float32 {
	t.Helper()
	mat, err := m.Matrix(name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := m.Dequantize(mat)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTiedLMHead(t *testing.T) {
	m := random(t, odd(), synth.Options{StoreLMHead: true})
	packed, _, _ := pack(t, m.save(t, false), Options{})
	if packed.HasLMHead() {
		t.Error("an lm_head equal to the embedding was packed")
	}
	// Equal in value, but stored in another dtype.
	same := m.tensors["lm_head.weight"]
	m.tensors["lm_head.weight"] = same.convert(safetensors.F32)
	if packed, _, _ = pack(t, m.save(t, false), Options{}); packed.HasLMHead() {
		t.Error("an lm_head of equal values was packed")
	}
	m.tensors["lm_head.weight"] = same.set(84*130+2, 5).set(84*131, 6)
	in := m.save(t, false)
	_, err := ConvertDir(in, filepath.Join(t.TempDir(), "out"), Options{})
	if err == nil || !strings.Contains(err.Error(), "differs from model.embed_tokens.weight in 2 of 11172 elements, first at [130, 2]") || !strings.Contains(err.Error(), "--lm-head") {
		t.Errorf("%v", err)
	}
	for choice, want := range map[LMHead]bool{LMHeadEmbedding: false, LMHeadStored: true} {
		packed, r, _ := pack(t, in, Options{LMHead: choice})
		if packed.HasLMHead() != want || !strings.Contains(strings.Join(r.Manifest.Warnings, "\n"), "lm_head was ") {
			t.Errorf("%s: lm_head packed %v, warnings %q", choice, packed.HasLMHead(), r.Manifest.Warnings)
		}
	}
	packed, _, _ = pack(t, in, Options{LMHead: LMHeadStored})
	if dequantize(t, packed, "lm_head")[84*130+2] != 5 {
		t.Error("the stored lm_head was not packed")
	}
}

func TestCarriedFiles(t *testing.T) {
	m := random(t, odd(), synth.Options{})
	m.files = map[string]string{
		"tokenizer.json": "{}", "tokenizer_config.json": "{ }", "chat_template.jinja": "{{ x }}", "vocab.json": "{}", "merges.txt": "a b\n",
		"generation_config.json": `{"temperature": 0.5}`, "README.md": "stays behind",
	}
	in := m.save(t, false)
	packed, r, out := pack(t, in, Options{})
	if !packed.HasTokenizer() || len(r.Manifest.Warnings) > 0 || *packed.Generation.Temperature != 0.5 {
		t.Errorf("tokenizer %v, warnings %q", packed.HasTokenizer(), r.Manifest.Warnings)
	}
	files := dirFiles(t, out)
	for name, text := range m.files {
		if name == "README.md" {
			if _, ok := files[name]; ok {
				t.Errorf("%s was carried along", name)
			}
		} else if files[name] != text {
			t.Errorf("%s: %q", name, files[name])
		}
	}
	original := dirFiles(t, in)["config.json"]
	if files["config.json"] != original {
		t.Error("config.json was changed")
	}
}

func TestTarget(t *testing.T) {
	m := random(t, odd(), synth.Options{})
	in := m.save(t, false)
	out := filepath.Join(t.TempDir(), "a", "b", "packed")
	if _, err := ConvertDir(in, out, Options{DType: weights.Q4}); err != nil {
		t.Fatal(err)
	}
	before := dirFiles(t, out)
	refused := func(in, out string, o Options, words string) {
		t.Helper()
		if _, err := ConvertDir(in, out, o); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v lacks %q", out, err, words)
		}
	}
	refused(in, out, Options{}, "not empty")
	refused(in, filepath.Join(in, "packed"), Options{}, "contain one another")
	refused(filepath.Join(out, "x"), out, Options{}, "contain one another")
	refused(in, "", Options{}, "no output directory")
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(in, foreign, Options{Force: true}, "even with --force")
	refused(in, filepath.Join(foreign, "thesis.txt"), Options{}, "not a directory")
	if !maps.Equal(dirFiles(t, out), before) {
		t.Error("a refused conversion changed the output")
	}
	// A failure while replacing leaves the old model as it was.
	bad := random(t, odd(), synth.Options{})
	bad.tensors["model.norm.weight"] = bad.tensors["model.norm.weight"].set(0, float32(math.NaN()))
	refused(bad.save(t, false), out, Options{Force: true}, "NaN")
	if !maps.Equal(dirFiles(t, out), before) {
		t.Error("a failed replacement changed the output")
	}
	if _, err := ConvertDir(in, out, Options{Force: true}); err != nil {
		t.Fatal(err)
	}
	if maps.Equal(dirFiles(t, out), before) {
		t.Error("--force replaced nothing")
	}
	if left := leftovers(t, out); len(left) != 1 {
		t.Errorf("left beside the output: %v", left)
	}
	empty := t.TempDir()
	if _, err := ConvertDir(in, empty, Options{}); err != nil {
		t.Errorf("an empty directory was refused: %v", err)
	}
}

func TestCancel(t *testing.T) {
	in := random(t, odd(), synth.Options{}).save(t, false)
	out := filepath.Join(t.TempDir(), "packed")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Convert(ctx, in, out, Options{DType: weights.Q4, Progress: func(done, total int64) {
		if done > total/2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if left := leftovers(t, out); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Memory stays a few buffers, however large a matrix: here 512 MiB of f32 in one.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 0.6 GB")
	}
	c := odd()
	c.HiddenSize, c.VocabSize = 2048, 1<<16
	in := filepath.Join(t.TempDir(), "hf")
	if err := synth.Write(t.Context(), in, synth.Options{Config: c, DType: safetensors.F32}); err != nil {
		t.Fatal(err)
	}
	if _, err := ConvertDir(in, filepath.Join(t.TempDir(), "out"), Options{Workers: 2}); err != nil {
		t.Fatal(err)
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	t.Logf("largest heap %d MiB", stats.HeapSys>>20)
	if stats.HeapSys > 300<<20 {
		t.Errorf("the heap grew to %d MiB", stats.HeapSys>>20)
	}
}
