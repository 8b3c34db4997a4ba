//go:build !js

package forward

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Pieces of any sizes lie one behind the other in the slab that they are said to be in, on binding boundaries and in its bytes; slabs
// of several pieces are within the limit, and none could have taken the first of the next.
func TestSlabPlan(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1))
	for range 300 {
		p := slabPlan{limit: 256 + 4*rng.Uint64N(3000)}
		var ends []uint64
		for range 1 + rng.IntN(40) {
			bytes := 4 * (1 + rng.Uint64N(1200))
			slab, offset := p.add(bytes)
			if slab == len(ends) {
				if slab > 0 && roundUp(int(ends[slab-1]), bindAlignment)+int(bytes) <= int(p.limit) {
					t.Fatalf("%d bytes would have fitted behind %d of %d", bytes, ends[slab-1], p.limit)
				}
				ends = append(ends, 0)
			}
			if slab != len(ends)-1 || offset%bindAlignment != 0 || offset < ends[slab] || offset-ends[slab] >= bindAlignment {
				t.Fatalf("%d bytes lie at %d of slab %d, behind %v", bytes, offset, slab, ends)
			}
			if ends[slab] = offset + bytes; offset > 0 && ends[slab] > p.limit {
				t.Fatalf("slab %d ends at %d, the limit is %d", slab, ends[slab], p.limit)
			}
		}
		if !slices.Equal(p.sizes, ends) {
			t.Fatalf("slabs of %d bytes, pieces end at %d", p.sizes, ends)
		}
	}
}
