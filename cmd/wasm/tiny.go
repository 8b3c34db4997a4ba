//go:build js

package main

import (
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/models/tiny"
)

// embeddedModel is the model inside this program.
func embeddedModel() weights.Source { return weights.FS(tiny.FS()) }
