//go:build js && !bench

package main

import (
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/models/tiny"
)

// withoutFiles is the model inside this program.
func withoutFiles(r *request) (weights.Source, error) {
	if !r.Embedded {
		return nil, invalidf("random models are in the program of `make bench-wasm` alone")
	}
	return weights.FS(tiny.FS()), nil
}
