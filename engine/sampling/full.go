// Drawing from the whole vocabulary without sorting it, in integers.
//
// Over so many weights float sums depend on their order, and a GPU adds in another one. So a score becomes an integer
// distance from the best, a weight an integer function of that distance, and every sum is exact: whoever adds, in whatever
// order, draws the same token (sample_weights.wgsl and sample_full.wgsl do). Weights are summed into buckets by the leading bits
// of the distance; a point of the cumulative distribution is then found by descending into one bucket, by the next bits,
// and so on: a few passes over at most the whole row, whatever the distribution.

package sampling

import (
	"math"
	"math/bits"
	"slices"
)

// distanceBits are the bits behind the point of a distance. Distances are less than 64.
const distanceBits = 25

// tooFar is the distance of what is not drawn: less than 2^-64 as likely as the best.
const tooFar = math.MaxUint32

// FullDraw is what a draw from the whole vocabulary needs of the parameters, as the GPU takes it.
type FullDraw struct {
	Scale     float32 // log2(e)/T
	TopP      uint32  // top_p * 2^32, rounded down; 0: off
	MinWeight uint64  // weights below it are cut off by min_p
	Shift     uint32  // the largest weight is (2^32 - 1) << Shift
}

// FullDraw prepares draws from the ids below AllowedVocab of a row of vocab logits. Temperature is not 0.
func (p Params) FullDraw(vocab int) FullDraw {
	if p.AllowedVocab > 0 {
		vocab = p.AllowedVocab
	}
	d := FullDraw{
		Scale: float32(min(math.Log2E/float64(p.Temperature), 1e30)),
		Shift: uint32(31 - bits.Len(uint(vocab))), // the sum of all is less than 2^63
	}
	if p.TopP < 1 {
		d.TopP = uint32(math.Ldexp(float64(p.TopP), 32))
		d.TopP = max(d.TopP, 1)
	}
	d.MinWeight = uint64(math.Ceil(float64(p.MinP) * float64(d.weight(0))))
	return d
}

// distance is (top - score)/T in powers of two, to 25 bits behind the point, rounded down.
func (d *FullDraw) distance(top, score float32) uint32 {
	x := float32(min(float32(top-score), 1e6) * d.Scale)
	if x >= 64 {
		return tooFar
	}
	return uint32(x * (1 << distanceBits))
}

// weight is 2^-distance. Its first 32 bits are the Taylor polynomial of 2^-f of degree 9, f the distance's fraction.
func (d *FullDraw) weight(distance uint32) uint64 {
	if distance == tooFar {
		return 0
	}
	f := uint64(distance << (32 - distanceBits))
	r := uint64(0x1b5) // ln(2)^n/n! * 2^32 for n = 9 to 1
	r = 0x162c - r*f>>32
	r = 0xffe6 - r*f>>32
	r = 0xa1849 - r*f>>32
	r = 0x576200 - r*f>>32
	r = 0x276556e - r*f>>32
	r = 0xe35846c - r*f>>32
	r = 0x3d7f7bff - r*f>>32
	r = 0xb17217f8 - r*f>>32
	r = 0xffffffff - r*f>>32
	return r << d.Shift >> (distance >> distanceBits)
}

// fraction is the first 32 bits behind the point of q/2^32 * sum, rounded down.
func fraction(sum uint64, q uint32) uint64 {
	hi, lo := bits.Mul64(sum, uint64(q))
	return hi<<32 | lo>>32
}

const (
	bucketBits = 11
	numBuckets = 1 << bucketBits
)

// bucketShifts take a distance's bits 30..20, 19..9, 8..0.
var bucketShifts = [...]uint{20, 9, 0}

// fullDistribution is scratch for draw.
type fullDistribution struct {
	distances []uint32           // [vocab]
	weights   []uint64           // [vocab]
	sums      [numBuckets]uint64 // weights by the distance's upper 11 bits
	part      [numBuckets]uint64 // the same within one bucket
	members   []int32            // ids of one bucket, ascending
}

// draw does steps 4 and 6 to 8 of the package documentation on scores, whose largest is top; u is UniformBits.
func (d *fullDistribution) draw(scores []float32, top float32, p *Params, u uint32) int32 {
	if cap(d.weights) < len(scores) {
		d.distances, d.weights = make([]uint32, len(scores)), make([]uint64, len(scores))
	}
	d.distances, d.weights = d.distances[:len(scores)], d.weights[:len(scores)]
	clear(d.sums[:])
	full := p.FullDraw(len(scores))
	var sum, sumMinP uint64
	for id, v := range scores {
		x := full.distance(top, v)
		w := full.weight(x)
		d.distances[id], d.weights[id] = x, w
		if w == 0 {
			continue
		}
		d.sums[x>>bucketShifts[0]] += w
		sum += w
		if w >= full.MinWeight {
			sumMinP += w
		}
	}
	// What top-p keeps and what min-p keeps both begin at the top: the smaller of the two sums is that of their
	// intersection.
	kept := sumMinP
	if full.TopP > 0 {
		reached := max(fraction(sum, full.TopP), 1)
		id, before := d.find(reached - 1)
		kept = min(kept, before+d.weights[id])
	}
	id, _ := d.find(fraction(kept, u<<8))
	return id
}

// find returns the first token, in order, at which the running sum of weights exceeds target, and the sum before it. The
// sum of all weights exceeds it.
func (d *fullDistribution) find(target uint64) (id int32, before uint64) {
	bucket, before := findBucket(&d.sums, 0, target)
	d.members = d.members[:0]
	for id, x := range d.distances {
		if x>>bucketShifts[0] == bucket && d.weights[id] > 0 {
			d.members = append(d.members, int32(id))
		}
	}
	for _, shift := range bucketShifts[1:] {
		if len(d.members) < numBuckets/8 {
			break
		}
		clear(d.part[:])
		key := func(id int32) uint32 { return d.distances[id] >> shift % numBuckets }
		for _, id := range d.members {
			d.part[key(id)] += d.weights[id]
		}
		bucket, before = findBucket(&d.part, before, target)
		d.members = slices.DeleteFunc(d.members, func(id int32) bool { return key(id) != bucket })
	}
	if len(d.members) < numBuckets/8 { // else all have the same distance
		slices.SortStableFunc(d.members, func(a, b int32) int { return int(d.distances[a]) - int(d.distances[b]) })
	}
	for _, id := range d.members {
		if before+d.weights[id] > target {
			return id, before
		}
		before += d.weights[id]
	}
	panic("sampling: the sum of weights does not reach its own part")
}

// findBucket returns the bucket in which the running sum, starting at before, exceeds target, and the sum before it.
func findBucket(sums *[numBuckets]uint64, before, target uint64) (bucket uint32, beforeBucket uint64) {
	for b, sum := range sums {
		if before+sum > target {
			return uint32(b), before
		}
		before += sum
	}
	panic("sampling: the sum of weights does not reach its own part")
}
