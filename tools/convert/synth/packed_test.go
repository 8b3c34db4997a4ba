package synth

import (
	"bytes"
	"math"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
)

// A packed model in memory opens like one on disk, for published shapes too, and its numbers are those that Write draws.
func TestPacked(t *testing.T) {
	for _, name := range []string{"qwen3-0.6b", "qwen3-8b"} {
		preset, err := FindPreset(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, dtype := range []weights.DType{weights.BF16, weights.Q8, weights.Q4} {
			m := openPacked(t, preset.Config(), dtype)
			if got, want := m.HasLMHead(), !preset.Config().TieWordEmbeddings; got != want {
				t.Errorf("%s: lm_head %v, want %v", name, got, want)
			}
		}
	}
	c := goldentest.RandomConfig(3)
	for _, dtype := range []weights.DType{weights.BF16, weights.Q8, weights.Q4} {
		m := openPacked(t, c, dtype)
		for _, kind := range []string{"embed_tokens", "layers.0.qkv_proj", "layers.0.gate_up_proj"} {
			mat, err := m.Matrix(kind)
			if err != nil {
				t.Fatal(err)
			}
			values, err := m.Dequantize(mat)
			if err != nil {
				t.Fatal(err)
			}
			want := 1 / math.Sqrt(float64(c.HiddenSize))
			if kind == "embed_tokens" {
				want *= 2.5
			}
			squares := 0.0
			for _, v := range values {
				squares += float64(v) * float64(v)
			}
			if std := math.Sqrt(squares / float64(len(values))); !(math.Abs(std/want-1) < 0.1) {
				t.Errorf("%s %s: standard deviation %g, want %g", dtype, kind, std, want)
			}
		}
		if gains, err := m.Vector("layers.0.k_norm"); err != nil || gains[0] == 0 {
			t.Errorf("k_norm: %v, %v", gains, err)
		}
	}
}

func openPacked(t *testing.T, c *config.Config, dtype weights.DType) *weights.Model {
	t.Helper()
	src, err := Packed(c, dtype, 1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := weights.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Any read of a shard gives the bytes that reading all of it gives, across the end of the block and between the planes.
func TestPackedBlob(t *testing.T) {
	block := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 31)
		}
		return b
	}
	b := packedBlob{plane{block(97), 80, 200}, plane{block(33), 16, 70}}
	if b.Size() != 208+70 {
		t.Fatalf("%d bytes", b.Size())
	}
	all := make([]byte, b.Size())
	if n, err := b.ReadAt(all, 0); n != len(all) || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if all[17] != 0 || all[18] != 31 || all[208] != byte(16*31&0xff) {
		t.Errorf("wrong bytes: %v", all)
	}
	for offset := range len(all) {
		for _, n := range []int{1, 7, 64, 190} {
			part := make([]byte, n)
			got, err := b.ReadAt(part, int64(offset))
			if want := min(n, len(all)-offset); got != want || (err != nil) != (want < n) || !bytes.Equal(part[:got], all[offset:offset+got]) {
				t.Fatalf("%d bytes at %d: %d, %v", n, offset, got, err)
			}
		}
	}
}
