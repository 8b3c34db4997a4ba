//go:build js

// Package browser implements gpu.Device over the browser's WebGPU, in a page, a worker, or Node with Dawn.
//
// It owns everything between the engine's recorded passes and JavaScript: validation, number encoding of passes, waiting
// and error texts; glue.js beside it owns the WebGPU objects. A submission is one crossing into JavaScript, a write another.
// In a token's trip it is the last stop before the browser.
//
// What WebGPU reports only later, outside of any call (an error that the checks here do not know), comes back as the
// error of the next call on the device.
package browser

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// ErrClosed is wrapped by every call on a closed device or on an object of one.
var ErrClosed = errors.New("browser: device is closed")

// Device is a gpu.Device with the optional interfaces of this one, which an embedded gpu.Device would hide.
type Device interface {
	gpu.Device
	gpu.AsyncCompiler
	gpu.Spinner
}

// Open asks for the high-performance adapter and a device with all its limits.
func Open() (Device, error) {
	if err := install(); err != nil {
		return nil, err
	}
	token, done := begin(nil)
	jsRequest(token)
	c := <-done
	if err := c.err(); err != nil {
		return nil, fmt.Errorf("browser: open: %w", err)
	}
	var opened struct {
		ID        uint32          `json:"id"`
		Info      gpu.AdapterInfo `json:"info"`
		Limits    []float64       `json:"limits"` // in the order of LIMITS in glue.js
		Features  []string        `json:"features"`
		Subgroups [2]uint32       `json:"subgroups"`
	}
	if err := json.Unmarshal([]byte(c.text), &opened); err != nil || len(opened.Limits) != 10 {
		return nil, fmt.Errorf("browser: open: glue.js answered %q: %w", c.text, err)
	}
	d := &device{id: opened.ID, info: opened.Info}
	d.info.Backend = "browser"
	l := opened.Limits
	d.checks = gpu.Checks{Adapter: d.info.Name, Usable: d.usable, Limits: gpu.Limits{
		MaxBufferBytes: uint64(l[0]) &^ 3, MaxStorageBindingBytes: uint64(l[1]) &^ 3, MaxUniformBindingBytes: uint64(l[2]),
		MinStorageOffsetAlignment: uint32(l[3]), MinUniformOffsetAlignment: uint32(l[4]), MaxStorageBuffersPerStage: uint32(l[5]),
		MaxWorkgroupStorageBytes: uint32(l[6]), MaxInvocationsPerWorkgroup: uint32(l[7]), MaxWorkgroupSizeX: uint32(l[8]), MaxWorkgroupsPerDimension: uint32(l[9]),
		SubgroupMinSize: opened.Subgroups[0], SubgroupMaxSize: opened.Subgroups[1],
	}}
	for _, f := range opened.Features {
		switch f {
		case "subgroups":
			d.checks.Limits.HasSubgroups = true
		case "shader-f16":
			d.checks.Limits.HasShaderF16 = true
		case "timestamp-query":
			d.checks.Limits.HasTimestamps = true
		}
	}
	events.mu.Lock()
	events.devices[d.id] = d
	events.mu.Unlock()
	return d, nil
}

// device guards its checks with mu, which is never held while waiting.
type device struct {
	id      uint32
	info    gpu.AdapterInfo
	lost    atomic.Pointer[string] // why, nil while all is well
	failure atomic.Pointer[error]  // the first error told outside of any call

	mu      sync.Mutex
	closed  bool
	checks  gpu.Checks
	code    []passCode // of what is submitted; reused
	scratch *buffer    // for copies within one buffer

	unflushed uint64          // bytes written since the last flush
	flushed   chan completion // of the last flush
}

func (d *device) Info() gpu.AdapterInfo { return d.info }

func (d *device) Limits() gpu.Limits { return d.checks.Limits }

// Spin implements gpu.Spinner, for what stands in for a browser and has to look for finished work itself.
func (d *device) Spin(on bool) { jsSpin(on) }

// usable returns why the device cannot be used any more.
func (d *device) usable() error {
	if d.closed {
		return ErrClosed
	}
	if why := d.lost.Load(); why != nil {
		return fmt.Errorf("%w: %s: %s", gpu.ErrLost, d.info.Name, *why)
	}
	return nil
}

// ready is usable, or what went wrong since the last call.
func (d *device) ready() error {
	if err := d.usable(); err != nil {
		return err
	}
	if f := d.failure.Swap(nil); f != nil {
		return fmt.Errorf("an earlier call failed: %w", *f)
	}
	return nil
}

func (d *device) fail(err error) { d.failure.CompareAndSwap(nil, &err) }

type buffer struct {
	gpu.CheckedBuffer
	d  *device
	id uint32
}

func (b *buffer) Release() {
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	if b.MarkReleased() && !b.d.closed {
		jsReleaseBuffer(b.id)
	}
}

// Usage bits of WebGPU's standard.
var usageBits = map[gpu.Usage]uint32{gpu.UsageStorage: 0x80, gpu.UsageUniform: 0x40, gpu.UsageCopySrc: 0x4, gpu.UsageCopyDst: 0x8}

func (d *device) NewBuffer(label string, sizeBytes uint64, usage gpu.Usage) (gpu.Buffer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := d.newBuffer(label, sizeBytes, usage)
	if err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	return b, nil
}

// newBuffer needs the mutex.
func (d *device) newBuffer(label string, sizeBytes uint64, usage gpu.Usage) (*buffer, error) {
	checked, err := d.checks.NewBuffer(label, sizeBytes, usage)
	if err != nil {
		return nil, err
	}
	var bits uint32
	for u, bit := range usageBits {
		if usage&u != 0 {
			bits |= bit
		}
	}
	// A model has hundreds of buffers and each answer takes a trip to the GPU's process, so nobody waits for it: a refusal
	// is the error of the next call.
	token := expect(pendingCall{d: d, what: fmt.Sprintf("buffer %q of %d bytes on %s", label, sizeBytes, d.info.Name)})
	return &buffer{CheckedBuffer: checked, d: d, id: jsBuffer(d.id, token, label, float64(sizeBytes), bits)}, nil
}

// The browser copies what is written and holds it until the GPU has it: large writes go in chunks, with at most two
// flushes under way.
const (
	writeChunkBytes = 16 << 20
	flushBytes      = 32 << 20
)

func (d *device) Write(buf gpu.Buffer, offset uint64, data []byte) error {
	for {
		chunk := data[:min(len(data), writeChunkBytes)]
		if err := d.writeChunk(buf, offset, chunk, uint64(len(data))); err != nil {
			return fmt.Errorf("browser: %w", err)
		}
		offset += uint64(len(chunk))
		if data = data[len(chunk):]; len(data) == 0 {
			return nil
		}
	}
}

// writeChunk writes the first len(data) bytes of a write whose rest is checked too.
func (d *device) writeChunk(buf gpu.Buffer, offset uint64, data []byte, rest uint64) error {
	d.mu.Lock()
	if _, err := d.checks.Range("write to", buf, offset, rest, gpu.UsageCopyDst); err != nil {
		d.mu.Unlock()
		return err
	}
	if len(data) > 0 {
		jsWrite(d.id, buf.(*buffer).id, float64(offset), unsafe.Pointer(&data[0]), uint32(len(data)))
	}
	d.unflushed += uint64(len(data))
	var wait chan completion
	if d.unflushed >= flushBytes {
		d.unflushed = 0
		token, done := begin(d)
		jsFlush(d.id, token)
		wait, d.flushed = d.flushed, done
	}
	d.mu.Unlock()
	if wait != nil {
		if err := (<-wait).err(); err != nil {
			return fmt.Errorf("write to buffer %q: %w", buf.Label(), err)
		}
		return d.ready()
	}
	return nil
}

type kernel struct {
	gpu.CheckedKernel
	d  *device
	id uint32
}

func (k *kernel) Release() {
	k.d.mu.Lock()
	defer k.d.mu.Unlock()
	if k.MarkReleased() && !k.d.closed {
		jsRelease(k.id)
	}
}

func (d *device) NewKernel(desc gpu.KernelDesc) (gpu.Kernel, error) {
	k, wait := d.NewKernelAsync(desc)
	if err := wait(); err != nil {
		return nil, err
	}
	return k, nil
}

// NewKernelAsync implements gpu.AsyncCompiler.
func (d *device) NewKernelAsync(desc gpu.KernelDesc) (gpu.Kernel, func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	checked, err := d.checks.NewKernel(desc)
	if err != nil {
		return nil, func() error { return fmt.Errorf("browser: %w", err) }
	}
	token, done := begin(d)
	k := &kernel{CheckedKernel: checked, d: d, id: jsKernel(d.id, token, kindsOf(desc.Bindings), desc.Label, desc.WGSL, desc.Entry)}
	return k, func() error {
		err := (<-done).err()
		if err == nil {
			d.mu.Lock()
			err = d.ready() // WebGPU hands out pipelines of a lost device too
			d.mu.Unlock()
		}
		if err != nil {
			k.Release()
			return fmt.Errorf("browser: kernel %q: %w", desc.Label, err)
		}
		return nil
	}
}

// kindsOf writes binding kinds as bytes.
func kindsOf(kinds []gpu.BindingKind) string {
	raw := make([]byte, len(kinds))
	for i, k := range kinds {
		raw[i] = byte(k)
	}
	return string(raw)
}

type bindGroup struct {
	gpu.CheckedGroup
	d  *device
	id uint32
}

func (g *bindGroup) Release() {
	g.d.mu.Lock()
	defer g.d.mu.Unlock()
	if g.MarkReleased() && !g.d.closed {
		jsRelease(g.id)
	}
}

func (d *device) Bind(k gpu.Kernel, bindings ...gpu.Binding) (gpu.BindGroup, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	checked, sizes, err := d.checks.Bind(k, bindings)
	if err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	kern := k.(*kernel)
	entries := make([]float64, 0, 3*len(bindings)+1) // never empty, so that it has an address
	for i, b := range bindings {
		entries = append(entries, float64(b.Buffer.(*buffer).id), float64(b.Offset), float64(sizes[i]))
	}
	id := jsBind(d.id, kindsOf(kern.Kinds()), kern.Label(), unsafe.Pointer(unsafe.SliceData(entries)))
	return &bindGroup{CheckedGroup: checked, d: d, id: id}, nil
}

// Words of a pass as glue.js replays it.
const (
	opDispatch = iota // op, pipeline, group, x, y, z
	opCopy            // op, source, destination, from, to, size; the last three take two words each
)

// passCode is a pass in these words.
type passCode []uint32

// scratchBytes is the size of the buffer through which copies within one buffer go: WebGPU has none of those.
const scratchBytes = 4 << 20

func (d *device) Submit(pass *gpu.Pass) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.encodePasses([]*gpu.Pass{pass}); err != nil {
		return fmt.Errorf("browser: %w", err)
	}
	if len(d.code) > 0 {
		jsSubmit(d.id, unsafe.Pointer(unsafe.SliceData(d.code)), uint32(len(d.code)))
	}
	return nil
}

// encodePasses puts the passes into d.code, each checked and encoded unless that was done before. Those without any step are
// left out.
func (d *device) encodePasses(passes []*gpu.Pass) error {
	d.code = d.code[:0]
	for _, pass := range passes {
		if pass == nil {
			return errors.New("submit: the pass is nil")
		}
		if err := d.ready(); err != nil {
			return fmt.Errorf("pass %q: %w", pass.Label, err)
		}
		code, ok := d.checks.Kept(pass).(passCode)
		if !ok {
			code = make(passCode, 0, 6*len(pass.Steps))
			for i := range pass.Steps {
				s := &pass.Steps[i]
				err := d.checks.Step(s)
				if err == nil {
					code, err = d.encode(code, s)
				}
				if err != nil {
					return fmt.Errorf("pass %q, step %d: %w", pass.Label, i, err)
				}
			}
			d.checks.Keep(pass, code)
		}
		if len(code) > 0 {
			d.code = append(d.code, code)
		}
	}
	return nil
}

// encode appends a checked step.
func (d *device) encode(code passCode, s *gpu.Step) (_ passCode, err error) {
	if s.Kernel != nil {
		if s.Grid[0] != 0 && s.Grid[1] != 0 && s.Grid[2] != 0 {
			code = append(code, opDispatch, s.Kernel.(*kernel).id, s.Group.(*bindGroup).id, s.Grid[0], s.Grid[1], s.Grid[2])
		}
		return code, nil
	}
	src, dst := s.Src.(*buffer), s.Dst.(*buffer)
	if src != dst {
		if s.SizeBytes > 0 {
			code = code.copy(src, s.SrcOffset, dst, s.DstOffset, s.SizeBytes)
		}
		return code, nil
	}
	if d.scratch == nil {
		if d.scratch, err = d.newBuffer("scratch", scratchBytes, gpu.UsageCopySrc|gpu.UsageCopyDst); err != nil {
			return nil, err
		}
	}
	for at := uint64(0); at < s.SizeBytes; at += scratchBytes {
		n := min(scratchBytes, s.SizeBytes-at)
		code = code.copy(src, s.SrcOffset+at, d.scratch, 0, n)
		code = code.copy(d.scratch, 0, dst, s.DstOffset+at, n)
	}
	return code, nil
}

func (code passCode) copy(src *buffer, from uint64, dst *buffer, to, size uint64) passCode {
	return append(code, opCopy, src.id, dst.id, uint32(from), uint32(from>>32), uint32(to), uint32(to>>32), uint32(size), uint32(size>>32))
}

// Close releases the device and everything that was made with it.
func (d *device) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	events.mu.Lock()
	delete(events.devices, d.id)
	events.mu.Unlock()
	finishAll(d, completion{status: statusInternal, text: ErrClosed.Error()})
	jsClose(d.id)
	return nil
}
