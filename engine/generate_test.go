//go:build !js

package engine

// Generation with several tokens in flight, alone and in batches, against one at a time: the same tokens and the same cache,
// whatever is in flight when it ends.

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// tinyShape is a model whose vocabulary is larger than what sample_token lists, and whose context is a few pages.
func tinyShape() *config.Config {
	return &config.Config{
		HiddenSize: 64, NumHiddenLayers: 2, NumKeyValueHeads: 2, NumAttentionHeads: 4, HeadDim: 32, IntermediateSize: 96,
		VocabSize: 1777, MaxPositionEmbeddings: 512, RMSNormEps: 1e-6, RopeTheta: 1e6, TieWordEmbeddings: false, BosTokenID: -1, EosTokenIDs: []int{2},
	}
}

func openTest(tb testing.TB, dir string, opt Options) *Engine {
	tb.Helper()
	e, err := Open(goldentest.OpenModel(tb, dir), opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { e.Close() })
	return e
}

// generated runs one Generate and returns its tokens and result; emit may be nil.
func generated(s *Session, ctx context.Context, prompt []int32, opt GenerateOptions, emit func(int) error) (Result, []float32, error) {
	var logProbs []float32
	res, err := s.Generate(ctx, prompt, opt, func(r sampling.Result) error {
		logProbs = append(logProbs, r.LogProb)
		if emit != nil {
			return emit(len(logProbs))
		}
		return nil
	})
	return res, logProbs, err
}

func checkPages(t *testing.T, e *Engine) {
	t.Helper()
	if err := e.pages.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

func testPrompt(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i*37+11) % 1777
	}
	return ids
}

// samplings are parameters that the device samples with.
func samplings() map[string]sampling.Params {
	drawn := sampling.Default()
	drawn.TopK, drawn.TopP, drawn.Temperature, drawn.Seed = 40, 0.95, 1.4, 12345678901
	penalized := drawn
	penalized.RepetitionPenalty, penalized.FrequencyPenalty, penalized.PresencePenalty = 1.2, 0.3, 0.5
	penalized.LogitBias = map[int32]float32{5: 3, 9: float32(math.Inf(-1))}
	whole, wholePenalized := drawn, penalized
	whole.TopK, whole.TopP = 0, 1
	wholePenalized.TopK, wholePenalized.MinP = 0, 0.001
	greedyPenalized := penalized
	greedyPenalized.Temperature = 0
	return map[string]sampling.Params{"greedy": sampling.Greedy(), "drawn": drawn, "penalized": penalized, "greedy penalized": greedyPenalized,
		"whole vocabulary": whole, "whole vocabulary penalized": wholePenalized}
}

// flights are tokens of a submission and submissions in flight.
var flights = [][2]int{{1, 7}, {2, 1}, {2, 2}, {3, 2}, {8, 2}}

// fly sets them.
func (e *Engine) fly(f [2]int) *Engine {
	e.opt.Batch, e.opt.RunAhead = f[0], f[1]
	return e
}

func TestRunAheadEqualsStepByStep(t *testing.T) {
	dev := testdevice.Open(t)
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	host := openTest(t, dir, Options{Device: dev, HostSampling: true})
	single := openTest(t, dir, Options{Device: dev, RunAhead: 1})
	ahead := openTest(t, dir, Options{Device: dev, PassTokens: 16})
	prompt := testPrompt(117) // the answer crosses from one split of the context to two
	for name, p := range samplings() {
		t.Run(name, func(t *testing.T) {
			opt := GenerateOptions{Sampling: p, MaxTokens: 60, IgnoreEOS: true}
			run := func(e *Engine) (Result, []float32, []int32) {
				s := e.NewSession()
				defer s.Close()
				res, logProbs, err := generated(s, context.Background(), prompt, opt, nil)
				if err != nil {
					t.Fatal(err)
				}
				checkPages(t, e)
				if res.Reason != ReasonLength || res.Sync.Prefilled+res.Sync.Reused != len(prompt) {
					t.Errorf("reason %q, %+v", res.Reason, res.Sync)
				}
				return res, logProbs, s.Tokens()
			}
			wantRes, wantLogProbs, wantCached := run(single)
			hostRes, hostLogProbs, hostCached := run(host)
			for _, f := range flights {
				res, logProbs, cached := run(ahead.fly(f))
				if !slices.Equal(wantRes.Tokens, res.Tokens) || !slices.Equal(wantCached, cached) {
					t.Errorf("%v in flight: %v, 1: %v", f, res.Tokens, wantRes.Tokens)
				}
				if d, where := goldentest.Diff(wantLogProbs, logProbs, 1); d > 2e-5 {
					t.Errorf("%v in flight: log-probabilities, %s", f, where)
				}
			}
			if !slices.Equal(wantRes.Tokens, hostRes.Tokens) || !slices.Equal(wantCached, hostCached) {
				t.Errorf("device: %v, host: %v", wantRes.Tokens, hostRes.Tokens)
			}
			for i := range hostLogProbs {
				if math.Abs(float64(hostLogProbs[i]-wantLogProbs[i])) > 2e-5 {
					t.Errorf("log-probability %d: host %v, device %v", i, hostLogProbs[i], wantLogProbs[i])
				}
			}
		})
	}
}

// What ends an answer in mid-flight leaves the session as if nothing had been ahead, and it goes on from there.
func TestEndInMidFlight(t *testing.T) {
	dev := testdevice.Open(t)
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	e := openTest(t, dir, Options{Device: dev})
	drawn := samplings()["drawn"]
	prompt := testPrompt(30)
	all := GenerateOptions{Sampling: drawn, MaxTokens: 40, IgnoreEOS: true}
	reference := e.NewSession()
	whole, _, err := generated(reference, context.Background(), prompt, all, nil)
	if err != nil {
		t.Fatal(err)
	}
	reference.Close()
	free := e.CacheStats()
	failure := errors.New("the reader went away")
	stopAt := func(n int, err error) func(int) error {
		return func(i int) error {
			if i == n {
				return err
			}
			return nil
		}
	}
	cancelled := errors.New("cancel, do not stop")
	stopIDs := all
	stopIDs.IgnoreEOS, stopIDs.StopIDs = false, []int32{whole.Tokens[12]}
	first := slices.Index(whole.Tokens, whole.Tokens[12])
	type end struct {
		name   string
		opt    GenerateOptions
		emit   func(int) error
		tokens int
		reason Reason
		err    error
	}
	ends := []end{
		{"stop id", stopIDs, nil, first + 1, ReasonStop, nil},
		{"emit fails", all, stopAt(17, failure), 17, "", failure},
		{"cancelled", all, stopAt(20, cancelled), 20, ReasonCancelled, context.Canceled},
	}
	for n := range 10 { // at every place of a batch
		short := all
		short.MaxTokens = n + 1
		ends = append(ends, end{"emit stops", all, stopAt(n+1, ErrStop), n + 1, ReasonStop, nil}, end{"length", short, nil, n + 1, ReasonLength, nil})
	}
	for i, c := range ends {
		for _, f := range flights {
			if c.name == "length" && i%3 > 0 { // drawing too much would show in TestOnePassAToken
				continue
			}
			what := fmt.Sprintf("%s after %d tokens, %v in flight", c.name, c.tokens, f)
			e.fly(f)
			s := e.NewSession()
			ctx, cancel := context.WithCancel(context.Background())
			res, _, err := generated(s, ctx, prompt, c.opt, func(i int) error {
				if c.emit == nil {
					return nil
				}
				err := c.emit(i)
				if err == cancelled {
					cancel()
					return nil
				}
				return err
			})
			cancel()
			if !errors.Is(err, c.err) || res.Reason != c.reason {
				t.Errorf("%s: reason %q, error %v", what, res.Reason, err)
			}
			if !slices.Equal(res.Tokens, whole.Tokens[:c.tokens]) {
				t.Fatalf("%s: tokens %v, want %v", what, res.Tokens, whole.Tokens[:c.tokens])
			}
			want := slices.Concat(prompt, whole.Tokens[:c.tokens-1])
			if !slices.Equal(s.Tokens(), want) {
				t.Errorf("%s: %d tokens are cached, want the prompt and all of the answer but its last", what, s.Len())
			}
			checkPages(t, e)
			rest := all
			rest.MaxTokens = 9
			more, _, err := generated(s, context.Background(), slices.Concat(prompt, res.Tokens), rest, nil)
			if err != nil || !slices.Equal(more.Tokens, whole.Tokens[c.tokens:c.tokens+9]) {
				t.Errorf("%s: going on gives %v, %v; want %v", what, more.Tokens, err, whole.Tokens[c.tokens:c.tokens+9])
			}
			if more.Sync.Prefilled != 1 {
				t.Errorf("%s: going on prefilled %d tokens, want 1", what, more.Sync.Prefilled)
			}
			s.Close()
			if now := e.CacheStats(); now.UsedPages != free.UsedPages {
				t.Errorf("%s: pages in use: %d before, %d after", what, free.UsedPages, now.UsedPages)
			}
		}
	}
}

// A full cache ends the answer at the same token as step by step.
func TestContextFullInMidFlight(t *testing.T) {
	dev := testdevice.Open(t)
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	prompt := testPrompt(40)
	opt := GenerateOptions{Sampling: sampling.Greedy(), IgnoreEOS: true}
	for _, c := range []struct {
		name    string
		context int
		other   int // tokens that another session holds
		want    int // tokens of the answer
	}{
		{"context", 64, 0, 25},                  // 40 + 24 fit; the 25th token is drawn and not run
		{"odd context", 55, 0, 16},              // ends inside a page
		{"pages of another session", 96, 33, 9}, // 3 of 6 pages are taken: 48 tokens fit
	} {
		t.Run(c.name, func(t *testing.T) {
			e := openTest(t, dir, Options{Device: dev, ContextTokens: c.context})
			if c.other > 0 {
				if _, _, err := e.NewSession().Sync(context.Background(), testPrompt(400)[400-c.other:]); err != nil {
					t.Fatal(err)
				}
			}
			var want []int32
			for _, f := range append([][2]int{{1, 1}}, flights...) {
				s := e.fly(f).NewSession()
				res, _, err := generated(s, context.Background(), prompt, opt, nil)
				if !errors.Is(err, ErrContextFull) || res.Reason != ReasonContext {
					t.Errorf("%v in flight: reason %q, error %v", f, res.Reason, err)
				}
				if len(res.Tokens) != c.want || s.Len() != len(prompt)+c.want-1 {
					t.Errorf("%v in flight: %d tokens and %d cached, want %d", f, len(res.Tokens), s.Len(), c.want)
				}
				checkPages(t, e)
				if want == nil {
					want = res.Tokens
				}
				if !slices.Equal(res.Tokens, want) {
					t.Errorf("%v in flight: %v, 1: %v", f, res.Tokens, want)
				}
				s.Close()
			}
		})
	}
}

// Sessions that take turns in mid-answer say what they say alone.
func TestSessionsTakeTurns(t *testing.T) {
	dev := testdevice.Open(t)
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	e := openTest(t, dir, Options{Device: dev})
	names := []string{"greedy", "drawn", "penalized"}
	prompts := [][]int32{testPrompt(30), testPrompt(50)[7:], testPrompt(30)}
	opt := func(i int) GenerateOptions {
		return GenerateOptions{Sampling: samplings()[names[i]], MaxTokens: 50, IgnoreEOS: true}
	}
	var alone [][]int32
	for i := range names {
		s := e.NewSession()
		res, _, err := generated(s, context.Background(), prompts[i], opt(i), nil)
		if err != nil {
			t.Fatal(err)
		}
		alone = append(alone, res.Tokens)
		s.Close()
	}
	for _, f := range flights {
		e.fly(f)
		var wg sync.WaitGroup
		for i := range names {
			wg.Go(func() {
				s := e.NewSession()
				defer s.Close()
				res, _, err := generated(s, context.Background(), prompts[i], opt(i), nil)
				if err != nil || !slices.Equal(res.Tokens, alone[i]) {
					t.Errorf("%v in flight, %s: together %v (%v), alone %v", f, names[i], res.Tokens, err, alone[i])
				}
			})
		}
		wg.Wait()
		checkPages(t, e)
	}
}

// A session that wants its turn waits for what is in flight and no longer.
func TestWaitForTurn(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	e := openTest(t, dir, Options{Device: testdevice.Open(t)})
	opt := GenerateOptions{Sampling: sampling.Greedy(), MaxTokens: 60, IgnoreEOS: true}
	for _, f := range flights {
		e.fly(f)
		var wg sync.WaitGroup
		var emitted, atTurn atomic.Int32
		_, _, err := generated(e.NewSession(), context.Background(), testPrompt(20), opt, func(i int) error {
			if emitted.Store(int32(i)); i == 5 {
				wg.Go(func() {
					if _, err := e.NewSession().pass(testPrompt(9), runner.LogitsLast, nil); err != nil {
						t.Error(err)
					}
					atTurn.Store(emitted.Load())
				})
				for !e.wanted() {
					time.Sleep(time.Millisecond)
				}
			}
			return nil
		})
		wg.Wait()
		if limit := int32(5 + f[0]*f[1]); err != nil || atTurn.Load() > limit {
			t.Errorf("%v in flight: another session had its turn after %d tokens instead of %d, %v", f, atTurn.Load(), limit, err)
		}
	}
}

// wrappingAhead changes what was drawn, on its way from the device.
type wrappingAhead struct {
	runner.Runner
	runner.Ahead
	wrap func(runner.Sampled) runner.Sampled
}

func (w wrappingAhead) SampleAhead(ic *kvcache.InferenceContext) (runner.Sampled, error) {
	s, err := w.Ahead.SampleAhead(ic)
	return w.wrap(s), err
}

// wrap has all that the engine draws go through fn until the returned function is called.
func (e *Engine) wrap(fn func(runner.Sampled) runner.Sampled) (restore func()) {
	real := e.runner
	e.runner = wrappingAhead{real, real.(runner.Ahead), fn}
	return func() { e.runner = real }
}

// failing draws what the device draws up to a token that it cannot.
type failing struct{ drawn, at int }

type failingSampled struct {
	f *failing
	runner.Sampled
}

func (s failingSampled) Wait() ([]sampling.Result, error) {
	drawn, err := s.Sampled.Wait()
	for i := range drawn {
		if s.f.drawn++; s.f.drawn == s.f.at {
			return drawn[:i], runner.ErrNotFinite
		}
	}
	return drawn, err
}

// What was drawn before a token that could not be drawn is part of the answer and stays cached.
func TestNotFiniteInMidFlight(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	e := openTest(t, dir, Options{Device: testdevice.Open(t)})
	opt := GenerateOptions{Sampling: sampling.Greedy(), MaxTokens: 30, IgnoreEOS: true}
	whole, _, err := generated(e.NewSession(), context.Background(), testPrompt(20), opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flights {
		e.fly(f)
		for at := 2; at < 12; at++ {
			fails := &failing{at: at}
			restore := e.wrap(func(s runner.Sampled) runner.Sampled { return failingSampled{fails, s} })
			s := e.NewSession()
			res, _, err := generated(s, context.Background(), testPrompt(20), opt, nil)
			if err == nil || !slices.Equal(res.Tokens, whole.Tokens[:at-1]) {
				t.Errorf("%v in flight, token %d fails: %v, %v", f, at, res.Tokens, err)
			}
			checkPages(t, e)
			s.Close()
			restore()
		}
	}
}

// expecting checks when batches of two tokens are expected.
type expecting struct {
	e      *Engine
	read   time.Time // the batch before
	counts [2]int    // of batches that nothing and something was known of
	wrong  string
}

type expectingSampled struct {
	x *expecting
	runner.Sampled
}

func (s expectingSampled) Expect(at time.Time) {
	if x := s.x; at.IsZero() {
		x.counts[0]++
	} else if off := at.Sub(x.read) - 2*x.e.stepTime; off > time.Second/2 || off < 0 {
		x.wrong = fmt.Sprintf("expected %v after the batch before, a step takes %v", at.Sub(x.read), x.e.stepTime)
	} else {
		x.counts[1]++
	}
	s.Sampled.(gpu.Expecter).Expect(at)
}

func (s expectingSampled) Wait() ([]sampling.Result, error) {
	drawn, err := s.Sampled.Wait()
	s.x.read = time.Now()
	return drawn, err
}

// A batch of tokens is expected as long behind the batch before as its steps take, the first of an answer at no time.
func TestExpected(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	e := openTest(t, dir, Options{Device: testdevice.Open(t)}).fly([2]int{2, 2})
	x := &expecting{e: e}
	defer e.wrap(func(s runner.Sampled) runner.Sampled { return expectingSampled{x, s} })()
	opt := GenerateOptions{Sampling: sampling.Greedy(), MaxTokens: 21, IgnoreEOS: true}
	if _, _, err := generated(e.NewSession(), context.Background(), testPrompt(20), opt, nil); err != nil {
		t.Fatal(err)
	}
	if x.wrong != "" || x.counts != [2]int{1, 10} {
		t.Errorf("%v batches that nothing and something was known of, want [1 10]; %s", x.counts, x.wrong)
	}
}

// Workgroups that the device does not run at the same time give up in mid-flight: the answer goes on without them.
func TestGiveUpInMidFlight(t *testing.T) {
	dev := testdevice.Open(t)
	if dev.Info().Type != "cpu" || dev.Limits().MaxStorageBuffersPerStage < 16 {
		t.Skip("only a CPU device is known to run few workgroups at the same time")
	}
	config := tinyShape()
	dir := goldentest.ModelOf(t, config, 5, weights.BF16)
	for name, p := range samplings() {
		opt := GenerateOptions{Sampling: p, MaxTokens: 20, IgnoreEOS: true}
		want, _, err := generated(openTest(t, dir, Options{Device: dev}).NewSession(), context.Background(), testPrompt(20), opt, nil)
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("layer_products bf16 %dx%d", 2*config.IntermediateSize, (config.HiddenSize+31)/32*32)
		e := openTest(t, dir, Options{Device: dev, Tuning: map[string]forward.MatvecShape{key: {Groups: 64, Workgroup: 64, Loads: 1, ThreadsPerRow: 16}}})
		got, _, err := generated(e.NewSession(), context.Background(), testPrompt(20), opt, nil)
		if err != nil || !slices.Equal(got.Tokens, want.Tokens) {
			t.Errorf("%s: %v, %v, want %v", name, got.Tokens, err, want.Tokens)
		}
		checkPages(t, e)
	}
}

// countingDevice counts passes and submissions.
type countingDevice struct {
	gpu.Device
	passes, submissions int
}

func (d *countingDevice) Submit(p *gpu.Pass) error {
	d.passes++
	d.submissions++
	return d.Device.Submit(p)
}

func (d *countingDevice) Download(b gpu.Buffer, offset, size uint64, passes ...*gpu.Pass) (gpu.Readback, error) {
	d.passes += len(passes)
	d.submissions++
	return d.Device.Download(b, offset, size, passes...)
}

// A token is one pass and at most one submission, with one in flight as with many; a batch of tokens, each twice as large as that in front
// at most, is one submission.
func TestOnePassAToken(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	dev := &countingDevice{Device: testdevice.Open(t)}
	for _, c := range []struct{ batch, ahead, batches int }{{0, 0, 29}, {0, 1, 29}, {1, 5, 29}, {2, 1, 15}, {8, 2, 5}, {29, 0, 4}, {64, 2, 4}} {
		e := openTest(t, dir, Options{Device: dev, Batch: c.batch, RunAhead: c.ahead})
		dev.passes, dev.submissions = 0, 0
		if _, _, err := generated(e.NewSession(), context.Background(), testPrompt(20), GenerateOptions{Sampling: sampling.Greedy(), MaxTokens: 30, IgnoreEOS: true}, nil); err != nil {
			t.Fatal(err)
		}
		if want := 2 + 29; dev.passes != want {
			t.Errorf("%+v: %d passes for a prompt and 30 tokens, want %d", c, dev.passes, want)
		}
		if want := 2 + c.batches; dev.submissions != want && (c.batch+c.ahead > 0 || dev.submissions > want) {
			t.Errorf("%+v: %d submissions for a prompt and 30 tokens, want %d", c, dev.submissions, want)
		}
	}
}

func TestScoresThatAreNotFinite(t *testing.T) {
	dev := testdevice.Open(t)
	e := openTest(t, goldentest.ModelOf(t, tinyShape(), 5, weights.BF16), Options{Device: dev, Batch: 3, RunAhead: 2})
	p := sampling.Greedy()
	p.LogitBias = map[int32]float32{}
	for id := range int32(1777) {
		p.LogitBias[id] = float32(math.Inf(-1))
	}
	s := e.NewSession()
	_, _, err := generated(s, context.Background(), testPrompt(20), GenerateOptions{Sampling: p, MaxTokens: 5}, nil)
	if err == nil || !strings.Contains(err.Error(), "logit_bias") {
		t.Errorf("error %v does not name logit_bias", err)
	}
	checkPages(t, e)
}

// A submission has some 30 milliseconds of work, at least two are in flight, and a slow device gets one token at a time.
func TestBatch(t *testing.T) {
	for _, c := range []struct {
		step        time.Duration
		size, depth int
	}{
		{0, 1, 1}, {time.Second, 1, 1}, {21 * time.Millisecond, 1, 1}, {17 * time.Millisecond, 2, 2}, {12 * time.Millisecond, 3, 2},
		{3 * time.Millisecond, 11, 2}, {time.Millisecond, 32, 2}, {600 * time.Microsecond, 32, 3}, {100 * time.Microsecond, 32, 11},
	} {
		e := &Engine{stepTime: c.step}
		if size, depth := e.batch(); size != c.size || depth != c.depth {
			t.Errorf("steps of %v: %d tokens, %d in flight; want %d, %d", c.step, size, depth, c.size, c.depth)
		}
	}
	// From a slow first step, which compiles, to the rate of the device.
	e := &Engine{}
	e.noteSteps(1, 200*time.Millisecond)
	tokens := 0
	for ; e.stepTime > 1100*time.Microsecond; tokens++ {
		e.noteSteps(1, time.Millisecond)
	}
	if tokens > 64 {
		t.Errorf("it took %d tokens to find out how long a step takes", tokens)
	}
}
