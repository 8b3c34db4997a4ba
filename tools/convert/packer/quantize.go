// Choosing scales and codes for groups of 32 weights.
//
// For a fixed inverse scale the best codes are the rounded, clamped products; for fixed codes q the best scale is
// Σwq/Σqq, and the squared error is then Σww - (Σwq)²/Σqq. So several inverse scales around the largest weight's are
// tried, and the one whose codes have the largest (Σwq)²/Σqq wins: least squares instead of the largest weight alone.
// Products are converted explicitly before they are added, which forbids fusing: every machine writes the same bytes.

package packer

import (
	"encoding/binary"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
)

// rowStats sums up what packing a row cost.
type rowStats struct {
	errSq, normSq float64
	maxAbs        float64
}

// group is the weights that share a scale.
type group = [weights.GroupSize]float32

// maxF16 is the largest scale that a scale plane can hold.
const maxF16 = 65504

// q4Levels are the codes tried for the weight of largest magnitude; beyond -8 and 7 it is clipped. Signs are tried by
// the sign of the scale.
var q4Levels = [...]float32{
	-9.2, -8.8, -8.4, -8.0, -7.7, -7.4, -7.1, -6.8, -6.4,
	8.0, 7.6, 7.3, 7.0, 6.7, 6.4, 6.1,
}

// q8Levels are the codes tried for the weight of largest magnitude. -128 is never used, so that readers may unpack
// with unpack4x8snorm, which maps it to the value of -127.
var q8Levels = [...]float32{127.45, 127, 126.5, 126, 125.5, 125, 124.3, 123.5, 122.5, 121.5}

// peak returns the weight of largest magnitude, with its sign.
func peak(w *group) float32 {
	var top, topAbs float32
	for _, v := range w {
		if a := float32(math.Abs(float64(v))); a > topAbs {
			top, topAbs = v, a
		}
	}
	return top
}

// quantizeQ4 writes the 16 bytes of codes and returns the scale as f16 bits. ok is false where no f16 scale is large
// enough.
func quantizeQ4(w *group, codes []byte, s *rowStats) (scale uint16, ok bool) {
	top := peak(w)
	if top != 0 {
		best, bestScale := float32(-1), float32(0)
		for _, level := range q4Levels {
			inverse := level / top
			if math.IsInf(float64(inverse), 0) {
				continue // top is subnormal: its scale rounds to 0 anyway
			}
			wq, qq := fit(w, inverse, 8, 15)
			if gain := wq * (wq / qq); gain > best {
				best, bestScale = gain, wq/qq
			}
		}
		scale = half.F32ToF16(bestScale)
		if scale&0x7fff > 0x7bff {
			return 0, false
		}
	}
	inverse, value := inverseOf(scale)
	for i := range codes[:16] {
		low := code(w[2*i], inverse, 8, 15)
		high := code(w[2*i+1], inverse, 8, 15)
		s.add(w[2*i], float32(low-8)*value)
		s.add(w[2*i+1], float32(high-8)*value)
		codes[i] = byte(low | high<<4)
	}
	return scale, true
}

// quantizeQ8 writes the 32 codes and returns the scale as f16 bits.
func quantizeQ8(w *group, codes []byte, s *rowStats) (scale uint16, ok bool) {
	top := float32(math.Abs(float64(peak(w))))
	if top != 0 {
		best, bestScale := float32(-1), float32(0)
		for _, level := range q8Levels {
			inverse := level / top
			if math.IsInf(float64(inverse), 0) {
				continue
			}
			wq, qq := fit(w, inverse, 127, 254)
			if gain := wq * (wq / qq); gain > best {
				best, bestScale = gain, wq/qq
			}
		}
		scale = half.F32ToF16(bestScale)
		if scale&0x7fff > 0x7bff {
			return 0, false
		}
	}
	inverse, value := inverseOf(scale)
	for i, v := range w {
		q := code(v, inverse, 127, 254) - 127
		s.add(v, float32(q)*value)
		codes[i] = byte(int8(q))
	}
	return scale, true
}

// inverseOf returns 1/scale (0 for a zero scale) and the scale.
func inverseOf(scale uint16) (inverse, value float32) {
	value = half.F16ToF32(scale)
	if value == 0 {
		return 0, 0
	}
	return 1 / value, value
}

// code is round(w*inverse)+zero clamped to 0..top. The conversion truncates, hence the half; what is below 0 clamps.
func code(w, inverse, zero float32, top int32) int32 {
	return max(0, min(int32(float32(w*inverse)+(zero+0.5)), top))
}

// fit returns Σwq and Σqq of the codes at an inverse scale; four sums each, so that additions need not wait.
func fit(w *group, inverse, zero float32, top int32) (wq, qq float32) {
	var a, b [4]float32
	for i := 0; i < len(w); i += 4 {
		q0 := float32(code(w[i], inverse, zero, top)) - zero
		q1 := float32(code(w[i+1], inverse, zero, top)) - zero
		q2 := float32(code(w[i+2], inverse, zero, top)) - zero
		q3 := float32(code(w[i+3], inverse, zero, top)) - zero
		a[0] += float32(w[i] * q0)
		a[1] += float32(w[i+1] * q1)
		a[2] += float32(w[i+2] * q2)
		a[3] += float32(w[i+3] * q3)
		b[0] += float32(q0 * q0)
		b[1] += float32(q1 * q1)
		b[2] += float32(q2 * q2)
		b[3] += float32(q3 * q3)
	}
	return (a[0] + a[1]) + (a[2] + a[3]), (b[0] + b[1]) + (b[2] + b[3])
}

// add records a weight and what it became.
func (s *rowStats) add(w, packed float32) {
	d := float64(w) - float64(packed)
	s.errSq += float64(d * d)
	s.normSq += float64(float64(w) * float64(w))
	if a := math.Abs(d); a > s.maxAbs {
		s.maxAbs = a
	}
}

// packRow encodes one row of stride weights (zero padded). ok is false where a group at the returned column is too
// large for an f16 scale, or a weight for bf16.
func packRow(d weights.DType, row []float32, data, scales []byte, s *rowStats) (col int, ok bool) {
	switch d {
	case weights.BF16:
		for i, v := range row {
			h := half.F32ToBF16(v)
			if h&0x7f80 == 0x7f80 {
				return i, false
			}
			s.add(v, half.BF16ToF32(h))
			binary.LittleEndian.PutUint16(data[2*i:], h)
		}
	case weights.Q8:
		for i := 0; i < len(row); i += weights.GroupSize {
			scale, ok := quantizeQ8((*group)(row[i:]), data[i:], s)
			if !ok {
				return i, false
			}
			binary.LittleEndian.PutUint16(scales[i/weights.GroupSize*2:], scale)
		}
	case weights.Q4:
		for i := 0; i < len(row); i += weights.GroupSize {
			scale, ok := quantizeQ4((*group)(row[i:]), data[i/2:], s)
			if !ok {
				return i, false
			}
			binary.LittleEndian.PutUint16(scales[i/weights.GroupSize*2:], scale)
		}
	}
	return 0, true
}
