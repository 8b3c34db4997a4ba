// Params: what a caller may ask of the sampler, with every number checked.

package sampling

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Params are the sampling parameters. Start from Default or Greedy: the zero value is refused, because a top_p or
// repetition penalty of 0 means nothing. The JSON names are those of generation_config.json and of OpenAI's API.
type Params struct {
	Temperature float32 `json:"temperature"` // 0: greedy
	TopK        int     `json:"top_k"`       // 0: off
	TopP        float32 `json:"top_p"`       // in (0, 1]; 1: off
	MinP        float32 `json:"min_p"`       // in [0, 1]; 0: off

	RepetitionPenalty float32 `json:"repetition_penalty"` // > 0; 1: off
	PresencePenalty   float32 `json:"presence_penalty"`   // 0: off
	FrequencyPenalty  float32 `json:"frequency_penalty"`  // 0: off

	Seed      uint64            `json:"seed"`
	LogitBias map[int32]float32 `json:"logit_bias,omitempty"` // by token id; -Inf forbids the token
	LogProbs  int               `json:"logprobs"`             // number of alternatives in Result.Top

	// AllowedVocab is the number of ids that the tokenizer defines: ids from it up are padding and never sampled.
	// 0: all.
	AllowedVocab int `json:"-"`
}

// Default samples from the model's own distribution: temperature 1, nothing cut off, nothing penalized.
func Default() Params { return Params{Temperature: 1, TopP: 1, RepetitionPenalty: 1} }

// Greedy takes the most likely token.
func Greedy() Params { return Params{TopP: 1, RepetitionPenalty: 1} }

// Validate checks the parameters against a vocabulary of vocab ids (the length of a row of logits).
func (p Params) Validate(vocab int) error {
	if vocab < 1 || vocab > math.MaxInt32 {
		return fmt.Errorf("sampling: vocabulary of %d ids: it must be in [1, %d]", vocab, math.MaxInt32)
	}
	for _, c := range []struct {
		name  string
		value float32
		ok    bool
		want  string
	}{
		{"temperature", p.Temperature, p.Temperature >= 0, "at least 0 (0 is greedy)"},
		{"top_p", p.TopP, p.TopP > 0 && p.TopP <= 1, "in (0, 1] (1 turns it off)"},
		{"min_p", p.MinP, p.MinP >= 0 && p.MinP <= 1, "in [0, 1] (0 turns it off)"},
		{"repetition_penalty", p.RepetitionPenalty, p.RepetitionPenalty > 0, "greater than 0 (1 turns it off)"},
		{"presence_penalty", p.PresencePenalty, true, "finite"},
		{"frequency_penalty", p.FrequencyPenalty, true, "finite"},
	} {
		if !c.ok || !isFinite(c.value) {
			return fmt.Errorf("sampling: %s is %v: it must be %s", c.name, c.value, c.want)
		}
	}
	if p.TopK < 0 {
		return fmt.Errorf("sampling: top_k is %d: it must be at least 0 (0 turns it off)", p.TopK)
	}
	if p.LogProbs < 0 || p.LogProbs > vocab {
		return fmt.Errorf("sampling: logprobs is %d: it must be in [0, %d]", p.LogProbs, vocab)
	}
	if p.AllowedVocab < 0 || p.AllowedVocab > vocab {
		return fmt.Errorf("sampling: %d ids are allowed of a vocabulary of %d: use at most %d, or 0 for all", p.AllowedVocab, vocab, vocab)
	}
	for _, id := range slices.Sorted(maps.Keys(p.LogitBias)) {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("sampling: logit_bias for token %d: ids are in [0, %d)", id, vocab)
		}
		if b := p.LogitBias[id]; !isFinite(b) && !math.IsInf(float64(b), -1) {
			return fmt.Errorf("sampling: logit_bias for token %d is %v: it must be finite, or -Inf to forbid the token", id, b)
		}
	}
	return nil
}

// DrawsFew tells whether top-k leaves less than all of the ids that may be drawn, of a row of vocab logits.
func (p Params) DrawsFew(vocab int) bool {
	if p.AllowedVocab > 0 {
		vocab = p.AllowedVocab
	}
	return p.TopK > 0 && p.TopK < vocab
}

func isFinite(x float32) bool { return x-x == 0 }
