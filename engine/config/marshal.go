// Writing a Config as a Hugging Face config.json, so that tools and tests can make models of any shape.

package config

import "encoding/json"

// MarshalJSON writes c in the form of a published Qwen3 config.json; Parse reads it back unchanged.
func (c *Config) MarshalJSON() ([]byte, error) {
	type yarn struct {
		RopeType        string   `json:"rope_type"`
		Factor          float64  `json:"factor"`
		Original        int      `json:"original_max_position_embeddings"`
		BetaFast        float64  `json:"beta_fast,omitempty"`
		BetaSlow        float64  `json:"beta_slow,omitempty"`
		AttentionFactor *float64 `json:"attention_factor,omitempty"`
		Truncate        *bool    `json:"truncate,omitempty"`
	}
	var scaling *yarn
	if y := c.RopeScaling; y != nil {
		scaling = &yarn{RopeType: "yarn", Factor: y.Factor, Original: y.OriginalMaxPositionEmbeddings, BetaFast: y.BetaFast, BetaSlow: y.BetaSlow}
		if y.AttentionFactor != 0 {
			scaling.AttentionFactor = &y.AttentionFactor
		}
		if y.NoTruncate {
			scaling.Truncate = new(bool)
		}
	}
	var bos *int
	if c.BosTokenID >= 0 {
		bos = &c.BosTokenID
	}
	var eos any
	switch len(c.EosTokenIDs) {
	case 0:
	case 1:
		eos = c.EosTokenIDs[0]
	default:
		eos = c.EosTokenIDs
	}
	// Keys in the order of the published files, which is alphabetical.
	return json.Marshal(struct {
		Architectures         []string `json:"architectures"`
		AttentionBias         bool     `json:"attention_bias"`
		AttentionDropout      float64  `json:"attention_dropout"`
		BosTokenID            *int     `json:"bos_token_id"`
		EosTokenID            any      `json:"eos_token_id"`
		HeadDim               int      `json:"head_dim"`
		HiddenAct             string   `json:"hidden_act"`
		HiddenSize            int      `json:"hidden_size"`
		InitializerRange      float64  `json:"initializer_range"`
		IntermediateSize      int      `json:"intermediate_size"`
		MaxPositionEmbeddings int      `json:"max_position_embeddings"`
		MaxWindowLayers       int      `json:"max_window_layers"`
		ModelType             string   `json:"model_type"`
		NumAttentionHeads     int      `json:"num_attention_heads"`
		NumHiddenLayers       int      `json:"num_hidden_layers"`
		NumKeyValueHeads      int      `json:"num_key_value_heads"`
		RMSNormEps            float32  `json:"rms_norm_eps"`
		RopeScaling           *yarn    `json:"rope_scaling"`
		RopeTheta             float64  `json:"rope_theta"`
		SlidingWindow         *int     `json:"sliding_window"`
		TieWordEmbeddings     bool     `json:"tie_word_embeddings"`
		TorchDType            string   `json:"torch_dtype"`
		UseCache              bool     `json:"use_cache"`
		UseSlidingWindow      bool     `json:"use_sliding_window"`
		VocabSize             int      `json:"vocab_size"`
	}{
		Architectures: []string{"Qwen3ForCausalLM"}, BosTokenID: bos, EosTokenID: eos, HeadDim: c.HeadDim,
		HiddenAct: "silu", HiddenSize: c.HiddenSize, InitializerRange: 0.02, IntermediateSize: c.IntermediateSize,
		MaxPositionEmbeddings: c.MaxPositionEmbeddings, MaxWindowLayers: c.NumHiddenLayers, ModelType: "qwen3",
		NumAttentionHeads: c.NumAttentionHeads, NumHiddenLayers: c.NumHiddenLayers, NumKeyValueHeads: c.NumKeyValueHeads,
		RMSNormEps: c.RMSNormEps, RopeScaling: scaling, RopeTheta: c.RopeTheta, TieWordEmbeddings: c.TieWordEmbeddings,
		TorchDType: "bfloat16", UseCache: true, VocabSize: c.VocabSize,
	})
}
