// Arithmetic over a row of logits.
//
// Products are converted explicitly so that no platform fuses them with additions: the same logits and seed give the same
// token natively and in the browser.

package sampling

import "math"

// firstNotFinite returns the index of the first NaN or infinity, -1 if there is none.
func firstNotFinite(x []float32) int {
	// A finite number times 0 is 0, anything else NaN, and NaN stays in the sum.
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(x); i += 4 {
		v := x[i : i+4 : i+4]
		s0 += v[0] * 0
		s1 += v[1] * 0
		s2 += v[2] * 0
		s3 += v[3] * 0
	}
	for ; i < len(x); i++ {
		s0 += x[i] * 0
	}
	if s0+s1+s2+s3 == 0 {
		return -1
	}
	for i, v := range x {
		if !isFinite(v) {
			return i
		}
	}
	return -1
}

// maximum returns the largest of x, which is not empty and has no NaN.
func maximum(x []float32) float32 {
	m0, m1, m2, m3 := x[0], x[0], x[0], x[0]
	i := 0
	for ; i+4 <= len(x); i += 4 {
		v := x[i : i+4 : i+4]
		if v[0] > m0 {
			m0 = v[0]
		}
		if v[1] > m1 {
			m1 = v[1]
		}
		if v[2] > m2 {
			m2 = v[2]
		}
		if v[3] > m3 {
			m3 = v[3]
		}
	}
	for ; i < len(x); i++ {
		m0 = max(m0, x[i])
	}
	return max(m0, m1, m2, m3)
}

// logSumExp is log Σ exp x, accumulated in float64.
func logSumExp(x []float32) float64 {
	top := float64(maximum(x))
	var s0, s1 float64
	i := 0
	for ; i+2 <= len(x); i += 2 {
		s0 += exp(float64(x[i]) - top)
		s1 += exp(float64(x[i+1]) - top)
	}
	if i < len(x) {
		s0 += exp(float64(x[i]) - top)
	}
	return top + math.Log(s0+s1)
}

const (
	// Adding 1.5*2^52 to a smaller number rounds it to an integer, which then stands in the lower bits.
	roundMagic = 3 << 51
	log2e16    = 16 / math.Ln2
	ln2by16    = math.Ln2 / 16
)

// exp2by16[j] is 2^(j/16).
var exp2by16 = [16]float64{
	1.0, 1.0442737824274138, 1.0905077326652577, 1.1387886347566916,
	1.189207115002721, 1.241857812073484, 1.2968395546510096, 1.3542555469368927,
	1.4142135623730951, 1.4768261459394993, 1.5422108254079407, 1.6104903319492543,
	1.681792830507429, 1.7562521603732995, 1.8340080864093424, 1.9152065613971474,
}

// exp is e^x for x <= 0, with a relative error below 1e-10; 0 below -690.
//
// x = n ln 2 / 16 + r with |r| <= ln 2 / 32, so e^x = 2^(n/16) e^r; e^r by its Taylor polynomial of degree 4.
func exp(x float64) float64 {
	if x < -690 {
		return 0
	}
	n := float64(x*log2e16) + roundMagic
	r := x - float64((n-roundMagic)*ln2by16)
	r2 := float64(r * r)
	p := 1 + r + float64(r2*(0.5+float64(r*(1.0/6))+float64(r2*(1.0/24))))
	b := math.Float64bits(n)
	return p * exp2by16[b&15] * math.Float64frombits((b>>4+1023)<<52)
}
