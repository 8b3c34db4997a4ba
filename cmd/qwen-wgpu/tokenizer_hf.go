//go:build hftokenizers

package main

// Both libraries bring Rust's runtime along, and with it one public symbol, which handles panics alike in both.

// #cgo linux LDFLAGS: -Wl,--allow-multiple-definition
import "C"

import (
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer/hf"
)

func init() {
	loadTokenizer = func(tokenizerJSON []byte) (tokenizer.Interface, error) { return hf.Load(tokenizerJSON) }
}
