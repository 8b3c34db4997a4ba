//go:build js

package main

// The messages of web/src/engine/protocol.ts and types.ts: change both.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/chat"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// request is any request; Kind says which fields count.
type request struct {
	Kind string `json:"kind"`
	ID   int    `json:"id"`

	// load
	Embedded      bool            `json:"embedded"` // the model inside this program
	ContextTokens int             `json:"contextTokens"`
	KV            string          `json:"kv"`
	Tuning        json.RawMessage `json:"tuning"` // by adapter, what tune gave

	Request   chatRequest `json:"request"`    // chat
	IDs       []int32     `json:"ids"`        // generate
	MaxTokens int         `json:"max_tokens"` // generate
	Text      string      `json:"text"`       // tokenize
	Of        int         `json:"of"`         // cancel: the request to end

	// bench; tune: Repetitions alone
	Prompt, Generate, Depth, Repetitions int

	// load, in a program built with -tags bench: a random model of a published shape
	Synth string `json:"synth"`
	DType string `json:"dtype"`
}

// chatRequest is a chat completion request; what is nil keeps the model's default.
type chatRequest struct {
	Messages          []chat.Message `json:"messages"`
	Tools             []chat.Tool    `json:"tools"`
	MaxTokens         int            `json:"max_tokens"`
	Temperature       *float32       `json:"temperature"`
	TopP              *float32       `json:"top_p"`
	TopK              *int           `json:"top_k"`
	MinP              *float32       `json:"min_p"`
	PresencePenalty   *float32       `json:"presence_penalty"`
	FrequencyPenalty  *float32       `json:"frequency_penalty"`
	RepetitionPenalty *float32       `json:"repetition_penalty"`
	Seed              *uint64        `json:"seed"`
	Stop              []string       `json:"stop"`
	LogProbs          bool           `json:"logprobs"`
	TopLogProbs       int            `json:"top_logprobs"`
	EnableThinking    *bool          `json:"enable_thinking"`
	Overflow          string         `json:"overflow"`
}

// reply is any reply.
type reply struct {
	Kind    string `json:"kind"`
	ID      int    `json:"id"`
	Result  any    `json:"result,omitempty"`
	Delta   *delta `json:"delta,omitempty"`
	Info    any    `json:"info,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// delta is a piece of an answer.
type delta struct {
	Content          string         `json:"content,omitempty"`
	ReasoningContent string         `json:"reasoning_content,omitempty"`
	ToolCall         *chat.ToolCall `json:"tool_call,omitempty"`
	LogProbs         []tokenLogProb `json:"logprobs,omitempty"`
}

type tokenLogProb struct {
	alternative
	Top []alternative `json:"top_logprobs"`
}

type alternative struct {
	Token   string  `json:"token"`
	LogProb float32 `json:"logprob"`
	Bytes   []int   `json:"bytes"` // of the token, which may be a part of a character
}

type chatResult struct {
	FinishReason string `json:"finish_reason"`
	Usage        usage  `json:"usage"`
}

type usage struct {
	PromptTokens     int     `json:"prompt_tokens"`
	CompletionTokens int     `json:"completion_tokens"`
	TotalTokens      int     `json:"total_tokens"`
	ReusedTokens     int     `json:"reused_tokens"`
	PrefillSeconds   float64 `json:"prefill_seconds"`
	DecodeSeconds    float64 `json:"decode_seconds"`
	ContextTokens    int     `json:"context_tokens"`
	DroppedMessages  int     `json:"dropped_messages,omitempty"`
	CPUMsPerToken    float64 `json:"cpu_ms_per_token,omitempty"`
}

// The codes of types.ts that arise here; files.ts and url.ts have more.
const (
	codeUnsupported = "unsupported"
	codeLimits      = "limits"
	codeContextFull = "context_full"
	codeCancelled   = "cancelled"
	codeDeviceLost  = "device_lost"
	codeInvalid     = "invalid"
	codeInternal    = "internal"
	codeNotFound    = "not_found" // of a file: never sent
)

// codedError is an error with a code for the page.
type codedError struct {
	code string
	error
}

func (e *codedError) Unwrap() error { return e.error }

func coded(code string, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{code, err}
}

func invalidf(format string, args ...any) error {
	return &codedError{codeInvalid, fmt.Errorf(format, args...)}
}

// codeOf is the code of an error: the innermost that one was given, or what the error wraps.
func codeOf(err error) string {
	var c *codedError
	switch {
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, gpu.ErrLost):
		return codeDeviceLost
	case errors.Is(err, gpu.ErrOutOfMemory):
		return codeLimits
	case errors.Is(err, engine.ErrContextFull):
		return codeContextFull
	case errors.Is(err, context.Canceled):
		return codeCancelled
	}
	return codeInternal
}
