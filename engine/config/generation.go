// Reading generation_config.json: the sampling defaults that come with a model.

package config

import (
	"encoding/json"
	"fmt"
)

// Generation holds a model's sampling defaults. A nil pointer means that the file does not say.
type Generation struct {
	DoSample          *bool
	Temperature       *float32
	TopP              *float32
	MinP              *float32
	TopK              *int
	RepetitionPenalty *float32
	PresencePenalty   *float32
	FrequencyPenalty  *float32
	MaxNewTokens      *int
	BosTokenID        *int
	PadTokenID        *int
	EosTokenIDs       []int // may be empty
}

// ParseGeneration reads a generation_config.json.
func ParseGeneration(generationJSON []byte) (*Generation, error) {
	var r struct {
		DoSample          *bool           `json:"do_sample"`
		Temperature       *float32        `json:"temperature"`
		TopP              *float32        `json:"top_p"`
		MinP              *float32        `json:"min_p"`
		TopK              *int            `json:"top_k"`
		RepetitionPenalty *float32        `json:"repetition_penalty"`
		PresencePenalty   *float32        `json:"presence_penalty"`
		FrequencyPenalty  *float32        `json:"frequency_penalty"`
		MaxNewTokens      *int            `json:"max_new_tokens"`
		BosTokenID        *int            `json:"bos_token_id"`
		PadTokenID        *int            `json:"pad_token_id"`
		EosTokenID        json.RawMessage `json:"eos_token_id"`
	}
	if err := decodeOne(generationJSON, &r); err != nil {
		return nil, fmt.Errorf("config: generation_config.json: %w", err)
	}
	eos, err := tokenIDs(r.EosTokenID)
	if err != nil {
		return nil, fmt.Errorf("config: generation_config.json: eos_token_id: %w", err)
	}
	g := &Generation{
		DoSample: r.DoSample, Temperature: r.Temperature, TopP: r.TopP, MinP: r.MinP, TopK: r.TopK,
		RepetitionPenalty: r.RepetitionPenalty, PresencePenalty: r.PresencePenalty, FrequencyPenalty: r.FrequencyPenalty,
		MaxNewTokens: r.MaxNewTokens, BosTokenID: r.BosTokenID, PadTokenID: r.PadTokenID, EosTokenIDs: eos,
	}
	return g, g.validate()
}

func (g *Generation) validate() error {
	for _, f := range []struct {
		key      string
		value    *float32
		min, max float32
	}{
		{"temperature", g.Temperature, 0, 100},
		{"top_p", g.TopP, 0, 1},
		{"min_p", g.MinP, 0, 1},
		{"repetition_penalty", g.RepetitionPenalty, 1e-6, 100},
		{"presence_penalty", g.PresencePenalty, -100, 100},
		{"frequency_penalty", g.FrequencyPenalty, -100, 100},
	} {
		if f.value != nil && !(*f.value >= f.min && *f.value <= f.max) {
			return fmt.Errorf("config: generation_config.json: %s %g is outside %g..%g", f.key, *f.value, f.min, f.max)
		}
	}
	if g.TopK != nil && *g.TopK < 0 {
		return fmt.Errorf("config: generation_config.json: top_k %d is negative", *g.TopK)
	}
	if g.MaxNewTokens != nil && *g.MaxNewTokens < 0 {
		return fmt.Errorf("config: generation_config.json: max_new_tokens %d is negative", *g.MaxNewTokens)
	}
	return nil
}
