//go:build !js

package shaders_test

import (
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
	"github.com/qwen-wgpu/qwen-wgpu/shaders/kerneltest"
)

// TestEveryKernelHasCases keeps a kernel from being added without a parity case: a case's name begins with the kernels it
// checks, "attention+attn_out/...".
func TestEveryKernelHasCases(t *testing.T) {
	tested := map[string]bool{"read_bandwidth": true} // a benchmark, with nothing to compare
	for _, c := range kerneltest.CasesWithin(gpu.Limits{MaxStorageBuffersPerStage: 9, MaxWorkgroupStorageBytes: 32 << 10, MaxInvocationsPerWorkgroup: 1024, MaxWorkgroupSizeX: 1024}) {
		kernels, _, _ := strings.Cut(c.Name, "/")
		for _, kernel := range strings.Split(kernels, "+") {
			tested[kernel] = true
		}
	}
	for _, name := range shaders.Names() {
		if !tested[name] {
			t.Errorf("no case in kerneltest runs %s", name)
		}
	}
}
