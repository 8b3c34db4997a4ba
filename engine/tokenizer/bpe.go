// Byte-pair merging.
//
// A piece starts as its bytes' tokens; the adjacent pair of the lowest rank, the leftmost of equals, is merged until no pair
// has a rank. Short pieces scan for the minimum; long ones keep the pairs in a heap, so that a megabyte without a space
// costs n·log n and not n².

package tokenizer

import (
	"math"
	"math/bits"
	"sync"
)

const (
	// maxShortPiece is up to how many bytes the scan is faster than the heap.
	maxShortPiece = 64
	noRank        = math.MaxInt32
)

// mergeTable maps a pair of ids to its rank and the merged id: open addressing, at most 60 % full.
type mergeTable struct {
	slots []mergeSlot
	shift uint // 64 - log2(len(slots))
}

type mergeSlot struct {
	pair uint64 // left<<32 | right, plus one; 0 is empty
	rank int32
	id   int32
}

func newMergeTable(n int) mergeTable {
	log := bits.Len(uint(n * 5 / 3))
	return mergeTable{slots: make([]mergeSlot, 1<<log), shift: uint(64 - log)}
}

func pairKey(left, right int32) uint64 { return (uint64(left)<<32 | uint64(right)) + 1 }

func (m *mergeTable) slot(key uint64) *mergeSlot {
	mask := uint64(len(m.slots) - 1)
	for i := key * 0x9E3779B97F4A7C15 >> m.shift; ; i = (i + 1) & mask {
		if s := &m.slots[i]; s.pair == key || s.pair == 0 {
			return s
		}
	}
}

// set gives a pair its rank; of two merges of one pair the later counts, as in Hugging Face's library.
func (m *mergeTable) set(left, right, rank, id int32) {
	key := pairKey(left, right)
	*m.slot(key) = mergeSlot{pair: key, rank: rank, id: id}
}

// rank returns noRank where the pair does not merge.
func (m *mergeTable) rank(left, right int32) int32 {
	if s := m.slot(pairKey(left, right)); s.pair != 0 {
		return s.rank
	}
	return noRank
}

func (m *mergeTable) merged(left, right int32) int32 { return m.slot(pairKey(left, right)).id }

// piece appends the ids of one pretokenized piece.
func (e *encoder) piece(piece string) {
	t := e.t
	if len(piece) == 1 {
		e.dst = append(e.dst, t.vocab.bytes[piece[0]])
		return
	}
	if len(piece) > maxCachedPiece {
		e.dst = e.merge(e.dst, piece)
		return
	}
	slot, entry := t.cache.find(piece)
	if entry != nil {
		e.dst = append(e.dst, entry.ids...)
		return
	}
	n := len(e.dst)
	e.dst = e.merge(e.dst, piece)
	t.cache.put(slot, piece, e.dst[n:])
}

func (e *encoder) merge(dst []int32, piece string) []int32 {
	t := e.t
	if t.ignoreMerges {
		if id, ok := t.vocab.lookup([]byte(piece)); ok {
			return append(dst, id)
		}
	}
	if len(piece) <= maxShortPiece {
		return t.mergeShort(dst, piece)
	}
	if e.scratch == nil {
		e.scratch = scratchPool.Get().(*mergeScratch)
	}
	return e.scratch.mergeLong(dst, t, piece)
}

// mergeShort scans for the lowest rank before each merge.
func (t *Tokenizer) mergeShort(dst []int32, piece string) []int32 {
	var ids, ranks [maxShortPiece]int32 // ranks[i] is that of the pair (i, i+1)
	n := len(piece)
	for i := range n {
		ids[i] = t.vocab.bytes[piece[i]]
	}
	for i := range n - 1 {
		ranks[i] = t.merges.rank(ids[i], ids[i+1])
	}
	for n > 1 {
		at, low := 0, int32(noRank)
		for i, r := range ranks[:n-1] {
			if r < low {
				at, low = i, r
			}
		}
		if low == noRank {
			break
		}
		ids[at] = t.merges.merged(ids[at], ids[at+1])
		copy(ids[at+1:n-1], ids[at+2:n])
		copy(ranks[at:n-2], ranks[at+1:n-1])
		n--
		if at > 0 {
			ranks[at-1] = t.merges.rank(ids[at-1], ids[at])
		}
		if at < n-1 {
			ranks[at] = t.merges.rank(ids[at], ids[at+1])
		}
	}
	return append(dst, ids[:n]...)
}

// mergeScratch is the working memory of mergeLong.
type mergeScratch struct {
	symbols []symbol
	heap    []uint64 // rank<<32 | index of the pair's left symbol; stale entries are skipped when popped
}

// symbol is one token of a piece under way, in a doubly linked list.
type symbol struct {
	id         int32 // -1 once merged into its left neighbour
	prev, next int32 // -1 at the ends
	rank       int32 // of the pair (this, next)
}

var scratchPool = sync.Pool{New: func() any { return new(mergeScratch) }}

// maxPooledSymbols keeps one huge piece from pinning its memory.
const maxPooledSymbols = 1 << 14

func (e *encoder) release() {
	if e.scratch != nil && cap(e.scratch.symbols) <= maxPooledSymbols {
		scratchPool.Put(e.scratch)
	}
	e.scratch = nil
}

func (s *mergeScratch) mergeLong(dst []int32, t *Tokenizer, piece string) []int32 {
	n := len(piece)
	if cap(s.symbols) < n {
		s.symbols = make([]symbol, n)
		s.heap = make([]uint64, 0, n)
	}
	syms := s.symbols[:n]
	s.heap = s.heap[:0]
	for i := range syms {
		syms[i] = symbol{id: t.vocab.bytes[piece[i]], prev: int32(i - 1), next: int32(i + 1), rank: noRank}
	}
	syms[n-1].next = -1
	for i := range n - 1 {
		if r := t.merges.rank(syms[i].id, syms[i+1].id); r != noRank {
			syms[i].rank = r
			s.heap = append(s.heap, uint64(r)<<32|uint64(i))
		}
	}
	for i := (len(s.heap) - 2) / heapArity; i >= 0 && len(s.heap) > 1; i-- {
		s.down(i)
	}

	for len(s.heap) > 0 {
		top := s.pop()
		i := int32(uint32(top))
		left := &syms[i]
		if left.id < 0 || left.rank != int32(top>>32) {
			continue
		}
		right := &syms[left.next]
		left.id = t.merges.merged(left.id, right.id)
		right.id = -1
		if left.next = right.next; left.next >= 0 {
			syms[left.next].prev = i
		}
		s.rerank(t, syms, i)
		if left.prev >= 0 {
			s.rerank(t, syms, left.prev)
		}
	}
	for i := int32(0); i >= 0; i = syms[i].next {
		dst = append(dst, syms[i].id)
	}
	return dst
}

// rerank looks up the pair that starts at i after one of its sides changed, and queues it.
func (s *mergeScratch) rerank(t *Tokenizer, syms []symbol, i int32) {
	sym := &syms[i]
	sym.rank = noRank
	if sym.next < 0 {
		return
	}
	if r := t.merges.rank(sym.id, syms[sym.next].id); r != noRank {
		sym.rank = r
		s.push(uint64(r)<<32 | uint64(i))
	}
}

const heapArity = 4

func (s *mergeScratch) push(x uint64) {
	h := append(s.heap, x)
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / heapArity
		if h[parent] <= x {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = x
	s.heap = h
}

func (s *mergeScratch) pop() uint64 {
	h := s.heap
	top, last := h[0], len(h)-1
	h[0] = h[last]
	s.heap = h[:last]
	if last > 1 {
		s.down(0)
	}
	return top
}

func (s *mergeScratch) down(i int) {
	h := s.heap
	x := h[i]
	for {
		child := heapArity*i + 1
		if child >= len(h) {
			break
		}
		for c := child + 1; c < min(heapArity*i+1+heapArity, len(h)); c++ {
			if h[c] < h[child] {
				child = c
			}
		}
		if h[child] >= x {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = x
}

// grown returns the table with twice the slots.
func (m *mergeTable) grown() mergeTable {
	g := mergeTable{slots: make([]mergeSlot, 2*len(m.slots)), shift: m.shift - 1}
	for _, s := range m.slots {
		if s.pair != 0 {
			*g.slot(s.pair) = s
		}
	}
	return g
}
