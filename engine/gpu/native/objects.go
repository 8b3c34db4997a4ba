//go:build !js

// Creation of wgpu objects, with every error of the library turned into a Go error. The callers hold the device's
// mutex, because error scopes belong to the device and not to a goroutine.

package native

/*
#include <stdlib.h>
#include "bridge.h"
#cgo noescape qw_scope_begin
#cgo nocallback qw_scope_begin
#cgo noescape qw_scope_end
#cgo nocallback qw_scope_end
#cgo noescape qw_watch_lost
#cgo nocallback qw_watch_lost
*/
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// handle returns the C pointer behind a binding's object: the last field of each of its types, after the device
// reference where there is one.
func handle[T any](object *T) unsafe.Pointer {
	words := unsafe.Sizeof(*object) / unsafe.Sizeof(uintptr(0))
	return *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(object), (words-1)*unsafe.Sizeof(uintptr(0))))
}

// wrap makes a binding's object of a C pointer; the binding's type must consist of that pointer alone.
func wrap[T any](pointer unsafe.Pointer) *T {
	object := new(T)
	if unsafe.Sizeof(*object) != unsafe.Sizeof(pointer) {
		panic("native: the binding's type is not one pointer")
	}
	*(*unsafe.Pointer)(unsafe.Pointer(object)) = pointer
	return object
}

// libraryError is an error that a scope caught.
type libraryError struct {
	kind    uint32 // WGPUErrorType
	message string
}

const (
	errorOutOfMemory = 2
	errorLost        = 5
)

// lose marks the device as lost, after which nothing but releases reaches the library.
func (d *device) lose(why string) {
	if d.lost.CompareAndSwap(nil, &why) {
		return
	}
}

// usable returns why the device cannot be used any more.
func (d *device) usable() error {
	if d.closed {
		return ErrClosed
	}
	if C.qw_watch_lost(d.watch) != 0 {
		d.lose(tidyMessage(C.GoString(&d.watch.text[0])))
	}
	if why := d.lost.Load(); why != nil {
		return fmt.Errorf("%w: %s: %s", gpu.ErrLost, d.info.Name, *why)
	}
	return nil
}

func (e *libraryError) Error() string { return e.message }

func (e *libraryError) Unwrap() error {
	switch e.kind {
	case errorOutOfMemory:
		return gpu.ErrOutOfMemory
	case errorLost, C.QW_FATAL:
		return gpu.ErrLost
	}
	return nil
}

func (d *device) takeError(e *C.qw_error) error {
	if e._type == 0 {
		return nil
	}
	message := tidyMessage(C.GoString(e.message))
	C.free(unsafe.Pointer(e.message))
	switch e._type {
	case C.QW_FATAL:
		message += " in a way that ends the device (the library has written why to standard error)"
		d.lose(message)
	case errorLost:
		d.lose(message)
	}
	return &libraryError{kind: uint32(e._type), message: message}
}

// tidyMessage drops the parts of a wgpu message that say nothing: the binding's own function name, "Validation Error",
// "Caused by:" and blank lines. The lines that quote WGSL keep their indentation.
func tidyMessage(message string) string {
	var kept []string
	for _, line := range strings.Split(message, "\n") {
		line = strings.TrimRight(line, " \t\r")
		if _, after, found := strings.Cut(line, "(): "); found && strings.HasPrefix(line, "wgpu.") {
			line = after
		}
		switch strings.TrimSpace(line) {
		case "", "Validation Error", "Caused by:", "Internal Error", "Out of Memory":
			continue
		}
		kept = append(kept, line)
	}
	return strings.TrimSpace(strings.Join(kept, "\n"))
}

// scoped runs one Create call of the binding with scopes open for memory and internal errors.
func (d *device) scoped(create func() error) error {
	C.qw_scope_begin(d.dev)
	err := create()
	var caught C.qw_error
	C.qw_scope_end(d.dev, &caught)
	if deeper := d.takeError(&caught); deeper != nil {
		return deeper
	}
	if err != nil {
		return errors.New(tidyMessage(err.Error()))
	}
	return d.usable() // the library swallows errors of a lost device
}

func (d *device) createBuffer(label string, size uint64, usage wgpuBufferUsage) (*wgpuBuffer, error) {
	var b *wgpuBuffer
	err := d.scoped(func() (err error) {
		b, err = d.raw.CreateBuffer(&wgpuBufferDescriptor{Label: label, Size: size, Usage: usage})
		return err
	})
	if err != nil && b != nil {
		b.Release()
		b = nil
	}
	return b, err
}

// layout is a bind group layout and the pipeline layout over it, one for each list of kinds, so that kernels with the
// same bindings share bind groups.
type layout struct {
	groups   *wgpuBindGroupLayout
	pipeline *wgpuPipelineLayout
}

func (d *device) layoutFor(kinds []gpu.BindingKind) (*layout, error) {
	key := make([]byte, len(kinds))
	for i, k := range kinds {
		key[i] = byte(k)
	}
	if l := d.layouts[string(key)]; l != nil {
		return l, nil
	}
	entries := make([]wgpuBindGroupLayoutEntry, len(kinds))
	for i, k := range kinds {
		kind := wgpuBindingStorage
		switch k {
		case gpu.BindUniform:
			kind = wgpuBindingUniform
		case gpu.BindStorageRead:
			kind = wgpuBindingReadOnlyStorage
		}
		entries[i] = wgpuBindGroupLayoutEntry{
			Binding: uint32(i), Visibility: wgpuShaderStageCompute,
			Buffer: wgpuBufferBindingLayout{Type: kind},
		}
	}
	l := new(layout)
	err := d.scoped(func() (err error) {
		l.groups, err = d.raw.CreateBindGroupLayout(&wgpuBindGroupLayoutDescriptor{Entries: entries})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bind group layout: %w", err)
	}
	err = d.scoped(func() (err error) {
		l.pipeline, err = d.raw.CreatePipelineLayout(&wgpuPipelineLayoutDescriptor{
			BindGroupLayouts: []*wgpuBindGroupLayout{l.groups},
		})
		return err
	})
	if err != nil {
		l.groups.Release()
		return nil, fmt.Errorf("pipeline layout: %w", err)
	}
	d.layouts[string(key)] = l
	return l, nil
}

func (d *device) createPipeline(desc gpu.KernelDesc, l *layout) (*wgpuPipeline, error) {
	var pipeline *wgpuPipeline
	err := d.scoped(func() error {
		module, err := d.raw.CreateShaderModule(&wgpuShaderDescriptor{
			Label: desc.Label, WGSLDescriptor: &wgpuWGSLDescriptor{Code: acceptedWGSL(desc.WGSL)},
		})
		if err != nil {
			return err
		}
		defer module.Release()
		pipeline, err = d.raw.CreateComputePipeline(&wgpuPipelineDescriptor{
			Label: desc.Label, Layout: l.pipeline,
			Compute: wgpuStageDescriptor{Module: module, EntryPoint: desc.Entry},
		})
		return err
	})
	if err != nil && pipeline != nil {
		pipeline.Release()
		pipeline = nil
	}
	return pipeline, err
}

func (d *device) createBindGroup(label string, l *layout, entries []wgpuBindGroupEntry) (*wgpuBindGroup, error) {
	var g *wgpuBindGroup
	err := d.scoped(func() (err error) {
		g, err = d.raw.CreateBindGroup(&wgpuBindGroupDescriptor{Label: label, Layout: l.groups, Entries: entries})
		return err
	})
	if err != nil && g != nil {
		g.Release()
		g = nil
	}
	return g, err
}
