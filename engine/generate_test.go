//go:build !js

package engine

// Generation with several tokens in flight against one at a time: the same tokens and the same cache, whatever is in
// flight when it ends.

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
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

func TestRunAheadEqualsStepByStep(t *testing.T) {
	dev := testdevice.Open(t)
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	host := openTest(t, dir, Options{Device: dev, HostSampling: true})
	single := openTest(t, dir, Options{Device: dev, RunAhead: 1})
	ahead := openTest(t, dir, Options{Device: dev, RunAhead: 7, PassTokens: 16})
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
			gotRes, gotLogProbs, gotCached := run(ahead)
			hostRes, hostLogProbs, hostCached := run(host)
			if !slices.Equal(wantRes.Tokens, gotRes.Tokens) || !slices.Equal(wantCached, gotCached) {
				t.Errorf("7 in flight: %v, 1: %v", gotRes.Tokens, wantRes.Tokens)
			}
			if !slices.Equal(wantRes.Tokens, hostRes.Tokens) || !slices.Equal(wantCached, hostCached) {
				t.Errorf("device: %v, host: %v", wantRes.Tokens, hostRes.Tokens)
			}
			for i := range hostLogProbs {
				if math.Abs(float64(hostLogProbs[i]-wantLogProbs[i])) > 2e-5 || math.Abs(float64(gotLogProbs[i]-wantLogProbs[i])) > 2e-5 {
					t.Errorf("log-probability %d: host %v, device %v, ahead %v", i, hostLogProbs[i], wantLogProbs[i], gotLogProbs[i])
				}
			}
		})
	}
}

// What ends an answer in mid-flight leaves the session as if nothing had been ahead, and it goes on from there.
func TestEndInMidFlight(t *testing.T) {
	dev := testdevice.Open(t)
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	e := openTest(t, dir, Options{Device: dev, RunAhead: 8})
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
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	failure := errors.New("the reader went away")
	stopAt := func(n int, err error, also func()) func(int) error {
		return func(i int) error {
			if i == n {
				also()
				return err
			}
			return nil
		}
	}
	stopIDs := all
	stopIDs.IgnoreEOS, stopIDs.StopIDs = false, []int32{whole.Tokens[12]}
	first := slices.Index(whole.Tokens, whole.Tokens[12])
	for _, c := range []struct {
		name   string
		ctx    context.Context
		opt    GenerateOptions
		emit   func(int) error
		tokens int
		reason Reason
		err    error
	}{
		{"stop id", context.Background(), stopIDs, nil, first + 1, ReasonStop, nil},
		{"emit stops", context.Background(), all, stopAt(9, ErrStop, func() {}), 9, ReasonStop, nil},
		{"emit stops at once", context.Background(), all, stopAt(1, ErrStop, func() {}), 1, ReasonStop, nil},
		{"emit fails", context.Background(), all, stopAt(17, failure, func() {}), 17, "", failure},
		{"cancelled", ctx, all, stopAt(20, nil, cancel), 20, ReasonCancelled, context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := e.NewSession()
			res, _, err := generated(s, c.ctx, prompt, c.opt, c.emit)
			if !errors.Is(err, c.err) || res.Reason != c.reason {
				t.Errorf("reason %q, error %v", res.Reason, err)
			}
			if !slices.Equal(res.Tokens, whole.Tokens[:c.tokens]) {
				t.Fatalf("tokens %v, want %v", res.Tokens, whole.Tokens[:c.tokens])
			}
			want := slices.Concat(prompt, whole.Tokens[:c.tokens-1])
			if !slices.Equal(s.Tokens(), want) {
				t.Errorf("%d tokens are cached, want the prompt and all of the answer but its last", s.Len())
			}
			checkPages(t, e)
			rest := all
			rest.MaxTokens -= c.tokens
			more, _, err := generated(s, context.Background(), slices.Concat(prompt, res.Tokens), rest, nil)
			if err != nil || !slices.Equal(more.Tokens, whole.Tokens[c.tokens:]) {
				t.Errorf("going on gives %v, %v; want %v", more.Tokens, err, whole.Tokens[c.tokens:])
			}
			if more.Sync.Prefilled != 1 {
				t.Errorf("going on prefilled %d tokens, want 1", more.Sync.Prefilled)
			}
			s.Close()
			if now := e.CacheStats(); now.UsedPages != free.UsedPages {
				t.Errorf("pages in use: %d before, %d after", free.UsedPages, now.UsedPages)
			}
		})
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
			var tokens [][]int32
			for _, ahead := range []int{1, 8} {
				e := openTest(t, dir, Options{Device: dev, RunAhead: ahead, ContextTokens: c.context})
				if c.other > 0 {
					if _, _, err := e.NewSession().Sync(context.Background(), testPrompt(400)[400-c.other:]); err != nil {
						t.Fatal(err)
					}
				}
				s := e.NewSession()
				res, _, err := generated(s, context.Background(), prompt, opt, nil)
				if !errors.Is(err, ErrContextFull) || res.Reason != ReasonContext {
					t.Errorf("%d in flight: reason %q, error %v", ahead, res.Reason, err)
				}
				if len(res.Tokens) != c.want || s.Len() != len(prompt)+c.want-1 {
					t.Errorf("%d in flight: %d tokens and %d cached, want %d", ahead, len(res.Tokens), s.Len(), c.want)
				}
				checkPages(t, e)
				tokens = append(tokens, res.Tokens)
			}
			if !slices.Equal(tokens[0], tokens[1]) {
				t.Errorf("1 in flight: %v, 8: %v", tokens[0], tokens[1])
			}
		})
	}
}

// Sessions that take turns in mid-answer say what they say alone.
func TestSessionsTakeTurns(t *testing.T) {
	dev := testdevice.Open(t)
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	e := openTest(t, dir, Options{Device: dev, RunAhead: 4})
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
	var wg sync.WaitGroup
	for i := range names {
		wg.Go(func() {
			s := e.NewSession()
			defer s.Close()
			res, _, err := generated(s, context.Background(), prompts[i], opt(i), nil)
			if err != nil || !slices.Equal(res.Tokens, alone[i]) {
				t.Errorf("%s: together %v (%v), alone %v", names[i], res.Tokens, err, alone[i])
			}
		})
	}
	wg.Wait()
	checkPages(t, e)
}

// countingDevice counts submissions.
type countingDevice struct {
	gpu.Device
	passes int
}

func (d *countingDevice) Submit(p *gpu.Pass) error {
	d.passes++
	return d.Device.Submit(p)
}

// A token is one submission, with one in flight as with many.
func TestOnePassAToken(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	dev := &countingDevice{Device: testdevice.Open(t)}
	for _, ahead := range []int{0, 1, 5} {
		e := openTest(t, dir, Options{Device: dev, RunAhead: ahead})
		dev.passes = 0
		if _, _, err := generated(e.NewSession(), context.Background(), testPrompt(20), GenerateOptions{Sampling: sampling.Greedy(), MaxTokens: 30, IgnoreEOS: true}, nil); err != nil {
			t.Fatal(err)
		}
		if want := 2 + 29; dev.passes != want {
			t.Errorf("RunAhead %d: %d passes for a prompt and 30 tokens, want %d", ahead, dev.passes, want)
		}
	}
}

func TestScoresThatAreNotFinite(t *testing.T) {
	dev := testdevice.Open(t)
	e := openTest(t, goldentest.ModelOf(t, tinyShape(), 5, weights.BF16), Options{Device: dev, RunAhead: 4})
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
