// What q8 and q4 cost: logits of quantised weights against those of bf16.

package goldentest

import (
	"math"
	"slices"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// quantBound is what a correct quantisation keeps of a reference model: the cosine of its logits with those of bf16, the
// mean and the smallest over the tokens of all prompts. Random weights have no redundancy, so these models lose far more
// than trained ones, the one with K-norm outliers most; a wrong scale or code shows as a cosine near 0.
type quantBound struct {
	model         string
	dtype         weights.DType
	mean, minimum float64
}

var quantBounds = []quantBound{
	{"tied-gqa2", weights.Q8, 0.9997, 0.999},
	{"tied-gqa2", weights.Q4, 0.94, 0.8},
	{"untied-gqa4", weights.Q8, 0.9996, 0.998},
	{"untied-gqa4", weights.Q4, 0.91, 0.8},
	{"knorm-outliers", weights.Q8, 0.993, 0.93},
	{"knorm-outliers", weights.Q4, 0.7, 0.2},
	{"head128-tied", weights.Q8, 0.9996, 0.999},
	{"head128-tied", weights.Q4, 0.91, 0.82},
}

// QuantTable logs and checks what quantisation does to the logits of the named reference models on a runner.
func QuantTable(t *testing.T, models []string, open Open) {
	t.Logf("%-16s %-5s %10s %10s %12s", "model", "dtype", "mean cos", "min cos", "same argmax")
	base := map[string][][]float32{}
	for _, b := range quantBounds {
		if !slices.Contains(models, b.model) {
			continue
		}
		g := Load(t, b.model)
		if base[b.model] == nil {
			base[b.model] = promptLogits(t, g, weights.BF16, open)
		}
		got := promptLogits(t, g, b.dtype, open)
		sum, smallest, same, n := 0.0, 1.0, 0, 0
		for i, want := range base[b.model] {
			for vocab := g.Config.VocabSize; len(want) > 0; want, got[i] = want[vocab:], got[i][vocab:] {
				c := cosine(want[:vocab], got[i][:vocab])
				sum, smallest, n = sum+c, min(smallest, c), n+1
				if argmax(want[:vocab]) == argmax(got[i][:vocab]) {
					same++
				}
			}
		}
		mean := sum / float64(n)
		t.Logf("%-16s %-5s %10.6f %10.6f %6d of %d", b.model, b.dtype, mean, smallest, same, n)
		if !(mean >= b.mean && smallest >= b.minimum) {
			t.Errorf("%s as %s: the logits' cosine with bf16 is %.6f in the mean and %.6f at least; a correct quantisation gives %g and %g", b.model, b.dtype, mean, smallest, b.mean, b.minimum)
		}
	}
}

// promptLogits are all logits of every prompt.
func promptLogits(t *testing.T, g *Golden, dtype weights.DType, open Open) [][]float32 {
	r := open(t, Pack(t, g.Name, dtype), runner.KVF32, numPages)
	var all [][]float32
	for _, p := range g.Prompts {
		l := NewTimeline(t, g.Name+" as "+string(dtype)+", "+p.Name, r, numPages)
		all = append(all, l.Run(p.IDs, math.MaxInt, nil))
	}
	return all
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}
