//go:build js

package browser_test

// These tests are compiled to WebAssembly and run under Node with Dawn and in real browsers: see web/tests/kernels.test.mjs.

import (
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/browser"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/gputest"
)

func TestConformance(t *testing.T) {
	for _, check := range gputest.Checks() {
		t.Run(check.Name, func(t *testing.T) {
			check.Run(t, func() (gpu.Device, error) { return browser.Open() })
		})
	}
}
