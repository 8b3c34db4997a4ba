//go:build !js

package shaders_test

import (
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
	"github.com/qwen-wgpu/qwen-wgpu/shaders/kerneltest"
)

// The device draws what the host draws, whatever the parameters: 200 texts, each with its own.
func TestRandomSamples(t *testing.T) {
	r := kerneltest.NewRunner(testdevice.Open(t))
	defer r.Close()
	for seed := range uint64(200) {
		if _, err := r.Measure(kerneltest.RandomSampleCase(seed)); err != nil {
			t.Error(err)
		}
	}
}
