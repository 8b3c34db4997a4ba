// Comparing tensors, and driving a runner over a sequence.

package goldentest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// tensorDiff is the largest difference of two tensors.
type tensorDiff struct {
	relative   float64 // |got-want| / largest; +Inf where either is NaN or sizes differ
	largest    float64 // largest magnitude in want
	row, col   int
	want, got  float32
	comparable bool
}

// diff compares got with want, [rows, len(want)/rows].
func diff(want, got []float32, rows int) tensorDiff {
	d := tensorDiff{comparable: len(want) == len(got) && rows > 0 && len(want)%rows == 0}
	if !d.comparable {
		d.relative = math.Inf(1)
		return d
	}
	for _, v := range want {
		d.largest = math.Max(d.largest, math.Abs(float64(v)))
	}
	scale := d.largest
	if scale == 0 {
		scale = 1
	}
	cols := len(want) / rows
	for i, w := range want {
		e := math.Abs(float64(got[i])-float64(w)) / scale
		if math.IsNaN(e) {
			e = math.Inf(1)
		}
		if e > d.relative || i == 0 {
			d.relative, d.row, d.col, d.want, d.got = e, i/cols, i%cols, w, got[i]
		}
	}
	return d
}

// String names the place and the two numbers; the caller puts model, prompt and tensor before it.
func (d tensorDiff) String() string {
	if !d.comparable {
		return "sizes differ"
	}
	return fmt.Sprintf("token %d, index %d: want %g, got %g, off by %.3g of the largest magnitude %.4g", d.row, d.col, d.want, d.got, d.relative, d.largest)
}

// Diff is the largest difference of got from want, relative to want's largest magnitude, and a description that names its
// row (as token) and column; rows is the number of tokens.
func Diff(want, got []float32, rows int) (relative float64, description string) {
	d := diff(want, got, rows)
	return d.relative, d.String()
}

// Timeline is one sequence of tokens on a runner. A pass that must not fail ends the test when it does.
type Timeline struct {
	tb     testing.TB
	where  string // for messages
	Runner runner.Runner
	Pages  *kvcache.PageManager
	Seq    *kvcache.Sequence
}

// NewTimeline starts an empty sequence with page accounting of its own; where begins every message.
func NewTimeline(tb testing.TB, where string, r runner.Runner, numPages int) *Timeline {
	tb.Helper()
	pages, err := kvcache.New(kvcache.Config{NumPages: numPages})
	if err != nil {
		tb.Fatal(err)
	}
	return NewTimelineIn(tb, where, r, pages)
}

// NewTimelineIn starts an empty sequence in pages.
func NewTimelineIn(tb testing.TB, where string, r runner.Runner, pages *kvcache.PageManager) *Timeline {
	return &Timeline{tb: tb, where: where, Runner: r, Pages: pages, Seq: pages.NewSequence()}
}

// Fork is a second timeline with the same tokens.
func (l *Timeline) Fork(where string) *Timeline {
	l.tb.Helper()
	seq, err := l.Seq.Fork()
	if err != nil {
		l.tb.Fatalf("%s: %v", l.where, err)
	}
	return &Timeline{tb: l.tb, where: where, Runner: l.Runner, Pages: l.Pages, Seq: seq}
}

// Begin makes the context of a pass over ids.
func (l *Timeline) Begin(ids []int32) *kvcache.InferenceContext {
	l.tb.Helper()
	ic, err := l.Pages.Begin(l.Seq, ids)
	if err != nil {
		l.tb.Fatalf("%s: %v", l.where, err)
	}
	return ic
}

// Try runs ids in one pass, which it commits, or aborts on an error.
func (l *Timeline) Try(ids []int32, want runner.LogitsWanted, tap runner.Tap) ([]float32, error) {
	l.tb.Helper()
	ic := l.Begin(ids)
	logits, err := l.Runner.Forward(runner.Request{Context: ic, Logits: want, Tap: tap})
	if err != nil {
		ic.Abort()
		return nil, err
	}
	return slices.Clone(logits), ic.Commit()
}

// Drop runs ids in one pass and aborts it.
func (l *Timeline) Drop(ids []int32, want runner.LogitsWanted) []float32 {
	l.tb.Helper()
	ic := l.Begin(ids)
	defer ic.Abort()
	logits, err := l.Runner.Forward(runner.Request{Context: ic, Logits: want})
	if err != nil {
		l.tb.Fatalf("%s: %v", l.where, err)
	}
	return slices.Clone(logits)
}

// Pass runs ids in one pass and commits it.
func (l *Timeline) Pass(ids []int32, want runner.LogitsWanted, tap runner.Tap) []float32 {
	l.tb.Helper()
	start := l.Seq.Len()
	logits, err := l.Try(ids, want, tap)
	if err != nil {
		l.tb.Fatalf("%s: %d tokens from position %d: %v", l.where, len(ids), start, err)
	}
	return logits
}

// Run runs ids in chunks of at most chunk tokens (and of what the runner takes) and returns all logits, [tokens, vocab].
func (l *Timeline) Run(ids []int32, chunk int, tap runner.Tap) []float32 {
	l.tb.Helper()
	chunk = min(chunk, l.Runner.MaxTokensPerPass())
	var all []float32
	for ; len(ids) > 0; ids = ids[min(chunk, len(ids)):] {
		all = append(all, l.Pass(ids[:min(chunk, len(ids))], runner.LogitsAll, tap)...)
	}
	return all
}

// Prefill runs ids in chunks like Run and returns the last token's logits, [vocab].
func (l *Timeline) Prefill(ids []int32, chunk int) []float32 {
	l.tb.Helper()
	chunk = min(chunk, l.Runner.MaxTokensPerPass())
	for ; len(ids) > chunk; ids = ids[chunk:] {
		l.Pass(ids[:chunk], runner.LogitsNone, nil)
	}
	return l.Pass(ids, runner.LogitsLast, nil)
}

// recording is what a tap saw, in the order of a token's trip; passes over one prompt are joined.
type recording struct {
	names   []string
	tensors map[string][]float32
}

func newRecording() *recording { return &recording{tensors: map[string][]float32{}} }

func (r *recording) tap(name string, rows int, data []float32) error {
	if _, ok := r.tensors[name]; !ok {
		r.names = append(r.names, name)
	}
	if rows < 1 || len(data)%rows != 0 {
		return fmt.Errorf("tap %s: %d numbers in %d rows", name, len(data), rows)
	}
	r.tensors[name] = append(r.tensors[name], data...)
	return nil
}

// hidden maps a tap's name to transformers' index of hidden states.
func hidden(name string, layers int) (int, bool) {
	switch name {
	case "embed":
		return 0, true
	case "final_norm":
		return layers, true
	}
	rest, ok := strings.CutPrefix(name, "layers.")
	number, what, _ := strings.Cut(rest, ".")
	i, err := strconv.Atoi(number)
	return i + 1, ok && err == nil && what == "out" && i+1 < layers
}

// tapNames lists the taps that a pass must call, in order.
func tapNames(layers int) []string {
	names := []string{"embed"}
	for i := range layers {
		for _, what := range []string{"qkv", "attn", "attn_out", "mlp", "out"} {
			names = append(names, fmt.Sprintf("layers.%d.%s", i, what))
		}
	}
	return append(names, "final_norm")
}

// argmax is the lowest index of the largest number.
func argmax(v []float32) int32 {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return int32(best)
}
