// Package runner declares what the engine asks of a forward pass, whichever processor runs it.
//
// It is a leaf: engine/ref implements Runner on the CPU, engine/forward on a gpu.Device, and the engine's sessions and
// the tracer call it. A pass cannot be run without a kvcache.InferenceContext, and only the PageManager makes one.
package runner

import (
	"errors"
	"fmt"

	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// KVDType is the number format of the KV cache.
type KVDType string

const (
	// KVF16 has 16 bits a number, rounded when a key or value is written, so that the result does not depend on chunking.
	// Values are float16. Keys are divided by config.KeyBounds, by which the queries are multiplied, and stored as sign and
	// square root in steps of 1/32767: float16 would cost models with large K-norm gains up to ten times as much.
	KVF16 KVDType = "f16"
	KVF32 KVDType = "f32"
)

// ParseKVDType accepts "f16" and "f32".
func ParseKVDType(s string) (KVDType, error) {
	switch KVDType(s) {
	case KVF16, KVF32:
		return KVDType(s), nil
	}
	return "", fmt.Errorf("runner: KV cache dtype %q is unknown: use f16 or f32", s)
}

// Bytes is the size of one cached number.
func (d KVDType) Bytes() int {
	if d == KVF32 {
		return 4
	}
	return 2
}

// LogitsWanted says which rows of logits a pass must compute.
type LogitsWanted int

const (
	LogitsNone LogitsWanted = iota // only the cache is filled
	LogitsLast                     // [1, vocab]: the last token's
	LogitsAll                      // [numTokens, vocab]
)

// Tap receives named intermediate activations of a pass: data is [rows, len(data)/rows], valid during the call only.
// Names, in the order of a token's trip, for every layer i:
//
//	embed               [tokens, hidden]        hidden.0
//	layers.i.qkv        [tokens, qDim+2*kvDim]  projections before QK-norm and RoPE
//	layers.i.attn       [tokens, qDim]          attention output, heads concatenated, before o_proj
//	layers.i.attn_out   [tokens, hidden]        residual stream after o_proj
//	layers.i.mlp        [tokens, intermediate]  silu(gate)*up
//	layers.i.out        [tokens, hidden]        residual stream after down_proj (hidden.i+1, except the last layer)
//	final_norm          [tokens, hidden]        hidden.L
type Tap func(name string, rows int, data []float32) error

// Request is one forward pass.
type Request struct {
	Context *kvcache.InferenceContext // valid, from PageManager.Begin; the caller commits or aborts it
	Logits  LogitsWanted
	Tap     Tap // nil: none; a pass with a tap is slow
}

// Runner runs forward passes over one model's weights and one KV cache arena.
type Runner interface {
	// Forward does the context's copy-on-write copies, runs its tokens, writes their keys and values to the cache
	// and returns the logits asked for, [rows, vocab] float32. It neither commits nor aborts. A NaN or infinity in
	// the logits is an error.
	Forward(req Request) ([]float32, error)
	// MaxTokensPerPass is the largest chunk that one Forward takes.
	MaxTokensPerPass() int
	// Describe says in one line what runs the model, for people: device, driver, number formats.
	Describe() string
	// Close frees weights and cache.
	Close() error
}

// ErrNotFinite says that the device found a NaN or infinity among the logits or scores that it was to sample from.
var ErrNotFinite = errors.New("a logit is not finite")

// ErrRepeat says that passes came to nothing for a reason that will not come again: they can be repeated from the last token on.
var ErrRepeat = errors.New("the pass must be repeated")

// Ahead is implemented by runners that sample on their device and run on with the token before the host knows it.
//
// A chain is: Begin, Forward with LogitsNone, SampleAhead, and then for every n further tokens Extend(n) and SampleAhead. No
// other pass may come in between. CommitAhead or Abort ends it; tokens that were sampled past a stop are simply not
// committed.
type Ahead interface {
	// CanSample says whether the device samples with p. Where it does not, the host samples from the logits.
	CanSample(p sampling.Params) bool
	// StartSampling sets the parameters, and the text so far for the penalties.
	StartSampling(p sampling.Params, prompt, generated []int32) error
	// SampleAhead runs the token drawn last at the first position that ic was extended by, draws the next one, and so on to
	// the last position, as one submission; the first time it draws the token behind those that Forward ran. It does not wait.
	SampleAhead(ic *kvcache.InferenceContext) (Sampled, error)
	// MaxAhead is the largest number of tokens that one SampleAhead draws.
	MaxAhead() int
}

// Sampled is what one SampleAhead drew, on its way from the device.
type Sampled interface {
	// Wait returns the tokens. With ErrNotFinite or ErrRepeat they are those before the one that could not be drawn.
	Wait() ([]sampling.Result, error)
}
