package synth

import (
	"context"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/ref"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testutil"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/packer"
)

func small() *config.Config {
	return &config.Config{
		HiddenSize: 256, NumHiddenLayers: 6, NumAttentionHeads: 8, NumKeyValueHeads: 4, HeadDim: 64, IntermediateSize: 768, VocabSize: 2048,
		MaxPositionEmbeddings: 512, RMSNormEps: 1e-6, RopeTheta: 1e6, TieWordEmbeddings: true, BosTokenID: 1, EosTokenIDs: []int{2},
	}
}

func readDir(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

func write(t *testing.T, o Options) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hf")
	if err := Write(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A preset is the published configuration, and a checkpoint of it has as many tensors' bytes and files as published.
func TestPresets(t *testing.T) {
	for name, want := range map[string]struct {
		files int
		bytes int64 // of the published tensors
	}{
		"0.6b":       {1, 1_503_264_768},
		"1.7B":       {2, 4_063_479_808},
		"qwen3-4b":   {3, 8_044_936_192},
		"Qwen3-8B":   {5, 16_381_470_720},
		"qwen3-14b":  {8, 29_536_614_400},
		"qwen3-32b ": {17, 65_524_246_528},
	} {
		p, err := FindPreset(strings.TrimSpace(name))
		if err != nil {
			t.Fatal(err)
		}
		g := &generator{Options: Options{Config: p.Config(), StoreLMHead: p.StoreLMHead, DType: safetensors.BF16, FileBytes: publishedFileBytes}}
		files, err := g.split(g.tensors())
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != want.files || g.total != want.bytes {
			t.Errorf("%s: %d files of %d bytes, published %d of %d", name, len(files), g.total, want.files, want.bytes)
		}
	}
	if _, err := FindPreset("qwen3-9b"); err == nil || !strings.Contains(err.Error(), "qwen3-14b") {
		t.Errorf("%v", err)
	}
	dir := testutil.Shared(t, "qwen3/configs")
	for _, p := range Presets {
		file := "Qwen3-" + strings.ToUpper(strings.TrimPrefix(p.Name, "qwen3-")) + ".config.json"
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		published, err := config.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(p.Config(), published) {
			t.Errorf("%s:\n%+v\npublished\n%+v", p.Name, p.Config(), published)
		}
	}
}

// A seed gives the same bytes on any number of threads, whether in one file or several; another seed gives others.
func TestDeterministic(t *testing.T) {
	c := small()
	c.VocabSize = 5000 // more elements than one span
	c.HiddenSize = 512
	one := readDir(t, write(t, Options{Config: c, Seed: 5, Workers: 1}))
	if many := readDir(t, write(t, Options{Config: c, Seed: 5, Workers: 7})); !maps.Equal(one, many) {
		t.Error("threads change the bytes")
	}
	if other := readDir(t, write(t, Options{Config: c, Seed: 6})); other["model.safetensors"] == one["model.safetensors"] {
		t.Error("the seed changes nothing")
	}
	// Packed, the sharded checkpoint is the same model.
	whole, shards := write(t, Options{Config: c, Seed: 5}), write(t, Options{Config: c, Seed: 5, FileBytes: 3_000_000})
	if n := len(readDir(t, shards)); n < 5 {
		t.Fatalf("%d files", n)
	}
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	for out, in := range map[string]string{a: whole, b: shards} {
		if _, err := packer.ConvertDir(in, out, packer.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(readDir(t, a), readDir(t, b)) {
		t.Error("sharding changes the model")
	}
}

func TestValues(t *testing.T) {
	dir := write(t, Options{Config: small(), Seed: 1, StoreLMHead: true, DType: safetensors.F32})
	r, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	get := func(name string) []float32 {
		v, err := r.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if !slices.Equal(get("lm_head.weight"), get("model.embed_tokens.weight")) {
		t.Error("lm_head of a tied model differs from the embedding")
	}
	q := get("model.layers.3.self_attn.q_proj.weight")
	var sum, square float64
	for _, v := range q {
		sum += float64(v)
		square += float64(v) * float64(v)
	}
	n := float64(len(q))
	if std, want := math.Sqrt(square/n), 1/16.0; math.Abs(std/want-1) > 0.01 || math.Abs(sum/n) > 4*want/math.Sqrt(n) {
		t.Errorf("q_proj: mean %v, std %v, want 0 and %v", sum/n, std, want)
	}
	if k := get("model.layers.3.self_attn.k_proj.weight"); slices.Equal(k[:64], q[:64]) {
		t.Error("two tensors share their random numbers")
	}
	first := get("model.layers.0.self_attn.k_norm.weight")
	if slices.Max(first) != 96 {
		t.Errorf("the largest K-norm gain is %v", slices.Max(first))
	}
	large := 0
	for i := range 6 {
		for _, v := range get("model.layers." + string(rune('0'+i)) + ".self_attn.k_norm.weight") {
			if v < 0.5 || v > 96 {
				t.Errorf("layer %d: K-norm gain %v", i, v)
			}
			if v > 2 {
				large++
			}
		}
	}
	if large < 6 || large > 12 {
		t.Errorf("%d large K-norm gains in 6 layers", large)
	}
	for _, v := range get("model.norm.weight") {
		if v < 0.5 || v > 1.5 {
			t.Errorf("final norm gain %v", v)
		}
	}
}

// The model can stand in for a real one: finite logits with a spread, and a greedy continuation that varies.
func TestForward(t *testing.T) {
	tied, untied := small(), small()
	untied.TieWordEmbeddings = false
	for _, c := range []*config.Config{tied, untied} {
		out := filepath.Join(t.TempDir(), "packed")
		if _, err := packer.ConvertDir(write(t, Options{Config: c, Seed: 11}), out, packer.Options{}); err != nil {
			t.Fatal(err)
		}
		m, err := weights.Open(weights.Dir(out))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		run, err := ref.New(m, ref.Options{NumPages: 16})
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		pages, err := kvcache.New(kvcache.Config{NumPages: 16})
		if err != nil {
			t.Fatal(err)
		}
		seq := pages.NewSequence()
		next := []int32{7, 300, 1999, 42, 5, 1024}
		seen := map[int32]bool{}
		margins := []float64{}
		for range 64 {
			ic, err := pages.Begin(seq, next)
			if err != nil {
				t.Fatal(err)
			}
			logits, err := run.Forward(runner.Request{Context: ic, Logits: runner.LogitsLast})
			if err != nil {
				t.Fatal(err)
			}
			if err := ic.Commit(); err != nil {
				t.Fatal(err)
			}
			id, std, margin := describe(logits)
			if !(std > 1 && std < 5) {
				t.Errorf("logits have a standard deviation of %v", std)
			}
			seen[id] = true
			margins = append(margins, margin)
			next = []int32{id}
		}
		slices.Sort(margins)
		t.Logf("tied %v: %d different tokens of 64, median greedy margin %.3f", c.TieWordEmbeddings, len(seen), margins[32])
		if len(seen) < 20 {
			t.Errorf("only %d different tokens of 64", len(seen))
		}
		if margins[32] < 0.1 || margins[32] > 10 {
			t.Errorf("the median greedy margin is %v", margins[32])
		}
	}
}

// describe returns the largest logit's token, the standard deviation, and the distance of the two largest.
func describe(logits []float32) (id int32, std, margin float64) {
	var sum, square float64
	first, second := math.Inf(-1), math.Inf(-1)
	for i, l := range logits {
		v := float64(l)
		sum += v
		square += v * v
		if v > first {
			id, first, second = int32(i), v, first
		} else if v > second {
			second = v
		}
	}
	n := float64(len(logits))
	return id, math.Sqrt(square/n - sum/n*sum/n), first - second
}

func TestRefusals(t *testing.T) {
	broken := small()
	broken.HeadDim = 3
	for _, o := range []Options{{Config: broken}, {Config: small(), DType: safetensors.F16}} {
		out := filepath.Join(t.TempDir(), "x")
		if err := Write(t.Context(), out, o); err == nil {
			t.Errorf("%+v: accepted", o)
		}
		if _, err := os.Stat(out); err == nil {
			t.Error("a refused checkpoint was begun")
		}
	}
	out := write(t, Options{Config: small()})
	if err := Write(t.Context(), out, Options{Config: small()}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("%v", err)
	}
	if err := Write(t.Context(), out, Options{Config: small(), Seed: 9, Force: true}); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	parent := t.TempDir()
	err := Write(ctx, filepath.Join(parent, "x"), Options{Config: small(), Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left := readDir(t, parent); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
