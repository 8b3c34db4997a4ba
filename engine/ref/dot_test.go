package ref

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
)

// randomMatrix has random codes; bf16 weights are finite.
func randomMatrix(dtype weights.DType, rows, cols int) *matrix {
	rng := rand.New(rand.NewPCG(1, uint64(cols)))
	stride := weights.Stride(cols)
	m := &matrix{dtype: dtype, rows: rows, cols: cols, stride: stride,
		dataRow: int(dtype.DataRowBytes(stride)), scaleRow: int(dtype.ScaleRowBytes(stride))}
	m.data, m.scales = make([]byte, rows*m.dataRow), make([]byte, rows*m.scaleRow)
	for i := range m.data {
		m.data[i] = byte(rng.Uint32())
	}
	if dtype == weights.BF16 {
		for i := 0; i < len(m.data); i += 2 {
			binary.LittleEndian.PutUint16(m.data[i:], half.F32ToBF16(float32(rng.NormFloat64())))
		}
	}
	for i := 0; i < len(m.scales); i += 2 {
		binary.LittleEndian.PutUint16(m.scales[i:], half.F32ToF16(float32(rng.NormFloat64())/64))
	}
	return m
}

func randomFloats(n int) []float32 {
	rng := rand.New(rand.NewPCG(2, uint64(n)))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// Rows decode as the weights package says, and multiply on the fly to the same bits as decoded.
func TestRows(t *testing.T) {
	for _, dtype := range []weights.DType{weights.BF16, weights.Q8, weights.Q4} {
		for _, cols := range []int{1, 31, 32, 33, 64, 250} {
			m := randomMatrix(dtype, 3, cols)
			x := randomFloats(m.stride)
			want, got := make([]float32, m.stride), make([]float32, m.stride)
			for i := range m.rows {
				data, scales := m.row(i)
				dtype.DecodeRow(want, data, scales)
				m.decodeRow(got, i)
				if !slices.Equal(want, got) {
					t.Errorf("%s, %d columns: row %d decodes to %v, want %v", dtype, cols, i, got, want)
				}
				if a, b := m.dotRow(i, x), dot(want, x); a != b {
					t.Errorf("%s, %d columns: row %d on the fly gives %g, decoded %g", dtype, cols, i, a, b)
				}
			}
		}
	}
}

func TestDot(t *testing.T) {
	for n := range 100 {
		a, b := randomFloats(n), randomFloats(n + 1)[1:]
		var want, size float64
		for i := range a {
			want += float64(a[i]) * float64(b[i])
			size += math.Abs(float64(a[i]) * float64(b[i]))
		}
		if got := float64(dot(a, b)); math.Abs(got-want) > 1e-6*size {
			t.Errorf("dot of %d: %g, want %g", n, got, want)
		}
	}
}

func TestAddScaled(t *testing.T) {
	for rows := range 11 {
		const n = 5
		m, w := randomFloats(rows*n), randomFloats(rows)
		got := []float32{1, 2, 3, 4, 5}
		want := slices.Clone(got)
		for r := range rows {
			for i := range want {
				want[i] += w[r] * m[r*n+i]
			}
		}
		addScaled(got, m, w)
		if !slices.Equal(got, want) {
			t.Errorf("%d rows: %v, want %v", rows, got, want)
		}
	}
}

func TestWidenFinite(t *testing.T) {
	for h := range 1 << 16 {
		if h&0x7c00 == 0x7c00 {
			continue
		}
		if got, want := widenFinite(uint16(h)), half.F16ToF32(uint16(h)); math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("%#04x: %g, want %g", h, got, want)
		}
	}
}

// The inner loops on one core: go test -bench Rows ./engine/ref
func BenchmarkRows(b *testing.B) {
	const cols = 1024
	x, wide := randomFloats(cols), randomFloats(cols)
	report := func(b *testing.B) {
		b.ReportMetric(2*cols*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	}
	b.Run("dot/f32", func(b *testing.B) {
		for b.Loop() {
			dot(wide, x)
		}
		report(b)
	})
	for _, dtype := range []weights.DType{weights.BF16, weights.Q8, weights.Q4} {
		m := randomMatrix(dtype, 1, cols)
		b.Run(fmt.Sprintf("dot/%s", dtype), func(b *testing.B) {
			for b.Loop() {
				m.dotRow(0, x)
			}
			report(b)
		})
		b.Run(fmt.Sprintf("decode/%s", dtype), func(b *testing.B) {
			for b.Loop() {
				m.decodeRow(wide, 0)
			}
			b.ReportMetric(cols*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gweights/s")
		})
	}
}
