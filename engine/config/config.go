// Package config reads a Qwen3 config.json and generation_config.json and checks them.
//
// It owns the model's shape; it knows nothing of weights or devices. Field names are Hugging Face's in Go case. Every
// number is checked here, so that what comes out of Parse can be trusted by everything that allocates or dispatches.
package config

import "fmt"

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
	BetaFast, BetaSlow            float64 // rotations; 0 means 32 and 1
	AttentionFactor               float64 // multiplies cos and sin; 0 means 0.1*ln(factor)+1
	NoTruncate                    bool    // true keeps the correction range fractional ("truncate": false)
}

// QDim is the width of all query heads: NumAttentionHeads*HeadDim.
func (c *Config) QDim() int { return c.NumAttentionHeads * c.HeadDim }

// KVDim is the width of all key (or value) heads: NumKeyValueHeads*HeadDim.
func (c *Config) KVDim() int { return c.NumKeyValueHeads * c.HeadDim }

// ParameterCount is the number of trained numbers; a tied embedding counts once.
func (c *Config) ParameterCount() int64 {
	hidden := int64(c.HiddenSize)
	qDim, kvDim := int64(c.QDim()), int64(c.KVDim())
	attention := hidden*(qDim+2*kvDim) + qDim*hidden + 2*int64(c.HeadDim)
	mlp := 3 * hidden * int64(c.IntermediateSize)
	layer := attention + mlp + 2*hidden
	embeddings := int64(c.VocabSize) * hidden
	if !c.TieWordEmbeddings {
		embeddings *= 2
	}
	return embeddings + int64(c.NumHiddenLayers)*layer + hidden
}

// ContextLimit is the number of positions the model is made for: MaxPositionEmbeddings, or what YaRN stretches the
// original context to where that is more.
func (c *Config) ContextLimit() int {
	limit := c.MaxPositionEmbeddings
	if y := c.RopeScaling; y != nil {
		limit = max(limit, int(y.Factor*float64(y.OriginalMaxPositionEmbeddings)))
	}
	return limit
}

// String is the shape in one line, for people.
func (c *Config) String() string {
	tied := "untied"
	if c.TieWordEmbeddings {
		tied = "tied"
	}
	return fmt.Sprintf("Qwen3, %d parameters: hidden %d, %d layers, %d/%d heads of %d, intermediate %d, vocabulary %d, %s",
		c.ParameterCount(), c.HiddenSize, c.NumHiddenLayers, c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim,
		c.IntermediateSize, c.VocabSize, tied)
}
