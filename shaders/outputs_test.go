//go:build !js

package shaders_test

import (
	"os"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
	"github.com/qwen-wgpu/qwen-wgpu/shaders/kerneltest"
)

// TestWriteOutputs writes what every parity case gives natively to the file that QWEN_WGPU_OUTPUTS names, for the comparison
// with browsers (web/tests/kernels.test.mjs).
func TestWriteOutputs(t *testing.T) {
	path := os.Getenv("QWEN_WGPU_OUTPUTS")
	if path == "" {
		t.Skip("QWEN_WGPU_OUTPUTS is not set")
	}
	dev := testdevice.Open(t)
	runner := kerneltest.NewRunner(dev)
	defer runner.Close()
	cases, err := kerneltest.CasesOn(dev)
	if err != nil {
		t.Fatal(err)
	}
	outputs, err := runner.Collect(cases)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := outputs.Write(file); err != nil {
		t.Fatal(err)
	}
}
