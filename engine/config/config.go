// Package config reads a Qwen3 config.json and generation_config.json and checks them.
//
// It owns the model's shape; it knows nothing of weights or devices. Field names are Hugging Face's in Go case.
package config

// Config is the shape of a dense Qwen3 model.
type Config struct {
	HiddenSize            int
	NumHiddenLayers       int
	NumAttentionHeads     int
	NumKeyValueHeads      int
	HeadDim               int
	IntermediateSize      int
	VocabSize             int
	MaxPositionEmbeddings int
	RMSNormEps            float32
	RopeTheta             float64
	RopeScaling           *YaRN // nil without scaling
	TieWordEmbeddings     bool
	BosTokenID            int   // -1 if none
	EosTokenIDs           []int // may be empty
}

// YaRN is rope_scaling of type "yarn"; the scaling is static (always on).
type YaRN struct {
	Factor                        float64
	OriginalMaxPositionEmbeddings int
	BetaFast, BetaSlow            float64 // 32, 1
	AttentionFactor               float64 // 0 means 0.1*ln(factor)+1
}

// QDim is the width of all query heads: NumAttentionHeads*HeadDim.
func (c *Config) QDim() int { return c.NumAttentionHeads * c.HeadDim }

// KVDim is the width of all key (or value) heads: NumKeyValueHeads*HeadDim.
func (c *Config) KVDim() int { return c.NumKeyValueHeads * c.HeadDim }
