package engine

// The tracer: records a pass's activations as transformers names them, and runs two engines in lockstep to name the first
// layer, tensor and token at which they differ.

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
)

// Trace is what a model computes for a prompt. Rows are tokens.
type Trace struct {
	IDs       []int32     // the prompt
	Hidden    [][]float32 // [layers+1][tokens*hidden]: hidden.0 the embedding, hidden.i the residual stream after layer i, the last after the final norm
	Logits    []float32   // [tokens*vocab]
	Generated []int32     // greedy continuation, end-of-text ids included
}

// Trace runs ids with every activation recorded, then generates exactly numGenerate greedy tokens.
func (e *Engine) Trace(ctx context.Context, ids []int32, numGenerate int) (*Trace, error) {
	s := e.NewSession()
	defer s.Close()
	if err := s.checkPrompt(ids); err != nil {
		return nil, err
	}
	if need := len(ids) + max(numGenerate-1, 0); need > e.opt.ContextTokens {
		return nil, fmt.Errorf("engine: %w: %d prompt and %d generated tokens need a context of %d, it holds %d", ErrContextFull, len(ids), numGenerate, need, e.opt.ContextTokens)
	}
	layers := e.Config().NumHiddenLayers
	t := &Trace{IDs: ids, Hidden: make([][]float32, layers+1)}
	tap := func(name string, rows int, data []float32) error {
		if i, ok := hiddenIndex(name, layers); ok {
			t.Hidden[i] = append(t.Hidden[i], data...)
		}
		return ctx.Err()
	}
	for done := 0; done < len(ids); {
		n := min(e.passTokens(), len(ids)-done)
		logits, err := s.pass(ids[done:done+n], runner.LogitsAll, tap)
		if err != nil {
			return nil, fmt.Errorf("engine: trace of tokens %d to %d: %w", done, done+n-1, err)
		}
		t.Logits = append(t.Logits, logits...)
		done += n
	}
	last := t.Logits[len(t.Logits)-e.Config().VocabSize:]
	for len(t.Generated) < numGenerate {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		next := argmax(last)
		t.Generated = append(t.Generated, next)
		if len(t.Generated) == numGenerate {
			break
		}
		var err error
		if last, err = s.pass([]int32{next}, runner.LogitsLast, nil); err != nil {
			return nil, fmt.Errorf("engine: trace, generated token %d: %w", len(t.Generated), err)
		}
	}
	return t, nil
}

// hiddenIndex maps a tap's name to transformers' index of hidden states.
func hiddenIndex(name string, layers int) (int, bool) {
	if name == "embed" {
		return 0, true
	}
	if name == "final_norm" {
		return layers, true
	}
	rest, ok := strings.CutPrefix(name, "layers.")
	num, what, _ := strings.Cut(rest, ".")
	i, err := strconv.Atoi(num)
	return i + 1, ok && err == nil && what == "out" && i+1 < layers
}

// argmax is the greedy choice: the lowest id among the largest logits.
func argmax(logits []float32) int32 {
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	return int32(best)
}

// CompareRow is the largest difference found in one tensor over all passes.
type CompareRow struct {
	Tensor   string  `json:"tensor"`
	MaxError float64 `json:"max_error"` // relative to the pass's largest magnitude in the reference
	Token    int     `json:"token"`     // position at which it was found
	Index    int     `json:"index"`     // within the token's row
}

// Difference is a number that differs beyond tolerance.
type Difference struct {
	CompareRow
	Want, Got float32
}

// Comparison is the outcome of Compare.
type Comparison struct {
	Rows      []CompareRow // in the order of a token's trip
	First     *Difference  // nil when all is within tolerance
	Generated []int32      // the reference's greedy tokens, which both engines were fed
}

// compareChunk is the number of prompt tokens of one lockstep pass; it bounds the activations held.
const compareChunk = 64

// Compare runs ids and then numGenerate greedy tokens of want through both engines in lockstep and compares every
// activation. A number differs when |got-want| exceeds tolerance times the largest magnitude of its tensor in that pass.
func Compare(ctx context.Context, want, got *Engine, ids []int32, numGenerate int, tolerance float64) (*Comparison, error) {
	a, b := want.NewSession(), got.NewSession()
	defer a.Close()
	defer b.Close()
	for _, s := range []*Session{a, b} {
		if err := s.checkPrompt(ids); err != nil {
			return nil, err
		}
	}
	c := &comparer{tolerance: tolerance, rows: map[string]*CompareRow{}, out: &Comparison{}}
	chunk := min(want.passTokens(), got.passTokens(), compareChunk)
	var logits []float32
	var err error
	for done := 0; done < len(ids); {
		n := min(chunk, len(ids)-done)
		if logits, err = c.pass(ctx, a, b, done, ids[done:done+n]); err != nil {
			return nil, err
		}
		done += n
	}
	for len(c.out.Generated) < numGenerate {
		next := argmax(logits)
		c.out.Generated = append(c.out.Generated, next)
		if len(c.out.Generated) == numGenerate {
			break
		}
		if logits, err = c.pass(ctx, a, b, len(ids)+len(c.out.Generated)-1, []int32{next}); err != nil {
			return nil, err
		}
	}
	for _, name := range c.order {
		c.out.Rows = append(c.out.Rows, *c.rows[name])
	}
	return c.out, nil
}

type comparer struct {
	tolerance float64
	rows      map[string]*CompareRow
	order     []string
	out       *Comparison
}

// pass runs the same tokens, at position start, in both sessions and compares tensor by tensor. It returns the
// reference's last logits.
func (c *comparer) pass(ctx context.Context, a, b *Session, start int, tokens []int32) ([]float32, error) {
	type tensor struct {
		rows int
		data []float32
	}
	want := map[string]tensor{}
	wantLogits, err := a.pass(tokens, runner.LogitsAll, func(name string, rows int, data []float32) error {
		want[name] = tensor{rows, append([]float32(nil), data...)}
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("engine: compare, reference at token %d: %w", start, err)
	}
	gotLogits, err := b.pass(tokens, runner.LogitsAll, func(name string, rows int, data []float32) error {
		w, ok := want[name]
		if !ok || w.rows != rows || len(w.data) != len(data) {
			return fmt.Errorf("engine: compare: tensor %s is [%d rows, %d numbers] in one path and [%d, %d] in the other", name, rows, len(data), w.rows, len(w.data))
		}
		c.tensor(name, start, rows, w.data, data)
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("engine: compare, at token %d: %w", start, err)
	}
	c.tensor("logits", start, len(tokens), wantLogits, gotLogits)
	return wantLogits[len(wantLogits)-a.e.Config().VocabSize:], nil
}

func (c *comparer) tensor(name string, start, rows int, want, got []float32) {
	largest := 0.0
	for _, v := range want {
		largest = math.Max(largest, math.Abs(float64(v)))
	}
	if largest == 0 {
		largest = 1
	}
	row := c.rows[name]
	if row == nil {
		row = &CompareRow{Tensor: name, Token: start}
		c.rows[name] = row
		c.order = append(c.order, name)
	}
	cols := len(want) / rows
	for i, w := range want {
		diff := math.Abs(float64(got[i])-float64(w)) / largest
		if math.IsNaN(diff) {
			diff = math.Inf(1)
		}
		if diff > row.MaxError {
			row.MaxError, row.Token, row.Index = diff, start+i/cols, i%cols
		}
		if diff > c.tolerance && c.out.First == nil {
			c.out.First = &Difference{CompareRow{name, diff, start + i/cols, i % cols}, w, got[i]}
		}
	}
}
