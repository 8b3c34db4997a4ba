//go:build !js

package engine

// The failure that started this project, replayed: attention that runs with wrong positions, pages or lengths. The
// tracer must name the layer, the tensor and the token.

import (
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

func TestTracerNamesBrokenPages(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 1, weights.BF16)
	opt := Options{KVDType: runner.KVF32, ContextTokens: 64, PassTokens: 16}
	want := openTest(t, dir, opt)
	prompt := testPrompt(40)
	for _, c := range []struct {
		name   string
		fault  kvcache.Fault
		tensor string
		token  int
	}{
		{"nothing", kvcache.Fault{}, "", 0},
		// Keys go where they belong, but are looked for in the next page.
		{"first entry of the page table shifted", kvcache.Fault{ShiftPageTable: true, Entry: 0}, "layers.0.attn", 0},
		{"second entry shifted", kvcache.Fault{ShiftPageTable: true, Entry: 1}, "layers.0.attn", 16},
		{"third entry shifted", kvcache.Fault{ShiftPageTable: true, Entry: 2}, "layers.0.attn", 32},
		// The second pass runs at the positions of the first, which is rotation and causality gone wrong.
		{"length not committed", kvcache.Fault{SkipCommit: true}, "layers.0.attn", 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			broken := opt
			broken.Fault = &c.fault
			got, err := Compare(t.Context(), want, openTest(t, dir, broken), prompt, 4, 2e-4)
			if err != nil {
				t.Fatal(err)
			}
			switch d := got.First; {
			case c.tensor == "" && d != nil:
				t.Errorf("a difference in %s at token %d", d.Tensor, d.Token)
			case c.tensor != "" && d == nil:
				t.Error("not found")
			case c.tensor != "" && (d.Tensor != c.tensor || d.Token != c.token):
				t.Errorf("found in %s at token %d, want %s at token %d", d.Tensor, d.Token, c.tensor, c.token)
			}
		})
	}
}
