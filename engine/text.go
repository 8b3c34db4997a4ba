package engine

// What a model directory says about text: its tokenizer, its stop tokens, its sampling defaults.

import (
	"errors"
	"fmt"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// ErrNoTokenizer is wrapped when text is asked of a model that was converted without tokenizer.json.
var ErrNoTokenizer = errors.New("the model has no tokenizer.json: only token ids can be given (--ids)")

// Tokenizer is the model's tokenizer, loaded on first use, or the one that Options gave.
func (e *Engine) Tokenizer() (tokenizer.Interface, error) {
	e.tokMu.Lock()
	defer e.tokMu.Unlock()
	if e.tok != nil {
		return e.tok, nil
	}
	if !e.model.HasTokenizer() {
		return nil, fmt.Errorf("engine: %w", ErrNoTokenizer)
	}
	data, err := e.model.ReadFile("tokenizer.json")
	if err != nil {
		return nil, fmt.Errorf("engine: tokenizer.json: %w", err)
	}
	t, err := tokenizer.Load(data)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	e.tok = t
	return t, nil
}

// definedVocab is the number of ids that the tokenizer defines; rows of lm_head from it up are padding. Without a tokenizer
// every row counts.
func (e *Engine) definedVocab() (int, error) {
	tok, err := e.Tokenizer()
	if errors.Is(err, ErrNoTokenizer) {
		return e.Config().VocabSize, nil
	}
	if err != nil {
		return 0, err
	}
	return min(tok.VocabSize(), e.Config().VocabSize), nil
}

// StopIDs are the tokens that end an answer: those of generation_config.json and of config.json.
func (e *Engine) StopIDs() []int32 {
	var ids []int32
	for _, list := range [][]int{e.model.Generation.EosTokenIDs, e.Config().EosTokenIDs} {
		for _, id := range list {
			if !slices.Contains(ids, int32(id)) {
				ids = append(ids, int32(id))
			}
		}
	}
	return ids
}

// DefaultSampling is what generation_config.json asks for: greedy where do_sample is false, and plain sampling
// (temperature 1) where the file says nothing.
func DefaultSampling(m *weights.Model) sampling.Params {
	g := m.Generation
	p := sampling.Default()
	set := func(to *float32, from *float32) {
		if from != nil {
			*to = *from
		}
	}
	set(&p.Temperature, g.Temperature)
	set(&p.TopP, g.TopP)
	set(&p.MinP, g.MinP)
	set(&p.RepetitionPenalty, g.RepetitionPenalty)
	set(&p.PresencePenalty, g.PresencePenalty)
	set(&p.FrequencyPenalty, g.FrequencyPenalty)
	if g.TopK != nil {
		p.TopK = *g.TopK
	}
	if g.DoSample != nil && !*g.DoSample {
		p.Temperature = 0
	}
	return p
}
