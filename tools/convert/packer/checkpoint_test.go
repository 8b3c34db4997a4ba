package packer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/synth"
)

// odd is a shape whose rows are no multiple of the group size anywhere.
func odd() *config.Config {
	return &config.Config{
		HiddenSize: 84, NumHiddenLayers: 2, NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 18, IntermediateSize: 100, VocabSize: 133,
		MaxPositionEmbeddings: 64, RMSNormEps: 1e-6, RopeTheta: 1e6, TieWordEmbeddings: true, BosTokenID: 1, EosTokenIDs: []int{2},
	}
}

// model is a whole small checkpoint in memory, to be damaged or rewritten.
type model struct {
	config  map[string]any
	tensors map[string]rawTensor
	files   map[string]string // other files
}

type rawTensor struct {
	dtype safetensors.DType
	shape []int
	data  []byte
}

func random(t *testing.T, c *config.Config, o synth.Options) *model {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hf")
	o.Config, o.Seed = c, 7
	if err := synth.Write(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	m := &model{tensors: map[string]rawTensor{}, files: map[string]string{}}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &m.config); err != nil {
		t.Fatal(err)
	}
	r, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for name, tensor := range r.Tensors {
		raw := make([]byte, tensor.End-tensor.Begin)
		if _, err := io.ReadFull(io.NewSectionReader(r, tensor.Begin, int64(len(raw))), raw); err != nil {
			t.Fatal(err)
		}
		m.tensors[name] = rawTensor{tensor.DType, tensor.Shape, raw}
	}
	return m
}

// save writes the checkpoint as one file, or cut after every few tensors with an index.
func (m *model) save(t *testing.T, sharded bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hf")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if m.config != nil {
		data, err := json.Marshal(m.config)
		if err != nil {
			t.Fatal(err)
		}
		put("config.json", data)
	}
	for name, text := range m.files {
		put(name, []byte(text))
	}
	names := slices.Sorted(maps.Keys(m.tensors))
	if !sharded {
		put("model.safetensors", m.encode(t, names))
		return dir
	}
	weightMap := map[string]string{}
	for i := 0; i*5 < len(names); i++ {
		part := names[i*5 : min(i*5+5, len(names))]
		file := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, (len(names)+4)/5)
		put(file, m.encode(t, part))
		for _, name := range part {
			weightMap[name] = file
		}
	}
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 0}, "weight_map": weightMap})
	if err != nil {
		t.Fatal(err)
	}
	put("model.safetensors.index.json", data)
	return dir
}

func (m *model) encode(t *testing.T, names []string) []byte {
	t.Helper()
	var infos []safetensors.TensorInfo
	for _, name := range names {
		infos = append(infos, safetensors.TensorInfo{Name: name, DType: m.tensors[name].dtype, Shape: m.tensors[name].shape})
	}
	var b bytes.Buffer
	w, err := safetensors.Create(&b, map[string]string{"format": "pt"}, infos)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := w.Write(m.tensors[name].data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// convert changes a tensor's dtype, rounding.
func (r rawTensor) convert(d safetensors.DType) rawTensor {
	out := rawTensor{dtype: d, shape: r.shape}
	for i := range len(r.data) / int(r.dtype.Bytes()) {
		v := element(r.dtype, r.data, i)
		switch d {
		case safetensors.BF16:
			out.data = binary.LittleEndian.AppendUint16(out.data, half.F32ToBF16(v))
		case safetensors.F16:
			out.data = binary.LittleEndian.AppendUint16(out.data, half.F32ToF16(v))
		default:
			out.data = binary.LittleEndian.AppendUint32(out.data, math.Float32bits(v))
		}
	}
	return out
}

// set returns the tensor with element i replaced.
func (r rawTensor) set(i int, v float32) rawTensor {
	r.data = slices.Clone(r.data)
	switch r.dtype {
	case safetensors.BF16:
		binary.LittleEndian.PutUint16(r.data[2*i:], half.F32ToBF16(v))
	case safetensors.F16:
		binary.LittleEndian.PutUint16(r.data[2*i:], half.F32ToF16(v))
	default:
		binary.LittleEndian.PutUint32(r.data[4*i:], math.Float32bits(v))
	}
	return r
}

// leftovers lists what a failed conversion left beside its target.
func leftovers(t *testing.T, out string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRefusedCheckpoints(t *testing.T) {
	const q, norm = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.input_layernorm.weight"
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for _, tc := range []struct {
		name    string
		edit    func(m *model)
		options Options
		words   []string
	}{
		{name: "no config", edit: func(m *model) { m.config = nil }, words: []string{"config.json", "not a Hugging Face model"}},
		{name: "moe", edit: func(m *model) { m.config["model_type"] = "qwen3_moe" }, words: []string{"qwen3_moe", "mixture of experts"}},
		{name: "hybrid", edit: func(m *model) { m.config["model_type"] = "qwen3_next" }, words: []string{"qwen3_next", "hybrid"}},
		{name: "llama", edit: func(m *model) { m.config["model_type"] = "llama" }, words: []string{`"llama"`}},
		{name: "already packed", edit: func(m *model) { m.files["manifest.json"] = "{}" }, words: []string{"already a packed model"}},
		{name: "missing", edit: func(m *model) { delete(m.tensors, q); delete(m.tensors, norm) }, words: []string{"2 tensors are missing", "layers.1.self_attn.q_proj.weight", "layers.0.input_layernorm.weight"}},
		{name: "missing lm_head", edit: func(m *model) { m.config["tie_word_embeddings"] = false }, words: []string{"missing", "lm_head.weight"}},
		{name: "shape", edit: func(m *model) { m.config["intermediate_size"] = 99 }, words: []string{"6 tensors do not fit", "model.layers.0.mlp.gate_proj.weight is [100 84], but config.json makes it [99 84]"}},
		{name: "transposed norm", edit: func(m *model) { r := m.tensors[norm]; r.shape = []int{84, 1}; m.tensors[norm] = r }, words: []string{"[84 1]", "[84]"}},
		{name: "dtype", edit: func(m *model) {
			r := m.tensors[q]
			m.tensors[q] = rawTensor{safetensors.I8, r.shape, r.data[:len(r.data)/2]}
		}, words: []string{q, "I8"}},
		{name: "bias", edit: func(m *model) { m.tensors["model.layers.0.self_attn.q_proj.bias"] = m.tensors[norm] }, words: []string{"q_proj.bias", "belong to no part"}},
		{name: "extra layer", edit: func(m *model) { m.tensors["model.layers.2.input_layernorm.weight"] = m.tensors[norm] }, words: []string{"model.layers.2.input_layernorm.weight"}},
		{name: "both prefixes", edit: func(m *model) { m.tensors["norm.weight"] = m.tensors["model.norm.weight"] }, words: []string{"norm.weight", "is also"}},
		{name: "NaN", edit: func(m *model) { m.tensors[q] = m.tensors[q].set(84*3+5, nan) }, words: []string{q, "[3, 5]", "NaN"}},
		{name: "infinity", edit: func(m *model) { m.tensors[q] = m.tensors[q].convert(safetensors.F32).set(84*71+83, inf) }, words: []string{q, "[71, 83]", "-Inf"}},
		{name: "NaN in q4", edit: func(m *model) { m.tensors[q] = m.tensors[q].convert(safetensors.F16).set(0, nan) }, options: Options{DType: "q4"}, words: []string{q, "[0, 0]", "NaN"}},
		{name: "NaN in a norm", edit: func(m *model) { m.tensors[norm] = m.tensors[norm].set(9, nan) }, words: []string{norm, "[9]", "NaN"}},
		{name: "too large for q8", edit: func(m *model) { m.tensors[q] = m.tensors[q].set(84*2+40, 1e30) }, options: Options{DType: "q8"}, words: []string{q, "row 2, from column 32", "q8"}},
		{name: "too large for bf16", edit: func(m *model) { m.tensors[q] = m.tensors[q].convert(safetensors.F32).set(84, math.MaxFloat32) }, words: []string{q, "row 1", "bf16"}},
		{name: "tiny shards", options: Options{ShardBytes: 1000}, words: []string{"larger shards"}},
		{name: "huge shards", options: Options{ShardBytes: 1 << 40}, words: []string{"shards of"}},
		{name: "dtype option", options: Options{DType: "q5"}, words: []string{`"q5"`}},
		{name: "lm_head option", options: Options{LMHead: "x"}, words: []string{`"x"`}},
		{name: "bad generation", edit: func(m *model) { m.files["generation_config.json"] = "{" }, words: []string{"generation_config.json"}},
		{name: "disk too small", options: Options{free: func(string) (int64, bool) { return 1000, true }}, words: []string{"needs", "1000 are free"}},
		{name: "disk full", options: Options{create: func(string) (io.WriteCloser, error) { return &fullDisk{room: 40_000}, nil }}, words: []string{"model-00001-of-00001.safetensors", "no space left"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := random(t, odd(), synth.Options{})
			if tc.edit != nil {
				tc.edit(m)
			}
			in := m.save(t, false)
			out := filepath.Join(t.TempDir(), "deep", "packed")
			tc.options.Workers = 3
			_, err := ConvertDir(in, out, tc.options)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range tc.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
			if _, serr := os.Stat(filepath.Dir(out)); serr == nil {
				if left := leftovers(t, out); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}

// fullDisk fails once its room is used up.
type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if len(p) > d.room {
		n := d.room
		d.room = 0
		return n, fmt.Errorf("write: no space left on device")
	}
	d.room -= len(p)
	return len(p), nil
}

func (d *fullDisk) Close() error { return nil }

func TestDamagedFiles(t *testing.T) {
	m := random(t, odd(), synth.Options{})
	for _, tc := range []struct {
		name   string
		damage func(dir string) error
		words  []string
	}{
		{"absent directory", func(dir string) error { return os.RemoveAll(dir) }, []string{"no such file"}},
		{"no weights", func(dir string) error { return os.RemoveAll(filepath.Join(dir, indexName)) }, []string{"neither", indexName}},
		{"pickle", func(dir string) error {
			os.Remove(filepath.Join(dir, indexName))
			return os.WriteFile(filepath.Join(dir, "pytorch_model.bin"), nil, 0o644)
		}, []string{"pytorch_model.bin", "only safetensors"}},
		{"truncated", func(dir string) error {
			return os.Truncate(filepath.Join(dir, "model-00002-of-00005.safetensors"), 9000)
		}, []string{"model-00002", "truncated"}},
		{"missing file", func(dir string) error { return os.Remove(filepath.Join(dir, "model-00003-of-00005.safetensors")) }, []string{"model-00003"}},
		{"index text", func(dir string) error { return os.WriteFile(filepath.Join(dir, indexName), []byte("{"), 0o644) }, []string{indexName}},
		{"index empty", func(dir string) error { return os.WriteFile(filepath.Join(dir, indexName), []byte("{}"), 0o644) }, []string{"weight_map"}},
		{"index path", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, indexName), []byte(`{"weight_map":{"a":"../b"}}`), 0o644)
		}, []string{"../b"}},
		{"index lies", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, indexName), []byte(`{"weight_map":{"a":"model-00001-of-00005.safetensors"}}`), 0o644)
		}, []string{`"a"`, "does not"}},
		{"config text", func(dir string) error { return os.WriteFile(filepath.Join(dir, "config.json"), []byte("x"), 0o644) }, []string{"config.json"}},
	} {
		dir := m.save(t, true)
		if err := tc.damage(dir); err != nil {
			t.Fatal(err)
		}
		_, err := ConvertDir(dir, filepath.Join(t.TempDir(), "out"), Options{})
		if err == nil {
			t.Errorf("%s: accepted", tc.name)
			continue
		}
		for _, w := range tc.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q lacks %q", tc.name, err, w)
			}
		}
	}
}

// The search for NaN and infinity eight bytes at a time finds what a plain loop finds.
func TestFirstNotFinite(t *testing.T) {
	for _, d := range []safetensors.DType{safetensors.BF16, safetensors.F16, safetensors.F32} {
		size := int(d.Bytes())
		bad := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}
		for n := range 40 {
			clean := rawTensor{d, nil, bytes.Repeat([]byte{0xff, 0x7b, 0xff, 0x7b}, n)} // large, but finite in each dtype
			clean.data = clean.data[:n*size]
			if i := firstNotFinite(d, clean.data); i != -1 {
				t.Fatalf("%s: element %d of %d finite ones", d, i, n)
			}
			for i := range n {
				broken := clean.set(i, bad[(i+n)%3]).set(n-1, bad[0])
				if got := firstNotFinite(d, broken.data); got != i {
					t.Fatalf("%s: %d of %d, want %d", d, got, n, i)
				}
			}
		}
	}
}
