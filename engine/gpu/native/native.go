//go:build !js

// Package native implements gpu.Device over wgpu-native.
//
// It owns everything between the engine's recorded passes and the library: validation, staging buffers, waiting and
// error texts. Two bindings can stand under it (driver_cogentcore.go by default, driver_gowebgpu.go with
// -tags gowebgpu). In a token's trip it is the last stop before the graphics driver.
//
// Any error that wgpu-native finds while submitting ends the process, so each condition is checked here first and
// comes back as a Go error. What cannot be caught: a kernel that loops for seconds or faults, and a device that
// disappears (driver reset, unplugged). The library then prints one line and aborts. A program that must survive this
// runs its engine in a child process.
package native

/*
#include <stdlib.h>
#include "bridge.h"
#cgo noescape qw_capture_log
#cgo nocallback qw_capture_log
#cgo noescape qw_destroy_buffer
#cgo nocallback qw_destroy_buffer
#cgo noescape qw_flush
#cgo nocallback qw_flush
#cgo noescape qw_poll
#cgo nocallback qw_poll
#cgo noescape qw_request_device
#cgo nocallback qw_request_device
#cgo noescape qw_submit
#cgo nocallback qw_submit
#cgo noescape qw_take_log
#cgo nocallback qw_take_log
#cgo noescape qw_write
#cgo nocallback qw_write
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// ErrClosed is wrapped by every call on a closed device or on an object of one.
var ErrClosed = errors.New("native: device is closed")

// Open opens the adapter that the options mean, with all the limits it has.
func Open(o Options) (gpu.Device, error) {
	c, err := choose(enumerate(), o)
	if err != nil {
		return nil, err
	}
	watch := (*C.qw_watch)(C.calloc(1, C.sizeof_qw_watch))
	var message *C.char
	dev := C.qw_request_device(handle(c.raw), watch, &message)
	if dev == nil {
		defer C.free(unsafe.Pointer(message))
		return nil, fmt.Errorf("native: open %q: %s%s", c.Info.Name, tidyMessage(C.GoString(message)), logSuffix())
	}
	raw := wrap[wgpuDevice](dev)
	queue := raw.GetQueue()
	d := &device{
		raw: raw, queue: queue, dev: dev, q: handle(queue), watch: watch,
		info:    c.Info,
		layouts: map[string]*layout{}, live: map[releaser]struct{}{}, compilers: make(chan struct{}, runtime.NumCPU()),
	}
	d.checks = gpu.Checks{Adapter: c.Info.Name, Limits: c.Limits, Usable: d.usable}
	d.staging.init()
	return d, nil
}

// device guards all calls into the library with mu, except for waiting (see readback.go): error scopes are the
// device's, and released flags must not change between validation and submission.
type device struct {
	raw    *wgpuDevice
	queue  *wgpuQueue
	dev, q unsafe.Pointer // the same two as C pointers
	watch  *C.qw_watch    // never freed: the library may report at any time
	info   gpu.AdapterInfo
	checks gpu.Checks

	lost atomic.Pointer[string] // why, nil while all is well

	mu      sync.Mutex
	closed  bool
	layouts map[string]*layout
	live    map[releaser]struct{} // what Close must release
	steps   []C.qw_step           // reused by Submit
	scratch *buffer               // for copies within one buffer

	allocated uint64 // bytes of live buffers
	unflushed uint64 // bytes written since the last submission

	staging   stagingPool
	upload    uploader
	compiling sync.WaitGroup // of NewKernelAsync
	compilers chan struct{}  // those at work
	waiting   sync.Mutex     // held while polling
	spins     atomic.Bool    // see Spin
}

type releaser interface{ releaseLocked() }

func (d *device) Info() gpu.AdapterInfo { return d.info }

func (d *device) Limits() gpu.Limits { return d.checks.Limits }

type buffer struct {
	gpu.CheckedBuffer
	d   *device
	raw *wgpuBuffer
	ref unsafe.Pointer
}

func (b *buffer) Release() {
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	b.releaseLocked()
}

func (b *buffer) releaseLocked() {
	if !b.MarkReleased() {
		return
	}
	b.d.allocated -= b.Size()
	delete(b.d.live, b)
	// Destroy frees the memory as soon as the GPU is through with it; Release alone would keep it while any bind
	// group refers to it.
	C.qw_destroy_buffer(b.ref)
	b.raw.Release()
}

// Usage bits of WebGPU's standard.
const (
	usageMapRead  = 0x001
	usageMapWrite = 0x002
	usageCopySrc  = 0x004
	usageCopyDst  = 0x008
	usageUniform  = 0x040
	usageStorage  = 0x080
)

func wgpuUsage(u gpu.Usage) wgpuBufferUsage {
	var w wgpuBufferUsage
	if u&gpu.UsageStorage != 0 {
		w |= usageStorage
	}
	if u&gpu.UsageUniform != 0 {
		w |= usageUniform
	}
	if u&gpu.UsageCopySrc != 0 {
		w |= usageCopySrc
	}
	if u&gpu.UsageCopyDst != 0 {
		w |= usageCopyDst
	}
	return w
}

func (d *device) NewBuffer(label string, sizeBytes uint64, usage gpu.Usage) (gpu.Buffer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := d.newBufferLocked(label, sizeBytes, usage)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (d *device) newBufferLocked(label string, sizeBytes uint64, usage gpu.Usage) (*buffer, error) {
	checked, err := d.checks.NewBuffer(label, sizeBytes, usage)
	if err == nil {
		err = checkNUL("buffer", label)
	}
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	// The library would go on in slower memory of the host, or be stopped by the system, so the sum is checked here.
	if total := d.checks.Limits.MemoryBytes; total != 0 && sizeBytes > total-min(total, d.allocated) {
		return nil, fmt.Errorf("native: buffer %q: %d bytes do not fit; %s has %d bytes of memory and %d are in use here: %w",
			label, sizeBytes, d.info.Name, total, d.allocated, gpu.ErrOutOfMemory)
	}
	raw, err := d.createBuffer(label, sizeBytes, wgpuUsage(usage))
	if err != nil {
		return nil, fmt.Errorf("native: buffer %q of %d bytes on %s, where %d of %d bytes are in use here: %w",
			label, sizeBytes, d.info.Name, d.allocated, d.checks.Limits.MemoryBytes, err)
	}
	d.allocated += sizeBytes
	b := &buffer{CheckedBuffer: checked, d: d, raw: raw, ref: handle(raw)}
	d.live[b] = struct{}{}
	return b, nil
}

// One WriteBuffer of the library allocates a staging buffer of its size and frees it when a later submission is done,
// so writes of largeWriteBytes go through the uploader, and many small ones are flushed.
const (
	largeWriteBytes = 1 << 20
	flushBytes      = 64 << 20
)

func (d *device) Write(buf gpu.Buffer, offset uint64, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.checks.Range("write to", buf, offset, uint64(len(data)), gpu.UsageCopyDst); err != nil {
		return fmt.Errorf("native: %w", err)
	}
	b := buf.(*buffer)
	if len(data) >= largeWriteBytes {
		if err := d.upload.write(d, b, offset, data); err != nil {
			return fmt.Errorf("native: write %d bytes at %d of buffer %q: %w", len(data), offset, b.Label(), err)
		}
		return d.usable()
	}
	if len(data) == 0 {
		return d.usable()
	}
	var caught C.qw_error
	C.qw_write(d.dev, d.q, b.ref, C.uint64_t(offset), unsafe.Pointer(&data[0]), C.size_t(len(data)), &caught)
	if err := d.takeError(&caught); err != nil {
		return fmt.Errorf("native: write %d bytes at %d of buffer %q: %w", len(data), offset, b.Label(), err)
	}
	if d.unflushed += uint64(len(data)); d.unflushed >= flushBytes {
		if err := d.flushLocked(); err != nil {
			return fmt.Errorf("native: write to buffer %q: %w", b.Label(), err)
		}
	}
	return d.usable()
}

// flushLocked sends pending writes and waits until they are done.
func (d *device) flushLocked() error {
	var caught C.qw_error
	C.qw_flush(d.q, &caught)
	d.unflushed = 0
	if caught._type == 0 {
		d.await(time.Time{}, nil, &caught)
	}
	return d.takeError(&caught)
}

// pause is how long to wait until the next look at what is under way: seven eighths of what is left until it is expected, which may be wrong;
// behind that, an eighth of how late it is; where expected is zero, a small share of the time waited.
func pause(now, begin, expected time.Time) time.Duration {
	const (
		shortest = 20 * time.Microsecond
		longest  = time.Millisecond
		farthest = 16 * time.Millisecond // from the next look, where it is expected still later
	)
	switch left := expected.Sub(now); {
	case left > 0:
		return min(max(left-left/8, shortest), farthest)
	case expected.After(begin):
		return min(max(-left/8, shortest), longest)
	}
	return min(max(now.Sub(begin)/32, shortest), longest)
}

// rest sleeps. Go sleeps up to a millisecond longer than asked for, and wakes several threads for it; a system's sleep keeps the processor
// from other goroutines.
func rest(d time.Duration) {
	if d < 2*time.Millisecond {
		C.qw_nap(C.int64_t(d))
	} else {
		time.Sleep(d)
	}
}

// Spin implements gpu.Spinner. A CPU device needs the processors itself.
func (d *device) Spin(on bool) { d.spins.Store(on && d.info.Type != "cpu") }

// await waits until done says so, which may be nil, nothing is under way or the device is lost; expected may be zero. The library could wait
// itself, but only for five seconds: then it takes for done what is not, and frees what the device still uses, which faults (TestLongWork). A
// long prompt takes that long, so the library is asked again and again instead.
func (d *device) await(expected time.Time, done func() bool, caught *C.qw_error) {
	begin := time.Now()
	for {
		if empty := C.qw_poll(d.dev, caught); empty != 0 || caught._type != 0 || done != nil && done() || C.qw_watch_lost(d.watch) != 0 {
			return
		}
		if d.spins.Load() {
			runtime.Gosched()
			continue
		}
		rest(pause(time.Now(), begin, expected))
	}
}

type kernel struct {
	gpu.CheckedKernel
	d      *device
	layout *layout
	raw    *wgpuPipeline
	ref    unsafe.Pointer
}

func (k *kernel) Release() {
	k.d.mu.Lock()
	defer k.d.mu.Unlock()
	k.releaseLocked()
}

func (k *kernel) releaseLocked() {
	if !k.MarkReleased() {
		return
	}
	delete(k.d.live, k)
	if k.raw != nil {
		k.raw.Release()
	}
}

func (d *device) NewKernel(desc gpu.KernelDesc) (gpu.Kernel, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k, err := d.newKernel(desc)
	if err != nil {
		return nil, err
	}
	if k.raw, err = d.createPipeline(desc, k.layout); err != nil {
		return nil, fmt.Errorf("native: kernel %q: %w", desc.Label, err)
	}
	k.ref = handle(k.raw)
	d.live[k] = struct{}{}
	return k, nil
}

// newKernel checks desc and gives the kernel without its pipeline. It needs the mutex.
func (d *device) newKernel(desc gpu.KernelDesc) (*kernel, error) {
	checked, err := d.checks.NewKernel(desc)
	if err == nil {
		err = checkNUL("kernel", desc.Label)
	}
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	l, err := d.layoutFor(desc.Bindings)
	if err != nil {
		return nil, fmt.Errorf("native: kernel %q: %w", desc.Label, err)
	}
	return &kernel{CheckedKernel: checked, d: d, layout: l}, nil
}

// NewKernelAsync implements gpu.AsyncCompiler: as many kernels as there are processors compile at a time, while the device is used
// for other things. The library keeps errors by device, not by thread, so that an error may be told of another kernel, or of another
// call, than the one that it is of; none is lost.
func (d *device) NewKernelAsync(desc gpu.KernelDesc) (gpu.Kernel, func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k, err := d.newKernel(desc)
	if err != nil {
		return nil, func() error { return err }
	}
	d.live[k] = struct{}{}
	done := make(chan error, 1)
	d.compiling.Add(1)
	go func() {
		defer d.compiling.Done()
		d.compilers <- struct{}{}
		raw, err := d.createPipeline(desc, k.layout)
		<-d.compilers
		d.mu.Lock()
		defer d.mu.Unlock()
		if _, wanted := d.live[k]; raw != nil && !wanted { // released meanwhile
			raw.Release()
		} else if raw != nil {
			k.raw, k.ref = raw, handle(raw)
		}
		done <- err
	}()
	return k, func() error {
		if err := <-done; err != nil {
			k.Release()
			return fmt.Errorf("native: kernel %q: %w", desc.Label, err)
		}
		return nil
	}
}

type bindGroup struct {
	gpu.CheckedGroup
	d   *device
	raw *wgpuBindGroup
	ref unsafe.Pointer
}

func (g *bindGroup) Release() {
	g.d.mu.Lock()
	defer g.d.mu.Unlock()
	g.releaseLocked()
}

func (g *bindGroup) releaseLocked() {
	if !g.MarkReleased() {
		return
	}
	delete(g.d.live, g)
	g.raw.Release()
}

func (d *device) Bind(k gpu.Kernel, bindings ...gpu.Binding) (gpu.BindGroup, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	checked, sizes, err := d.checks.Bind(k, bindings)
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	kern := k.(*kernel)
	entries := make([]wgpuBindGroupEntry, len(bindings))
	for i, b := range bindings {
		entries[i] = wgpuBindGroupEntry{Binding: uint32(i), Buffer: b.Buffer.(*buffer).raw, Offset: b.Offset, Size: sizes[i]}
	}
	raw, err := d.createBindGroup(kern.Label(), kern.layout, entries)
	if err != nil {
		return nil, fmt.Errorf("native: bind group of kernel %q: %w", kern.Label(), err)
	}
	g := &bindGroup{CheckedGroup: checked, d: d, raw: raw, ref: handle(raw)}
	d.live[g] = struct{}{}
	return g, nil
}

func (d *device) Submit(pass *gpu.Pass) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.submitPasses([]*gpu.Pass{pass}); err != nil {
		return fmt.Errorf("native: %w", err)
	}
	return nil
}

// submitPasses checks the passes and submits them, with the steps behind them, as one command buffer.
func (d *device) submitPasses(passes []*gpu.Pass, behind ...C.qw_step) error {
	d.steps = d.steps[:0]
	for _, pass := range passes {
		if err := d.appendPass(pass); err != nil {
			return err
		}
	}
	if d.steps = append(d.steps, behind...); len(d.steps) == 0 {
		return nil
	}
	err := d.submitLocked(d.steps)
	if err != nil {
		for _, pass := range passes {
			if found := d.blame(pass); found != nil {
				return found
			}
		}
		if len(passes) > 0 {
			err = fmt.Errorf("pass %q: %w", passes[0].Label, err)
		}
	}
	return err
}

func (d *device) submitLocked(steps []C.qw_step) error {
	var caught C.qw_error
	C.qw_submit(d.dev, d.q, unsafe.SliceData(steps), C.size_t(len(steps)), 0, &caught)
	d.unflushed = 0
	return d.takeError(&caught)
}

// blame finds the step that the library refuses, by encoding each alone without submitting it; nil if it refuses none.
func (d *device) blame(pass *gpu.Pass) error {
	for i := range pass.Steps {
		s := &pass.Steps[i]
		d.steps = d.steps[:0]
		if d.appendStep(s) != nil || len(d.steps) == 0 {
			continue
		}
		var caught C.qw_error
		C.qw_submit(d.dev, d.q, unsafe.SliceData(d.steps), C.size_t(len(d.steps)), 1, &caught)
		if err := d.takeError(&caught); err != nil {
			if s.Kernel != nil {
				return fmt.Errorf("pass %q, step %d, kernel %q: %w", pass.Label, i, s.Kernel.Label(), err)
			}
			return fmt.Errorf("pass %q, step %d, copy from %q to %q: %w", pass.Label, i, s.Src.Label(), s.Dst.Label(), err)
		}
	}
	return nil
}

// Close waits for the GPU and releases everything that was made with the device.
func (d *device) Close() error {
	d.compiling.Wait()
	d.waiting.Lock()
	defer d.waiting.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	lost := d.usable() != nil
	d.closed = true
	var caught C.qw_error
	if !lost {
		C.qw_flush(d.q, &caught)
		d.await(time.Time{}, nil, &caught)
	}
	err := d.takeError(&caught)
	for r := range d.live {
		r.releaseLocked()
	}
	d.staging.close(d)
	d.upload.close()
	for _, l := range d.layouts {
		l.pipeline.Release()
		l.groups.Release()
	}
	d.layouts = nil
	if !lost && err == nil {
		// One poll finds what nobody refers to any more, the next frees it.
		for range 3 {
			C.qw_poll(d.dev, &caught)
		}
		err = d.takeError(&caught)
	}
	d.queue.Release()
	d.raw.Release()
	if err != nil {
		return fmt.Errorf("native: close: %w", err)
	}
	return nil
}

func captureLog() { C.qw_capture_log() }

// logSuffix returns what the library logged since the last call, for the end of an error text.
func logSuffix() string {
	text := C.qw_take_log()
	defer C.free(unsafe.Pointer(text))
	if s := tidyMessage(C.GoString(text)); s != "" {
		return "\n" + s
	}
	return ""
}
