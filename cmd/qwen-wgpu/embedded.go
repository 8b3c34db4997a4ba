package main

// The model in the box, used where no --model is given.

import (
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/models/tiny"
)

// embedded gives the packed directory inside this binary; nil in a build without one.
var embedded = func() (weights.Source, error) { return weights.FS(tiny.FS()), nil }
