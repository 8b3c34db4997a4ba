// The inner loops: widening packed rows and multiplying them with float32 activations.
//
// All dot products keep eight partial sums, of which sum j adds the products of elements j, j+8, j+16, … in order. So a
// packed row gives the same bits whether it is widened first or on the fly.

package ref

import (
	"encoding/binary"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
)

// int8Values and int4Values widen integer codes: a load is cheaper than a conversion.
var (
	int8Values [256]float32 // by byte: int8
	int4Values [16]float32  // by nibble: nibble-8
)

func init() {
	for i := range int8Values {
		int8Values[i] = float32(int8(i))
	}
	for i := range int4Values {
		int4Values[i] = float32(i - 8)
	}
}

func bf16(b []byte) float32 {
	return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
}

func f16(b []byte) float32 { return half.F16ToF32(binary.LittleEndian.Uint16(b)) }

// dot is Σ a[i]*b[i]; a and b are of equal length.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for len(a) >= 32 && len(b) >= 32 {
		u, v := (*[32]float32)(a), (*[32]float32)(b)
		s0 += u[0] * v[0]
		s1 += u[1] * v[1]
		s2 += u[2] * v[2]
		s3 += u[3] * v[3]
		s4 += u[4] * v[4]
		s5 += u[5] * v[5]
		s6 += u[6] * v[6]
		s7 += u[7] * v[7]
		s0 += u[8] * v[8]
		s1 += u[9] * v[9]
		s2 += u[10] * v[10]
		s3 += u[11] * v[11]
		s4 += u[12] * v[12]
		s5 += u[13] * v[13]
		s6 += u[14] * v[14]
		s7 += u[15] * v[15]
		s0 += u[16] * v[16]
		s1 += u[17] * v[17]
		s2 += u[18] * v[18]
		s3 += u[19] * v[19]
		s4 += u[20] * v[20]
		s5 += u[21] * v[21]
		s6 += u[22] * v[22]
		s7 += u[23] * v[23]
		s0 += u[24] * v[24]
		s1 += u[25] * v[25]
		s2 += u[26] * v[26]
		s3 += u[27] * v[27]
		s4 += u[28] * v[28]
		s5 += u[29] * v[29]
		s6 += u[30] * v[30]
		s7 += u[31] * v[31]
		a, b = a[32:], b[32:]
	}
	for len(a) >= 8 && len(b) >= 8 {
		u, v := (*[8]float32)(a), (*[8]float32)(b)
		s0 += u[0] * v[0]
		s1 += u[1] * v[1]
		s2 += u[2] * v[2]
		s3 += u[3] * v[3]
		s4 += u[4] * v[4]
		s5 += u[5] * v[5]
		s6 += u[6] * v[6]
		s7 += u[7] * v[7]
		a, b = a[8:], b[8:]
	}
	sum := sumOf(s0, s1, s2, s3, s4, s5, s6, s7)
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

// sumOf adds the partial sums pairwise.
func sumOf(s0, s1, s2, s3, s4, s5, s6, s7 float32) float32 {
	return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))
}

// addScaled is dst += Σ weights[i]*rows[i], row after row; rows is [len(weights), len(dst)].
func addScaled(dst, rows, weights []float32) {
	n := len(dst)
	for len(weights) >= 4 {
		w0, w1, w2, w3 := weights[0], weights[1], weights[2], weights[3]
		r0, r1, r2, r3 := rows[:n], rows[n:][:n], rows[2*n:][:n], rows[3*n:][:n]
		for i, v := range dst {
			v += w0 * r0[i]
			v += w1 * r1[i]
			v += w2 * r2[i]
			v += w3 * r3[i]
			dst[i] = v
		}
		weights, rows = weights[4:], rows[4*n:]
	}
	for _, w := range weights {
		for i, v := range rows[:n] {
			dst[i] += w * v
		}
		rows = rows[n:]
	}
}

// dotBF16 is a bf16 row times x; len(x) is a multiple of 8.
func dotBF16(w []byte, x []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for len(w) >= 16 && len(x) >= 8 {
		u, v := (*[16]byte)(w), (*[8]float32)(x)
		s0 += bf16(u[0:2]) * v[0]
		s1 += bf16(u[2:4]) * v[1]
		s2 += bf16(u[4:6]) * v[2]
		s3 += bf16(u[6:8]) * v[3]
		s4 += bf16(u[8:10]) * v[4]
		s5 += bf16(u[10:12]) * v[5]
		s6 += bf16(u[12:14]) * v[6]
		s7 += bf16(u[14:16]) * v[7]
		w, x = w[16:], x[8:]
	}
	return sumOf(s0, s1, s2, s3, s4, s5, s6, s7)
}

// dotQ8 is a q8 row times x; len(x) is a multiple of 32.
func dotQ8(w, scales []byte, x []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for len(w) >= 32 && len(x) >= 32 && len(scales) >= 2 {
		scale, group, in := f16(scales), (*[32]byte)(w), (*[32]float32)(x)
		for i := 0; i < 32; i += 8 {
			u, v := group[i:i+8:i+8], in[i:i+8:i+8]
			s0 += (int8Values[u[0]] * scale) * v[0]
			s1 += (int8Values[u[1]] * scale) * v[1]
			s2 += (int8Values[u[2]] * scale) * v[2]
			s3 += (int8Values[u[3]] * scale) * v[3]
			s4 += (int8Values[u[4]] * scale) * v[4]
			s5 += (int8Values[u[5]] * scale) * v[5]
			s6 += (int8Values[u[6]] * scale) * v[6]
			s7 += (int8Values[u[7]] * scale) * v[7]
		}
		w, x, scales = w[32:], x[32:], scales[2:]
	}
	return sumOf(s0, s1, s2, s3, s4, s5, s6, s7)
}

// dotQ4 is a q4 row times x; len(x) is a multiple of 32.
func dotQ4(w, scales []byte, x []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for len(w) >= 16 && len(x) >= 32 && len(scales) >= 2 {
		scale := f16(scales)
		for i := 0; i < 4; i++ {
			u, v := binary.LittleEndian.Uint32(w[4*i:]), (*[8]float32)(x[8*i:])
			s0 += (int4Values[u&15] * scale) * v[0]
			s1 += (int4Values[u>>4&15] * scale) * v[1]
			s2 += (int4Values[u>>8&15] * scale) * v[2]
			s3 += (int4Values[u>>12&15] * scale) * v[3]
			s4 += (int4Values[u>>16&15] * scale) * v[4]
			s5 += (int4Values[u>>20&15] * scale) * v[5]
			s6 += (int4Values[u>>24&15] * scale) * v[6]
			s7 += (int4Values[u>>28] * scale) * v[7]
		}
		w, x, scales = w[16:], x[32:], scales[2:]
	}
	return sumOf(s0, s1, s2, s3, s4, s5, s6, s7)
}

// decodeBF16 widens a bf16 row; len(dst) is a multiple of 8.
func decodeBF16(dst []float32, w []byte) {
	for len(dst) >= 8 && len(w) >= 16 {
		d, u := (*[8]float32)(dst), (*[16]byte)(w)
		d[0], d[1], d[2], d[3] = bf16(u[0:2]), bf16(u[2:4]), bf16(u[4:6]), bf16(u[6:8])
		d[4], d[5], d[6], d[7] = bf16(u[8:10]), bf16(u[10:12]), bf16(u[12:14]), bf16(u[14:16])
		dst, w = dst[8:], w[16:]
	}
}

// decodeQ8 widens a q8 row; len(dst) is a multiple of 32.
func decodeQ8(dst []float32, w, scales []byte) {
	for len(dst) >= 32 && len(w) >= 32 && len(scales) >= 2 {
		scale, group, out := f16(scales), (*[32]byte)(w), (*[32]float32)(dst)
		for i := 0; i < 32; i += 8 {
			d, u := out[i:i+8:i+8], group[i:i+8:i+8]
			d[0], d[1] = int8Values[u[0]]*scale, int8Values[u[1]]*scale
			d[2], d[3] = int8Values[u[2]]*scale, int8Values[u[3]]*scale
			d[4], d[5] = int8Values[u[4]]*scale, int8Values[u[5]]*scale
			d[6], d[7] = int8Values[u[6]]*scale, int8Values[u[7]]*scale
		}
		dst, w, scales = dst[32:], w[32:], scales[2:]
	}
}

// decodeQ4 widens a q4 row; len(dst) is a multiple of 32.
func decodeQ4(dst []float32, w, scales []byte) {
	for len(dst) >= 32 && len(w) >= 16 && len(scales) >= 2 {
		scale := f16(scales)
		for i := 0; i < 4; i++ {
			u, d := binary.LittleEndian.Uint32(w[4*i:]), (*[8]float32)(dst[8*i:])
			d[0], d[1] = int4Values[u&15]*scale, int4Values[u>>4&15]*scale
			d[2], d[3] = int4Values[u>>8&15]*scale, int4Values[u>>12&15]*scale
			d[4], d[5] = int4Values[u>>16&15]*scale, int4Values[u>>20&15]*scale
			d[6], d[7] = int4Values[u>>24&15]*scale, int4Values[u>>28]*scale
		}
		dst, w, scales = dst[32:], w[16:], scales[2:]
	}
}
