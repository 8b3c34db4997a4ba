//go:build js

package main

// Progress of compiling kernels, for people who wait for it.

import (
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/browser"
)

// compiling is a device that reports how many of the kernels that it was asked for are there.
type compiling struct {
	browser.Device
	report      func(done, asked int)
	done, asked int
}

// NewKernelAsync implements gpu.AsyncCompiler.
func (d *compiling) NewKernelAsync(desc gpu.KernelDesc) (gpu.Kernel, func() error) {
	d.asked++
	k, wait := d.Device.NewKernelAsync(desc)
	return k, func() error {
		d.report(d.done, d.asked)
		err := wait()
		d.done++
		return err
	}
}
