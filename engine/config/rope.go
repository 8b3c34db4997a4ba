// Rotary position embedding frequencies, plain and YaRN-scaled, and how large they let a key become.
//
// Source: "YaRN: Efficient Context Window Extension of Large Language Models", arXiv 2309.00071, section 3.2, as
// transformers' _compute_yarn_parameters computes it (float32 tensors, float64 scalars).

package config

import "math"

// InvFreq returns the angle per position of each rotated pair, [HeadDim/2] radians, and the factor that multiplies cos
// and sin (1 without scaling). The angle of pair i at position pos is pos*invFreq[i], both float32.
func (c *Config) InvFreq() (invFreq []float32, attentionFactor float32) {
	half := c.HeadDim / 2
	invFreq = make([]float32, half)
	posFreqs := make([]float32, half) // theta^(2i/HeadDim)
	for i := range posFreqs {
		exponent := float32(2*i) / float32(c.HeadDim)
		posFreqs[i] = float32(math.Pow(c.RopeTheta, float64(exponent)))
		invFreq[i] = 1 / posFreqs[i]
	}
	y := c.RopeScaling
	if y == nil {
		return invFreq, 1
	}
	low, high := y.correctionRange(c.HeadDim, c.RopeTheta)
	for i := range invFreq {
		interpolated := 1 / (float32(y.Factor) * posFreqs[i])
		keep := 1 - ramp(i, low, high) // 1: the pair turns fast enough to be left as it is
		invFreq[i] = float32(interpolated*(1-keep)) + float32(invFreq[i]*keep)
	}
	return invFreq, float32(y.attentionFactor())
}

// KeyBounds returns what no key of a head can exceed, [HeadDim]: after QK-norm and RoPE its entries i and i+HeadDim/2, which
// RoPE turns into one another, are at most sqrt(HeadDim) times the larger of their K-norm gains times YaRN's factor. All
// are positive. A cache may store keys divided by them, if the queries are multiplied: scores stay what they are.
func (c *Config) KeyBounds(kNorm []float32) []float32 {
	_, factor := c.InvFreq()
	half := c.HeadDim / 2
	bounds := make([]float32, c.HeadDim)
	for i := range half {
		gain := max(math.Abs(float64(kNorm[i])), math.Abs(float64(kNorm[i+half])))
		if gain == 0 {
			gain = 1 // the key is zero
		}
		bounds[i] = float32(gain * math.Sqrt(float64(c.HeadDim)) * float64(factor))
		bounds[i+half] = bounds[i]
	}
	return bounds
}

// correctionRange returns the pair indices between which the frequencies pass from extrapolation (below low, more than
// BetaFast rotations in the original context) to interpolation (above high, fewer than BetaSlow).
func (y *YaRN) correctionRange(dim int, base float64) (low, high float64) {
	fast, slow := y.betas()
	correctionDim := func(rotations float64) float64 {
		context := float64(y.OriginalMaxPositionEmbeddings)
		return float64(dim) * math.Log(context/(rotations*2*math.Pi)) / (2 * math.Log(base))
	}
	low, high = correctionDim(fast), correctionDim(slow)
	if !y.NoTruncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(dim-1))
	if low == high {
		high += 0.001 // as in the reference: no division by zero
	}
	return low, high
}

// ramp rises from 0 at low to 1 at high.
func ramp(i int, low, high float64) float32 {
	r := (float32(i) - float32(low)) / float32(high-low)
	return min(max(r, 0), 1)
}

func (y *YaRN) betas() (fast, slow float64) {
	fast, slow = y.BetaFast, y.BetaSlow
	if fast == 0 {
		fast = 32
	}
	if slow == 0 {
		slow = 1
	}
	return fast, slow
}

func (y *YaRN) attentionFactor() float64 {
	if y.AttentionFactor != 0 {
		return y.AttentionFactor
	}
	return yarnMScale(y.Factor, 1)
}

func yarnMScale(factor, mscale float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 0.1*mscale*math.Log(factor) + 1
}
