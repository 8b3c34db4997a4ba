package half

import (
	"math"
	"math/rand/v2"
	"sort"
	"testing"
)

func TestF16RoundTrip(t *testing.T) {
	for h := range 1 << 16 {
		f := F16ToF32(uint16(h))
		if f != f {
			if g := F32ToF16(f); g&0x7c00 != 0x7c00 || g&0x3ff == 0 {
				t.Fatalf("NaN %#04x became %#04x", h, g)
			}
			continue
		}
		if g := F32ToF16(f); g != uint16(h) {
			t.Fatalf("%#04x is %v, which became %#04x", h, f, g)
		}
	}
	for _, tc := range []struct {
		h uint16
		f float64
	}{{0x3c00, 1}, {0xc000, -2}, {0x7bff, 65504}, {0x0001, 0x1p-24}, {0x03ff, 1023 * 0x1p-24}, {0x0400, 0x1p-14}, {0x7c00, math.Inf(1)}, {0xfc00, math.Inf(-1)}} {
		if got := float64(F16ToF32(tc.h)); got != tc.f {
			t.Errorf("%#04x is %v, want %v", tc.h, got, tc.f)
		}
	}
	if F32ToF16(float32(math.Copysign(0, -1))) != 0x8000 {
		t.Error("the sign of zero is lost")
	}
}

// Rounding is compared with a search among all finite values, in float64.
func TestRoundsToNearestEven(t *testing.T) {
	for _, format := range []struct {
		name     string
		widen    func(uint16) float32
		round    func(float32) uint16
		infinity uint16
		step     float64 // from the largest finite value to what would come next
	}{{"f16", F16ToF32, F32ToF16, 0x7c00, 32}, {"bf16", BF16ToF32, F32ToBF16, 0x7f80, 0x1p120}} {
		values := make([]float64, format.infinity)
		for h := range values {
			values[h] = float64(format.widen(uint16(h)))
		}
		nearest := func(f float64) uint16 {
			if top := values[len(values)-1]; f >= top {
				if f < top+format.step/2 {
					return uint16(len(values) - 1)
				}
				return format.infinity
			}
			i := sort.SearchFloat64s(values, f) // values[i-1] < f <= values[i]
			if values[i] == f {
				return uint16(i)
			}
			down, up := f-values[i-1], values[i]-f
			if down < up || down == up && (i-1)%2 == 0 {
				return uint16(i - 1)
			}
			return uint16(i)
		}
		check := func(f float32) {
			t.Helper()
			if got, want := format.round(f), nearest(float64(f)); got != want {
				t.Fatalf("%s: %v (%#08x) became %#04x, want %#04x", format.name, f, math.Float32bits(f), got, want)
			}
			if got, want := format.round(-f), nearest(float64(f))|0x8000; got != want {
				t.Fatalf("%s: %v became %#04x, want %#04x", format.name, -f, got, want)
			}
		}
		for i := 1; i < len(values); i++ { // every value, every midpoint and its neighbours
			mid := float32((values[i-1] + values[i]) / 2)
			for _, f := range []float32{float32(values[i]), mid, math.Nextafter32(mid, 0), math.Nextafter32(mid, math.MaxFloat32)} {
				check(f)
			}
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for range 200_000 {
			if f := math.Float32frombits(rng.Uint32() & 0x7fffffff); f == f && !math.IsInf(float64(f), 0) {
				check(f)
			}
		}
	}
	if got := F32ToBF16(float32(math.NaN())); !math.IsNaN(float64(BF16ToF32(got))) {
		t.Error("NaN is lost in bf16")
	}
	if got := F32ToBF16(math.Float32frombits(0x7f800001)); got&0x7f == 0 {
		t.Error("a signalling NaN became infinity in bf16")
	}
	if F32ToF16(float32(math.Inf(-1))) != 0xfc00 || F32ToBF16(float32(math.Inf(1))) != 0x7f80 {
		t.Error("infinity is lost")
	}
}
