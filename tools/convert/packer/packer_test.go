package packer

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testutil"
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
