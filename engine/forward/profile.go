package forward

// Where a decode step's time goes, kernel by kernel.

import (
	"fmt"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// ProfileRow is the time of one kernel in a decode step.
type ProfileRow struct {
	Kernel         string  `json:"kernel"`
	Dispatches     int     `json:"dispatches"` // a step
	Seconds        float64 `json:"seconds"`    // of all of them, launches included
	WeightBytes    uint64  `json:"weight_bytes"`
	BytesPerSecond float64 `json:"bytes_per_second"` // of the weights
}

// Profile times every kernel of the decode step of ic, a context of one token, by repetition: a pass of the kernel's
// dispatches of all layers, one behind the other, as a median of rounds. ic's slot in the cache is written; abort it.
func (r *Runner) Profile(ic *kvcache.InferenceContext, rounds int) ([]ProfileRow, error) {
	if ic == nil || ic.NumTokens() != 1 {
		return nil, fmt.Errorf("forward: profiling takes the context of one token")
	}
	r.ahead = ahead{}
	before := func() error { return r.writeStep(runner.Request{Context: ic}) }
	var l0 layerWeights
	if len(r.layers) > 0 {
		l0 = r.layers[0].weights
	}
	splits := r.shape.numSplits(ic.Start())
	ofLayers := func(pick func(*layer) []dispatch) (steps []dispatch) {
		for i := range r.layers {
			steps = append(steps, pick(&r.layers[i])...)
		}
		return steps
	}
	kinds := []struct {
		name   string
		steps  []dispatch
		matrix *matrix // of a layer
		times  int
	}{
		{"embed", r.embedSteps, nil, 1},
		{"rmsnorm_qkv", ofLayers(func(l *layer) []dispatch { return l.decode.rmsnormQKV }), l0.qkv, len(r.layers)},
		{"attention", ofLayers(func(l *layer) []dispatch { return l.decode.attention }), nil, 0},
		{"combine_splits", slices.Repeat(r.combineSteps, len(r.layers)), nil, 0},
		{"attn_out", ofLayers(func(l *layer) []dispatch {
			if splits > fusedSplits {
				return l.decode.attnOutCombined
			}
			return l.decode.attnOut
		}), l0.o, len(r.layers)},
		{"rmsnorm_gate_up", ofLayers(func(l *layer) []dispatch { return l.decode.rmsnormGateUp }), l0.gateUp, len(r.layers)},
		{"down", ofLayers(func(l *layer) []dispatch { return l.decode.down }), l0.down, len(r.layers)},
		{"rmsnorm_lm_head", r.lmHeadSteps, r.head, 1},
		{"sample", r.sampleSteps, nil, 0},
	}
	var rows []ProfileRow
	for _, k := range kinds {
		if k.name == "combine_splits" && splits <= fusedSplits {
			continue
		}
		t := r.timing(k.steps, passSize{tokens: 1, splits: splits})
		t.before = before
		if err := timeInTurns([]*timing{t}, rounds); err != nil {
			return rows, fmt.Errorf("forward: profiling %s: %w", k.name, err)
		}
		seconds := t.median()
		row := ProfileRow{Kernel: k.name, Dispatches: len(k.steps), Seconds: seconds}
		if k.matrix != nil {
			row.WeightBytes = uint64(k.times) * k.matrix.bytes()
			row.BytesPerSecond = float64(row.WeightBytes) / seconds
		}
		rows = append(rows, row)
	}
	return rows, nil
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
