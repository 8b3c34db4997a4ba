//go:build js && bench

package main

// The program of `make bench-wasm`: in place of the model in the box it makes up random ones.

import (
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/synth"
)

// withoutFiles is a random model of a published shape.
func withoutFiles(r *request) (weights.Source, error) {
	if r.Embedded {
		return nil, invalidf("the model in the box is not in this program, which was built for measuring")
	}
	preset, err := synth.FindPreset(r.Synth)
	if err != nil {
		return nil, coded(codeInvalid, err)
	}
	dtype, err := weights.ParseDType(r.DType)
	if err != nil {
		return nil, coded(codeInvalid, err)
	}
	return synth.Packed(preset.Config(), dtype, 1)
}
