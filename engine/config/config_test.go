package config

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/internal/testutil"
)

// published is the table of parameter counts that the model cards give.
var published = []struct {
	file       string
	parameters int64
	tied       bool
	theta      float64
}{
	{"Qwen3-0.6B", 596_049_920, true, 1e6},
	{"Qwen3-1.7B", 1_720_574_976, true, 1e6},
	{"Qwen3-4B", 4_022_468_096, true, 1e6},
	{"Qwen3-4B-2507", 4_022_468_096, true, 5e6},
	{"Qwen3-8B", 8_190_735_360, false, 1e6},
	{"Qwen3-14B", 14_768_307_200, false, 1e6},
	{"Qwen3-32B", 32_762_123_264, false, 1e6},
	{"Qwen3-Embedding-0.6B", 595_776_512, true, 1e6}, // 267 rows of 1024 fewer than 0.6B
}

func TestPublishedConfigs(t *testing.T) {
	dir := testutil.Shared(t, "qwen3/configs")
	files, err := filepath.Glob(filepath.Join(dir, "*.config.json"))
	if err != nil || len(files) != len(published)+1 {
		t.Fatalf("found %d configs (%v), expected %d", len(files), err, len(published)+1)
	}
	for _, p := range published {
		data, err := os.ReadFile(filepath.Join(dir, p.file+".config.json"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(data)
		if err != nil {
			t.Errorf("%s: %v", p.file, err)
			continue
		}
		if n := c.ParameterCount(); n != p.parameters {
			t.Errorf("%s: %d parameters, published %d", p.file, n, p.parameters)
		}
		if c.TieWordEmbeddings != p.tied || c.RopeTheta != p.theta || c.HeadDim != 128 || c.RMSNormEps != 1e-6 || c.BosTokenID != 151643 {
			t.Errorf("%s: %+v", p.file, c)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "Qwen3-30B-A3B-Instruct-2507.config.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Parse(data)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "qwen3_moe") || !strings.Contains(err.Error(), "mixture of experts") {
		t.Errorf("30B-A3B: %v", err)
	}
	for _, name := range []string{"generation_config.json", "generation_config.Instruct-2507.json"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		g, err := ParseGeneration(data)
		if err != nil {
			t.Fatal(err)
		}
		if *g.TopK != 20 || !*g.DoSample || !reflect.DeepEqual(g.EosTokenIDs, []int{151645, 151643}) || g.MinP != nil {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

// tiny is a config in the older spelling; edit changes a copy of it.
func tiny(edit func(m map[string]any)) []byte {
	m := map[string]any{
		"architectures": []string{"Qwen3ForCausalLM"}, "model_type": "qwen3", "attention_bias": false, "hidden_act": "silu",
		"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
		"intermediate_size": 160, "vocab_size": 512, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6,
		"rope_theta": 1e6, "rope_scaling": nil, "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2,
		"use_sliding_window": false, "sliding_window": nil,
	}
	if edit != nil {
		edit(m)
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

func TestBothRopeSpellings(t *testing.T) {
	yarn := map[string]any{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
	parse := func(edit func(m map[string]any)) *Config {
		t.Helper()
		c, err := Parse(tiny(edit))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	want := parse(func(m map[string]any) { m["rope_scaling"] = yarn })
	if y := want.RopeScaling; y == nil || y.Factor != 4 || y.OriginalMaxPositionEmbeddings != 32768 || y.BetaFast != 32 || y.BetaSlow != 1 {
		t.Fatalf("yarn: %+v", y)
	}
	if want.ContextLimit() != 131072 {
		t.Errorf("context limit %d", want.ContextLimit())
	}
	for name, edit := range map[string]func(m map[string]any){
		"rope_parameters": func(m map[string]any) {
			delete(m, "rope_theta")
			m["rope_parameters"] = map[string]any{"rope_theta": 1e6, "rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768.0}
		},
		"old key type": func(m map[string]any) {
			m["rope_scaling"] = map[string]any{"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
		},
		"null factor": func(m map[string]any) {
			m["max_position_embeddings"] = 131072
			m["rope_scaling"] = map[string]any{"rope_type": "yarn", "original_max_position_embeddings": 32768}
		},
	} {
		got := parse(edit)
		got.MaxPositionEmbeddings = want.MaxPositionEmbeddings
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v %+v", name, got, got.RopeScaling)
		}
	}
	plain := parse(func(m map[string]any) {
		delete(m, "rope_theta")
		m["rope_parameters"] = map[string]any{"rope_theta": 1e6, "rope_type": "default"}
	})
	if !reflect.DeepEqual(plain, parse(nil)) || plain.ContextLimit() != 40960 {
		t.Errorf("default rope_parameters: %+v", plain)
	}
	mscale := parse(func(m map[string]any) {
		m["rope_scaling"] = map[string]any{"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.5}
	})
	if want := (0.1*math.Log(4) + 1) / (0.05*math.Log(4) + 1); math.Abs(mscale.RopeScaling.AttentionFactor-want) > 1e-15 {
		t.Errorf("mscale: %v, want %v", mscale.RopeScaling.AttentionFactor, want)
	}
}

func TestDefaults(t *testing.T) {
	c, err := Parse(tiny(func(m map[string]any) {
		for _, k := range []string{"head_dim", "rms_norm_eps", "tie_word_embeddings", "bos_token_id", "eos_token_id", "architectures"} {
			delete(m, k)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if c.HeadDim != 16 || c.RMSNormEps != 1e-6 || c.TieWordEmbeddings || c.BosTokenID != -1 || len(c.EosTokenIDs) != 0 {
		t.Errorf("%+v", c)
	}
	c, err = Parse(tiny(func(m map[string]any) { m["eos_token_id"] = []int{7, 8} }))
	if err != nil || !reflect.DeepEqual(c.EosTokenIDs, []int{7, 8}) {
		t.Errorf("eos list: %+v %v", c, err)
	}
	// A window that is configured but not in use, as in the published files of the generation before.
	if _, err := Parse(tiny(func(m map[string]any) { m["sliding_window"] = 4096 })); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	set := func(key string, v any) func(m map[string]any) { return func(m map[string]any) { m[key] = v } }
	model := func(modelType, architecture string) func(m map[string]any) {
		return func(m map[string]any) { m["model_type"], m["architectures"] = modelType, []string{architecture} }
	}
	for _, tc := range []struct {
		name        string
		edit        func(m map[string]any)
		unsupported bool
		words       []string
	}{
		{"moe", model("qwen3_moe", "Qwen3MoeForCausalLM"), true, []string{"qwen3_moe", "mixture of experts"}},
		{"moe by architecture", set("architectures", []string{"Qwen3MoeForCausalLM"}), true, []string{"Qwen3MoeForCausalLM", "mixture of experts"}},
		{"moe by experts", set("num_experts", 128), true, []string{"num_experts 128"}},
		{"next", model("qwen3_next", "Qwen3NextForCausalLM"), true, []string{"qwen3_next", "hybrid"}},
		{"3.5", model("qwen3_5", "Qwen3_5ForConditionalGeneration"), true, []string{"qwen3_5", "hybrid"}},
		{"3.5 text", model("qwen3_5_text", "Qwen3_5ForCausalLM"), true, []string{"qwen3_5_text", "hybrid"}},
		{"vision", model("qwen3_vl", "Qwen3VLForConditionalGeneration"), true, []string{"qwen3_vl", "vision"}},
		{"unknown member", model("qwen3_7", "Qwen37"), true, []string{"qwen3_7"}},
		{"llama", model("llama", "LlamaForCausalLM"), true, []string{`"llama"`}},
		{"qwen2", model("qwen2", "Qwen2ForCausalLM"), true, []string{"qwen2", "QK-norm"}},
		{"classifier", set("architectures", []string{"Qwen3ForSequenceClassification"}), true, []string{"Qwen3ForSequenceClassification"}},
		{"no names", func(m map[string]any) { delete(m, "model_type"); delete(m, "architectures") }, true, []string{"neither model_type"}},
		{"quantised", set("quantization_config", map[string]any{"quant_method": "fp8"}), true, []string{"fp8", "bf16 original"}},
		{"bias", set("attention_bias", true), true, []string{"attention_bias"}},
		{"gelu", set("hidden_act", "gelu"), true, []string{"gelu"}},
		{"window", func(m map[string]any) { m["use_sliding_window"], m["sliding_window"] = true, 4096 }, true, []string{"4096"}},
		{"window layers", set("layer_types", []string{"full_attention", "sliding_attention"}), true, []string{"layer_types[1]"}},
		{"layer_types count", set("layer_types", []string{"full_attention"}), false, []string{"1 entries", "2"}},
		{"linear rope", set("rope_scaling", map[string]any{"rope_type": "linear", "factor": 2.0}), true, []string{"linear"}},
		{"partial rope", set("rope_parameters", map[string]any{"rope_theta": 1e6, "partial_rotary_factor": 0.5}), true, []string{"partial_rotary_factor"}},
		{"no theta", func(m map[string]any) { delete(m, "rope_theta") }, false, []string{"rope_theta"}},
		{"two thetas", set("rope_parameters", map[string]any{"rope_theta": 1e7}), false, []string{"1e+06", "1e+07"}},
		{"yarn without factor", set("rope_scaling", map[string]any{"rope_type": "yarn"}), false, []string{"factor"}},
		{"yarn factor", set("rope_scaling", map[string]any{"rope_type": "yarn", "factor": 0.5}), false, []string{"0.5"}},
		{"yarn betas", set("rope_scaling", map[string]any{"rope_type": "yarn", "factor": 4.0, "beta_fast": 1.0, "beta_slow": 2.0}), false, []string{"beta_fast"}},
		{"yarn attention", set("rope_scaling", map[string]any{"rope_type": "yarn", "factor": 4.0, "attention_factor": -1.0}), false, []string{"attention_factor"}},
		{"yarn overflow", set("rope_scaling", map[string]any{"rope_type": "yarn", "factor": 1e6, "original_max_position_embeddings": 32768}), false, []string{"beyond"}},
		{"missing sizes", func(m map[string]any) { delete(m, "hidden_size"); delete(m, "vocab_size") }, false, []string{"hidden_size", "vocab_size"}},
		{"zero hidden", set("hidden_size", 0), false, []string{"hidden_size 0"}},
		{"negative layers", set("num_hidden_layers", -1), false, []string{"num_hidden_layers -1"}},
		{"huge vocab", set("vocab_size", 1<<40), false, []string{"vocab_size"}},
		{"odd head", set("head_dim", 31), false, []string{"head_dim 31", "odd"}},
		{"heads", set("num_key_value_heads", 3), false, []string{"4", "3"}},
		{"no head_dim", func(m map[string]any) { delete(m, "head_dim"); m["hidden_size"] = 66 }, false, []string{"66", "4"}},
		{"eps", set("rms_norm_eps", 0), false, []string{"rms_norm_eps"}},
		{"theta", set("rope_theta", 1), false, []string{"rope_theta"}},
		{"eos", set("eos_token_id", -2), false, []string{"eos_token_id", "-2"}},
		{"bos", set("bos_token_id", -2), false, []string{"bos_token_id", "-2"}},
		{"fraction", set("hidden_size", 64.5), false, []string{"hidden_size"}},
	} {
		_, err := Parse(tiny(tc.edit))
		if err == nil {
			t.Errorf("%s: accepted", tc.name)
			continue
		}
		if errors.Is(err, ErrUnsupported) != tc.unsupported {
			t.Errorf("%s: ErrUnsupported is %v: %v", tc.name, !tc.unsupported, err)
		}
		for _, w := range tc.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q lacks %q", tc.name, err, w)
			}
		}
	}
	for _, text := range []string{"", "  \n", "{", "[]", "null", `{"hidden_size": "64"}`, "{} {}"} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

func TestGeneration(t *testing.T) {
	g, err := ParseGeneration([]byte(`{}`))
	if err != nil || !reflect.DeepEqual(g, &Generation{}) {
		t.Errorf("empty: %+v %v", g, err)
	}
	g, err = ParseGeneration([]byte(`{"eos_token_id": 5, "temperature": 0, "min_p": 0.1, "max_new_tokens": 9, "extra": []}`))
	if err != nil || *g.Temperature != 0 || *g.MinP != 0.1 || *g.MaxNewTokens != 9 || !reflect.DeepEqual(g.EosTokenIDs, []int{5}) || g.TopK != nil {
		t.Errorf("%+v %v", g, err)
	}
	for _, text := range []string{
		"", "[", `{"temperature": -1}`, `{"top_p": 1.5}`, `{"min_p": -0.1}`, `{"top_k": -1}`, `{"repetition_penalty": 0}`,
		`{"eos_token_id": "x"}`, `{"eos_token_id": [-1]}`, `{"max_new_tokens": -1}`, `{"temperature": 1e39}`,
	} {
		if _, err := ParseGeneration([]byte(text)); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

// The committed table was made by testdata/yarn_reference.py, which states the formula.
func TestYaRN(t *testing.T) {
	data, err := os.ReadFile("testdata/yarn_reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name       string
		D          int
		Theta      float64
		Factor     float64
		Original   int
		Fast, Slow float64
		Truncate   bool
		Attention  float64
		F32, F64   []float64
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, tc := range cases {
		c := &Config{HeadDim: tc.D, RopeTheta: tc.Theta, RopeScaling: &YaRN{
			Factor: tc.Factor, OriginalMaxPositionEmbeddings: tc.Original, BetaFast: tc.Fast, BetaSlow: tc.Slow, NoTruncate: !tc.Truncate,
		}}
		got, attention := c.InvFreq()
		if len(got) != len(tc.F32) || attention != float32(tc.Attention) {
			t.Fatalf("%s: %d values, attention factor %v; want %d, %v", tc.Name, len(got), attention, len(tc.F32), tc.Attention)
		}
		for i, v := range got {
			// A unit in the last place for the power function, and float32's own distance from float64.
			if rel := math.Abs(float64(v)/tc.F32[i] - 1); rel > 1.2e-7 {
				t.Errorf("%s: pair %d: %v, float32 reference %v (%.2g)", tc.Name, i, v, tc.F32[i], rel)
			}
			if rel := math.Abs(float64(v)/tc.F64[i] - 1); rel > 4e-7 {
				t.Errorf("%s: pair %d: %v, float64 reference %v (%.2g)", tc.Name, i, v, tc.F64[i], rel)
			}
		}
	}
}

func TestPlainInvFreq(t *testing.T) {
	c := &Config{HeadDim: 128, RopeTheta: 1e6}
	got, attention := c.InvFreq()
	if attention != 1 || len(got) != 64 || got[0] != 1 {
		t.Fatalf("%v %v", attention, got)
	}
	for i, v := range got {
		want := math.Pow(1e6, -float64(2*i)/128)
		if math.Abs(float64(v)/want-1) > 1e-6 {
			t.Errorf("pair %d: %v, want %v", i, v, want)
		}
	}
	// The defaults of a hand-made YaRN: attention factor 0.1 ln f + 1, which an explicit one replaces.
	c.RopeScaling = &YaRN{Factor: 4, OriginalMaxPositionEmbeddings: 32768}
	if _, a := c.InvFreq(); a != float32(0.1*math.Log(4)+1) {
		t.Errorf("attention factor %v", a)
	}
	c.RopeScaling.AttentionFactor = 1.5
	if _, a := c.InvFreq(); a != 1.5 {
		t.Errorf("attention factor %v", a)
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	for _, c := range []*Config{
		{HiddenSize: 64, NumHiddenLayers: 2, NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 32, IntermediateSize: 160, VocabSize: 512,
			MaxPositionEmbeddings: 128, RMSNormEps: 1e-6, RopeTheta: 1e6, TieWordEmbeddings: true, BosTokenID: -1},
		{HiddenSize: 96, NumHiddenLayers: 1, NumAttentionHeads: 2, NumKeyValueHeads: 2, HeadDim: 10, IntermediateSize: 33, VocabSize: 7,
			MaxPositionEmbeddings: 128, RMSNormEps: 1e-5, RopeTheta: 12345.5, BosTokenID: 3, EosTokenIDs: []int{4},
			RopeScaling: &YaRN{Factor: 3.5, OriginalMaxPositionEmbeddings: 99, BetaFast: 30, BetaSlow: 2, AttentionFactor: 1.25, NoTruncate: true}},
		{HiddenSize: 96, NumHiddenLayers: 1, NumAttentionHeads: 2, NumKeyValueHeads: 1, HeadDim: 10, IntermediateSize: 33, VocabSize: 7,
			MaxPositionEmbeddings: 128, RMSNormEps: 1e-5, RopeTheta: 10000, BosTokenID: 0, EosTokenIDs: []int{4, 5},
			RopeScaling: &YaRN{Factor: 2, OriginalMaxPositionEmbeddings: 64, BetaFast: 32, BetaSlow: 1}},
	} {
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%s:\n got %+v\nwant %+v", data, got, c)
		}
	}
}

// Whatever Parse accepts is valid, can be written and read back, and gives finite frequencies.
func FuzzParse(f *testing.F) {
	f.Add(tiny(nil))
	f.Add(tiny(func(m map[string]any) {
		m["rope_parameters"] = map[string]any{"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0, "truncate": false}
	}))
	f.Add([]byte(`{"model_type": "qwen3", "hidden_size": 1e9}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			return
		}
		if c.ParameterCount() <= 0 {
			t.Fatalf("%d parameters: %s", c.ParameterCount(), c)
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(again); err != nil {
			t.Fatalf("%v: %s", err, again)
		}
		invFreq, attention := c.InvFreq()
		for _, v := range append(invFreq, attention) {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("frequencies %v, attention factor %v", invFreq, attention)
			}
		}
	})
}

// No key exceeds its bound, wherever its norm's mass lies and however RoPE turns it; keys whose mass lies in one pair reach it.
func TestKeyBounds(t *testing.T) {
	c := &Config{HeadDim: 6, RopeTheta: 1e6, RopeScaling: &YaRN{Factor: 4, OriginalMaxPositionEmbeddings: 64}}
	gains := []float32{96.5, 0.5, 0, -3, -2, 0}
	_, factor := c.InvFreq()
	bounds := c.KeyBounds(gains)
	for i, gain := range []float64{96.5, 2, 1, 96.5, 2, 1} {
		if want := gain * math.Sqrt(6) * float64(factor); math.Abs(float64(bounds[i])/want-1) > 1e-6 {
			t.Errorf("bound %d is %g, want %g", i, bounds[i], want)
		}
	}
}
