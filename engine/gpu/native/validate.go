//go:build !js

// Passes in the library's terms. wgpu's own refusal at submission ends the process, so gpu.Checks refuses first. All of
// this needs the device's mutex.

package native

/*
#include "bridge.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// checkNUL: labels cross into C.
func checkNUL(kind, label string) error {
	if strings.IndexByte(label, 0) >= 0 {
		return fmt.Errorf("%s label %q contains a NUL", kind, label)
	}
	return nil
}

// appendPass checks a pass, unless that was done before, and appends its steps to d.steps.
func (d *device) appendPass(pass *gpu.Pass) error {
	if pass == nil {
		return errors.New("submit: the pass is nil")
	}
	if err := d.usable(); err != nil {
		return fmt.Errorf("pass %q: %w", pass.Label, err)
	}
	if steps, ok := d.checks.Kept(pass).([]C.qw_step); ok {
		d.steps = append(d.steps, steps...)
		return nil
	}
	start := len(d.steps)
	for i := range pass.Steps {
		if err := d.appendStep(&pass.Steps[i]); err != nil {
			return fmt.Errorf("pass %q, step %d: %w", pass.Label, i, err)
		}
	}
	d.checks.Keep(pass, slices.Clone(d.steps[start:]))
	return nil
}

// appendStep checks one step and appends it to d.steps in the library's terms.
func (d *device) appendStep(s *gpu.Step) error {
	if err := d.checks.Step(s); err != nil {
		return err
	}
	if s.Kernel == nil {
		return d.appendCopy(s)
	}
	if s.Grid[0] != 0 && s.Grid[1] != 0 && s.Grid[2] != 0 {
		d.steps = append(d.steps, C.qw_step{
			op: C.QW_DISPATCH, x: C.uint32_t(s.Grid[0]), y: C.uint32_t(s.Grid[1]), z: C.uint32_t(s.Grid[2]),
			a: C.uintptr_t(uintptr(s.Kernel.(*kernel).ref)), b: C.uintptr_t(uintptr(s.Group.(*bindGroup).ref)),
		})
	}
	return nil
}

// scratchBytes is the size of the buffer through which copies within one buffer go: WebGPU has none of those.
const scratchBytes = 4 << 20

func (d *device) appendCopy(s *gpu.Step) (err error) {
	src, dst := s.Src.(*buffer), s.Dst.(*buffer)
	if s.SizeBytes == 0 {
		return nil
	}
	if src != dst {
		d.appendRawCopy(src, s.SrcOffset, dst, s.DstOffset, s.SizeBytes)
		return nil
	}
	if d.scratch == nil {
		if d.scratch, err = d.newBufferLocked("native.scratch", scratchBytes, gpu.UsageCopySrc|gpu.UsageCopyDst); err != nil {
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
