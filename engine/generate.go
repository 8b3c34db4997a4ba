package engine

// Generation: the loop from a prompt to sampled tokens. Where the runner can, tokens are drawn on its device and several
// are in flight (onDevice); else the host samples from each pass's logits (onHost). Both give an answer's tokens to take,
// and leave the same tokens in the cache.

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// Generate answers the prompt ids: it syncs, then samples token by token and hands each to emit, which may return ErrStop.
// The result says what was done also when err is not nil. Other sessions' passes may have to wait while emit runs.
func (s *Session) Generate(ctx context.Context, ids []int32, opt GenerateOptions, emit func(sampling.Result) error) (Result, error) {
	g := generation{s: s, ctx: ctx, prompt: ids, opt: opt, emit: emit}
	if g.opt.Sampling.AllowedVocab == 0 {
		n, err := s.e.definedVocab()
		if err != nil {
			return g.res, err
		}
		g.opt.Sampling.AllowedVocab = n
	}
	if err := g.opt.Sampling.Validate(s.e.Config().VocabSize); err != nil {
		return g.res, err
	}
	g.begin = time.Now()
	err := g.run()
	switch {
	case g.res.Reason != "":
	case errors.Is(err, ErrContextFull):
		g.res.Reason = ReasonContext
	case err != nil && ctx.Err() != nil:
		g.res.Reason = ReasonCancelled
	}
	if len(g.res.Tokens) > 0 {
		g.res.Duration = time.Since(g.firstAt)
	}
	return g.res, err
}

// generation is one call of Generate.
type generation struct {
	s              *Session
	ctx            context.Context
	prompt         []int32
	opt            GenerateOptions
	emit           func(sampling.Result) error
	res            Result
	begin, firstAt time.Time
}

// run does it all. When the device is lost the answer goes on, token for token, on a new one, unless that does not get a
// single token further.
func (g *generation) run() error {
	for done := -1; ; {
		e := g.s.e
		e.mu.Lock()
		r := e.runner
		e.mu.Unlock()
		run := g.onHost
		if a, ok := r.(runner.Ahead); ok && !e.opt.HostSampling && a.CanSample(g.opt.Sampling) {
			run = func() error { return g.onDevice(a) }
		}
		err := run()
		if !errors.Is(err, gpu.ErrLost) || e.opt.Reopen == nil || len(g.res.Tokens) == done {
			return err
		}
		done = len(g.res.Tokens)
		if err := e.reopen(r, err); err != nil {
			return err
		}
	}
}

// ids are what the cache must hold: the prompt, and what was answered before a device was lost.
func (g *generation) ids() []int32 { return slices.Concat(g.prompt, g.res.Tokens) }

// synced notes what the prompt cost; filling the cache again does not count.
func (g *generation) synced(stats SyncStats) {
	if len(g.res.Tokens) == 0 {
		g.res.Sync = stats
	}
}

// take adds a token to the answer. It is over when done is true; an error always ends it.
func (g *generation) take(r sampling.Result) (done bool, err error) {
	if len(g.res.Tokens) == 0 {
		g.firstAt = time.Now()
		g.res.Sync.Duration = g.firstAt.Sub(g.begin)
		g.s.e.notePrefill(g.res.Sync.Prefilled, g.res.Sync.Duration)
	}
	g.res.Tokens = append(g.res.Tokens, r.Token)
	if err := g.emit(r); err != nil && !errors.Is(err, ErrStop) {
		return true, err
	} else if err != nil || !g.opt.IgnoreEOS && slices.Contains(g.opt.StopIDs, r.Token) {
		g.res.Reason = ReasonStop
		return true, nil
	}
	switch limit := g.s.e.opt.ContextTokens; {
	case g.opt.MaxTokens > 0 && len(g.res.Tokens) >= g.opt.MaxTokens:
		g.res.Reason = ReasonLength
		return true, nil
	case g.ctx.Err() != nil:
		return true, g.ctx.Err()
	case len(g.prompt)+len(g.res.Tokens) > limit:
		return true, fmt.Errorf("engine: %w after %d tokens of the answer: it holds %d tokens", ErrContextFull, len(g.res.Tokens), limit)
	}
	return false, nil
}

// last is the token to run next.
func (g *generation) last() []int32 { return g.res.Tokens[len(g.res.Tokens)-1:] }

func (g *generation) tokenError(err error) error {
	return fmt.Errorf("engine: token %d of the answer: %w", len(g.res.Tokens), err)
}

// onHost samples from every pass's logits.
func (g *generation) onHost() error {
	sampler, err := sampling.New(g.opt.Sampling, g.s.e.Config().VocabSize)
	if err != nil {
		return err
	}
	logits, stats, err := g.s.Sync(g.ctx, g.ids())
	g.synced(stats)
	if err != nil {
		return err
	}
	if err := sampler.AcceptPrompt(g.prompt); err != nil {
		return err
	}
	for _, id := range g.res.Tokens {
		if err := sampler.Accept(id); err != nil {
			return err
		}
	}
	for {
		picked, err := sampler.Sample(logits)
		if err != nil {
			return g.tokenError(err)
		}
		if err := sampler.Accept(picked.Token); err != nil {
			return g.tokenError(err)
		}
		if done, err := g.take(picked); done {
			return err
		}
		if logits, err = g.s.pass(g.last(), runner.LogitsLast, nil); err != nil {
			return g.tokenError(err)
		}
	}
}

// onDevice draws on the device, in chains that end where another session wants its turn.
func (g *generation) onDevice(a runner.Ahead) error {
	next, stats, err := g.s.syncHead(g.ctx, g.ids())
	g.synced(stats)
	if err != nil {
		return err
	}
	for {
		done, err := g.chain(a, next)
		if errors.Is(err, runner.ErrRepeat) {
			if len(g.res.Tokens) > 0 {
				next = g.last()
			}
			continue
		}
		if errors.Is(err, runner.ErrNotFinite) {
			err = g.explainNotFinite(next)
		}
		if err != nil && len(g.res.Tokens) == 0 {
			return prefillError(len(g.prompt)-len(next), len(next), err)
		}
		if done || err != nil {
			return err
		}
		next = g.last()
	}
}

// chain runs tokens and on from there, with several batches of tokens in flight. When it returns with done false the
// answer goes on with another chain. What was drawn past the end of the answer is forgotten and its pages are given back:
// the session then holds the prompt and all of the answer but its last token, as step by step.
func (g *generation) chain(a runner.Ahead, tokens []int32) (done bool, err error) {
	e := g.s.e
	e.acquire()
	defer e.release()
	ic, err := g.s.begin(tokens)
	if err != nil {
		return true, err
	}
	before := len(g.res.Tokens)
	flight := flight{a: a, ic: ic}
	defer func() {
		for flight.tokens > 0 {
			flight.land(time.Time{}) // overshoot; what it says no longer matters
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(g.res.Tokens) == before {
			ic.Abort()
			return
		}
		if commitErr := ic.CommitAhead(g.res.Tokens[before : len(g.res.Tokens)-1]); err == nil {
			err = commitErr
		}
	}()
	if _, err := e.runner.Forward(runner.Request{Context: ic, Logits: runner.LogitsNone}); err != nil {
		return true, err
	}
	if err := a.StartSampling(g.opt.Sampling, g.prompt, g.res.Tokens); err != nil {
		return true, err
	}
	if err := flight.start(1); err != nil {
		return true, err
	}
	var lastRead time.Time
	for full := false; ; {
		for !full && !e.wanted() {
			size, depth := e.batch()
			size = min(size, 2*flight.last, g.mayDraw(flight.tokens), a.MaxAhead())
			if len(flight.batches) >= depth || size < 1 {
				break
			}
			if size, err = g.extend(ic, size); err != nil {
				return true, err
			}
			if full = size == 0; full {
				break // if the answer gets that far, the next chain says so
			}
			if err := flight.start(size); err != nil {
				return true, g.tokenError(err)
			}
		}
		if flight.tokens == 0 {
			return false, nil
		}
		drawn, readErr := flight.land(e.expects(lastRead, flight.batches[0].size))
		now := time.Now()
		if !lastRead.IsZero() && readErr == nil {
			e.noteSteps(len(drawn), now.Sub(lastRead))
		}
		lastRead = now
		if len(g.res.Tokens) == 0 && len(drawn) > 0 {
			g.res.Sync.Prefilled += len(tokens)
		}
		for _, r := range drawn {
			if done, err := g.take(r); done {
				return true, err
			}
		}
		if readErr != nil {
			return true, readErr
		}
	}
}

// flight is what a chain has submitted and not read yet.
type flight struct {
	a       runner.Ahead
	ic      *kvcache.InferenceContext
	batches []batch
	tokens  int // of all batches
	last    int // tokens of the batch submitted last
}

type batch struct {
	sampled runner.Sampled
	size    int // tokens
}

// start submits the positions that the context was extended by.
func (f *flight) start(size int) error {
	sampled, err := f.a.SampleAhead(f.ic)
	if err == nil {
		f.batches, f.tokens, f.last = append(f.batches, batch{sampled, size}), f.tokens+size, size
	}
	return err
}

// land waits for the oldest batch, which is expected at a time that may be zero.
func (f *flight) land(expected time.Time) ([]sampling.Result, error) {
	b := f.batches[0]
	f.batches, f.tokens = f.batches[1:], f.tokens-b.size
	if runtime.GOOS != "js" { // where nobody has to look for it
		if x, ok := b.sampled.(gpu.Expecter); ok {
			x.Expect(expected)
		}
	}
	return b.sampled.Wait()
}

// extend reserves up to n more positions, as many as there are pages for.
func (g *generation) extend(ic *kvcache.InferenceContext, n int) (int, error) {
	g.s.e.mu.Lock()
	defer g.s.e.mu.Unlock()
	for ; n > 0; n-- {
		if err := ic.Extend(n); !errors.Is(err, kvcache.ErrFull) {
			return n, err
		}
	}
	return 0, nil
}

// mayDraw is how many more tokens can be part of the answer when n are in flight.
func (g *generation) mayDraw(n int) int {
	if g.ctx.Err() != nil {
		return 0
	}
	drawn := len(g.res.Tokens) + n
	left := g.s.e.opt.ContextTokens + 1 - len(g.prompt) - drawn
	if g.opt.MaxTokens > 0 {
		left = min(left, g.opt.MaxTokens-drawn)
	}
	return left
}

// explainNotFinite runs the failed pass again for its logits, which names the tensor.
func (g *generation) explainNotFinite(next []int32) error {
	if len(g.res.Tokens) > 0 {
		next = g.last()
	}
	if _, err := g.s.pass(next, runner.LogitsLast, nil); err != nil {
		return err
	}
	return errors.New("engine: a score is not finite, or logit_bias forbids every token: check penalties and logit_bias")
}

// A submission has as many tokens as take about batchTime: each costs the GPU a pause and the host a good deal. As many
// submissions are in flight as give the device batchTime to do while the host reads, prints and submits, at least two. The first is of one
// token, each of the next of twice as many at most, so that the device has something to do while the host encodes the next. Where
// a step takes so long that nothing is gained and an overshoot would cost, it is one token and one submission.
const (
	slowStep = 20 * time.Millisecond
	maxBatch = 32
)

// batchTime is so short that text seems to flow; a third of it in a browser, which draws on the same GPU.
var batchTime = func() time.Duration {
	if runtime.GOOS == "js" {
		return 8 * time.Millisecond
	}
	return 32 * time.Millisecond
}()

// batch says how many tokens a submission has and how many submissions are in flight.
func (e *Engine) batch() (size, depth int) {
	if e.opt.Batch > 0 || e.opt.RunAhead > 0 {
		return max(e.opt.Batch, 1), max(e.opt.RunAhead, 1)
	}
	if e.stepTime == 0 || e.stepTime > slowStep {
		return 1, 1
	}
	up := func(d time.Duration) int { return int((batchTime + d - 1) / d) }
	size = min(up(e.stepTime), maxBatch)
	return size, 1 + up(time.Duration(size)*e.stepTime)
}

// expects tells when n tokens behind those read at a time should be there; zero: that is not known yet.
func (e *Engine) expects(read time.Time, n int) time.Time {
	if read.IsZero() {
		return read
	}
	return read.Add(time.Duration(n) * e.stepTime)
}

// noteSteps keeps a running mean of the time between tokens, of which n came d after those before.
func (e *Engine) noteSteps(n int, d time.Duration) {
	if n == 0 {
		return
	}
	step := max(d/time.Duration(n), 1)
	if e.stepTime == 0 {
		e.stepTime = step
	}
	for range n {
		e.stepTime += (step - e.stepTime) / 8
	}
}
