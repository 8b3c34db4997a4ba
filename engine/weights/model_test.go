package weights_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/packer"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/synth"
)

// packed is a small packed directory in memory, of several shards.
func packed(t *testing.T, d weights.DType) fstest.MapFS {
	t.Helper()
	c := &config.Config{
		HiddenSize: 80, NumHiddenLayers: 2, NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 18, IntermediateSize: 100, VocabSize: 133,
		MaxPositionEmbeddings: 64, RMSNormEps: 1e-6, RopeTheta: 1e6, BosTokenID: 1, EosTokenIDs: []int{2},
	}
	in, out := filepath.Join(t.TempDir(), "hf"), filepath.Join(t.TempDir(), "packed")
	if err := synth.Write(t.Context(), in, synth.Options{Config: c, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := packer.ConvertDir(in, out, packer.Options{DType: d, ShardBytes: 20_000}); err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(out, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fsys[e.Name()] = &fstest.MapFile{Data: data}
	}
	return fsys
}

func shards(fsys fstest.MapFS) []string {
	var names []string
	for name := range fsys {
		if strings.HasSuffix(name, ".safetensors") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func clone(fsys fstest.MapFS) fstest.MapFS {
	copied := maps.Clone(fsys)
	for name, f := range copied {
		copied[name] = &fstest.MapFile{Data: slices.Clone(f.Data)}
	}
	return copied
}

// bare hides the sizes from Open, as a source over the network would.
type bare struct{ weights.Source }

func TestOpenRefuses(t *testing.T) {
	good := packed(t, weights.Q4)
	if n := len(shards(good)); n < 3 {
		t.Fatalf("%d shards", n)
	}
	manifest := func(edit func(m *weights.Manifest)) func(fstest.MapFS) {
		return func(fsys fstest.MapFS) {
			var m weights.Manifest
			if err := json.Unmarshal(fsys["manifest.json"].Data, &m); err != nil {
				t.Fatal(err)
			}
			edit(&m)
			data, err := m.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			fsys["manifest.json"].Data = data
		}
	}
	text := func(name, old, new string) func(fstest.MapFS) {
		return func(fsys fstest.MapFS) {
			fsys[name].Data = []byte(strings.Replace(string(fsys[name].Data), old, new, 1))
		}
	}
	last := shards(good)[len(shards(good))-1]
	for _, tc := range []struct {
		name   string
		damage func(fstest.MapFS)
		words  []string
	}{
		{"no manifest", func(f fstest.MapFS) { delete(f, "manifest.json") }, []string{"not a packed model directory"}},
		{"manifest text", text("manifest.json", "{", ""), []string{"manifest.json"}},
		{"format", text("manifest.json", "qwen-wgpu packed model", "zip"), []string{`"zip"`}},
		{"version", text("manifest.json", `"version": 1`, `"version": 99`), []string{"version 99", "convert the model again"}},
		{"no config", func(f fstest.MapFS) { delete(f, "config.json") }, []string{"config.json"}},
		{"other config", text("config.json", `"hidden_size": 80`, `"hidden_size": 160`), []string{"embed_tokens is [133, 80]", "[133, 160]"}},
		{"more layers", text("config.json", `"num_hidden_layers": 2`, `"num_hidden_layers": 3`), []string{"layers.2.qkv_proj", "missing"}},
		{"fewer layers", text("config.json", `"num_hidden_layers": 2`, `"num_hidden_layers": 1`), []string{"layers.1.", "belongs to no part"}},
		{"architecture", text("config.json", `"qwen3"`, `"llama"`), []string{"llama"}},
		{"generation", func(f fstest.MapFS) { f["generation_config.json"].Data = []byte("{") }, []string{"generation_config.json"}},
		{"truncated shard", func(f fstest.MapFS) { f[last].Data = f[last].Data[:100] }, []string{last, "100 bytes", "truncated"}},
		{"absent shard", func(f fstest.MapFS) { delete(f, last) }, []string{last}},
		{"group size", manifest(func(m *weights.Manifest) { m.GroupSize = 64 }), []string{"group_size 64"}},
		{"shard path", manifest(func(m *weights.Manifest) { m.Shards[0].Name = "../x" }), []string{"../x", "plain file name"}},
		{"file path", manifest(func(m *weights.Manifest) { m.Files[0].Name = `a\b` }), []string{"plain file name"}},
		{"shard twice", manifest(func(m *weights.Manifest) { m.Shards[1] = m.Shards[0] }), []string{"twice"}},
		{"hash", manifest(func(m *weights.Manifest) { m.Shards[0].SHA256 = "abc" }), []string{"64 digits"}},
		{"negative size", manifest(func(m *weights.Manifest) { m.Shards[0].SizeBytes = -1 }), []string{"negative"}},
		{"no matrix", manifest(func(m *weights.Manifest) { m.Matrices = m.Matrices[1:] }), []string{"embed_tokens", "missing"}},
		{"no lm_head", manifest(func(m *weights.Manifest) { m.Matrices = m.Matrices[:len(m.Matrices)-1] }), []string{"lm_head", "missing"}},
		{"matrix twice", manifest(func(m *weights.Manifest) { m.Matrices = append(m.Matrices, m.Matrices[0]) }), []string{"embed_tokens is listed twice"}},
		{"strange matrix", manifest(func(m *weights.Manifest) { x := m.Matrices[0]; x.Name = "x"; m.Matrices = append(m.Matrices, x) }), []string{"matrix x belongs to no part"}},
		{"dtype", manifest(func(m *weights.Manifest) { m.Matrices[0].DType = "q5" }), []string{`"q5"`}},
		{"rows", manifest(func(m *weights.Manifest) { m.Matrices[0].Rows++ }), []string{"hold 133 of 134 rows"}},
		{"huge rows", manifest(func(m *weights.Manifest) { m.Matrices[0].Rows = 1 << 40 }), []string{"outside"}},
		{"stride", manifest(func(m *weights.Manifest) { m.Matrices[0].Stride = 80 }), []string{"stride 80"}},
		{"piece gap", manifest(func(m *weights.Manifest) { m.Matrices[0].Pieces[0].RowStart = 32 }), []string{"row 0 of 133 comes next"}},
		{"piece start", manifest(func(m *weights.Manifest) {
			p := m.Matrices[0].Pieces[0]
			a, b := p, p
			a.Rows, b.RowStart, b.Rows = 10, 10, p.Rows-10
			a.Data.Size, a.Scales.Size = weights.Q4.PlaneBytes(10, 96)
			b.Data.Size, b.Scales.Size = weights.Q4.PlaneBytes(b.Rows, 96)
			m.Matrices[0].Pieces = append([]weights.Piece{a, b}, m.Matrices[0].Pieces[1:]...)
		}), []string{"piece 1 starts at row 10"}},
		{"plane size", manifest(func(m *weights.Manifest) { m.Matrices[0].Pieces[0].Data.Size -= 16 }), []string{"data:", "the shape needs"}},
		{"plane offset", manifest(func(m *weights.Manifest) { m.Matrices[0].Pieces[0].Data.Offset++ }), []string{"not a multiple of 16"}},
		{"plane beyond", manifest(func(m *weights.Manifest) { m.Matrices[0].Pieces[0].Scales.Offset = 1 << 20 }), []string{"lie beyond"}},
		{"plane overflow", manifest(func(m *weights.Manifest) { m.Matrices[0].Pieces[0].Scales.Offset = 1<<63 - 16 }), []string{"lie beyond"}},
		{"plane negative", manifest(func(m *weights.Manifest) { m.Matrices[0].Pieces[0].Scales.Offset = -16 }), []string{"-16"}},
		{"plane shard", manifest(func(m *weights.Manifest) { m.Matrices[0].Pieces[0].Data.Shard = "x" }), []string{`"x" is not listed`}},
		{"planes apart", manifest(func(m *weights.Manifest) { m.Matrices[0].Pieces[0].Scales.Shard = m.Shards[1].Name }), []string{"scales in"}},
		{"no vector", manifest(func(m *weights.Manifest) { m.Vectors = m.Vectors[1:] }), []string{"layers.0.input_layernorm", "missing"}},
		{"vector length", manifest(func(m *weights.Manifest) { m.Vectors[1].Length = 17; m.Vectors[1].Data.Size = 68 }), []string{"q_norm", "17", "18"}},
		{"vector size", manifest(func(m *weights.Manifest) { m.Vectors[1].Length = 17 }), []string{"q_norm"}},
		{"strange vector", manifest(func(m *weights.Manifest) { v := m.Vectors[0]; v.Name = "x"; m.Vectors = append(m.Vectors, v) }), []string{"vector x"}},
		{"vector twice", manifest(func(m *weights.Manifest) { m.Vectors = append(m.Vectors, m.Vectors[0]) }), []string{"twice"}},
	} {
		fsys := clone(good)
		tc.damage(fsys)
		m, err := weights.Open(weights.FS(fsys))
		if err == nil {
			m.Close()
			t.Errorf("%s: accepted", tc.name)
			continue
		}
		for _, w := range tc.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q lacks %q", tc.name, err, w)
			}
		}
	}
	// Where sizes cannot be asked, a truncated shard is found at its first use.
	fsys := clone(good)
	fsys[last].Data = fsys[last].Data[:100]
	m, err := weights.Open(bare{weights.FS(fsys)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Vector("norm"); err == nil || !strings.Contains(err.Error(), last) {
		t.Errorf("%v", err)
	}
	if _, err := weights.Open(weights.Dir(filepath.Join(t.TempDir(), "absent"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent directory: %v", err)
	}
}

// One flipped bit anywhere is found, and only its file is named.
func TestVerify(t *testing.T) {
	good := packed(t, weights.Q8)
	var last [2]int64
	m, err := weights.Open(weights.FS(good), weights.WithVerify(t.Context(), func(done, total int64) {
		if done < last[0] || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last[0])
		}
		last = [2]int64{done, total}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if last[0] != last[1] || last[0] == 0 {
		t.Errorf("progress ended at %d of %d", last[0], last[1])
	}
	for name := range good {
		if name == "manifest.json" {
			continue
		}
		for _, at := range []int{len(good[name].Data) - 1, len(good[name].Data) / 2} {
			fsys := clone(good)
			if strings.HasSuffix(name, ".json") {
				fsys[name].Data = append(fsys[name].Data, '\n')
			} else {
				fsys[name].Data[at] ^= 1
			}
			m, err := weights.Open(weights.FS(fsys))
			if err != nil {
				t.Fatal(err)
			}
			err = m.Verify(t.Context(), nil)
			m.Close()
			if err == nil || !strings.Contains(err.Error(), name) || strings.Count(err.Error(), "weights: ") != 1 {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := weights.Open(weights.FS(fsys), weights.WithVerify(t.Context(), nil)); err == nil {
				t.Errorf("%s: opened with verification", name)
			}
		}
	}
	// Two bad shards are both named.
	fsys := clone(good)
	for _, name := range shards(fsys)[:2] {
		fsys[name].Data[500] ^= 0x80
	}
	m, err = weights.Open(weights.FS(fsys))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Verify(t.Context(), nil); err == nil || !strings.Contains(err.Error(), shards(fsys)[0]) || !strings.Contains(err.Error(), shards(fsys)[1]) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A manifest whose planes do not begin where the shard's tensors do is found by Verify, though every hash is right.
func TestVerifyHeader(t *testing.T) {
	fsys := packed(t, weights.Q8)
	var man weights.Manifest
	if err := json.Unmarshal(fsys["manifest.json"].Data, &man); err != nil {
		t.Fatal(err)
	}
	man.Matrices[1].Pieces[0].Data.Offset += 16
	data, err := man.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	fsys["manifest.json"].Data = data
	m, err := weights.Open(weights.FS(fsys))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Verify(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "layers.0.qkv_proj") {
		t.Errorf("%v", err)
	}
}

func TestStream(t *testing.T) {
	m, err := weights.Open(weights.FS(packed(t, weights.BF16)))
	if err != nil {
		t.Fatal(err)
	}
	mat, err := m.Matrix("layers.0.down_proj")
	if err != nil {
		t.Fatal(err)
	}
	plane := mat.Pieces[0].Data
	var want []byte
	for _, chunk := range []int{1 << 20, 16, 1000, 0, -5} {
		var got []byte
		err := m.Stream(plane, chunk, func(offset int64, b []byte) error {
			if offset != int64(len(got)) || len(b) > max(chunk, 16) || offset%16 != 0 {
				t.Fatalf("chunk of %d at %d, limit %d", len(b), offset, chunk)
			}
			got = append(got, b...)
			return nil
		})
		if err != nil || int64(len(got)) != plane.Size {
			t.Fatalf("%d of %d bytes, %v", len(got), plane.Size, err)
		}
		if want == nil {
			want = got
		} else if !slices.Equal(got, want) {
			t.Fatalf("chunks of %d give other bytes", chunk)
		}
	}
	stop := errors.New("stop")
	if err := m.Stream(plane, 16, func(int64, []byte) error { return stop }); err != stop {
		t.Errorf("%v", err)
	}
	row := make([]float32, mat.Cols)
	for _, err := range []error{m.Row(mat, -1, row), m.Row(mat, mat.Rows, row), m.Row(mat, 0, row[1:]), third(m.Matrix("x")), third(m.Vector("x"))} {
		if err == nil {
			t.Error("a wrong read was accepted")
		}
	}
	if m.HasTokenizer() || !m.HasLMHead() || m.Generation.TopK == nil {
		t.Errorf("tokenizer %v, lm_head %v, generation %+v", m.HasTokenizer(), m.HasLMHead(), m.Generation)
	}
	if _, err := m.ReadFile("tokenizer.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	var wg sync.WaitGroup // reads from several goroutines
	for i := range 4 {
		wg.Go(func() {
			for r := i; r < mat.Rows; r += 4 {
				if err := m.Row(mat, r, make([]float32, mat.Cols)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Stream(plane, 16, func(int64, []byte) error { return nil }); err == nil {
		t.Error("a closed model was read")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func third[T any](_ T, err error) error { return err }
