// Package hf is Hugging Face's own tokenizer (the Rust library, through github.com/daulet/tokenizers and cgo) behind the
// engine's tokenizer.Interface.
//
// It is the oracle for package tokenizer, and an option for native programs whose model splits text by another pattern than
// Qwen's. It exists only in builds with the tag hftokenizers, which need the static library that build.sh makes:
//
//	engine/tokenizer/hf/build.sh
//	go test -tags hftokenizers ./engine/tokenizer/hf
package hf
