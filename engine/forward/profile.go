package forward

// Where a pass's time goes, kernel by kernel and product by product.

import (
	"fmt"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// ProfileRow is what one use of a kernel adds to the device's time of a pass.
type ProfileRow struct {
	Kernel     string  `json:"kernel"`            // "(all)" is the whole pass
	Product    string  `json:"product,omitempty"` // qkv, attn_out, gate_up, down or lm_head; "" where it is no product with a matrix
	Dispatches int     `json:"dispatches"`        // in the pass
	Seconds    float64 `json:"seconds"`           // what the pass takes longer with them than without
	Bytes      uint64  `json:"bytes"`             // weights, or cached keys and values, that they read, each counted once; 0: not counted
	FLOPs      float64 `json:"flops"`             // of their products; 0: not counted
}

// kernelUse is what a dispatch is for, and its share of a ProfileRow.
type kernelUse struct {
	product string
	bytes   uint64
	flops   float64
}

// Profile times the pass of ic, with lm_head and greedy sampling behind it, as it is and with each use of a kernel left
// out, in turns, as medians of rounds. ic's slots in the cache are written; abort it.
//
// The pass is repeated without the host, and sample_token would move its state on to the next token: it gets a state of
// its own here, which no other kernel reads, so that every repetition is the same pass.
func (r *Runner) Profile(ic *kvcache.InferenceContext, rounds int) ([]ProfileRow, error) {
	if err := ic.Valid(); err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	r.ahead = ahead{}
	if err := r.StartSampling(sampling.Greedy(), nil, nil); err != nil {
		return nil, err
	}
	kept := len(r.groups)
	defer func() {
		for _, g := range r.groups[kept:] {
			g.Release()
		}
		r.groups = r.groups[:kept]
	}()
	state, err := r.dev.NewBuffer("profile state", r.shape.stepBytes(), gpu.UsageStorage)
	if err != nil {
		return nil, fmt.Errorf("forward: profiling: %w", err)
	}
	defer state.Release()
	sampleSteps, err := r.samplingSteps(gpu.Whole(state))
	if err != nil {
		return nil, err
	}
	n := r.passSize(ic)
	rows, timings := r.leftOut(slices.Concat(dispatchesOf(r.segments(n, r.products)), r.lmHeadSteps, sampleSteps), n, r.uses(n, ic.Start()))
	for _, t := range timings {
		t.before = func() error { return r.writeStep(runner.Request{Context: ic}) }
	}
	if err := timeInTurns(timings, rounds); err != nil {
		return nil, fmt.Errorf("forward: profiling: %w", err)
	}
	for i := range timings[1:] { // differences within a round: a device's clocks drift
		for round := range timings[i+1].seconds {
			timings[i+1].seconds[round] = timings[0].seconds[round] - timings[i+1].seconds[round]
		}
		rows[i+1].Seconds = median(timings[i+1].seconds)
	}
	rows[0].Seconds = timings[0].median()
	return rows, nil
}

// leftOut are the pass itself and, for each use of a kernel, the pass without it.
func (r *Runner) leftOut(steps []dispatch, n passSize, uses map[gpu.BindGroup]kernelUse) (rows []ProfileRow, timings []*timing) {
	rows = []ProfileRow{{Kernel: "(all)", Dispatches: len(steps)}}
	timings = []*timing{r.timing(steps, n)}
	for _, d := range steps {
		use := uses[d.group]
		same := func(other dispatch) bool { return other.name == d.name && uses[other.group].product == use.product }
		if slices.ContainsFunc(rows, func(row ProfileRow) bool { return row.Kernel == d.name && row.Product == use.product }) {
			continue
		}
		row := ProfileRow{Kernel: d.name, Product: use.product}
		for _, other := range steps {
			if same(other) {
				row.Dispatches++
				row.Bytes += uses[other.group].bytes
				row.FLOPs += uses[other.group].flops
			}
		}
		rows = append(rows, row)
		timings = append(timings, r.timing(slices.DeleteFunc(slices.Clone(steps), same), n))
	}
	return rows, timings
}

// uses tells what the dispatches of a pass of n, behind start tokens, are for.
func (r *Runner) uses(n passSize, start int) map[gpu.BindGroup]kernelUse {
	s, uses := &r.shape, map[gpu.BindGroup]kernelUse{}
	product := func(name string, m *matrix, inner, tokens int, steps ...[]dispatch) {
		for _, list := range steps {
			for i, d := range list { // one a part
				p := m.parts[i]
				uses[d.group] = kernelUse{name, p.bytes(), 2 * float64(p.rows) * float64(inner) * float64(tokens)}
			}
		}
	}
	pairs := float64(n.tokens) * (float64(start) + float64(n.tokens+1)/2) // of a query and a position that it sees
	attention := kernelUse{"", 2 * s.kvPageBytes() * uint64(start+n.tokens) / uint64(s.pageSize), 4 * float64(s.QDim()) * pairs}
	for i := range r.layers {
		l := &r.layers[i]
		w, d, p := &l.weights, &l.decode, &l.prefill
		product("qkv", w.qkv, s.HiddenSize, n.tokens, append(p.qkv.all(), d.rmsnormQKV)...)
		product("attn_out", w.o, s.QDim(), n.tokens, append(p.attnOut.all(), d.attnOut, d.attnOutSplits, d.attnOutCombined)...)
		product("gate_up", w.gateUp, s.HiddenSize, n.tokens, append(p.gateUp.all(), d.rmsnormGateUp)...)
		product("down", w.down, s.IntermediateSize, n.tokens, append(p.down.all(), d.down)...)
		for _, step := range slices.Concat(d.attention.few, d.attention.many, p.attention) {
			if step.name == "attention" || step.name == "attention_prefill" {
				uses[step.group] = attention
			}
		}
	}
	if p := r.products; p != nil {
		for j, run := range r.runs() {
			all := kernelUse{bytes: uint64(run.end-run.first) * attention.bytes}
			for i := run.first; i < run.end; i++ {
				use := kernelUse{}
				for _, m := range r.between(i) {
					use.bytes += m.bytes()
				}
				if p.many != nil {
					uses[p.few[i].group], uses[p.many[i].group] = use, use
				}
				all.bytes += use.bytes
			}
			for _, runs := range [][]dispatch{p.whole, p.inSplits, p.inWideSplits} {
				if runs != nil {
					uses[runs[j].group] = all
				}
			}
		}
	}
	product(lmHead, r.head, s.HiddenSize, 1, r.lmHeadSteps)
	return uses
}

// bytes is what a kernel reads of a matrix.
func (m *matrix) bytes() (n uint64) {
	for _, p := range m.parts {
		n += p.bytes()
	}
	return n
}

func (p part) bytes() uint64 {
	return p.data.Size + p.scales.Size
}
