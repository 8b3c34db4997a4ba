// Package engine runs Qwen3 models: it joins weights, KV cache, a forward pass and sampling into sessions.
//
// An Engine is one model on one processor (a GPU through engine/forward, or the CPU through engine/ref). A Session is one
// timeline of tokens in it. The engine has no cgo, no syscall/js and no build tags: programs hand it a gpu.Device, and the
// same loop serves the CLI and the browser. docs/architecture.md follows a token through it.
package engine

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/ref"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// PageSize is the number of tokens of a KV cache page.
const PageSize = 16

// DefaultContextTokens is the KV cache's size when Options leave it open and the model allows it.
const DefaultContextTokens = 4096

// ErrContextFull is wrapped when tokens do not fit the context; the message has the numbers.
var ErrContextFull = errors.New("the context is full")

// Options say how a model is run.
type Options struct {
	Device        gpu.Device     // nil: the CPU path
	KVDType       runner.KVDType // default f16
	ContextTokens int            // KV cache arena, shared by all sessions; default min(4096, the model's limit)
	PassTokens    int            // largest chunk of a prefill; default: the runner's
	// Progress is called while weights are loaded, with bytes done and in all; may be nil.
	Progress  func(doneBytes, totalBytes int64)
	Tokenizer tokenizer.Interface // instead of the model's tokenizer.json read in Go; may be nil
	// Tuning is Engine.Tuning of an earlier run on the same adapter and driver.
	Tuning map[string]forward.MatvecShape
	// HostSampling has every token sampled on the host from the logits, one pass at a time; for comparison and tests.
	HostSampling bool
	// Where the device samples: the tokens of one submission, and the submissions in flight. Both 0: chosen from the time that
	// a step takes; one of them 0: one.
	Batch, RunAhead int
	// Reopen opens a device in place of one that was lost; see Engine.reopen. nil: a lost device ends every answer.
	Reopen func(lost error) (gpu.Device, error)
	// Fault is for fault-injection tests, see kvcache.Fault.
	Fault *kvcache.Fault
}

// Engine is one model, ready to run. Its sessions may be used from several goroutines; their passes take turns.
type Engine struct {
	turn     sync.Mutex    // held for a pass, or for a chain of passes whose state is on the device
	waiting  atomic.Int32  // sessions that wait for their turn
	stepTime time.Duration // of a decode step; guarded by turn

	mu     sync.Mutex // guards pages and chunk
	chunk  int        // tokens of a prefill pass that take about chunkTime; 0: not known yet
	model  *weights.Model
	runner runner.Runner
	pages  *kvcache.PageManager
	opt    Options

	tokMu sync.Mutex
	tok   tokenizer.Interface
}

// Open loads a packed model. It reads everything it needs from m before it returns; m may then be closed.
func Open(m *weights.Model, opt Options) (*Engine, error) {
	limit := m.Config.ContextLimit()
	if opt.ContextTokens == 0 {
		opt.ContextTokens = min(DefaultContextTokens, limit)
	}
	if opt.ContextTokens < 1 || opt.ContextTokens > limit {
		return nil, fmt.Errorf("engine: a context of %d tokens was asked for, this model takes 1 to %d", opt.ContextTokens, limit)
	}
	if opt.KVDType == "" {
		opt.KVDType = runner.KVF16
	}
	e := &Engine{model: m, opt: opt, tok: opt.Tokenizer}
	var err error
	if e.runner, e.pages, err = e.newRunner(opt.Device); err != nil {
		return nil, err
	}
	return e, nil
}

// newRunner puts the model on a device, or on the CPU when that is nil, with an empty cache.
func (e *Engine) newRunner(dev gpu.Device) (r runner.Runner, pages *kvcache.PageManager, err error) {
	numPages, opt := (e.opt.ContextTokens+PageSize-1)/PageSize, &e.opt
	if pages, err = kvcache.New(kvcache.Config{NumPages: numPages, PageSize: PageSize, Fault: opt.Fault}); err != nil {
		return nil, nil, err
	}
	if dev != nil {
		r, err = forward.New(dev, e.model, forward.Options{NumPages: numPages, PageSize: PageSize, KVDType: opt.KVDType, MaxTokens: opt.PassTokens, Progress: opt.Progress, Tuning: opt.Tuning})
	} else {
		r, err = ref.New(e.model, ref.Options{NumPages: numPages, PageSize: PageSize, KVDType: opt.KVDType})
	}
	return r, pages, err
}

// reopen replaces a runner whose device was lost. The cache is empty afterwards: each session fills it again with its own
// tokens when it goes on. It does nothing when another session has done it. The model must still be open.
func (e *Engine) reopen(lost runner.Runner, cause error) error {
	e.acquire()
	defer e.release()
	if e.runner != lost {
		return nil
	}
	dev, err := e.opt.Reopen(cause)
	if err != nil {
		return fmt.Errorf("engine: %w; no new device: %w", cause, err)
	}
	r, pages, err := e.newRunner(dev)
	if err != nil {
		return fmt.Errorf("engine: %w; loading the model again: %w", cause, err)
	}
	lost.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runner, e.pages = r, pages
	return nil
}

// acquire waits for a turn on the runner.
func (e *Engine) acquire() {
	e.waiting.Add(1)
	e.turn.Lock()
	e.waiting.Add(-1)
}

func (e *Engine) release() { e.turn.Unlock() }

// wanted tells whether another session waits.
func (e *Engine) wanted() bool { return e.waiting.Load() > 0 }

// Config is the model's shape.
func (e *Engine) Config() *config.Config { return e.model.Config }

// Model is the packed directory that the engine was opened with.
func (e *Engine) Model() *weights.Model { return e.model }

// ContextTokens is the KV cache's size in tokens.
func (e *Engine) ContextTokens() int { return e.opt.ContextTokens }

// Describe says in one line what runs the model.
func (e *Engine) Describe() string { return e.runner.Describe() }

// CacheStats tells how the KV cache's pages are used.
func (e *Engine) CacheStats() kvcache.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pages.Stats()
}

// Close frees the model. Sessions must not be used afterwards.
func (e *Engine) Close() error {
	e.acquire()
	defer e.release()
	return e.runner.Close()
}

// Tuning is how the device's kernels are spread over threads where that was measured, to be kept for Options.Tuning; complete
// tells whether nothing is left to measure, as on the CPU.
func (e *Engine) Tuning() (shapes map[string]forward.MatvecShape, complete bool) {
	e.acquire()
	defer e.release()
	if f, ok := e.runner.(*forward.Runner); ok {
		return f.Tuning(), f.Tuned()
	}
	return nil, true
}

// TuningRounds is how often Tune had better measure each way.
const TuningRounds = 5

// Tune measures how the device's kernels are best spread over threads and keeps the fastest, on a device that takes its place
// too; on the CPU it does nothing.
func (e *Engine) Tune(rounds int) ([]forward.TuneRow, error) {
	e.acquire()
	defer e.release()
	f, ok := e.runner.(*forward.Runner)
	if !ok {
		return nil, nil
	}
	rows, err := f.Tune(rounds)
	if err == nil {
		e.opt.Tuning = f.Tuning()
	}
	return rows, err
}

// Chunks of a prefill start with firstChunk tokens; where they run fast they grow until one takes about chunkTime, so that
// a slow device still answers to a cancelled request and to its driver's watchdog.
const (
	firstChunk = 512
	chunkTime  = 250 * time.Millisecond
)

// passTokens is the largest chunk of a prefill.
func (e *Engine) passTokens() int {
	n := e.runner.MaxTokensPerPass()
	if e.opt.PassTokens > 0 {
		return min(n, e.opt.PassTokens)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return min(n, max(e.chunk, firstChunk))
}

// notePrefill learns the size of the next chunks from a prefill.
func (e *Engine) notePrefill(numTokens int, d time.Duration) {
	if numTokens < firstChunk/2 || d <= 0 {
		return
	}
	fit, chunk := float64(numTokens)*chunkTime.Seconds()/d.Seconds(), firstChunk
	for float64(2*chunk) <= fit && chunk < 1<<16 {
		chunk *= 2
	}
	e.mu.Lock()
	e.chunk = chunk
	e.mu.Unlock()
}
