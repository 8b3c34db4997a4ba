// Package chattest makes small random models that have what a conversation needs: a byte-level tokenizer and a chat
// template. What they say means nothing, but every token of it goes the way of a real model's.
package chattest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/synth"
)

// Plain renders turns as they are, like Qwen3's instruct models.
const Plain = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

// Thinking drops the reasoning of all answers and opens or closes a block of it for the next, like Qwen3.
const Thinking = Plain + `{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}`

// Added are the tokenizer's added tokens, from FirstAdded on.
var Added = []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"}

// merges are the tokenizer's only ones, so that most texts can be spelled in several ways.
var merges = []string{"t h", "th e", "i n", "Ġ t", "Ġ a", "e r", "o n", "a n", "an d", "Ġ s", "l l", "o u", "a s", "u s", "us er", "s i", "Ġ the",
	"e n", "i s", "o r", "q u", "qu e", "a t", "Ġ c"}

// FirstAdded is the id of Added[0], behind the 256 bytes and the merges.
const FirstAdded = 280

// VocabSize is the number of rows of the model's embedding; some behind the tokens are padding.
const VocabSize = 300

// StopIDs are <|im_end|> and <|endoftext|>.
var StopIDs = []int32{FirstAdded + 2, FirstAdded}

// Checkpoint writes a Hugging Face directory with the template and returns it.
func Checkpoint(tb testing.TB, template string) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "hf")
	c := &config.Config{
		HiddenSize: 64, NumHiddenLayers: 2, NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 32, IntermediateSize: 96, VocabSize: VocabSize,
		MaxPositionEmbeddings: 4096, RMSNormEps: 1e-6, RopeTheta: 1e4, TieWordEmbeddings: true, BosTokenID: -1, EosTokenIDs: []int{FirstAdded + 2},
	}
	if err := synth.Write(tb.Context(), dir, synth.Options{Config: c, Seed: 1, Workers: 1}); err != nil {
		tb.Fatal(err)
	}
	files := map[string]any{
		"tokenizer.json":         tokenizerJSON(),
		"tokenizer_config.json":  map[string]any{"chat_template": template, "eos_token": "<|im_end|>"},
		"generation_config.json": map[string]any{"eos_token_id": StopIDs, "do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.9},
	}
	for name, v := range files {
		data, err := json.Marshal(v)
		if err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// Model packs Checkpoint(template) in bf16 and returns the directory.
func Model(tb testing.TB, template string) string {
	tb.Helper()
	return goldentest.PackDir(tb, Checkpoint(tb, template), weights.BF16)
}

// SpeakPlainly is a logit bias under which a model says printable ASCII only, and never stops by itself.
func SpeakPlainly() map[int32]float32 {
	bias := map[int32]float32{}
	for id := range int32(VocabSize) {
		if id < ' ' || id >= 0x7f && id < 256 || id >= FirstAdded {
			bias[id] = -100
		}
	}
	return bias
}

func tokenizerJSON() map[string]any {
	vocab := map[string]int{}
	for b := range 256 {
		vocab[string(byteRune(byte(b)))] = b
	}
	for _, m := range merges {
		vocab[strings.ReplaceAll(m, " ", "")] = len(vocab)
	}
	var added []any
	for i, text := range Added {
		added = append(added, map[string]any{"id": FirstAdded + i, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": i < 3})
	}
	byteLevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}
	split := map[string]any{"type": "Split", "behavior": "Isolated", "invert": false, "pattern": map[string]any{
		"Regex": `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`}}
	return map[string]any{
		"version": "1.0", "added_tokens": added, "normalizer": map[string]any{"type": "NFC"},
		"pre_tokenizer":  map[string]any{"type": "Sequence", "pretokenizers": []any{split, byteLevel}},
		"post_processor": byteLevel, "decoder": byteLevel,
		"model": map[string]any{"type": "BPE", "vocab": vocab, "merges": merges},
	}
}

// byteRune is how byte-level tokenizers write a byte: printable Latin-1 as itself, the others from U+0100 on.
func byteRune(b byte) rune {
	n := rune(0)
	for c := range rune(256) {
		visible := c >= '!' && c <= '~' || c >= 0xa1 && c <= 0xac || c >= 0xae
		switch {
		case c == rune(b) && visible:
			return c
		case c == rune(b):
			return 0x100 + n
		case !visible:
			n++
		}
	}
	return 0
}
