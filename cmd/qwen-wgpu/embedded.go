package main

// The model in the box, used where no --model is given.

import (
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// embedded gives the packed directory inside this binary; nil in a build without one.
var embedded func() (weights.Source, error)
