//go:build !js

// Everything that wgpu would refuse, refused here first: its own refusal at submission ends the process.
// All but checkNewBuffer and checkKernelDesc need the device's mutex.

package native

/*
#include "bridge.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

const allUsages = gpu.UsageStorage | gpu.UsageUniform | gpu.UsageCopySrc | gpu.UsageCopyDst

func usageNames(u gpu.Usage) string {
	var names []string
	for _, n := range []struct {
		bit  gpu.Usage
		name string
	}{
		{gpu.UsageStorage, "UsageStorage"}, {gpu.UsageUniform, "UsageUniform"},
		{gpu.UsageCopySrc, "UsageCopySrc"}, {gpu.UsageCopyDst, "UsageCopyDst"},
	} {
		if u&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, "|")
}

func (d *device) checkNewBuffer(label string, size uint64, usage gpu.Usage) error {
	switch {
	case strings.IndexByte(label, 0) >= 0:
		return fmt.Errorf("native: buffer label %q contains a NUL", label)
	case size == 0:
		return fmt.Errorf("native: buffer %q has size 0", label)
	case size%4 != 0:
		return fmt.Errorf("native: buffer %q: %d bytes is not a multiple of 4", label, size)
	case usage == 0 || usage&^allUsages != 0:
		return fmt.Errorf("native: buffer %q: usage %#x is no combination of the gpu.Usage flags", label, uint32(usage))
	case size > d.limits.MaxBufferBytes:
		return fmt.Errorf("native: buffer %q: %d bytes is more than the %d that %s allows a buffer: %w",
			label, size, d.limits.MaxBufferBytes, d.info.Name, gpu.ErrOutOfMemory)
	}
	return nil
}

// checkBuffer returns the device's own buffer behind an interface value.
func (d *device) checkBuffer(what string, buf gpu.Buffer) (*buffer, error) {
	if err := d.usable(); err != nil {
		return nil, fmt.Errorf("%s buffer: %w", what, err)
	}
	b, ok := buf.(*buffer)
	if !ok || b == nil {
		return nil, fmt.Errorf("%s buffer: %T is no buffer of this package", what, buf)
	}
	if b.d != d {
		return nil, fmt.Errorf("%s buffer %q: it belongs to another device", what, b.label)
	}
	if b.released {
		return nil, fmt.Errorf("%s buffer %q: it has been released", what, b.label)
	}
	return b, nil
}

func labelOf(buf gpu.Buffer) string {
	if b, ok := buf.(*buffer); ok && b != nil {
		return fmt.Sprintf("%q", b.label)
	}
	return "no buffer"
}

// checkRange checks a range of a buffer and that it has one of the usages needed.
func (d *device) checkRange(what string, buf gpu.Buffer, offset, size uint64, need gpu.Usage) (*buffer, error) {
	b, err := d.checkBuffer(what, buf)
	if err != nil {
		return nil, err
	}
	switch {
	case b.usage&need == 0:
		return nil, fmt.Errorf("%s buffer %q: it has usage %s and needs %s",
			what, b.label, usageNames(b.usage), usageNames(need))
	case offset%4 != 0 || size%4 != 0:
		return nil, fmt.Errorf("%s buffer %q: offset %d and size %d must be multiples of 4", what, b.label, offset, size)
	case offset > b.size || size > b.size-offset:
		return nil, fmt.Errorf("%s buffer %q: %d bytes at offset %d go beyond its %d bytes",
			what, b.label, size, offset, b.size)
	}
	return b, nil
}

func (d *device) checkKernelDesc(desc gpu.KernelDesc) error {
	numStorage := 0
	for i, k := range desc.Bindings {
		switch k {
		case gpu.BindUniform:
		case gpu.BindStorageRead, gpu.BindStorage:
			numStorage++
		default:
			return fmt.Errorf("native: kernel %q: binding %d has unknown kind %d", desc.Label, i, k)
		}
	}
	switch {
	case desc.WGSL == "":
		return fmt.Errorf("native: kernel %q has no WGSL source", desc.Label)
	case desc.Entry == "":
		return fmt.Errorf("native: kernel %q has no entry point", desc.Label)
	case strings.IndexByte(desc.Label+desc.WGSL+desc.Entry, 0) >= 0:
		return fmt.Errorf("native: kernel %q: its text contains a NUL", desc.Label)
	case numStorage > int(d.limits.MaxStorageBuffersPerStage):
		return fmt.Errorf("native: kernel %q has %d storage bindings, more than the %d that %s allows",
			desc.Label, numStorage, d.limits.MaxStorageBuffersPerStage, d.info.Name)
	}
	if n, ok := gpu.ReadWGSL(desc.WGSL).WorkgroupBytes(); ok && n > uint64(d.limits.MaxWorkgroupStorageBytes) {
		return fmt.Errorf("native: kernel %q declares %d bytes of workgroup memory, more than the %d that %s has",
			desc.Label, n, d.limits.MaxWorkgroupStorageBytes, d.info.Name)
	}
	return nil
}

func (d *device) checkKernel(k gpu.Kernel) (*kernel, error) {
	if err := d.usable(); err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	kern, ok := k.(*kernel)
	if !ok || kern == nil {
		return nil, fmt.Errorf("%T is no kernel of this package", k)
	}
	if kern.d != d {
		return nil, fmt.Errorf("kernel %q belongs to another device", kern.label)
	}
	if kern.released {
		return nil, fmt.Errorf("kernel %q has been released", kern.label)
	}
	return kern, nil
}

// checkBindings returns the buffers and the sizes with 0 resolved.
func (d *device) checkBindings(k *kernel, bindings []gpu.Binding) ([]*buffer, []uint64, error) {
	kinds := k.layout.kinds
	if len(bindings) != len(kinds) {
		return nil, nil, fmt.Errorf("bind group of kernel %q: %d bindings given, the kernel has %d",
			k.label, len(bindings), len(kinds))
	}
	buffers := make([]*buffer, len(kinds))
	sizes := make([]uint64, len(kinds))
	for i, kind := range kinds {
		b, size, err := d.checkBinding(kind, bindings[i])
		if err != nil {
			return nil, nil, fmt.Errorf("bind group of kernel %q, binding %d (%s): %w", k.label, i, kind, err)
		}
		buffers[i], sizes[i] = b, size
	}
	for i := range buffers {
		for j := i + 1; j < len(buffers); j++ {
			if buffers[i] != buffers[j] || kinds[i] != gpu.BindStorage && kinds[j] != gpu.BindStorage {
				continue
			}
			if kinds[i] != kinds[j] {
				return nil, nil, fmt.Errorf("bind group of kernel %q: buffer %q is bound as %q (binding %d) and as %q "+
					"(binding %d); a buffer that a dispatch writes may not be read through another binding",
					k.label, buffers[i].label, kinds[i], i, kinds[j], j)
			}
			if bindings[i].Offset < bindings[j].Offset+sizes[j] && bindings[j].Offset < bindings[i].Offset+sizes[i] {
				return nil, nil, fmt.Errorf("bind group of kernel %q: bindings %d and %d both write bytes %d to %d of buffer %q",
					k.label, i, j, max(bindings[i].Offset, bindings[j].Offset),
					min(bindings[i].Offset+sizes[i], bindings[j].Offset+sizes[j]), buffers[i].label)
			}
		}
	}
	return buffers, sizes, nil
}

func (d *device) checkBinding(kind gpu.BindingKind, binding gpu.Binding) (*buffer, uint64, error) {
	need, align, limit := gpu.UsageStorage, d.limits.MinStorageOffsetAlignment, d.limits.MaxStorageBindingBytes
	if kind == gpu.BindUniform {
		need, align, limit = gpu.UsageUniform, d.limits.MinUniformOffsetAlignment, d.limits.MaxUniformBindingBytes
	}
	b, err := d.checkRange("bind", binding.Buffer, binding.Offset, binding.Size, need)
	if err != nil {
		return nil, 0, err
	}
	size := binding.Size
	if size == 0 {
		size = b.size - binding.Offset
	}
	switch {
	case size == 0:
		return nil, 0, fmt.Errorf("buffer %q: no bytes from offset %d on", b.label, binding.Offset)
	case binding.Offset%uint64(align) != 0:
		return nil, 0, fmt.Errorf("buffer %q: offset %d is not a multiple of %d", b.label, binding.Offset, align)
	case size > limit:
		return nil, 0, fmt.Errorf("buffer %q: %d bytes is more than the %d that %s allows one binding; bind a part of it",
			b.label, size, limit, d.info.Name)
	}
	return b, size, nil
}

// appendStep validates one step and appends it to d.steps in the library's terms.
func (d *device) appendStep(s *gpu.Step) error {
	switch {
	case s.Kernel != nil && (s.Src != nil || s.Dst != nil):
		return fmt.Errorf("it is both a dispatch of kernel %q and a copy", s.Kernel.Label())
	case s.Kernel != nil:
		return d.appendDispatch(s)
	case s.Src != nil || s.Dst != nil:
		return d.appendCopy(s)
	}
	return errors.New("it is neither a dispatch nor a copy")
}

func (d *device) appendDispatch(s *gpu.Step) error {
	k, ok := s.Kernel.(*kernel)
	if !ok || k == nil || k.d != d || k.released {
		_, err := d.checkKernel(s.Kernel)
		return err
	}
	g, ok := s.Group.(*bindGroup)
	if !ok || g == nil || g.d != d || g.released || g.layout != k.layout {
		return d.explainGroup(k, s.Group)
	}
	if g.epoch != d.epoch {
		for i, b := range g.buffers {
			if b.released {
				return fmt.Errorf("kernel %q: binding %d, buffer %q, has been released", k.label, i, b.label)
			}
		}
		g.epoch = d.epoch
	}
	limit := d.limits.MaxWorkgroupsPerDimension
	x, y, z := s.Grid[0], s.Grid[1], s.Grid[2]
	if x > limit || y > limit || z > limit {
		return fmt.Errorf("kernel %q: a grid of %d x %d x %d workgroups; %s allows %d in each dimension",
			k.label, x, y, z, d.info.Name, limit)
	}
	if x == 0 || y == 0 || z == 0 {
		return nil
	}
	d.steps = append(d.steps, C.qw_step{
		op: C.QW_DISPATCH, x: C.uint32_t(x), y: C.uint32_t(y), z: C.uint32_t(z),
		a: C.uintptr_t(uintptr(k.ref)), b: C.uintptr_t(uintptr(g.ref)),
	})
	return nil
}

func (d *device) explainGroup(k *kernel, group gpu.BindGroup) error {
	g, ok := group.(*bindGroup)
	switch {
	case !ok || g == nil:
		return fmt.Errorf("kernel %q: %T is no bind group of this package", k.label, group)
	case g.d != d:
		return fmt.Errorf("kernel %q: its bind group belongs to another device", k.label)
	case g.released:
		return fmt.Errorf("kernel %q: its bind group (made for kernel %q) has been released", k.label, g.label)
	}
	return fmt.Errorf("kernel %q has bindings %v; the bind group was made for kernel %q with %v",
		k.label, k.layout.kinds, g.label, g.layout.kinds)
}

// scratchBytes is the size of the buffer through which copies within one buffer go: WebGPU has none of those.
const scratchBytes = 4 << 20

func (d *device) appendCopy(s *gpu.Step) error {
	src, err := d.checkRange("copy from", s.Src, s.SrcOffset, s.SizeBytes, gpu.UsageCopySrc)
	if err != nil {
		return fmt.Errorf("%w (copying to %s)", err, labelOf(s.Dst))
	}
	dst, err := d.checkRange("copy to", s.Dst, s.DstOffset, s.SizeBytes, gpu.UsageCopyDst)
	if err != nil {
		return fmt.Errorf("%w (copying from %q)", err, src.label)
	}
	if s.SizeBytes == 0 {
		return nil
	}
	if src != dst {
		d.appendRawCopy(src, s.SrcOffset, dst, s.DstOffset, s.SizeBytes)
		return nil
	}
	if s.SrcOffset < s.DstOffset+s.SizeBytes && s.DstOffset < s.SrcOffset+s.SizeBytes {
		return fmt.Errorf("copy of %d bytes within buffer %q from offset %d to %d: the ranges overlap",
			s.SizeBytes, src.label, s.SrcOffset, s.DstOffset)
	}
	if d.scratch == nil {
		d.scratch, err = d.newBufferLocked("native.scratch", scratchBytes, gpu.UsageCopySrc|gpu.UsageCopyDst)
		if err != nil {
			return err
		}
	}
	for at := uint64(0); at < s.SizeBytes; at += scratchBytes {
		n := min(scratchBytes, s.SizeBytes-at)
		d.appendRawCopy(src, s.SrcOffset+at, d.scratch, 0, n)
		d.appendRawCopy(d.scratch, 0, dst, s.DstOffset+at, n)
	}
	return nil
}

func (d *device) appendRawCopy(src *buffer, srcOffset uint64, dst *buffer, dstOffset, size uint64) {
	d.steps = append(d.steps, C.qw_step{
		op: C.QW_COPY,
		a:  C.uintptr_t(uintptr(src.ref)), a_off: C.uint64_t(srcOffset),
		b: C.uintptr_t(uintptr(dst.ref)), b_off: C.uint64_t(dstOffset),
		size: C.uint64_t(size),
	})
}
