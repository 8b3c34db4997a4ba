//go:build !js

package native

import (
	"errors"
	"os"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/gputest"
)

// open returns a device for a test. Without any adapter the test fails and says what to install, so that a machine
// without Vulkan is not mistaken for one that passes.
func open(tb testing.TB) gpu.Device {
	tb.Helper()
	d, err := openForTest(tb)()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d
}

func openForTest(tb testing.TB) func() (gpu.Device, error) {
	tb.Helper()
	if os.Getenv("QWEN_WGPU_NO_GPU") == "1" {
		tb.Skip("QWEN_WGPU_NO_GPU=1")
	}
	o := Options{Adapter: os.Getenv("QWEN_WGPU_ADAPTER")}
	if _, err := Adapters(); errors.Is(err, ErrNoAdapter) {
		tb.Fatalf("%v\n(set QWEN_WGPU_NO_GPU=1 to skip the tests that need an adapter)", err)
	}
	return func() (gpu.Device, error) { return Open(o) }
}

func TestConformance(t *testing.T) {
	opener := openForTest(t)
	for _, check := range gputest.Checks() {
		t.Run(check.Name, func(t *testing.T) { check.Run(t, opener) })
	}
}
