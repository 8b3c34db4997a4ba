// The checks against transformers' activations and greedy tokens, and of what a KV cache must not change.

package goldentest

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// Open makes the runner under test for a packed directory, with a KV arena of numPages pages of
// kvcache.DefaultPageSize tokens. It registers its own cleanup.
type Open func(t *testing.T, modelDir string, kv runner.KVDType, numPages int) runner.Runner

// tolerances are relative to the largest magnitude of the tensor, but for minMargin.
type tolerances struct {
	golden    float64 // against transformers, which keeps keys and values in float32
	chunks    float64 // between two ways of cutting a prompt into passes
	minMargin float32 // lead of the best logit in the reference, below which a greedy step is not decided
}

// toleranceOf returns what a KV format costs. Rounding keys and values to 16 bits moves the reference models' logits by up
// to 1.5e-3 of 40, so steps with a lead below 0.01 are left open (3 of 768).
func toleranceOf(kv runner.KVDType) tolerances {
	if kv == runner.KVF32 {
		return tolerances{golden: 2e-4, chunks: 1e-4, minMargin: 1e-3}
	}
	return tolerances{golden: 2e-3, chunks: 1e-3, minMargin: 1e-2}
}

// numPages is the arena of the runners under test: two sequences of the longest prompt with its answer.
const numPages = 48

// Run checks a runner against every reference model, packed as bf16, with both KV formats.
func Run(t *testing.T, open Open) {
	for _, name := range Names {
		for _, kv := range []runner.KVDType{runner.KVF32, runner.KVF16} {
			t.Run(fmt.Sprintf("%s/%s", name, kv), func(t *testing.T) {
				g := Load(t, name)
				s := &suite{Golden: g, kv: kv, tol: toleranceOf(kv), r: open(t, Pack(t, name, weights.BF16), kv, numPages)}
				t.Run("prompts", s.prompts)
				t.Run("greedy", s.greedy)
				t.Run("chunks", s.chunks)
				t.Run("shared prefix", s.sharedPrefix)
				t.Run("fork", s.fork)
				t.Run("abort", s.abort)
				t.Run("failure", s.failure)
				t.Run("refusals", s.refusals)
			})
		}
	}
}

// suite is one model on one runner. Every check has page accounting of its own and finds the arena as the last one left
// it: what lies in pages that a sequence does not own must not matter.
type suite struct {
	*Golden
	kv  runner.KVDType
	tol tolerances
	r   runner.Runner
}

func (s *suite) where(prompt string) string {
	return fmt.Sprintf("%s, %s KV, %s", s.Name, s.kv, prompt)
}

func (s *suite) timeline(t *testing.T, prompt string) *Timeline {
	return NewTimeline(t, s.where(prompt), s.r, numPages)
}

// prompts compares hidden states and logits of every prompt, layer by layer.
func (s *suite) prompts(t *testing.T) {
	var worstHidden, worstLogits float64
	for _, p := range s.Prompts {
		rec := newRecording()
		l := s.timeline(t, p.Name)
		logits := l.Run(p.IDs, math.MaxInt, rec.tap)
		if want := tapNames(s.Config.NumHiddenLayers); !slices.Equal(rec.names, want) {
			t.Fatalf("%s: taps %v, want %v", l.where, rec.names, want)
		}
		for _, name := range rec.names {
			i, ok := hidden(name, s.Config.NumHiddenLayers)
			if !ok || p.Hidden == nil {
				continue
			}
			d := diff(p.Hidden[i], rec.tensors[name], len(p.IDs))
			worstHidden = max(worstHidden, d.relative)
			if d.relative > s.tol.golden {
				t.Fatalf("%s: hidden.%d (%s), %v; tolerance %g", l.where, i, name, d, s.tol.golden)
			}
		}
		vocab := s.Config.VocabSize
		tensors := []struct {
			name      string
			want, got []float32
		}{{"logits_last", p.LogitsLast, logits[len(logits)-vocab:]}, {"logits", p.Logits, logits}}
		for _, c := range tensors {
			if c.want == nil {
				continue
			}
			d := diff(c.want, c.got, len(c.want)/vocab)
			worstLogits = max(worstLogits, d.relative)
			if d.relative > s.tol.golden {
				t.Fatalf("%s: %s, %v; tolerance %g", l.where, c.name, d, s.tol.golden)
			}
		}
	}
	t.Logf("%s, %s KV: %d prompts, largest error: hidden states %.2g, logits %.2g (tolerance %g)", s.Name, s.kv, len(s.Prompts), worstHidden, worstLogits, s.tol.golden)
}

// greedy compares the greedy continuation token for token. The reference's tokens are fed back, so that a step that the
// reference does not decide does not end the comparison.
func (s *suite) greedy(t *testing.T) {
	steps, open := 0, 0
	for _, p := range s.Prompts {
		l := s.timeline(t, p.Name)
		last := l.Prefill(p.IDs, math.MaxInt)
		for i, want := range p.Greedy {
			if decided := p.GreedyMargin[i] >= s.tol.minMargin; !decided {
				open++
			} else if got := argmax(last); got != want {
				t.Fatalf("%s: greedy step %d (position %d): want token %d, got %d; their logits here are %g and %g, the reference's margin is %g",
					l.where, i, l.Seq.Len(), want, got, last[want], last[got], p.GreedyMargin[i])
			}
			steps++
			last = l.Pass([]int32{want}, runner.LogitsLast, nil)
		}
	}
	t.Logf("%s, %s KV: %d greedy tokens equal, %d undecided", s.Name, s.kv, steps-open, open)
}

// middle is the longest prompt with reference activations, long the longest of all.
func (s *suite) middle() Prompt {
	p := s.Prompts[0]
	for _, q := range s.Prompts {
		if len(q.IDs) <= 64 {
			p = q
		}
	}
	return p
}

func (s *suite) long() Prompt { return s.Prompts[len(s.Prompts)-1] }

// chunks cuts prompts into passes of different lengths. Of the long prompt only the last logits are compared.
func (s *suite) chunks(t *testing.T) {
	worst := 0.0
	p := s.middle()
	compare := func(p Prompt, size int, whole, got []float32) {
		t.Helper()
		d := diff(whole, got, len(whole)/s.Config.VocabSize)
		worst = max(worst, d.relative)
		if d.relative > s.tol.chunks {
			t.Fatalf("%s: logits, %v; tolerance %g", s.where(fmt.Sprintf("%s in chunks of %d", p.Name, size)), d, s.tol.chunks)
		}
	}
	whole := s.timeline(t, p.Name).Run(p.IDs, math.MaxInt, nil)
	for _, size := range []int{1, 7, 16, 17} {
		compare(p, size, whole, s.timeline(t, p.Name).Run(p.IDs, size, nil))
	}
	p = s.long()
	whole = s.timeline(t, p.Name).Prefill(p.IDs, math.MaxInt)
	for _, size := range []int{16, 17} {
		compare(p, size, whole, s.timeline(t, p.Name).Prefill(p.IDs, size))
	}
	t.Logf("%s, %s KV: largest difference between chunk lengths %.2g (tolerance %g)", s.Name, s.kv, worst, s.tol.chunks)
}

// alone is what ids give in an empty cache, [tokens, vocab].
func (s *suite) alone(t *testing.T, ids []int32) []float32 {
	t.Helper()
	return s.timeline(t, "alone").Run(ids, math.MaxInt, nil)
}

// checkTail compares the last logits rows of ids run alone with got.
func (s *suite) checkTail(t *testing.T, where string, ids []int32, got []float32) {
	t.Helper()
	alone := s.alone(t, ids)
	rows := len(got) / s.Config.VocabSize
	if d := diff(alone[len(alone)-len(got):], got, rows); d.relative > s.tol.chunks {
		t.Fatalf("%s: logits from token %d on, %v; tolerance %g", where, len(ids)-rows, d, s.tol.chunks)
	}
}

// sharedPrefix runs two texts that begin alike in one cache: the second finds the first's pages, and neither changes
// what the other gives.
func (s *suite) sharedPrefix(t *testing.T) {
	ids, other := s.long().IDs, s.middle().IDs
	const shared = 40 // two full pages and a half
	a := slices.Clone(ids[:shared+9])
	b := slices.Concat(ids[:shared], other[:11])
	la := s.timeline(t, "first of two")
	lb := NewTimelineIn(t, s.where("second of two"), s.r, la.Pages)
	la.Run(a[:shared+4], math.MaxInt, nil)
	reused := la.Pages.Reuse(lb.Seq, b)
	if want := shared / kvcache.DefaultPageSize * kvcache.DefaultPageSize; reused != want {
		t.Fatalf("%s: %d tokens found in the cache, want %d", lb.where, reused, want)
	}
	gotB := lb.Run(b[reused:len(b)-5], math.MaxInt, nil)
	gotA := la.Run(a[shared+4:], 2, nil)
	gotB = append(gotB, lb.Run(b[len(b)-5:], 1, nil)...)
	s.checkTail(t, la.where, a, gotA)
	s.checkTail(t, lb.where, b, gotB)
	checkAccount(t, la.Pages)
}

// fork splits a sequence in the middle of a page and goes on with both, by turns: each first write copies the page.
func (s *suite) fork(t *testing.T) {
	ids, other := s.long().IDs, s.middle().IDs
	const shared = 21
	la := s.timeline(t, "before the fork")
	la.Run(ids[:shared], math.MaxInt, nil)
	lb := la.Fork(s.where("fork"))
	var gotA, gotB []float32
	for i := range 4 {
		gotA = append(gotA, la.Run(ids[shared+i:shared+i+1], 1, nil)...)
		gotB = append(gotB, lb.Run(other[3*i:3*i+3], math.MaxInt, nil)...)
	}
	s.checkTail(t, la.where, ids[:shared+4], gotA)
	s.checkTail(t, lb.where, slices.Concat(ids[:shared], other[:12]), gotB)
	checkAccount(t, la.Pages)
}

func checkAccount(t *testing.T, pages *kvcache.PageManager) {
	t.Helper()
	if err := pages.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
}

// state is what must not change when a pass is dropped.
type state struct {
	tokens []int32
	table  []uint32
	stats  kvcache.Stats
}

func stateOf(l *Timeline) state {
	st := state{slices.Clone(l.Seq.Tokens()), slices.Clone(l.Seq.PageTable()), l.Pages.Stats()}
	st.stats.Counters = kvcache.Counters{}
	return st
}

func checkUnchanged(t *testing.T, l *Timeline, what string, before state) {
	t.Helper()
	if after := stateOf(l); !reflect.DeepEqual(before, after) {
		t.Fatalf("%s: %s: tokens, pages and account were %v and are %v", l.where, what, before, after)
	}
	checkAccount(t, l.Pages)
}

// abort drops passes, in the middle of a page and behind a fork whose first write copies that page: the same pass then
// gives the same bits.
func (s *suite) abort(t *testing.T) {
	ids, other := s.long().IDs, s.middle().IDs
	const cached = 21
	l := s.timeline(t, "abort")
	l.Run(ids[:cached], math.MaxInt, nil)
	for _, next := range [][]int32{ids[cached : cached+1], ids[cached:48]} {
		before := stateOf(l)
		first := l.Drop(next, runner.LogitsAll)
		l.Drop(other[:15], runner.LogitsAll)
		l.Drop(other[:1], runner.LogitsAll)
		second := l.Drop(next, runner.LogitsAll)
		checkUnchanged(t, l, "aborted passes", before)
		if d := diff(first, second, len(next)); d.relative != 0 {
			t.Fatalf("%s: a pass of %d tokens after aborted ones: logits, %v; must be identical", l.where, len(next), d)
		}
		fork := l.Fork(s.where("aborted fork"))
		before = stateOf(l)
		fork.Drop(other[:15], runner.LogitsNone)
		fork.Drop(other[:1], runner.LogitsNone)
		checkUnchanged(t, l, "aborted passes of a fork", before)
		if third := fork.Pass(next, runner.LogitsAll, nil); !slices.Equal(first, third) {
			t.Fatalf("%s: a fork's pass of %d tokens differs from the same pass aborted before", l.where, len(next))
		}
		fork.Seq.Release()
		if third := l.Pass(next, runner.LogitsAll, nil); !slices.Equal(first, third) {
			t.Fatalf("%s: a pass of %d tokens differs from the same pass aborted before", l.where, len(next))
		}
		if err := l.Seq.Truncate(cached); err != nil {
			t.Fatal(err)
		}
	}
	checkAccount(t, l.Pages)
}

// failure lets passes fail half-way, as a cancelled trace does: with layer 0's keys and values written and nothing else.
func (s *suite) failure(t *testing.T) {
	ids, other := s.long().IDs, s.middle().IDs
	const cached = 21
	l := s.timeline(t, "failure")
	l.Run(ids[:cached], math.MaxInt, nil)
	cancelled := errors.New("cancelled")
	fail := func(name string, _ int, _ []float32) error {
		if name == "layers.0.attn_out" {
			return cancelled
		}
		return nil
	}
	for _, next := range [][]int32{ids[cached : cached+1], ids[cached:48]} {
		first := l.Drop(next, runner.LogitsAll)
		fork := l.Fork(s.where("failed fork"))
		before := stateOf(l)
		for _, failing := range []*Timeline{l, fork} {
			if _, err := failing.Try(other[:len(next)], runner.LogitsAll, fail); !errors.Is(err, cancelled) {
				t.Fatalf("%s: error %v", failing.where, err)
			}
			checkUnchanged(t, l, "a failed pass", before)
		}
		for _, again := range []*Timeline{l, fork} {
			if got := again.Drop(next, runner.LogitsAll); !slices.Equal(first, got) {
				t.Fatalf("%s: after a failed pass, a pass of %d tokens gives other logits", again.where, len(next))
			}
		}
		fork.Seq.Release()
	}
}

// refusals asks for passes that must not run.
func (s *suite) refusals(t *testing.T) {
	l := s.timeline(t, "refusals")
	refused := func(what string, ic *kvcache.InferenceContext, is error) {
		t.Helper()
		_, err := s.r.Forward(runner.Request{Context: ic, Logits: runner.LogitsLast})
		if err == nil || is != nil && !errors.Is(err, is) {
			t.Errorf("%s: %s: error %v", l.where, what, err)
		}
	}
	refused("no context", nil, nil)
	refused("a zero context", new(kvcache.InferenceContext), kvcache.ErrInvalidContext)
	ids := s.middle().IDs
	ic := l.Begin(ids[:3])
	ic.Abort()
	refused("an aborted context", ic, kvcache.ErrInvalidContext)
	ic = l.Begin(ids[:3])
	if err := ic.Commit(); err != nil {
		t.Fatal(err)
	}
	refused("a committed context", ic, kvcache.ErrInvalidContext)
	ic = l.Begin([]int32{int32(s.Config.VocabSize)})
	refused("a token beyond the vocabulary", ic, nil)
	ic.Abort()
	if n := s.r.MaxTokensPerPass() + 1; n <= numPages*kvcache.DefaultPageSize-l.Seq.Len() {
		ic = l.Begin(make([]int32, n))
		refused("too many tokens", ic, nil)
		ic.Abort()
	}
	pages, err := kvcache.New(kvcache.Config{NumPages: 4, PageSize: kvcache.DefaultPageSize / 2})
	if err != nil {
		t.Fatal(err)
	}
	if ic, err = pages.Begin(pages.NewSequence(), ids[:3]); err != nil {
		t.Fatal(err)
	}
	refused("pages of another size", ic, nil)
}
