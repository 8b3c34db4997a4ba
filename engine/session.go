package engine

// Session: one timeline of tokens. Sync brings the cache to hold a prompt, Generate goes on from there.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// Session is a sequence of tokens with its keys and values in the engine's cache. It is used by one goroutine at a time.
type Session struct {
	e     *Engine
	pages *kvcache.PageManager // of seq; the engine has another one after a lost device
	seq   *kvcache.Sequence
}

// NewSession starts an empty timeline.
func (e *Engine) NewSession() *Session {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &Session{e: e, pages: e.pages, seq: e.pages.NewSequence()}
}

// Close gives the session's pages back.
func (s *Session) Close() {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.seq.Release()
}

// Len is the number of tokens whose keys and values are cached.
func (s *Session) Len() int { return s.seq.Len() }

// Tokens are those tokens' ids.
func (s *Session) Tokens() []int32 { return slices.Clone(s.seq.Tokens()) }

// SyncStats says what a prompt cost.
type SyncStats struct {
	Prompt    int           // tokens of the prompt
	Reused    int           // of them found in the cache
	Prefilled int           // of them run through the model
	Duration  time.Duration // of the prefill
}

// pass runs tokens behind those that are cached. A pass that fails leaves the session as it was.
func (s *Session) pass(tokens []int32, want runner.LogitsWanted, tap runner.Tap) ([]float32, error) {
	s.e.acquire()
	defer s.e.release()
	ic, err := s.begin(tokens)
	if err != nil {
		return nil, err
	}
	logits, err := s.e.runner.Forward(runner.Request{Context: ic, Logits: want, Tap: tap})
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if err != nil {
		ic.Abort()
		return nil, err
	}
	return logits, ic.Commit()
}

// begin reserves pages for tokens. The caller has acquired the engine.
func (s *Session) begin(tokens []int32) (*kvcache.InferenceContext, error) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.pages != s.e.pages {
		return nil, fmt.Errorf("engine: %w, and with it the %d cached tokens of this session", gpu.ErrLost, s.seq.Len())
	}
	ic, err := s.e.pages.Begin(s.seq, tokens)
	if errors.Is(err, kvcache.ErrFull) {
		err = fmt.Errorf("%w: %d tokens are cached, %d more do not fit the %d of the KV cache (%v); ask for a larger context or clear the conversation",
			ErrContextFull, s.seq.Len(), len(tokens), s.e.opt.ContextTokens, err)
	}
	return ic, err
}

// checkPrompt refuses what cannot be run before anything is.
func (s *Session) checkPrompt(ids []int32) error {
	if len(ids) == 0 {
		return errors.New("engine: the prompt is empty: give at least one token")
	}
	for i, id := range ids {
		if id < 0 || int(id) >= s.e.Config().VocabSize {
			return fmt.Errorf("engine: token %d of the prompt is %d, outside the model's vocabulary [0, %d)", i, id, s.e.Config().VocabSize)
		}
	}
	if len(ids) > s.e.opt.ContextTokens {
		return fmt.Errorf("engine: %w: the prompt has %d tokens, the context holds %d; ask for a larger context (the model takes up to %d) or a shorter prompt",
			ErrContextFull, len(ids), s.e.opt.ContextTokens, s.e.Config().ContextLimit())
	}
	return nil
}

// Sync makes the session's tokens equal ids: it keeps the common prefix (or, in an empty session, what other sessions
// left in the cache), forgets what differs and prefills the rest in chunks. It returns the logits [vocab] behind the last
// token. When ctx ends, the chunks done so far stay cached.
func (s *Session) Sync(ctx context.Context, ids []int32) ([]float32, SyncStats, error) {
	begin := time.Now()
	last, stats, err := s.syncHead(ctx, ids)
	if err != nil {
		return nil, stats, err
	}
	logits, err := s.pass(last, runner.LogitsLast, nil)
	if err != nil {
		return nil, stats, prefillError(len(ids)-len(last), len(last), err)
	}
	stats.Prefilled += len(last)
	stats.Duration = time.Since(begin)
	return logits, stats, nil
}

func prefillError(start, n int, err error) error {
	return fmt.Errorf("engine: prefill of tokens %d to %d: %w", start, start+n-1, err)
}

// syncHead does all of Sync but the last chunk, which it returns.
func (s *Session) syncHead(ctx context.Context, ids []int32) (last []int32, stats SyncStats, err error) {
	stats.Prompt = len(ids)
	if err := s.checkPrompt(ids); err != nil {
		return nil, stats, err
	}
	done, err := s.keepPrefix(ids)
	if err != nil {
		return nil, stats, err
	}
	stats.Reused = done
	for n := s.e.passTokens(); ; done += n {
		if err := ctx.Err(); err != nil {
			return nil, stats, err
		}
		if len(ids)-done <= n {
			return ids[done:], stats, nil
		}
		if _, err := s.pass(ids[done:done+n], runner.LogitsNone, nil); err != nil {
			return nil, stats, prefillError(done, n, err)
		}
		stats.Prefilled += n
	}
}

// keepPrefix truncates the session to the longest common prefix with ids, at most all but the last token, whose logits
// are needed.
func (s *Session) keepPrefix(ids []int32) (int, error) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.pages != s.e.pages {
		s.pages, s.seq = s.e.pages, s.e.pages.NewSequence()
	}
	have, n := s.seq.Tokens(), 0
	for n < len(have) && n < len(ids)-1 && have[n] == ids[n] {
		n++
	}
	if err := s.seq.Truncate(n); err != nil {
		return 0, err
	}
	if n == 0 {
		n = s.e.pages.Reuse(s.seq, ids)
	}
	return n, nil
}

// Reason says why a generation ended.
type Reason string

const (
	ReasonStop      Reason = "stop"      // a stop token, or emit asked to stop
	ReasonLength    Reason = "length"    // MaxTokens were generated
	ReasonContext   Reason = "context"   // the context is full
	ReasonCancelled Reason = "cancelled" // ctx ended
)

// ErrStop is returned by an emit function to end a generation regularly.
var ErrStop = errors.New("stop")

// GenerateOptions steer one answer.
type GenerateOptions struct {
	Sampling  sampling.Params
	MaxTokens int     // 0: as many as fit the context
	StopIDs   []int32 // tokens that end the answer; they are emitted and not run
	IgnoreEOS bool    // generate on past StopIDs
}

// Result is what a generation did.
type Result struct {
	Sync     SyncStats
	Tokens   []int32 // generated ids, a stop token included
	Reason   Reason
	Duration time.Duration // of the decode, without the prefill
}
