//go:build js

package main

// Loading a model, and putting it on a new device when the browser takes the old one away.

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall/js"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/browser"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// program is the state between requests.
type program struct {
	host  js.Value
	files *files // nil for the embedded model

	mu      sync.Mutex // guards cancels
	cancels map[int]func()

	turn   sync.Mutex // held while loading, answering and closing
	engine *engine.Engine
	device gpu.Device
	conv   *engine.Conversation // nil without tokenizer or template
	why    error                // why conv is nil
	name   string
	memory forward.Memory
	losses int
}

// begin gives a request a context that cancel ends.
func (p *program) begin(id int) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancels[id] = cancel
	return ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.cancels, id)
		cancel()
	}
}

func (p *program) cancel(id int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cancel := p.cancels[id]; cancel != nil {
		cancel()
	}
	return nil
}

// modelInfo is ModelInfo of types.ts.
type modelInfo struct {
	Name             string   `json:"name"`
	DType            string   `json:"dtype"`
	Parameters       int64    `json:"parameters"`
	Bytes            int64    `json:"bytes"`
	ContextTokens    int      `json:"contextTokens"`
	MaxContextTokens int      `json:"maxContextTokens"`
	Adapter          string   `json:"adapter"`
	Features         []string `json:"features"`
	Sampling         any      `json:"sampling"`
	Thinking         bool     `json:"thinking"`
	Tuned            bool     `json:"tuned"`
}

func (p *program) progress(phase string, done, total int64) {
	p.host.Call("progress", phase, float64(done), float64(total))
}

// load opens the files, checks that the model fits the GPU before a shard is downloaded, and puts it there.
func (p *program) load(r *request) (any, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.engine != nil {
		return nil, invalidf("a model is loaded already")
	}
	opt := engine.Options{ContextTokens: r.ContextTokens, Progress: func(done, total int64) { p.progress("upload", done, total) }}
	if r.KV != "" {
		kv, err := runner.ParseKVDType(r.KV)
		if err != nil {
			return nil, coded(codeInvalid, err)
		}
		opt.KVDType = kv
	}
	p.progress("check", 0, 0)
	source, err := p.source(r)
	if err != nil {
		return nil, invalidUnlessCoded(err)
	}
	m, err := weights.Open(source)
	if err != nil {
		return nil, invalidUnlessCoded(err)
	}
	if p.device, err = p.openDevice(); err != nil {
		return nil, coded(codeUnsupported, err)
	}
	if p.memory, err = planMemory(m, opt, p.device.Limits()); err != nil {
		return nil, coded(codeLimits, err)
	}
	if p.files != nil {
		if _, err := p.files.call("start"); err != nil {
			return nil, err
		}
	}
	opt.Device = p.device
	opt.Tuning = keptShapes(r.Tuning, p.device.Info())
	opt.Reopen = p.reopen
	if p.engine, err = engine.Open(m, opt); err != nil {
		return nil, err
	}
	p.conv, p.why = p.engine.NewConversation()
	p.idle()
	info := p.info(m)
	_, info.Tuned = p.engine.Tuning()
	p.progress("ready", m.WeightBytes(), m.WeightBytes())
	return info, nil
}

// source is where the model's files come from.
func (p *program) source(r *request) (weights.Source, error) {
	if r.Embedded || r.Synth != "" {
		return withoutFiles(r)
	}
	p.files = &files{js: p.host.Get("files")}
	return p.files, nil
}

func (p *program) openDevice() (gpu.Device, error) {
	d, err := browser.Open()
	if err != nil {
		return nil, err
	}
	return &compiling{Device: d, report: func(done, asked int) { p.progress("compile", int64(done), int64(asked)) }}, nil
}

// idle lets go of what loading needed.
func (p *program) idle() {
	if p.files != nil {
		p.files.js.Call("idle")
	}
	runtime.GC()
}

func invalidUnlessCoded(err error) error {
	var c *codedError
	if errors.As(err, &c) {
		return err
	}
	return coded(codeInvalid, err)
}

func planMemory(m *weights.Model, opt engine.Options, limits gpu.Limits) (forward.Memory, error) {
	tokens := opt.ContextTokens
	if tokens == 0 {
		tokens = min(engine.DefaultContextTokens, m.Config.ContextLimit())
	}
	return forward.PlanMemory(m, forward.Options{NumPages: (tokens + engine.PageSize - 1) / engine.PageSize, PageSize: engine.PageSize, KVDType: opt.KVDType}, limits)
}

func (p *program) info(m *weights.Model) modelInfo {
	c, l := m.Config, p.device.Limits()
	info := modelInfo{
		Name: p.modelName(m), DType: string(m.Manifest.DType), Parameters: m.Manifest.Parameters, Bytes: m.WeightBytes(),
		ContextTokens: p.engine.ContextTokens(), MaxContextTokens: c.ContextLimit(), Adapter: p.device.Info().Name + ", " + p.device.Info().Library, Features: []string{},
		Sampling: engine.DefaultSampling(m),
	}
	for _, f := range []struct {
		has  bool
		name string
	}{{l.HasSubgroups, "subgroups"}, {l.HasShaderF16, "shader-f16"}, {l.HasTimestamps, "timestamp-query"}} {
		if f.has {
			info.Features = append(info.Features, f.name)
		}
	}
	for _, name := range []string{weights.ChatTemplateName, weights.TokenizerConfigName} {
		if text, err := m.ReadFile(name); err == nil && strings.Contains(string(text), "think>") {
			info.Thinking = true
			break
		}
	}
	p.name = info.Name
	return info
}

// modelName says how large the model is: a packed directory has no name.
func (p *program) modelName(m *weights.Model) string {
	n := float64(m.Manifest.Parameters)
	size := fmt.Sprintf("%.0fK", n/1e3)
	if n >= 1e9 {
		size = fmt.Sprintf("%.1fB", n/1e9)
	} else if n >= 1e6 {
		size = fmt.Sprintf("%.1fM", n/1e6)
	}
	return fmt.Sprintf("Qwen3 %s %s", size, m.Manifest.DType)
}

// reopen answers the engine's request for a new device, after the old one was lost.
func (p *program) reopen(cause error) (gpu.Device, error) {
	p.losses++
	type lostInfo struct {
		Message    string `json:"message"`
		Recovering bool   `json:"recovering"`
	}
	d, err := p.openDevice()
	if err == nil {
		p.device.Close()
		p.device = d
	}
	p.post(reply{Kind: "device_lost", Info: lostInfo{cause.Error(), err == nil}})
	return d, err
}

// loseDevice destroys the device behind the engine's back, as a driver reset does.
func loseDevice() error {
	js.Global().Get("qwgpu").Call("loseDevices")
	return nil
}

func (p *program) close() error {
	p.mu.Lock()
	for _, cancel := range p.cancels {
		cancel()
	}
	p.mu.Unlock()
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.engine == nil {
		return nil
	}
	if p.conv != nil {
		p.conv.Close()
	}
	err := errors.Join(p.engine.Close(), p.engine.Model().Close(), p.device.Close())
	p.engine, p.conv, p.why = nil, nil, errNotLoaded
	return err
}

var errNotLoaded = &codedError{codeInvalid, errors.New("no model is loaded")}

// stats is EngineStats of types.ts.
type stats struct {
	Model           string  `json:"model"`
	Runs            string  `json:"runs"`
	ContextTokens   int     `json:"contextTokens"`
	CachedTokens    int     `json:"cachedTokens"`
	FreePages       int     `json:"freePages"`
	NumPages        int     `json:"numPages"`
	WeightBytes     uint64  `json:"weightBytes"`
	KVBytes         uint64  `json:"kvBytes"`
	ActivationBytes uint64  `json:"activationBytes"`
	WasmBytes       int     `json:"wasmBytes"`
	HeapBytes       uint64  `json:"heapBytes"`
	CPUMilliseconds float64 `json:"cpuMilliseconds"`
	DeviceLosses    int     `json:"deviceLosses"`
}

func (p *program) stats() (any, error) {
	e := p.engine
	if e == nil {
		return nil, errNotLoaded
	}
	cache := e.CacheStats()
	runtime.GC() // a few milliseconds, so that HeapBytes is what is needed
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	s := stats{
		Model: p.name, Runs: e.Describe(), ContextTokens: e.ContextTokens(), FreePages: cache.FreePages + cache.CachedPages, NumPages: cache.NumPages,
		WeightBytes: p.memory.WeightBytes, KVBytes: p.memory.KVBytes, ActivationBytes: p.memory.ActivationBytes,
		WasmBytes: p.host.Call("wasmBytes").Int(), HeapBytes: mem.HeapAlloc, CPUMilliseconds: milliseconds(busy()), DeviceLosses: p.losses,
	}
	if p.conv != nil {
		s.CachedTokens = p.conv.CachedTokens()
	}
	return s, nil
}

// busy is the time that this program, and the JavaScript that it calls, took so far.
func busy() time.Duration {
	return time.Duration(js.Global().Get("qwgpu").Call("busy").Float() * float64(time.Millisecond))
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
