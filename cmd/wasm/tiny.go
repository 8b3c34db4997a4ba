//go:build js

package main

import "github.com/qwen-wgpu/qwen-wgpu/engine/weights"

// embeddedModel is the model inside this program.
func embeddedModel() (weights.Source, error) {
	return nil, invalidf("this build of the engine carries no model: load one from a URL or a folder")
}
