// Package goldentest holds the whole-model checks that every runner.Runner must pass, whichever processor runs it.
//
// It owns the reading of transformers' reference activations, the comparisons with their tolerances (run.go, quant.go),
// and random models of odd shapes with a lockstep comparison of two runners (random.go). engine/ref and the GPU path call
// the same functions. A failure names the model, the prompt, the first bad layer, its tensor, the token and
// the two numbers.
package goldentest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testutil"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/packer"
)

// Names are the reference models: small random checkpoints with transformers' activations (float32, eager attention).
var Names = []string{"tied-gqa2", "untied-gqa4", "knorm-outliers", "head128-tied"}

// Golden is a reference model.
type Golden struct {
	Name       string
	Dir        string // the checkpoint
	Config     *config.Config
	Prompts    []Prompt // shortest first
	RMSNormQKV RMSNormQKV
}

// Prompt is one prompt with what transformers computed for it.
type Prompt struct {
	Name         string
	IDs          []int32     // [tokens]
	Hidden       [][]float32 // [layers+1][tokens*hidden] hidden states, the last after the final norm; nil for long prompts
	Logits       []float32   // [tokens*vocab]; nil for long prompts
	LogitsLast   []float32   // [vocab]
	Greedy       []int32     // greedy continuation
	GreedyMargin []float32   // largest logit minus second largest, at each step
}

// RMSNormQKV is layer 0's first half, on its own: Normed = RMSNorm(X, input_layernorm), then the projections, before
// QK-norm and RoPE.
type RMSNormQKV struct {
	Rows      int
	X, Normed []float32 // [rows, hidden]
	Q         []float32 // [rows, qDim]
	K, V      []float32 // [rows, kvDim]
}

// Load reads a reference model; the test is skipped where the reference data is absent.
func Load(tb testing.TB, name string) *Golden {
	tb.Helper()
	g := &Golden{Name: name, Dir: testutil.Shared(tb, "goldens/"+name)}
	data, err := os.ReadFile(filepath.Join(g.Dir, "config.json"))
	if err != nil {
		tb.Fatal(err)
	}
	if g.Config, err = config.Parse(data); err != nil {
		tb.Fatal(err)
	}
	file, err := safetensors.Open(filepath.Join(g.Dir, "golden.safetensors"))
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	r := goldenReader{tb, file}
	for tensor := range file.Tensors {
		if prompt, ok := strings.CutSuffix(tensor, ".input_ids"); ok {
			g.Prompts = append(g.Prompts, r.prompt(prompt, g.Config))
		}
	}
	slices.SortFunc(g.Prompts, func(a, b Prompt) int { return cmp.Compare(len(a.IDs), len(b.IDs)) })
	if len(g.Prompts) == 0 {
		tb.Fatalf("%s has no prompts", name)
	}
	c := &g.RMSNormQKV
	c.X, c.Normed = r.floats("rmsnorm_qkv.x"), r.floats("rmsnorm_qkv.normed")
	c.Q, c.K, c.V = r.floats("rmsnorm_qkv.q"), r.floats("rmsnorm_qkv.k"), r.floats("rmsnorm_qkv.v")
	c.Rows = len(c.X) / g.Config.HiddenSize
	return g
}

type goldenReader struct {
	tb   testing.TB
	file *safetensors.Reader
}

func (r goldenReader) floats(name string) []float32 {
	r.tb.Helper()
	v, err := r.file.Float32(name)
	if err != nil {
		r.tb.Fatal(err)
	}
	return v
}

func (r goldenReader) ints(name string) []int32 {
	r.tb.Helper()
	v, err := r.file.Int32(name)
	if err != nil {
		r.tb.Fatal(err)
	}
	return v
}

func (r goldenReader) prompt(name string, c *config.Config) Prompt {
	r.tb.Helper()
	p := Prompt{
		Name: name, IDs: r.ints(name + ".input_ids"), LogitsLast: r.floats(name + ".logits_last"),
		Greedy: r.ints(name + ".greedy"), GreedyMargin: r.floats(name + ".greedy_margin"),
	}
	if _, ok := r.file.Tensors[name+".logits"]; !ok {
		return p
	}
	p.Logits = r.floats(name + ".logits")
	for i := range c.NumHiddenLayers + 1 {
		p.Hidden = append(p.Hidden, r.floats(fmt.Sprintf("%s.hidden.%d", name, i)))
	}
	return p
}

// Pack converts a reference model and returns the packed directory.
func Pack(tb testing.TB, name string, dtype weights.DType) string {
	tb.Helper()
	return PackDir(tb, testutil.Shared(tb, "goldens/"+name), dtype)
}

// PackDir converts a checkpoint folder and returns the packed directory.
func PackDir(tb testing.TB, checkpoint string, dtype weights.DType) string {
	tb.Helper()
	out := filepath.Join(tb.TempDir(), "packed")
	if _, err := packer.ConvertDir(checkpoint, out, packer.Options{DType: dtype}); err != nil {
		tb.Fatal(err)
	}
	return out
}

// OpenModel opens a packed directory until the test ends.
func OpenModel(tb testing.TB, dir string) *weights.Model {
	tb.Helper()
	m, err := weights.Open(weights.Dir(dir))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { m.Close() })
	return m
}
