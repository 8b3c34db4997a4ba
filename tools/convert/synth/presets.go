// The published shapes, from the models' config.json files.

package synth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
)

// Preset is a published shape.
type Preset struct {
	Name        string
	StoreLMHead bool // the published checkpoint stores lm_head although it is tied
	hidden      int
	layers      int
	heads       int // query heads; all have 8 KV heads of 128
	inter       int
	tied        bool
}

// Presets are the dense Qwen3 models.
var Presets = []Preset{
	{Name: "qwen3-0.6b", hidden: 1024, layers: 28, heads: 16, inter: 3072, tied: true, StoreLMHead: true},
	{Name: "qwen3-1.7b", hidden: 2048, layers: 28, heads: 16, inter: 6144, tied: true, StoreLMHead: true},
	{Name: "qwen3-4b", hidden: 2560, layers: 36, heads: 32, inter: 9728, tied: true},
	{Name: "qwen3-8b", hidden: 4096, layers: 36, heads: 32, inter: 12288},
	{Name: "qwen3-14b", hidden: 5120, layers: 40, heads: 40, inter: 17408},
	{Name: "qwen3-32b", hidden: 5120, layers: 64, heads: 64, inter: 25600},
}

// FindPreset looks a preset up by name; "0.6b" and "Qwen3-0.6B" do too.
func FindPreset(name string) (Preset, error) {
	want := "qwen3-" + strings.TrimPrefix(strings.ToLower(name), "qwen3-")
	i := slices.IndexFunc(Presets, func(p Preset) bool { return p.Name == want })
	if i < 0 {
		var names []string
		for _, p := range Presets {
			names = append(names, p.Name)
		}
		return Preset{}, fmt.Errorf("convert: synth: there is no preset %q: use one of %s", name, strings.Join(names, ", "))
	}
	return Presets[i], nil
}

// Config is the preset's published configuration.
func (p Preset) Config() *config.Config {
	return &config.Config{
		HiddenSize: p.hidden, NumHiddenLayers: p.layers, NumAttentionHeads: p.heads, NumKeyValueHeads: 8, HeadDim: 128,
		IntermediateSize: p.inter, VocabSize: 151936, MaxPositionEmbeddings: 40960, RMSNormEps: 1e-6, RopeTheta: 1e6,
		TieWordEmbeddings: p.tied, BosTokenID: 151643, EosTokenIDs: []int{151645},
	}
}
