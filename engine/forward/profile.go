package forward

// Where a pass's time goes, kernel by kernel.

import (
	"fmt"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// ProfileRow is the time of one kernel in a pass.
type ProfileRow struct {
	Kernel      string  `json:"kernel"`
	Dispatches  int     `json:"dispatches"` // a pass
	Seconds     float64 `json:"seconds"`    // of all of them, launches included
	WeightBytes uint64  `json:"weight_bytes"`
	FLOP        float64 `json:"flop"`            // of matrix products
	Other       bool    `json:"other,omitempty"` // what the pass would use with another number of tokens
}

// profiled is a kernel to time.
type profiled struct {
	name   string
	steps  []dispatch
	matrix *matrix // of a layer; nil: none
	times  int     // the matrix is used in a pass
	other  bool
}

// Profile times every kernel of the pass of ic by repetition: the kernel's dispatches of all layers, one behind the other,
// as a median of rounds. ic's slots in the cache are written; abort it.
func (r *Runner) Profile(ic *kvcache.InferenceContext, rounds int) ([]ProfileRow, error) {
	if err := ic.Valid(); err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	r.ahead = ahead{}
	n := passSize{tokens: ic.NumTokens(), splits: r.shape.numSplits(ic.Start())}
	kinds := r.prefillKinds(n.tokens)
	if n.tokens == 1 {
		kinds = r.decodeKinds(n.splits)
	}
	var rows []ProfileRow
	for _, k := range kinds {
		t := r.timing(k.steps, n)
		t.before = func() error { return r.writeStep(runner.Request{Context: ic}) }
		if err := timeInTurns([]*timing{t}, rounds); err != nil {
			return rows, fmt.Errorf("forward: profiling %s: %w", k.name, err)
		}
		row := ProfileRow{Kernel: k.name, Dispatches: len(k.steps), Seconds: t.median(), Other: k.other}
		if m := k.matrix; m != nil {
			numRows := 0
			for _, p := range m.parts {
				numRows += p.rows
			}
			row.WeightBytes = uint64(k.times) * m.bytes()
			row.FLOP = 2 * float64(k.times) * float64(n.tokens) * float64(numRows) * float64(m.kPad)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// ofLayers joins the dispatches of one kind of all layers.
func (r *Runner) ofLayers(pick func(*layer) []dispatch) (steps []dispatch) {
	for i := range r.layers {
		steps = append(steps, pick(&r.layers[i])...)
	}
	return steps
}

func (r *Runner) decodeKinds(splits int) []profiled {
	w, num := &r.layers[0].weights, len(r.layers)
	kinds := []profiled{
		{"embed", r.embedSteps, nil, 0, false},
		{"rmsnorm_qkv", r.ofLayers(func(l *layer) []dispatch { return l.decode.rmsnormQKV }), w.qkv, num, false},
		{"attention", r.ofLayers(func(l *layer) []dispatch { return l.decode.attention }), nil, 0, false},
	}
	if splits > fusedSplits {
		kinds = append(kinds, profiled{"combine_splits", slices.Repeat(r.combineSteps, num), nil, 0, false},
			profiled{"attn_out", r.ofLayers(func(l *layer) []dispatch { return l.decode.attnOutCombined }), w.o, num, false})
	} else {
		kinds = append(kinds, profiled{"attn_out", r.ofLayers(func(l *layer) []dispatch { return l.decode.attnOut }), w.o, num, false})
	}
	return append(kinds,
		profiled{"rmsnorm_gate_up", r.ofLayers(func(l *layer) []dispatch { return l.decode.rmsnormGateUp }), w.gateUp, num, false},
		profiled{"down", r.ofLayers(func(l *layer) []dispatch { return l.decode.down }), w.down, num, false},
		profiled{"rmsnorm_lm_head", r.lmHeadSteps, r.head, 1, false},
		profiled{"sample", r.sampleSteps, nil, 0, false})
}

// prefillKinds has each matrix product in both tilings.
func (r *Runner) prefillKinds(tokens int) []profiled {
	w, num := &r.layers[0].weights, len(r.layers)
	kinds := []profiled{
		{"embed", r.embedSteps, nil, 0, false},
		{"row_rms", r.ofLayers(func(l *layer) []dispatch { return slices.Repeat(l.prefill.rowRMS, 2) }), nil, 0, false},
		{"qk_norm_rope", r.ofLayers(func(l *layer) []dispatch { return l.prefill.attention[:1] }), nil, 0, false},
		{"attention_prefill", r.ofLayers(func(l *layer) []dispatch { return l.prefill.attention[1:] }), nil, 0, false},
	}
	for _, m := range []struct {
		name   string
		matrix *matrix
		pick   func(*layer) *matmulSteps
	}{
		{"qkv", w.qkv, func(l *layer) *matmulSteps { return &l.prefill.qkv }},
		{"attn_out", w.o, func(l *layer) *matmulSteps { return &l.prefill.attnOut }},
		{"gate_up", w.gateUp, func(l *layer) *matmulSteps { return &l.prefill.gateUp }},
		{"down", w.down, func(l *layer) *matmulSteps { return &l.prefill.down }},
	} {
		large := m.pick(&r.layers[0]).isLarge(tokens)
		kinds = append(kinds,
			profiled{"matmul " + m.name, r.ofLayers(func(l *layer) []dispatch { return m.pick(l).large }), m.matrix, num, !large},
			profiled{"matmul_small " + m.name, r.ofLayers(func(l *layer) []dispatch { return m.pick(l).small }), m.matrix, num, large})
	}
	return kinds
}

// bytes is what a kernel reads of a matrix.
func (m *matrix) bytes() (n uint64) {
	for _, p := range m.parts {
		n += p.data.Size()
		if m.dtype != "bf16" {
			n += p.scales.Size()
		}
	}
	return n
}
