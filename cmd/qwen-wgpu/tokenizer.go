package main

import "github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"

// loadTokenizer reads a tokenizer.json: in Go, or with -tags hftokenizers by Hugging Face's library.
var loadTokenizer = func(tokenizerJSON []byte) (tokenizer.Interface, error) { return tokenizer.Load(tokenizerJSON) }
