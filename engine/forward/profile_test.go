//go:build !js

package forward_test

import (
	"slices"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
)

// A profile names every use of a kernel, and all its repetitions are the same pass: sampling does not move the state on.
func TestProfile(t *testing.T) {
	c := goldentest.RandomConfig(6)
	c.NumHiddenLayers, c.HiddenSize, c.IntermediateSize = 2, 64, 96
	c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim = 4, 2, 16
	r := open(t, testdevice.Open(t), goldentest.ModelOf(t, c, 6, weights.Q8), forward.Options{NumPages: 8})
	qkv, o := float64((4+2*2)*16*64), float64(64*4*16)
	for _, want := range []struct {
		depth, tokens int
		rows          []forward.ProfileRow // Dispatches and FLOPs
	}{
		{3, 1, []forward.ProfileRow{
			{Kernel: "(all)", Dispatches: 14}, {Kernel: "embed", Dispatches: 1}, {Kernel: "rmsnorm_qkv", Product: "qkv", Dispatches: 2, FLOPs: 4 * qkv},
			{Kernel: "attention", Dispatches: 2, FLOPs: 2 * 4 * 64 * 4}, {Kernel: "residual_proj", Product: "attn_out", Dispatches: 2, FLOPs: 4 * o},
			{Kernel: "rmsnorm_gate_up", Product: "gate_up", Dispatches: 2, FLOPs: 4 * 2 * 64 * 96}, {Kernel: "residual_proj", Product: "down", Dispatches: 2, FLOPs: 4 * 64 * 96},
			{Kernel: "rmsnorm_lm_head", Product: "lm_head", Dispatches: 1, FLOPs: float64(2 * 64 * c.VocabSize)}, {Kernel: "sample_slices", Dispatches: 1}, {Kernel: "sample_token", Dispatches: 1},
		}},
		{2, 5, []forward.ProfileRow{
			{Kernel: "(all)", Dispatches: 20}, {Kernel: "embed", Dispatches: 1}, {Kernel: "row_rms", Dispatches: 4}, {Kernel: "matmul_small", Product: "qkv", Dispatches: 2, FLOPs: 5 * 4 * qkv},
			{Kernel: "qk_norm_rope", Dispatches: 2}, {Kernel: "attention_prefill", Dispatches: 2, FLOPs: 2 * 4 * 64 * (3 + 4 + 5 + 6 + 7)}, {Kernel: "matmul_small", Product: "attn_out", Dispatches: 2, FLOPs: 5 * 4 * o},
			{Kernel: "matmul_small", Product: "gate_up", Dispatches: 2, FLOPs: 5 * 4 * 2 * 64 * 96}, {Kernel: "matmul_small", Product: "down", Dispatches: 2, FLOPs: 5 * 4 * 64 * 96},
			{Kernel: "rmsnorm_lm_head", Product: "lm_head", Dispatches: 1, FLOPs: float64(2 * 64 * c.VocabSize)}, {Kernel: "sample_slices", Dispatches: 1}, {Kernel: "sample_token", Dispatches: 1},
		}},
	} {
		s := goldentest.NewTimeline(t, "profile", r, 8)
		ids := []int32{1, 2, 3, 4, 5, 6, 7, 8}
		s.Run(ids[:want.depth], want.depth, nil)
		ic := s.Begin(ids[want.depth : want.depth+want.tokens])
		rows, err := r.Profile(ic, 1)
		if err != nil {
			t.Fatal(err)
		}
		if state, err := r.PassState(); err != nil || state != [3]uint32{uint32(want.tokens), uint32(want.depth), uint32(want.depth + want.tokens)} {
			t.Errorf("%d tokens at depth %d: the repetitions end with state %v (%v)", want.tokens, want.depth, state, err)
		}
		ic.Abort()
		for i := range rows {
			if (rows[i].Bytes > 0) != (rows[i].FLOPs > 0) || i == 0 && rows[i].Seconds <= 0 {
				t.Errorf("%+v", rows[i])
			}
			rows[i].Seconds, rows[i].Bytes = 0, 0
		}
		if !slices.Equal(rows, want.rows) {
			t.Errorf("%d tokens at depth %d:\n%+v, want\n%+v", want.tokens, want.depth, rows, want.rows)
		}
	}
}
