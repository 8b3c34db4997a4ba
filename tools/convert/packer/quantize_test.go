package packer

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
)

// quantize runs one group through the packer's encoder and the reader's decoder.
func quantize(t *testing.T, d weights.DType, w *group) (back group, s rowStats, ok bool) {
	t.Helper()
	data, scales := make([]byte, 64), make([]byte, 2)
	_, ok = packRow(d, w[:], data, scales, &s)
	d.DecodeRow(back[:], data, scales)
	return back, s, ok
}

// bestError is the least squared error of any scale, found by trying very many.
func bestError(w *group, low, high float64) float64 {
	var top float64
	for _, v := range w {
		top = max(top, math.Abs(float64(v)))
	}
	best := math.Inf(1)
	for _, sign := range []float64{1, -1} {
		for code := 0.5 * high; code < 1.4*high; code *= 1.0005 {
			scale := sign * top / code
			var sum float64
			for _, v := range w {
				q := min(max(math.Round(float64(v)/scale), low), high)
				e := float64(v) - q*scale
				sum += e * e
			}
			best = min(best, sum)
		}
	}
	return best
}

// The few scales tried come close to the best of thousands, and what the encoder reports is what the decoder gives.
func TestNearlyBestScale(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, tc := range []struct {
		dtype     weights.DType
		low, high float64
		within    float64 // of the best possible squared error, over all groups
	}{{weights.Q4, -8, 7, 1.01}, {weights.Q8, -127, 127, 1.10}} {
		var sum, sumBest float64
		for i := range 300 {
			var w group
			for j := range w {
				w[j] = float32(rng.NormFloat64() * 0.02)
				if i%3 == 0 {
					w[j] *= float32(rng.ExpFloat64()) // heavier tails
				}
			}
			back, s, ok := quantize(t, tc.dtype, &w)
			if !ok {
				t.Fatal("refused")
			}
			var errSq float64
			for j := range w {
				e := float64(w[j]) - float64(back[j])
				errSq += e * e
			}
			if math.Abs(errSq-s.errSq) > 1e-12*errSq {
				t.Fatalf("%s: error %v, reported %v", tc.dtype, errSq, s.errSq)
			}
			best := bestError(&w, tc.low, tc.high)
			sum += errSq / s.normSq
			sumBest += best / s.normSq
			if errSq > best*2.5 {
				t.Errorf("%s: group %d has error %v, the best scale gives %v", tc.dtype, i, errSq, best)
			}
		}
		t.Logf("%s: squared error %.4f times the best scale's", tc.dtype, sum/sumBest)
		if sum > tc.within*sumBest {
			t.Errorf("%s: squared error %v, the best scales give %v", tc.dtype, sum, sumBest)
		}
	}
}

func TestEdgeGroups(t *testing.T) {
	fill := func(v float32, first ...float32) *group {
		var w group
		for i := range w {
			w[i] = v
		}
		copy(w[:], first)
		return &w
	}
	for _, tc := range []struct {
		name   string
		w      *group
		q4, q8 float64 // the largest error allowed, in parts of the largest weight
	}{
		{"zeros", fill(0), 0, 0},
		{"one weight", fill(0, 0.37), 1e-3, 1e-3},
		{"one negative weight", fill(0, -0.37), 1e-3, 1e-3},
		{"equal", fill(-0.125), 1e-3, 1e-3},
		{"two signs", fill(1, -1, -1), 0.07, 0.004},
		{"an outlier", fill(0.01, 5), 0.01, 0.004},
		{"large", fill(1000, -60000), 0.08, 0.004},
		{"the smallest scale", fill(0, 8*0x1p-24), 1e-9, 1},
	} {
		for d, tol := range map[weights.DType]float64{weights.Q4: tc.q4, weights.Q8: tc.q8} {
			back, s, ok := quantize(t, d, tc.w)
			if !ok {
				t.Errorf("%s: refused by %s", tc.name, d)
			}
			top := math.Abs(float64(peak(tc.w)))
			for i := range tc.w {
				if e := math.Abs(float64(tc.w[i]) - float64(back[i])); e > tol*top || e > s.maxAbs {
					t.Errorf("%s, %s: %v became %v (max error reported %v)", tc.name, d, tc.w[i], back[i], s.maxAbs)
				}
			}
		}
	}
	// Weights below every f16 scale become zero, and the report says so.
	for _, tiny := range []float32{1e-9, 1e-40, math.SmallestNonzeroFloat32} {
		for _, d := range []weights.DType{weights.Q4, weights.Q8} {
			back, s, ok := quantize(t, d, fill(tiny))
			if !ok || back != (group{}) || s.maxAbs != float64(tiny) {
				t.Errorf("%v in %s: %v, %+v, %v", tiny, d, back[0], s, ok)
			}
		}
	}
	// Weights beyond every f16 scale are refused.
	for d, least := range map[weights.DType]float32{weights.Q4: 8.6 * 65504, weights.Q8: 128 * 65504} {
		if _, _, ok := quantize(t, d, fill(0, -least)); ok {
			t.Errorf("%s took %v", d, least)
		}
		if _, _, ok := quantize(t, d, fill(0, least)); ok {
			t.Errorf("%s took %v", d, least)
		}
	}
	if _, _, ok := quantize(t, weights.BF16, fill(0, math.MaxFloat32)); ok {
		t.Error("bf16 took the largest float32")
	}
	if back, _, ok := quantize(t, weights.BF16, fill(0.1)); !ok || back[0] != half.BF16ToF32(half.F32ToBF16(0.1)) {
		t.Errorf("bf16: %v", back[0])
	}
}

func BenchmarkQuantize(b *testing.B) {
	rng := rand.New(rand.NewPCG(5, 6))
	row := make([]float32, 1024)
	for i := range row {
		row[i] = float32(rng.NormFloat64())
	}
	data, scales := make([]byte, 2048), make([]byte, 64)
	for _, d := range []weights.DType{weights.BF16, weights.Q8, weights.Q4} {
		b.Run(string(d), func(b *testing.B) {
			b.SetBytes(int64(len(row)) * 2) // of a bf16 checkpoint
			var s rowStats
			for b.Loop() {
				packRow(d, row, data, scales, &s)
			}
		})
	}
}
