//go:build js

package main

// Answers: one at a time, streamed as deltas.

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/chat"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
)

func (p *program) chat(r *request) (any, error) {
	ctx, end := p.begin(r.ID)
	defer end()
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.conv == nil {
		return nil, invalidUnlessCoded(p.why)
	}
	conv := p.conv
	if err := r.Request.apply(conv, p.engine); err != nil {
		return nil, err
	}
	var pending []tokenLogProb // of tokens whose text has not come out yet
	conv.OnToken = nil
	if r.Request.LogProbs {
		conv.OnToken = func(s sampling.Result) { pending = append(pending, p.logProbs(s)) }
	}
	began := busy()
	answer, err := conv.Generate(ctx, func(ev chat.Event) error {
		d := &delta{LogProbs: pending}
		pending = nil
		switch ev.Kind {
		case chat.EventReasoning:
			d.ReasoningContent = ev.Text
		case chat.EventToolCall:
			d.ToolCall = ev.ToolCall
		default:
			d.Content = ev.Text
		}
		p.post(reply{Kind: "delta", ID: r.ID, Delta: d})
		return nil
	})
	if len(pending) > 0 {
		p.post(reply{Kind: "delta", ID: r.ID, Delta: &delta{LogProbs: pending}})
	}
	res := answer.Result
	finish, ok := finishReason(res.Reason)
	if !ok || err != nil && len(res.Tokens) == 0 && !errors.Is(err, context.Canceled) {
		if err == nil {
			err = errors.New("the answer ended without a reason")
		}
		return nil, err
	}
	n := len(res.Tokens)
	return chatResult{FinishReason: finish, Usage: usage{
		PromptTokens: res.Sync.Prompt, CompletionTokens: n, TotalTokens: res.Sync.Prompt + n, ReusedTokens: res.Sync.Reused,
		PrefillSeconds: res.Sync.Duration.Seconds(), DecodeSeconds: res.Duration.Seconds(), ContextTokens: conv.CachedTokens(),
		DroppedMessages: answer.Dropped.Messages, CPUMsPerToken: milliseconds(busy()-began) / float64(max(n, 1)),
	}}, nil
}

func finishReason(r engine.Reason) (string, bool) {
	switch r {
	case engine.ReasonStop, engine.ReasonLength, engine.ReasonToolCalls, engine.ReasonCancelled:
		return string(r), true
	case engine.ReasonContext:
		return string(engine.ReasonLength), true
	}
	return "", false
}

// apply sets a conversation up for the request.
func (r *chatRequest) apply(c *engine.Conversation, e *engine.Engine) error {
	if len(r.Messages) == 0 {
		return invalidf("messages is empty: give at least one")
	}
	if r.MaxTokens < 0 {
		return invalidf("max_tokens is %d: it must be at least 1, or absent", r.MaxTokens)
	}
	c.Messages, c.Tools, c.Thinking, c.MaxTokens, c.Stop = r.Messages, r.Tools, r.EnableThinking, r.MaxTokens, r.Stop
	c.Overflow = engine.OverflowError
	if r.Overflow != "" {
		o, err := engine.ParseOverflow(r.Overflow)
		if err != nil {
			return coded(codeInvalid, err)
		}
		c.Overflow = o
	}
	s := engine.DefaultSampling(e.Model())
	set(&s.Temperature, r.Temperature)
	set(&s.TopP, r.TopP)
	set(&s.TopK, r.TopK)
	set(&s.MinP, r.MinP)
	set(&s.PresencePenalty, r.PresencePenalty)
	set(&s.FrequencyPenalty, r.FrequencyPenalty)
	set(&s.RepetitionPenalty, r.RepetitionPenalty)
	s.Seed = rand.Uint64()
	set(&s.Seed, r.Seed)
	if r.LogProbs {
		if r.TopLogProbs < 0 || r.TopLogProbs > 20 {
			return invalidf("top_logprobs is %d: it must be in [0, 20]", r.TopLogProbs)
		}
		s.LogProbs = max(1, r.TopLogProbs)
	}
	c.Sampling = s
	return coded(codeInvalid, s.Validate(e.Config().VocabSize))
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// logProbs describes a token as OpenAI does.
func (p *program) logProbs(s sampling.Result) tokenLogProb {
	out := tokenLogProb{alternative: p.alternative(s.Token, s.LogProb), Top: []alternative{}}
	for _, t := range s.Top {
		out.Top = append(out.Top, p.alternative(t.Token, t.LogProb))
	}
	return out
}

func (p *program) alternative(id int32, logProb float32) alternative {
	tok, _ := p.engine.Tokenizer() // loaded: there is a conversation
	raw, _ := tok.TokenBytes(id)
	bytes := make([]int, len(raw))
	for i, b := range raw {
		bytes[i] = int(b)
	}
	return alternative{Token: string(raw), LogProb: logProb, Bytes: bytes}
}

// generate continues ids greedily.
func (p *program) generate(r *request) (any, error) {
	ctx, end := p.begin(r.ID)
	defer end()
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.engine == nil {
		return nil, errNotLoaded
	}
	s := p.engine.NewSession()
	defer s.Close()
	res, err := s.Generate(ctx, r.IDs, engine.GenerateOptions{Sampling: sampling.Greedy(), MaxTokens: r.MaxTokens, IgnoreEOS: true}, func(sampling.Result) error { return nil })
	if err != nil {
		return nil, err
	}
	return map[string][]int32{"ids": res.Tokens}, nil
}

func (p *program) tokenize(r *request) (any, error) {
	if p.engine == nil {
		return nil, errNotLoaded
	}
	tok, err := p.engine.Tokenizer()
	if err != nil {
		return nil, coded(codeInvalid, err)
	}
	ids, err := tok.Encode(r.Text)
	if err != nil {
		return nil, err
	}
	return append([]int32{}, ids...), nil
}
