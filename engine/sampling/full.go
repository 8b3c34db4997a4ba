// Drawing from the whole vocabulary without sorting it.
//
// Weights are summed into buckets by the leading bits of their score, in an order-preserving integer form; a point of the
// cumulative distribution is then found by descending into one bucket, by the next bits, and so on: a few passes
// over at most the whole row, whatever the distribution.

package sampling

import (
	"math"
	"slices"
)

const (
	bucketBits = 11
	numBuckets = 1 << bucketBits
)

// bucketShifts take the key's bits 31..21, 20..10, 9..0.
var bucketShifts = [...]uint{21, 10, 0}

// fullDistribution is scratch for draw.
type fullDistribution struct {
	scores  []float32           // [vocab]
	weights []float64           // [vocab]
	sums    [numBuckets]float64 // weights by the key's upper 11 bits
	part    [numBuckets]float64 // the same within one bucket
	members []int32             // ids of one bucket, ascending
}

// orderedKey maps finite scores and -Inf to integers of the same order; -0 and +0 are equal.
func orderedKey(v float32) uint32 {
	b := math.Float32bits(v + 0)
	if b>>31 != 0 {
		return ^b
	}
	return b | 1<<31
}

// draw does steps 4 and 6 to 8 of the package documentation on scores, whose largest is top.
func (d *fullDistribution) draw(scores []float32, top float32, p *Params, u float64) int32 {
	if cap(d.weights) < len(scores) {
		d.weights = make([]float64, len(scores))
	}
	d.scores, d.weights = scores, d.weights[:len(scores)]
	clear(d.sums[:])
	invTemperature, minP := 1/float64(p.Temperature), float64(p.MinP)
	sum, sumMinP := 0.0, 0.0
	for id, v := range scores {
		w := exp(float64((float64(v) - float64(top)) * invTemperature))
		d.weights[id] = w
		d.sums[orderedKey(v)>>bucketShifts[0]] += w
		sum += w
		if w >= minP {
			sumMinP += w
		}
	}
	// What top-p keeps and what min-p keeps both begin at the top: the smaller of the two sums is that of their
	// intersection.
	kept := sumMinP
	if p.TopP < 1 {
		id, before := d.find(float64(p.TopP)*sum, false)
		kept = min(kept, before+d.weights[id])
	}
	id, _ := d.find(u*kept, true)
	return id
}

// find returns the first token, in order, at which the running sum of weights reaches target (exceeds it, if strict),
// and the sum before it.
func (d *fullDistribution) find(target float64, strict bool) (id int32, before float64) {
	reached := func(sum float64) bool { return sum > target || !strict && sum >= target }

	bucket, before := findBucket(&d.sums, 0, reached)
	d.members = d.members[:0]
	for id, v := range d.scores {
		if orderedKey(v)>>bucketShifts[0] == bucket && d.weights[id] > 0 {
			d.members = append(d.members, int32(id))
		}
	}
	for _, shift := range bucketShifts[1:] {
		if len(d.members) < numBuckets/8 {
			break
		}
		clear(d.part[:])
		key := func(id int32) uint32 { return orderedKey(d.scores[id]) >> shift % numBuckets }
		for _, id := range d.members {
			d.part[key(id)] += d.weights[id]
		}
		bucket, before = findBucket(&d.part, before, reached)
		d.members = slices.DeleteFunc(d.members, func(id int32) bool { return key(id) != bucket })
	}
	if len(d.members) < numBuckets/8 { // else all have the same score
		slices.SortFunc(d.members, func(a, b int32) int {
			return compareCandidates(candidate{id: a, score: d.scores[a]}, candidate{id: b, score: d.scores[b]})
		})
	}
	last := len(d.members) - 1
	for _, id := range d.members[:last] {
		if reached(before + d.weights[id]) {
			return id, before
		}
		before += d.weights[id]
	}
	return d.members[last], before
}

// findBucket returns the bucket, from the highest down, in which the running sum, starting at before, is reached, and the
// sum before it. If rounding keeps the sum below the target it is the last one with any weight.
func findBucket(sums *[numBuckets]float64, before float64, reached func(float64) bool) (bucket uint32, beforeBucket float64) {
	for b := numBuckets - 1; b >= 0; b-- {
		if sums[b] == 0 {
			continue
		}
		bucket, beforeBucket = uint32(b), before
		if before += sums[b]; reached(before) {
			break
		}
	}
	return bucket, beforeBucket
}
