//go:build hftokenizers

package main

import (
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer/hf"
)

func init() {
	loadTokenizer = func(tokenizerJSON []byte) (tokenizer.Interface, error) { return hf.Load(tokenizerJSON) }
}
