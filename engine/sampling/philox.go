// Random numbers without state: Philox4x32-10 of (seed, position).
//
// A token's random number depends only on the seed and on the token's position in the text, so a text can be continued,
// replayed or sampled on another device with the same draws.

package sampling

import "math/bits"

const (
	philoxM0, philoxM1 = 0xD2511F53, 0xCD9E8D57 // multipliers
	philoxW0, philoxW1 = 0x9E3779B9, 0xBB67AE85 // key increments
)

// Philox4x32 is the Philox4x32-10 block function (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//
// All arithmetic is modulo 2^32. Ten times: (c0, c1, c2, c3) becomes
//
//	(hi(M1*c2) ^ c1 ^ k0, lo(M1*c2), hi(M0*c0) ^ c3 ^ k1, lo(M0*c0))
//
// and then k0 += W0, k1 += W1. lo is the ordinary u32 product; WGSL has no 64-bit product, so there
//
//	fn mul_hi(a: u32, b: u32) -> u32 {
//	    let al = a & 0xffffu; let ah = a >> 16u; let bl = b & 0xffffu; let bh = b >> 16u;
//	    let mid = ah * bl + ((al * bl) >> 16u);          // cannot overflow
//	    let low = al * bh + (mid & 0xffffu);             // cannot overflow
//	    return ah * bh + (mid >> 16u) + (low >> 16u);
//	}
func Philox4x32(counter [4]uint32, key [2]uint32) [4]uint32 {
	c0, c1, c2, c3 := counter[0], counter[1], counter[2], counter[3]
	k0, k1 := key[0], key[1]
	for range 10 {
		hi0, lo0 := bits.Mul32(philoxM0, c0)
		hi1, lo1 := bits.Mul32(philoxM1, c2)
		c0, c1, c2, c3 = hi1^c1^k0, lo1, hi0^c3^k1, lo0
		k0 += philoxW0
		k1 += philoxW1
	}
	return [4]uint32{c0, c1, c2, c3}
}

// UniformBits is the random number in [0, 2^24) of the token at a position (the number of tokens before it, prompt included).
//
// counter = (position low 32 bits, position high 32 bits, 0, 0), key = (seed low, seed high), and the result is word0 >> 8:
// the upper 24 bits of the first output word, which float32 holds exactly.
func UniformBits(seed, position uint64) uint32 {
	out := Philox4x32([4]uint32{uint32(position), uint32(position >> 32)}, [2]uint32{uint32(seed), uint32(seed >> 32)})
	return out[0] >> 8
}

// Uniform is UniformBits * 2^-24, in [0, 1).
func Uniform(seed, position uint64) float32 {
	return float32(UniformBits(seed, position)) * (1.0 / (1 << 24))
}
