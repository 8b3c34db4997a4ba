// InferenceContext: the permission to run one forward pass, with every integer that the pass needs.
//
// Begin, BeginAhead and Extend reserve; Commit and CommitAhead make the result part of the sequence; Abort drops it.

package kvcache

import (
	"errors"
	"fmt"
	"slices"
)

// ErrInvalidContext is wrapped by Valid: the context did not come from Begin, or has been committed or aborted.
var ErrInvalidContext = errors.New("no valid inference context")

// PageCopy tells the runner to copy the first NumTokens tokens' keys and values, in every layer, from page Src to page
// Dst before the pass.
type PageCopy struct {
	Src, Dst  uint32
	NumTokens int
}

// InferenceContext describes one pass over new tokens of one sequence. Only a PageManager makes one; the zero value is
// refused by Valid. Slices that it returns are read only and must not be used after Commit or Abort.
type InferenceContext struct {
	s         *Sequence
	start     int
	tokens    []int32  // [numTokens - numAhead]
	numAhead  int      // positions reserved for tokens that the device will sample
	table     []uint32 // [ceil(kvLen/pageSize)]
	copies    [1]PageCopy
	numCopies int
}

// Begin reserves pages for tokens (at least one, none negative), which continue s at position s.Len(). It evicts cached
// pages if it must and fails with ErrFull, changing nothing, if that is not enough. A sequence has at most one open
// context.
func (m *PageManager) Begin(s *Sequence, tokens []int32) (*InferenceContext, error) {
	return m.BeginAhead(s, tokens, 0)
}

// BeginAhead is Begin with numAhead more positions, for tokens that the device samples and feeds back to itself before
// they can be read. CommitAhead says which they were.
func (m *PageManager) BeginAhead(s *Sequence, tokens []int32, numAhead int) (*InferenceContext, error) {
	if err := s.usable(m); err != nil {
		return nil, fmt.Errorf("kvcache: begin: %w", err)
	}
	if s.open != nil {
		return nil, fmt.Errorf("kvcache: begin on sequence %d: %w", s.id, ErrOpenContext)
	}
	if len(tokens) == 0 || numAhead < 0 {
		return nil, fmt.Errorf("kvcache: begin on sequence %d with %d tokens and %d ahead: at least one token must be given",
			s.id, len(tokens), numAhead)
	}
	if err := checkTokens(tokens); err != nil {
		return nil, fmt.Errorf("kvcache: begin on sequence %d: %w", s.id, err)
	}
	start := len(s.tokens)
	numNew, err := m.numNewPages(s, len(s.pages), start, len(tokens), numAhead)
	if err != nil {
		return nil, err
	}
	copyLast := m.mustCopyLast(s, numNew)
	if copyLast && numNew+1 > m.available() {
		return nil, m.fullError(s, start+len(tokens)+numAhead, numNew+1)
	}

	ic := &InferenceContext{s: s, start: start, numAhead: numAhead}
	if copyLast {
		last := len(s.pages) - 1
		src, dst := s.pages[last], m.alloc()
		ic.copies[0] = PageCopy{Src: src, Dst: dst, NumTokens: start % m.pageSize}
		ic.numCopies = 1
		ic.table = slices.Grow(slices.Clone(s.pages), numNew)
		ic.table[last] = dst
		m.allocAppend(&ic.table, numNew)
	} else {
		// New pages and tokens go to the spare capacity behind the committed ones: no reader of s sees them.
		m.allocAppend(&s.pages, numNew)
		ic.table = s.pages
		s.pages = s.pages[:len(s.pages)-numNew]
	}
	all := append(s.tokens, tokens...)
	s.tokens, ic.tokens = all[:start], all[start:]
	s.open = ic
	return ic, nil
}

// mustCopyLast tells whether the page that the next token goes to may be read by others. A registered page without
// another owner is copied too, so that its text stays findable, unless there is no page left for that: then it is
// unregistered.
func (m *PageManager) mustCopyLast(s *Sequence, numNew int) bool {
	if len(s.tokens)%m.pageSize == 0 {
		return false
	}
	last := s.pages[len(s.pages)-1]
	pg := &m.pages[last]
	if pg.refs == 1 && pg.registered && numNew+1 > m.available() {
		m.unregister(last)
	}
	return pg.refs > 1 || pg.registered
}

// numNewPages is the number of pages, beyond numHave, that start+numTokens+numAhead tokens take; ErrFull if there are
// not so many.
func (m *PageManager) numNewPages(s *Sequence, numHave, start, numTokens, numAhead int) (int, error) {
	if limit := m.numPages*m.pageSize - start; numTokens > limit || numAhead > limit-numTokens {
		return 0, fmt.Errorf("kvcache: sequence %d at length %d asks for %d+%d more tokens, the whole cache holds %d (%d pages of %d): %w",
			s.id, start, numTokens, numAhead, m.numPages*m.pageSize, m.numPages, m.pageSize, ErrFull)
	}
	kvLen := start + numTokens + numAhead
	n := m.pagesFor(kvLen) - numHave
	if n > m.available() {
		return 0, m.fullError(s, kvLen, n)
	}
	return n, nil
}

func (m *PageManager) fullError(s *Sequence, kvLen, numNew int) error {
	return fmt.Errorf("kvcache: grow sequence %d from %d to %d tokens: needs %d more pages of %d tokens, %d of %d are free and %d can be evicted: %w",
		s.id, len(s.tokens), kvLen, numNew, m.pageSize, len(m.free), m.numPages, m.numCached, ErrFull)
}

// allocAppend appends n new pages to table.
func (m *PageManager) allocAppend(table *[]uint32, n int) {
	for range n {
		*table = append(*table, m.alloc())
	}
}

func checkTokens(tokens []int32) error {
	for i, t := range tokens {
		if t < 0 {
			return fmt.Errorf("token %d of %d is %d: ids are not negative", i, len(tokens), t)
		}
	}
	return nil
}

// Valid returns nil while the context is open. A runner must check it before every pass.
func (ic *InferenceContext) Valid() error {
	switch {
	case ic == nil || ic.s == nil:
		return fmt.Errorf("kvcache: %w: it did not come from PageManager.Begin", ErrInvalidContext)
	case ic.s.open != ic:
		return fmt.Errorf("kvcache: %w: that of sequence %d at position %d was already committed or aborted",
			ErrInvalidContext, ic.s.id, ic.start)
	}
	return nil
}

// Tokens are the tokens to run whose ids are known, [NumTokens-NumAhead].
func (ic *InferenceContext) Tokens() []int32 { return ic.tokens[:len(ic.tokens):len(ic.tokens)] }

// Start is the position of the first new token.
func (ic *InferenceContext) Start() int { return ic.start }

// NumAhead is the number of positions reserved behind Tokens for tokens that the device samples; 0 after Begin.
func (ic *InferenceContext) NumAhead() int { return ic.numAhead }

// NumTokens is the number of new positions: len(Tokens) + NumAhead.
func (ic *InferenceContext) NumTokens() int { return len(ic.tokens) + ic.numAhead }

// KVLen is Start + NumTokens, the number of positions that PageTable covers.
func (ic *InferenceContext) KVLen() int { return ic.start + ic.NumTokens() }

// PageTable is [ceil(KVLen/PageSize)] page numbers, with Copies already in effect.
func (ic *InferenceContext) PageTable() []uint32 {
	table := ic.table[:len(ic.table):len(ic.table)]
	if ic.s != nil && ic.s.m.fault != nil {
		return ic.s.m.fault.pageTable(table, ic.s.m.numPages)
	}
	return table
}

// Slot is the place in the arena, page*PageSize + offset, of new token i in [0, NumTokens).
func (ic *InferenceContext) Slot(i int) uint32 {
	pageSize := ic.s.m.pageSize
	pos := ic.start + i
	return ic.table[pos/pageSize]*uint32(pageSize) + uint32(pos%pageSize)
}

// AppendSlots appends Slot(0) to Slot(NumTokens-1) to dst.
func (ic *InferenceContext) AppendSlots(dst []uint32) []uint32 {
	for i := range ic.NumTokens() {
		dst = append(dst, ic.Slot(i))
	}
	return dst
}

// Copies are the page copies that the runner must do before the pass: none or one.
func (ic *InferenceContext) Copies() []PageCopy { return ic.copies[:ic.numCopies:ic.numCopies] }

// PageSize is the number of tokens in a page, 0 for a zero context.
func (ic *InferenceContext) PageSize() int {
	if ic.s == nil {
		return 0
	}
	return ic.s.m.pageSize
}

// NumPages is the number of pages of the arena that PageTable and Slot point into, 0 for a zero context.
func (ic *InferenceContext) NumPages() int {
	if ic.s == nil {
		return 0
	}
	return ic.s.m.numPages
}

// SequenceID names the sequence, 0 for a zero context.
func (ic *InferenceContext) SequenceID() int {
	if ic.s == nil {
		return 0
	}
	return ic.s.id
}

// Extend reserves n more positions behind those of BeginAhead. On ErrFull the context stays open as it was.
func (ic *InferenceContext) Extend(n int) error {
	if err := ic.Valid(); err != nil {
		return err
	}
	if n < 0 {
		return fmt.Errorf("kvcache: extend context of sequence %d by %d positions", ic.s.id, n)
	}
	m := ic.s.m
	numNew, err := m.numNewPages(ic.s, len(ic.table), ic.start, ic.NumTokens(), n)
	if err != nil {
		return err
	}
	m.allocAppend(&ic.table, numNew)
	ic.numAhead += n
	return nil
}

// Commit makes Tokens part of the sequence after the pass has succeeded. Positions reserved ahead are dropped.
func (ic *InferenceContext) Commit() error { return ic.CommitAhead(nil) }

// CommitAhead makes Tokens and, behind them, ids part of the sequence: the tokens that the device sampled and then ran
// at the positions reserved ahead. There may be fewer ids than positions: what was sampled past a stop is dropped. On an
// error the context stays open.
func (ic *InferenceContext) CommitAhead(ids []int32) error {
	if err := ic.Valid(); err != nil {
		return err
	}
	s, m := ic.s, ic.s.m
	if len(ids) > ic.numAhead {
		return fmt.Errorf("kvcache: commit %d tokens ahead on sequence %d: %d positions were reserved", len(ids), s.id, ic.numAhead)
	}
	if err := checkTokens(ids); err != nil {
		return fmt.Errorf("kvcache: commit ahead on sequence %d: %w", s.id, err)
	}
	if m.fault != nil && m.fault.SkipCommit {
		ic.Abort()
		return nil
	}

	s.tokens = append(s.tokens[:ic.start+len(ic.tokens)], ids...)
	keep := m.pagesFor(len(s.tokens))
	for i := len(ic.table) - 1; i >= keep; i-- {
		m.unref(ic.table[i])
	}
	for _, c := range ic.Copies() {
		m.unref(c.Src)
	}
	m.counters.PageCopies += ic.numCopies
	s.pages = ic.table[:keep]
	for i := len(s.chain); i < len(s.tokens)/m.pageSize; i++ {
		s.chain = append(s.chain, m.registerNew(s.pages[i], s.parent(i), s.tokens[i*m.pageSize:(i+1)*m.pageSize]))
	}
	s.open = nil
	return nil
}

// Abort drops the pass and gives the reserved pages back; the sequence is as before Begin. On a context that is not
// open it does nothing, so it may be deferred.
func (ic *InferenceContext) Abort() {
	if ic.Valid() != nil {
		return
	}
	s, m := ic.s, ic.s.m
	for i := len(ic.table) - 1; i >= len(s.pages); i-- {
		m.unref(ic.table[i])
	}
	for _, c := range ic.Copies() {
		m.unref(c.Dst)
	}
	s.open = nil
}
