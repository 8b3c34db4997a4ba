// Reading config.json: both spellings of the rotary settings (transformers 4 and 5), refusals by name, and the checks
// that every number must pass.

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// ErrUnsupported is wrapped by every refusal of a model that is well formed but not a dense Qwen3.
var ErrUnsupported = errors.New("this model is not supported")

// Bounds that no published model comes near; they keep every later product of two of these numbers within an int64.
const (
	maxDim    = 1 << 20
	maxLayers = 1 << 12
	maxVocab  = 1 << 24
	maxPos    = 1 << 27
)

// raw is config.json as it lies on disk. Pointers tell an absent key from a zero.
type raw struct {
	Architectures         []string        `json:"architectures"`
	ModelType             *string         `json:"model_type"`
	AttentionBias         *bool           `json:"attention_bias"`
	HiddenAct             *string         `json:"hidden_act"`
	HiddenSize            *int            `json:"hidden_size"`
	NumHiddenLayers       *int            `json:"num_hidden_layers"`
	NumAttentionHeads     *int            `json:"num_attention_heads"`
	NumKeyValueHeads      *int            `json:"num_key_value_heads"`
	HeadDim               *int            `json:"head_dim"`
	IntermediateSize      *int            `json:"intermediate_size"`
	VocabSize             *int            `json:"vocab_size"`
	MaxPositionEmbeddings *int            `json:"max_position_embeddings"`
	RMSNormEps            *float64        `json:"rms_norm_eps"`
	RopeTheta             *float64        `json:"rope_theta"`
	RopeScaling           *rawRope        `json:"rope_scaling"`
	RopeParameters        *rawRope        `json:"rope_parameters"`
	TieWordEmbeddings     *bool           `json:"tie_word_embeddings"`
	UseSlidingWindow      *bool           `json:"use_sliding_window"`
	SlidingWindow         *int            `json:"sliding_window"`
	LayerTypes            []string        `json:"layer_types"`
	BosTokenID            *int            `json:"bos_token_id"`
	EosTokenID            json.RawMessage `json:"eos_token_id"`
	NumExperts            *int            `json:"num_experts"`
	QuantizationConfig    *struct {
		QuantMethod string `json:"quant_method"`
	} `json:"quantization_config"`
}

type rawRope struct {
	RopeTheta                     *float64 `json:"rope_theta"`
	RopeType                      *string  `json:"rope_type"`
	Type                          *string  `json:"type"` // older spelling of rope_type
	Factor                        *float64 `json:"factor"`
	OriginalMaxPositionEmbeddings *float64 `json:"original_max_position_embeddings"`
	BetaFast                      *float64 `json:"beta_fast"`
	BetaSlow                      *float64 `json:"beta_slow"`
	AttentionFactor               *float64 `json:"attention_factor"`
	MScale                        *float64 `json:"mscale"`
	MScaleAllDim                  *float64 `json:"mscale_all_dim"`
	Truncate                      *bool    `json:"truncate"`
	PartialRotaryFactor           *float64 `json:"partial_rotary_factor"`
}

// Parse reads a config.json. A model that is not a dense Qwen3 is refused by name, wrapping ErrUnsupported.
func Parse(configJSON []byte) (*Config, error) {
	var r raw
	if err := decodeOne(configJSON, &r); err != nil {
		return nil, fmt.Errorf("config: config.json: %w", err)
	}
	if err := r.checkArchitecture(); err != nil {
		return nil, err
	}
	if err := r.checkVariant(); err != nil {
		return nil, err
	}
	c, err := r.shape()
	if err != nil {
		return nil, err
	}
	if err := r.rope(c); err != nil {
		return nil, err
	}
	if err := r.tokens(c); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// decodeOne decodes exactly one JSON value.
func decodeOne(data []byte, v any) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("the file is empty")
	}
	return json.Unmarshal(data, v)
}

// refusals are model types that a user may well try, with the reason they are refused.
var refusals = map[string]string{
	"qwen3_moe":            "a mixture of experts, and only dense Qwen3 models run",
	"qwen3_next":           "a hybrid with linear attention layers, and only dense Qwen3 models run",
	"qwen3_5":              "a hybrid with linear attention layers, and only dense Qwen3 models run",
	"qwen3_5_text":         "a hybrid with linear attention layers, and only dense Qwen3 models run",
	"qwen3_5_moe":          "a hybrid with linear attention layers and a mixture of experts, and only dense Qwen3 models run",
	"qwen3_5_moe_text":     "a hybrid with linear attention layers and a mixture of experts, and only dense Qwen3 models run",
	"qwen3_vl":             "a vision-language model, and only text models run",
	"qwen3_vl_text":        "the text part of a vision-language model with its own positions, and only plain Qwen3 models run",
	"qwen3_vl_moe":         "a vision-language mixture of experts, and only dense text models run",
	"qwen3_omni_moe":       "an audio-vision-language mixture of experts, and only dense text models run",
	"qwen2":                "the previous generation (attention bias, no QK-norm), and only Qwen3 models run",
	"qwen2_moe":            "the previous generation and a mixture of experts, and only dense Qwen3 models run",
	"qwen2_5_vl":           "a vision-language model of the previous generation, and only Qwen3 text models run",
	"qwen3_forced_aligner": "an aligner, and only text models run",
}

// checkArchitecture accepts model_type qwen3 with the causal language model or its bare trunk, and names anything else.
func (r *raw) checkArchitecture() error {
	modelType := ""
	if r.ModelType != nil {
		modelType = *r.ModelType
	}
	if modelType != "qwen3" && modelType != "" {
		if why, ok := refusals[modelType]; ok {
			return fmt.Errorf("config: model_type %q is %s: %w", modelType, why, ErrUnsupported)
		}
		hybrid := ""
		if strings.HasPrefix(modelType, "qwen3_") {
			hybrid = " (a later or different member of the family)"
		}
		return fmt.Errorf("config: model_type %q%s is not %q, the dense Qwen3: %w", modelType, hybrid, "qwen3", ErrUnsupported)
	}
	for _, a := range r.Architectures {
		switch a {
		case "Qwen3ForCausalLM", "Qwen3Model":
		case "Qwen3MoeForCausalLM":
			return fmt.Errorf("config: architecture %q is %s: %w", a, refusals["qwen3_moe"], ErrUnsupported)
		case "Qwen3NextForCausalLM":
			return fmt.Errorf("config: architecture %q is %s: %w", a, refusals["qwen3_next"], ErrUnsupported)
		default:
			return fmt.Errorf("config: architecture %q is not Qwen3ForCausalLM: %w", a, ErrUnsupported)
		}
	}
	if modelType == "" && len(r.Architectures) == 0 {
		return fmt.Errorf("config: config.json names neither model_type nor architectures: is this a model's config.json? %w", ErrUnsupported)
	}
	return nil
}

// checkVariant refuses what a Qwen3 config can switch on but the engine does not compute.
func (r *raw) checkVariant() error {
	if r.NumExperts != nil && *r.NumExperts > 0 {
		return fmt.Errorf("config: num_experts %d: %s: %w", *r.NumExperts, "a mixture of experts, and only dense Qwen3 models run", ErrUnsupported)
	}
	if q := r.QuantizationConfig; q != nil {
		return fmt.Errorf("config: quantization_config (%q): the checkpoint is already quantised; convert the bf16 original instead: %w", q.QuantMethod, ErrUnsupported)
	}
	if r.AttentionBias != nil && *r.AttentionBias {
		return fmt.Errorf("config: attention_bias is true; Qwen3 models have no attention bias: %w", ErrUnsupported)
	}
	if r.HiddenAct != nil && *r.HiddenAct != "silu" && *r.HiddenAct != "swish" {
		return fmt.Errorf("config: hidden_act %q is not silu: %w", *r.HiddenAct, ErrUnsupported)
	}
	if r.UseSlidingWindow != nil && *r.UseSlidingWindow && r.SlidingWindow != nil {
		return fmt.Errorf("config: a sliding window of %d is in use; only full attention is computed: %w", *r.SlidingWindow, ErrUnsupported)
	}
	for i, t := range r.LayerTypes {
		if t != "full_attention" {
			return fmt.Errorf("config: layer_types[%d] is %q; only full_attention is computed: %w", i, t, ErrUnsupported)
		}
	}
	if n := len(r.LayerTypes); n > 0 && r.NumHiddenLayers != nil && n != *r.NumHiddenLayers {
		return fmt.Errorf("config: layer_types has %d entries for num_hidden_layers %d", n, *r.NumHiddenLayers)
	}
	return nil
}

// shape copies the sizes, which must all be present; head_dim defaults to hidden_size/num_attention_heads.
func (r *raw) shape() (*Config, error) {
	c := &Config{RMSNormEps: 1e-6, BosTokenID: -1}
	var missing []string
	for _, f := range []struct {
		key string
		src *int
		dst *int
	}{
		{"hidden_size", r.HiddenSize, &c.HiddenSize},
		{"num_hidden_layers", r.NumHiddenLayers, &c.NumHiddenLayers},
		{"num_attention_heads", r.NumAttentionHeads, &c.NumAttentionHeads},
		{"num_key_value_heads", r.NumKeyValueHeads, &c.NumKeyValueHeads},
		{"intermediate_size", r.IntermediateSize, &c.IntermediateSize},
		{"vocab_size", r.VocabSize, &c.VocabSize},
		{"max_position_embeddings", r.MaxPositionEmbeddings, &c.MaxPositionEmbeddings},
	} {
		if f.src == nil {
			missing = append(missing, f.key)
			continue
		}
		*f.dst = *f.src
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("config: config.json lacks %s", strings.Join(missing, ", "))
	}
	switch {
	case r.HeadDim != nil:
		c.HeadDim = *r.HeadDim
	case c.NumAttentionHeads > 0 && c.HiddenSize%c.NumAttentionHeads == 0:
		c.HeadDim = c.HiddenSize / c.NumAttentionHeads
	default:
		return nil, fmt.Errorf("config: head_dim is absent and hidden_size %d is not a multiple of num_attention_heads %d", c.HiddenSize, c.NumAttentionHeads)
	}
	if r.RMSNormEps != nil {
		c.RMSNormEps = float32(*r.RMSNormEps)
	}
	if r.TieWordEmbeddings != nil {
		c.TieWordEmbeddings = *r.TieWordEmbeddings
	}
	return c, nil
}

// rope reads rope_parameters (transformers 5) or rope_theta and rope_scaling (transformers 4).
func (r *raw) rope(c *Config) error {
	theta, scaling := r.RopeTheta, r.RopeScaling
	if p := r.RopeParameters; p != nil {
		if p.RopeTheta != nil {
			if theta != nil && *theta != *p.RopeTheta {
				return fmt.Errorf("config: rope_theta is %g, but rope_parameters.rope_theta is %g", *theta, *p.RopeTheta)
			}
			theta = p.RopeTheta
		}
		scaling = p
	}
	if theta == nil {
		return errors.New("config: config.json has neither rope_theta nor rope_parameters.rope_theta")
	}
	c.RopeTheta = *theta
	if scaling == nil {
		return nil
	}
	if f := scaling.PartialRotaryFactor; f != nil && *f != 1 {
		return fmt.Errorf("config: partial_rotary_factor %g; Qwen3 rotates the whole head: %w", *f, ErrUnsupported)
	}
	kind := "default"
	if scaling.RopeType != nil {
		kind = *scaling.RopeType
	} else if scaling.Type != nil {
		kind = *scaling.Type
	}
	switch kind {
	case "default":
		return nil
	case "yarn":
		y, err := scaling.yarn(c.MaxPositionEmbeddings)
		if err != nil {
			return err
		}
		c.RopeScaling = y
		return nil
	}
	return fmt.Errorf("config: rope_type %q is not computed (default and yarn are): %w", kind, ErrUnsupported)
}

// yarn resolves the defaults as transformers does: the original context is max_position_embeddings where it is not
// given, and a missing factor is their ratio.
func (p *rawRope) yarn(maxPositions int) (*YaRN, error) {
	y := &YaRN{BetaFast: 32, BetaSlow: 1, OriginalMaxPositionEmbeddings: maxPositions}
	if o := p.OriginalMaxPositionEmbeddings; o != nil {
		if *o < 1 || *o > maxPos || *o != math.Trunc(*o) {
			return nil, fmt.Errorf("config: yarn original_max_position_embeddings %g is not a whole number from 1 to %d", *o, maxPos)
		}
		y.OriginalMaxPositionEmbeddings = int(*o)
	}
	switch {
	case p.Factor != nil:
		y.Factor = *p.Factor
	case p.OriginalMaxPositionEmbeddings != nil:
		y.Factor = float64(maxPositions) / float64(y.OriginalMaxPositionEmbeddings)
	default:
		return nil, errors.New("config: rope_scaling of type yarn lacks factor")
	}
	// transformers treats a beta of 0 as absent.
	if p.BetaFast != nil && *p.BetaFast != 0 {
		y.BetaFast = *p.BetaFast
	}
	if p.BetaSlow != nil && *p.BetaSlow != 0 {
		y.BetaSlow = *p.BetaSlow
	}
	y.NoTruncate = p.Truncate != nil && !*p.Truncate
	switch {
	case p.AttentionFactor != nil:
		y.AttentionFactor = *p.AttentionFactor
		if y.AttentionFactor <= 0 {
			return nil, fmt.Errorf("config: yarn attention_factor %g must be above 0", y.AttentionFactor)
		}
	case p.MScale != nil && p.MScaleAllDim != nil && *p.MScale != 0 && *p.MScaleAllDim != 0:
		y.AttentionFactor = yarnMScale(y.Factor, *p.MScale) / yarnMScale(y.Factor, *p.MScaleAllDim)
	}
	return y, nil
}

func (r *raw) tokens(c *Config) error {
	if r.BosTokenID != nil {
		c.BosTokenID = *r.BosTokenID
		if c.BosTokenID < 0 {
			return fmt.Errorf("config: bos_token_id %d is negative", c.BosTokenID)
		}
	}
	eos, err := tokenIDs(r.EosTokenID)
	if err != nil {
		return fmt.Errorf("config: eos_token_id: %w", err)
	}
	c.EosTokenIDs = eos
	return nil
}

// tokenIDs reads null, one id or a list of ids.
func tokenIDs(data json.RawMessage) ([]int, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || string(data) == "null" {
		return nil, nil
	}
	var ids []int
	if data[0] == '[' {
		if err := json.Unmarshal(data, &ids); err != nil {
			return nil, err
		}
	} else {
		var id int
		if err := json.Unmarshal(data, &id); err != nil {
			return nil, err
		}
		ids = []int{id}
	}
	for _, id := range ids {
		if id < 0 || id >= maxVocab {
			return nil, fmt.Errorf("token id %d is outside 0..%d", id, maxVocab-1)
		}
	}
	return ids, nil
}

// Validate checks every number. Parse calls it; a Config made by hand should be checked the same way.
func (c *Config) Validate() error {
	for _, f := range []struct {
		key        string
		value, max int
	}{
		{"hidden_size", c.HiddenSize, maxDim},
		{"num_hidden_layers", c.NumHiddenLayers, maxLayers},
		{"num_attention_heads", c.NumAttentionHeads, maxDim},
		{"num_key_value_heads", c.NumKeyValueHeads, maxDim},
		{"head_dim", c.HeadDim, maxDim},
		{"intermediate_size", c.IntermediateSize, maxDim},
		{"vocab_size", c.VocabSize, maxVocab},
		{"max_position_embeddings", c.MaxPositionEmbeddings, maxPos},
	} {
		if f.value < 1 || f.value > f.max {
			return fmt.Errorf("config: %s %d is outside 1..%d", f.key, f.value, f.max)
		}
	}
	if c.NumAttentionHeads%c.NumKeyValueHeads != 0 {
		return fmt.Errorf("config: num_attention_heads %d is not a multiple of num_key_value_heads %d", c.NumAttentionHeads, c.NumKeyValueHeads)
	}
	if c.HeadDim%2 != 0 {
		return fmt.Errorf("config: head_dim %d is odd; RoPE rotates pairs", c.HeadDim)
	}
	if c.QDim() > maxDim {
		return fmt.Errorf("config: num_attention_heads*head_dim = %d*%d = %d is above %d", c.NumAttentionHeads, c.HeadDim, c.QDim(), maxDim)
	}
	if eps := float64(c.RMSNormEps); !(eps > 0 && eps < 1) {
		return fmt.Errorf("config: rms_norm_eps %g is outside (0, 1)", eps)
	}
	if !(c.RopeTheta > 1 && c.RopeTheta < 1e30) {
		return fmt.Errorf("config: rope_theta %g is outside (1, 1e30)", c.RopeTheta)
	}
	if c.BosTokenID < -1 || c.BosTokenID >= maxVocab {
		return fmt.Errorf("config: bos_token_id %d is outside -1..%d", c.BosTokenID, maxVocab-1)
	}
	if c.RopeScaling != nil {
		return c.RopeScaling.validate()
	}
	return nil
}

func (y *YaRN) validate() error {
	if !(y.Factor >= 1 && y.Factor <= 1e6) {
		return fmt.Errorf("config: yarn factor %g is outside 1..1e6", y.Factor)
	}
	if y.OriginalMaxPositionEmbeddings < 1 || y.OriginalMaxPositionEmbeddings > maxPos {
		return fmt.Errorf("config: yarn original_max_position_embeddings %d is outside 1..%d", y.OriginalMaxPositionEmbeddings, maxPos)
	}
	if y.Factor*float64(y.OriginalMaxPositionEmbeddings) > maxPos {
		return fmt.Errorf("config: yarn stretches %d positions by %g, beyond %d", y.OriginalMaxPositionEmbeddings, y.Factor, maxPos)
	}
	fast, slow := y.betas()
	if !(slow > 0 && fast > slow && fast < 1e9) {
		return fmt.Errorf("config: yarn beta_fast %g must be above beta_slow %g, and both above 0", fast, slow)
	}
	if a := y.AttentionFactor; !(a >= 0 && a < 1e6) {
		return fmt.Errorf("config: yarn attention_factor %g is outside 0..1e6", a)
	}
	return nil
}
