//go:build !js

// Downloads: a copy into a pooled staging buffer that is being mapped while the caller goes on, and a Wait that is
// correct when several are under way from several goroutines.

package native

/*
#include <stdlib.h>
#include "bridge.h"
#cgo noescape qw_destroy_buffer
#cgo nocallback qw_destroy_buffer
#cgo noescape qw_map
#cgo nocallback qw_map
#cgo noescape qw_poll
#cgo nocallback qw_poll
#cgo noescape qw_read
#cgo nocallback qw_read
#cgo noescape qw_status
#cgo nocallback qw_status
#cgo noescape qw_unmap
#cgo nocallback qw_unmap
*/
import "C"

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"time"
	"unsafe"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

const (
	minStagingBytes = 256
	maxPooledBytes  = 16 << 20 // larger staging buffers are freed after use
	poolCapacity    = 64 << 20 // bytes kept for reuse
)

// stagingBuffer is mappable memory. status is written by the library's map callback, so it lives in C memory.
type stagingBuffer struct {
	raw    *wgpuBuffer
	ref    unsafe.Pointer
	size   uint64 // bytes
	status *C.int32_t
}

func (s *stagingBuffer) mapped() int32 { return int32(C.qw_status(s.status)) }

// stagingPool is guarded by the device's mutex.
type stagingPool struct {
	free      map[uint64][]*stagingBuffer // by size
	freeBytes uint64
	pending   []*stagingBuffer // in submission order, mapping under way
	all       map[*stagingBuffer]struct{}
}

func (p *stagingPool) init() {
	p.free = map[uint64][]*stagingBuffer{}
	p.all = map[*stagingBuffer]struct{}{}
}

func stagingSize(size uint64) uint64 {
	if size <= minStagingBytes {
		return minStagingBytes
	}
	if size > maxPooledBytes {
		return size
	}
	return 1 << bits.Len64(size-1)
}

func (p *stagingPool) take(d *device, size uint64) (*stagingBuffer, error) {
	size = min(stagingSize(size), d.checks.Limits.MaxBufferBytes)
	if list := p.free[size]; len(list) > 0 {
		s := list[len(list)-1]
		p.free[size] = list[:len(list)-1]
		p.freeBytes -= size
		return s, nil
	}
	raw, err := d.createBuffer("native.staging", size, usageMapRead|usageCopyDst)
	if err != nil {
		return nil, fmt.Errorf("staging buffer of %d bytes: %w", size, err)
	}
	s := &stagingBuffer{raw: raw, ref: handle(raw), size: size}
	s.status = (*C.int32_t)(C.calloc(1, C.sizeof_int32_t))
	p.all[s] = struct{}{}
	return s, nil
}

// put takes back an unmapped buffer.
func (p *stagingPool) put(s *stagingBuffer) {
	if s.size > maxPooledBytes || p.freeBytes+s.size > poolCapacity {
		p.destroy(s)
		return
	}
	p.free[s.size] = append(p.free[s.size], s)
	p.freeBytes += s.size
}

func (p *stagingPool) destroy(s *stagingBuffer) {
	delete(p.all, s)
	C.qw_destroy_buffer(s.ref)
	s.raw.Release()
	C.free(unsafe.Pointer(s.status))
	s.status = nil
}

func (p *stagingPool) close(d *device) {
	for s := range p.all {
		p.destroy(s)
	}
	p.free, p.pending = nil, nil
}

// settle drops from pending what has arrived and returns the oldest that has not.
func (p *stagingPool) settle() *stagingBuffer {
	for len(p.pending) > 0 && p.pending[0].mapped() != 0 {
		p.pending[0] = nil
		p.pending = p.pending[1:]
	}
	if len(p.pending) == 0 {
		p.pending = nil
		return nil
	}
	return p.pending[0]
}

type readback struct {
	d     *device
	label string
	size  uint64
	s     *stagingBuffer // nil when size is 0 or after Wait
	drop  runtime.Cleanup
	done  bool

	expected time.Time // zero: nobody knows
}

// Expect implements gpu.Expecter.
func (r *readback) Expect(at time.Time) { r.expected = at }

func (d *device) Download(buf gpu.Buffer, offset, sizeBytes uint64, passes ...*gpu.Pass) (gpu.Readback, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.checks.Range("download from", buf, offset, sizeBytes, gpu.UsageCopySrc); err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	b := buf.(*buffer)
	r := &readback{d: d, label: b.Label(), size: sizeBytes}
	if sizeBytes == 0 {
		if err := d.submitPasses(passes); err != nil {
			return nil, fmt.Errorf("native: download from buffer %q: %w", b.Label(), err)
		}
		return r, nil
	}
	s, err := d.staging.take(d, sizeBytes)
	if err != nil {
		return nil, fmt.Errorf("native: download from buffer %q: %w", b.Label(), err)
	}
	err = d.submitPasses(passes, C.qw_step{
		op: C.QW_COPY, a: C.uintptr_t(uintptr(b.ref)), a_off: C.uint64_t(offset),
		b: C.uintptr_t(uintptr(s.ref)), size: C.uint64_t(sizeBytes),
	})
	if err == nil {
		var caught C.qw_error
		C.qw_map(d.dev, s.ref, C.QW_MAP_READ, C.size_t(sizeBytes), s.status, &caught)
		err = d.takeError(&caught)
	}
	if err != nil {
		d.staging.destroy(s)
		return nil, fmt.Errorf("native: download from buffer %q: %w", b.Label(), err)
	}
	d.staging.pending = append(d.staging.pending, s)
	r.s = s
	r.drop = runtime.AddCleanup(r, d.abandon, s)
	return r, nil
}

// abandon takes back the staging buffer of a readback that nobody waited for.
func (d *device) abandon(s *stagingBuffer) {
	d.waitFor(s, time.Time{})
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.usable() != nil {
		return
	}
	var caught C.qw_error
	C.qw_unmap(d.dev, s.ref, &caught)
	if d.takeError(&caught) != nil {
		d.staging.destroy(s)
		return
	}
	d.staging.put(s)
}

// waitFor polls until s is mapped, which is expected at a time that may be zero, or the device is closed. One goroutine polls at a time,
// always for the oldest readback, which everybody else's waits for too; then the others look again.
func (d *device) waitFor(s *stagingBuffer, expected time.Time) {
	for {
		d.waiting.Lock()
		d.mu.Lock()
		oldest := d.staging.settle()
		arrived := d.usable() != nil || s.mapped() != 0
		d.mu.Unlock()
		if !arrived && oldest != nil {
			var caught C.qw_error
			at := expected
			if oldest != s {
				at = time.Time{}
			}
			d.await(at, func() bool { return oldest.mapped() != 0 }, &caught)
			d.takeError(&caught)
		}
		d.waiting.Unlock()
		if arrived {
			return
		}
	}
}

func (r *readback) Wait(dst []byte) error {
	d := r.d
	if uint64(len(dst)) != r.size {
		return fmt.Errorf("native: download from buffer %q: %d bytes asked for, the destination has %d", r.label, r.size, len(dst))
	}
	d.mu.Lock()
	again, s := r.done, r.s
	r.done, r.s = true, nil
	d.mu.Unlock()
	if again {
		return fmt.Errorf("native: download from buffer %q: waited for twice", r.label)
	}
	if s == nil {
		return nil
	}
	r.drop.Stop()
	d.waitFor(s, r.expected)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return fmt.Errorf("native: download from buffer %q: %w", r.label, err)
	}
	if status := s.mapped() - 1; status != 0 {
		d.staging.destroy(s)
		return fmt.Errorf("native: download from buffer %q: %w", r.label, mapError(status))
	}
	var caught C.qw_error
	found := C.qw_read(d.dev, s.ref, unsafe.Pointer(&dst[0]), C.size_t(r.size), &caught)
	err := d.takeError(&caught)
	if err == nil && found == 0 {
		err = errors.New("the mapped memory could not be read")
	}
	if err != nil {
		d.staging.destroy(s)
		return fmt.Errorf("native: download from buffer %q: %w", r.label, err)
	}
	d.staging.put(s)
	return nil
}

func mapError(status int32) error {
	const deviceLost = 3
	if status == deviceLost {
		return fmt.Errorf("mapping failed: %w", gpu.ErrLost)
	}
	return fmt.Errorf("mapping failed with WGPUBufferMapAsyncStatus %d", status)
}
