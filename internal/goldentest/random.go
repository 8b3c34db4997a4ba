// Random models of odd shapes, and two runners in lockstep on them.

package goldentest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
)

// oddHeadDims are head dimensions that fill no tile of a kernel; published models have 128.
var oddHeadDims = []int{16, 24, 40, 64, 80, 96, 112, 128, 144, 160}

// RandomConfig is a small valid configuration; every seed gives another. Any two seeds in a row differ in tying, any
// three in YaRN, and any ten cover oddHeadDims.
func RandomConfig(seed uint64) *config.Config {
	rng := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	kvHeads := 1 + rng.IntN(4)
	c := &config.Config{
		HiddenSize: 17 + rng.IntN(180), NumHiddenLayers: 1 + rng.IntN(3),
		NumKeyValueHeads: kvHeads, NumAttentionHeads: kvHeads * (1 + rng.IntN(9)), HeadDim: oddHeadDims[seed%uint64(len(oddHeadDims))],
		IntermediateSize: 5 + rng.IntN(300), VocabSize: 33 + rng.IntN(700), MaxPositionEmbeddings: 512,
		RMSNormEps: 1e-6, RopeTheta: []float64{1e4, 1e6, 5e6}[rng.IntN(3)], TieWordEmbeddings: seed%2 == 0,
		BosTokenID: -1, EosTokenIDs: []int{2},
	}
	if seed%4 == 3 {
		c.HeadDim = 16 + 2*rng.IntN(73) // any even one
	}
	if seed%3 == 0 {
		c.RopeScaling = &config.YaRN{Factor: 4, OriginalMaxPositionEmbeddings: 128}
	}
	return c
}

// RandomModel writes a checkpoint of RandomConfig(seed) in bf16, converts it and returns the packed directory.
func RandomModel(tb testing.TB, seed uint64, dtype weights.DType) string {
	tb.Helper()
	return ModelOf(tb, RandomConfig(seed), seed, dtype)
}

// ModelOf is RandomModel for a given shape.
func ModelOf(tb testing.TB, c *config.Config, seed uint64, dtype weights.DType) string {
	tb.Helper()
	dir := tb.TempDir()
	if err := writeCheckpoint(dir, c, seed); err != nil {
		tb.Fatal(err)
	}
	return PackDir(tb, dir, dtype)
}

// checkpointTensor is a tensor of a Hugging Face checkpoint with the spread of its random numbers.
type checkpointTensor struct {
	name        string
	shape       []int
	mean, sigma float64
}

func checkpointTensors(c *config.Config) []checkpointTensor {
	matrix := func(name string, rows, cols int) checkpointTensor {
		return checkpointTensor{name + ".weight", []int{rows, cols}, 0, 1 / math.Sqrt(float64(cols))}
	}
	gain := func(name string, n int) checkpointTensor { return checkpointTensor{name + ".weight", []int{n}, 1, 0.3} }
	hidden := c.HiddenSize
	embedding := matrix("model.embed_tokens", c.VocabSize, hidden)
	embedding.sigma = 0.5
	tensors := []checkpointTensor{embedding}
	for i := range c.NumHiddenLayers {
		p := fmt.Sprintf("model.layers.%d.", i)
		tensors = append(tensors,
			gain(p+"input_layernorm", hidden), gain(p+"post_attention_layernorm", hidden),
			gain(p+"self_attn.q_norm", c.HeadDim), gain(p+"self_attn.k_norm", c.HeadDim),
			matrix(p+"self_attn.q_proj", c.QDim(), hidden), matrix(p+"self_attn.k_proj", c.KVDim(), hidden),
			matrix(p+"self_attn.v_proj", c.KVDim(), hidden), matrix(p+"self_attn.o_proj", hidden, c.QDim()),
			matrix(p+"mlp.gate_proj", c.IntermediateSize, hidden), matrix(p+"mlp.up_proj", c.IntermediateSize, hidden),
			matrix(p+"mlp.down_proj", hidden, c.IntermediateSize))
	}
	tensors = append(tensors, gain("model.norm", hidden))
	if !c.TieWordEmbeddings {
		tensors = append(tensors, matrix("lm_head", c.VocabSize, hidden))
	}
	return tensors
}

// writeCheckpoint writes config.json and model.safetensors. One K-norm gain of each layer is large, as in the published
// models.
func writeCheckpoint(dir string, c *config.Config, seed uint64) (err error) {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644); err != nil {
		return err
	}
	tensors := checkpointTensors(c)
	infos := make([]safetensors.TensorInfo, len(tensors))
	for i, t := range tensors {
		infos[i] = safetensors.TensorInfo{Name: t.name, DType: safetensors.BF16, Shape: t.shape}
	}
	file, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	w, err := safetensors.Create(file, nil, infos)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 0xbf58476d1ce4e5b9))
	for _, t := range tensors {
		if _, err := w.Write(t.random(rng)); err != nil {
			return err
		}
	}
	return w.Close()
}

// random draws the tensor's numbers, bf16 little endian.
func (t checkpointTensor) random(rng *rand.Rand) []byte {
	n := 1
	for _, d := range t.shape {
		n *= d
	}
	out := make([]byte, 2*n)
	for i := range n {
		binary.LittleEndian.PutUint16(out[2*i:], half.F32ToBF16(float32(t.mean+t.sigma*rng.NormFloat64())))
	}
	if strings.HasSuffix(t.name, "k_norm.weight") {
		binary.LittleEndian.PutUint16(out[2*rng.IntN(n):], half.F32ToBF16(12))
	}
	return out
}

// Lockstep runs the same random tokens through two runners with arenas of at least 16 pages, in passes of 1 to 40 tokens,
// and compares every tapped tensor and the logits: a number may differ by tolerance(kind) times its tensor's largest
// magnitude in that pass. The message names the first that differs more. It returns the largest difference of each tensor kind
// ("qkv", "attn", …, "logits").
func Lockstep(tb testing.TB, model string, c *config.Config, want, got runner.Runner, seed uint64, tolerance func(kind string) float64) map[string]float64 {
	tb.Helper()
	rng := rand.New(rand.NewPCG(seed, 0x94d049bb133111eb))
	const numPages = 16
	lw, lg := NewTimeline(tb, model, want, numPages), NewTimeline(tb, model, got, numPages)
	worst := map[string]float64{}
	limit := min(want.MaxTokensPerPass(), got.MaxTokensPerPass())
	for _, n := range []int{1, 17, 1, 1, 40, 3, 16, 1, 33, 1} {
		ids := make([]int32, min(n, limit))
		for i := range ids {
			ids[i] = rng.Int32N(int32(c.VocabSize))
		}
		start := lw.Seq.Len()
		a, b := newRecording(), newRecording()
		a.tensors["logits"], b.tensors["logits"] = lw.Pass(ids, runner.LogitsAll, a.tap), lg.Pass(ids, runner.LogitsAll, b.tap)
		for _, name := range append(a.names, "logits") {
			d := diff(a.tensors[name], b.tensors[name], len(ids))
			kind := name[strings.LastIndexByte(name, '.')+1:]
			worst[kind] = max(worst[kind], d.relative)
			if d.relative > tolerance(kind) {
				tb.Fatalf("%s, pass of %d tokens from position %d: %s, %v; tolerance %g", model, len(ids), start, name, d, tolerance(kind))
			}
		}
	}
	return worst
}
