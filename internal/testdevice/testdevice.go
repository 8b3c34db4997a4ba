//go:build !js

// Package testdevice opens the GPU device that tests run on.
package testdevice

import (
	"errors"
	"os"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/native"
)

// Open opens the adapter that QWEN_WGPU_ADAPTER names, or the best one, until the test ends. It skips the test if
// QWEN_WGPU_NO_GPU is 1, and fails it if there is no adapter.
func Open(tb testing.TB) gpu.Device {
	tb.Helper()
	if os.Getenv("QWEN_WGPU_NO_GPU") == "1" {
		tb.Skip("QWEN_WGPU_NO_GPU=1")
	}
	dev, err := native.Open(native.Options{Adapter: os.Getenv("QWEN_WGPU_ADAPTER")})
	if errors.Is(err, native.ErrNoAdapter) {
		tb.Fatalf("%v\n(set QWEN_WGPU_NO_GPU=1 to skip the tests that need an adapter)", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := dev.Close(); err != nil {
			tb.Error(err)
		}
	})
	return dev
}
