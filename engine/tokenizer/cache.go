// A bounded cache of merged pieces.
//
// Text repeats its words: most pieces need no merging. The cache is direct-mapped, so a put overwrites whatever shares its
// slot; it needs no lock, and its memory has a fixed bound (about 3 MB when full).

package tokenizer

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

const (
	cacheSlots     = 1 << 14
	maxCachedPiece = 48 // bytes
)

type pieceCache struct {
	seed  maphash.Seed
	slots []atomic.Pointer[cachedPiece]
}

type cachedPiece struct {
	piece string
	ids   []int32
}

func newPieceCache() pieceCache {
	return pieceCache{seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[cachedPiece], cacheSlots)}
}

// find returns the piece's slot, and its entry if it is there.
func (c *pieceCache) find(piece string) (slot int, entry *cachedPiece) {
	slot = int(maphash.String(c.seed, piece) % cacheSlots)
	if entry = c.slots[slot].Load(); entry != nil && entry.piece != piece {
		entry = nil
	}
	return slot, entry
}

// put stores a copy: piece is a part of a text that the cache must not keep alive.
func (c *pieceCache) put(slot int, piece string, ids []int32) {
	c.slots[slot].Store(&cachedPiece{piece: strings.Clone(piece), ids: append([]int32(nil), ids...)})
}
