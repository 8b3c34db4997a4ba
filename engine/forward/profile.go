package forward

// Where a pass's time goes, kernel by kernel.

import (
	"fmt"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// ProfileRow is what one kernel adds to the device's time of a pass.
type ProfileRow struct {
	Kernel     string  `json:"kernel"`     // "(all)" is the whole pass
	Dispatches int     `json:"dispatches"` // in the pass
	Seconds    float64 `json:"seconds"`    // what the pass takes longer with them than without
}

// Profile times the pass of ic, with lm_head and sampling behind it, as it is and with each kernel left out, in turns, as
// medians of rounds. ic's slots in the cache are written; abort it.
func (r *Runner) Profile(ic *kvcache.InferenceContext, rounds int) ([]ProfileRow, error) {
	if err := ic.Valid(); err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	r.ahead = ahead{}
	n := passSize{tokens: ic.NumTokens(), splits: r.shape.numSplits(ic.Start())}
	var steps []dispatch
	for _, s := range r.segments(n) {
		if !s.tapOnly {
			steps = append(steps, s.dispatches...)
		}
	}
	steps = slices.Concat(steps, r.lmHeadSteps, r.sampleSteps)
	rows := []ProfileRow{{Kernel: "(all)", Dispatches: len(steps)}}
	timings := []*timing{r.timing(steps, n)}
	for _, d := range steps {
		if slices.ContainsFunc(rows, func(row ProfileRow) bool { return row.Kernel == d.name }) {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(steps), func(other dispatch) bool { return other.name == d.name })
		rows = append(rows, ProfileRow{Kernel: d.name, Dispatches: len(steps) - len(rest)})
		timings = append(timings, r.timing(rest, n))
	}
	for _, t := range timings {
		t.before = func() error { return r.writeStep(runner.Request{Context: ic}) }
	}
	if err := timeInTurns(timings, rounds); err != nil {
		return nil, fmt.Errorf("forward: profiling: %w", err)
	}
	for i := range rows {
		rows[i].Seconds = timings[i].median()
		if i > 0 {
			rows[i].Seconds = rows[0].Seconds - rows[i].Seconds
		}
	}
	return rows, nil
}

// bytes is what a kernel reads of a matrix.
func (m *matrix) bytes() (n uint64) {
	for _, p := range m.parts {
		n += p.data.Size()
		if p.scales != nil {
			n += p.scales.Size()
		}
	}
	return n
}
