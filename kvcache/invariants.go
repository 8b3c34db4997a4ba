// The invariants of the page accounting, checked from scratch.
//
// Tests call CheckInvariants after every operation; it costs time proportional to all cached tokens.

package kvcache

import (
	"fmt"
	"slices"
)

// CheckInvariants recomputes owners, lists and hashes from the sequences and returns the first contradiction: a page
// both free and used, a page with two writers or written while registered, a reference count that differs from the
// number of owners, a length outside its table, a hash chain that does not match its tokens.
func (m *PageManager) CheckInvariants() error {
	owners := make([]int32, m.numPages)
	for _, s := range m.sequences {
		if err := m.checkSequence(s, owners); err != nil {
			return fmt.Errorf("kvcache: sequence %d: %w", s.id, err)
		}
	}
	for p := range m.pages {
		if m.pages[p].refs != owners[p] {
			return fmt.Errorf("kvcache: page %d counts %d references and has %d owners", p, m.pages[p].refs, owners[p])
		}
	}
	if err := m.checkLists(); err != nil {
		return fmt.Errorf("kvcache: %w", err)
	}
	if err := m.checkIndex(); err != nil {
		return fmt.Errorf("kvcache: %w", err)
	}
	return nil
}

// checkSequence checks s and its open context, and counts the pages they own.
func (m *PageManager) checkSequence(s *Sequence, owners []int32) error {
	if s.m != m || s.released {
		return fmt.Errorf("is listed as live but is released or another manager's")
	}
	if n := m.pagesFor(len(s.tokens)); len(s.pages) != n {
		return fmt.Errorf("has %d tokens and %d pages, not %d", len(s.tokens), len(s.pages), n)
	}
	if n := len(s.tokens) / m.pageSize; len(s.chain) != n {
		return fmt.Errorf("has %d full pages and %d names of texts", n, len(s.chain))
	}
	for i, p := range s.pages {
		if int(p) >= m.numPages || slices.Contains(s.pages[:i], p) {
			return fmt.Errorf("page table entry %d is page %d: out of range or twice in the table", i, p)
		}
		owners[p]++
	}
	for i, l := range s.chain {
		text := s.tokens[i*m.pageSize : (i+1)*m.pageSize]
		if h := m.hashPage(s.parent(i).hash, text); h != l.hash {
			return fmt.Errorf("page table entry %d: hash %x is not that of its tokens, %x", i, l.hash, h)
		}
	}
	for i, p := range s.pages {
		if err := m.checkRegisteredEntry(s, i, p); err != nil {
			return fmt.Errorf("page table entry %d is registered page %d: %w", i, p, err)
		}
	}
	if s.open != nil {
		return m.checkContext(s.open, owners)
	}
	return nil
}

// checkRegisteredEntry checks that page p, if registered, holds what s believes it holds at entry i.
func (m *PageManager) checkRegisteredEntry(s *Sequence, i int, p uint32) error {
	if !m.pages[p].registered {
		return nil
	}
	end := min((i+1)*m.pageSize, len(s.tokens)) // less than a whole page after Truncate
	text := s.tokens[i*m.pageSize : end]
	if !slices.Equal(m.pageTokens(p)[:len(text)], text) {
		return fmt.Errorf("its tokens are not the sequence's")
	}
	if m.pages[p].parentID != s.parent(i).id {
		return fmt.Errorf("it continues text %d and the sequence text %d", m.pages[p].parentID, s.parent(i).id)
	}
	if i < len(s.chain) && m.link(p) != s.chain[i] {
		return fmt.Errorf("it is named %v and the sequence calls it %v", m.link(p), s.chain[i])
	}
	return nil
}

// checkContext checks an open context and counts the pages that it has reserved.
func (m *PageManager) checkContext(ic *InferenceContext, owners []int32) error {
	s := ic.s
	if ic.start != len(s.tokens) || len(ic.tokens) == 0 || ic.numAhead < 0 {
		return fmt.Errorf("its context starts at %d with %d+%d tokens, the sequence has %d", ic.start, len(ic.tokens), ic.numAhead, len(s.tokens))
	}
	if n := m.pagesFor(ic.KVLen()); len(ic.table) != n {
		return fmt.Errorf("its context covers %d tokens with %d pages, not %d", ic.KVLen(), len(ic.table), n)
	}
	firstWritten := ic.start / m.pageSize
	for i, p := range ic.table {
		if int(p) >= m.numPages || slices.Contains(ic.table[:i], p) {
			return fmt.Errorf("its context's entry %d is page %d: out of range or twice in the table", i, p)
		}
		reserved := i >= len(s.pages) || p != s.pages[i]
		if reserved {
			owners[p]++
		}
		if i < firstWritten && reserved {
			return fmt.Errorf("its context's entry %d is page %d, the sequence's is %d", i, p, s.pages[i])
		}
		// One reference: with owners = references, nobody else reads it and no other context writes it.
		if i >= firstWritten && (m.pages[p].refs != 1 || m.pages[p].registered) {
			return fmt.Errorf("its context writes page %d, which has %d owners, registered: %v", p, m.pages[p].refs, m.pages[p].registered)
		}
	}
	return m.checkCopies(ic, firstWritten)
}

// checkCopies checks that the partial last page is either written in place or copied.
func (m *PageManager) checkCopies(ic *InferenceContext, firstWritten int) error {
	s := ic.s
	var want []PageCopy
	if firstWritten < len(s.pages) && ic.table[firstWritten] != s.pages[firstWritten] {
		want = []PageCopy{{s.pages[firstWritten], ic.table[firstWritten], ic.start % m.pageSize}}
	}
	if !slices.Equal(ic.Copies(), want) {
		return fmt.Errorf("its context lists copies %v, not %v", ic.Copies(), want)
	}
	return nil
}

// checkLists checks that every page is in exactly one state.
func (m *PageManager) checkLists() error {
	listed := make([]bool, m.numPages)
	for _, p := range m.free {
		if int(p) >= m.numPages || listed[p] || m.pages[p].refs != 0 || m.pages[p].registered {
			return fmt.Errorf("free page %d is out of range, listed twice, used or registered", p)
		}
		listed[p] = true
	}
	numCached, prev := 0, noPage
	for p := m.oldest; p != noPage; p = m.pages[p].next {
		if listed[p] || m.pages[p].refs != 0 || !m.pages[p].registered || m.pages[p].prev != prev {
			return fmt.Errorf("cached page %d is listed twice, used, not registered or wrongly linked", p)
		}
		listed[p] = true
		numCached, prev = numCached+1, p
	}
	if m.newest != prev || m.numCached != numCached {
		return fmt.Errorf("list of cached pages ends at %d with %d pages, recorded are %d and %d", prev, numCached, m.newest, m.numCached)
	}
	for p := range m.pages {
		if used := m.pages[p].refs > 0; used == listed[p] {
			return fmt.Errorf("page %d has %d owners and is listed as free or cached: %v", p, m.pages[p].refs, listed[p])
		}
	}
	return nil
}

// checkIndex checks the prefix index against the registered pages and their tokens.
func (m *PageManager) checkIndex() error {
	numRegistered := 0
	ids := make(map[uint64]uint32)
	for p := range m.pages {
		pg := &m.pages[p]
		if !pg.registered {
			continue
		}
		numRegistered++
		if q, ok := m.byHash[pg.hash]; !ok || int(q) != p {
			return fmt.Errorf("registered page %d is not in the index under its hash", p)
		}
		if h := m.hashPage(pg.parentHash, m.pageTokens(uint32(p))); h != pg.hash {
			return fmt.Errorf("registered page %d: hash %x is not that of its tokens, %x", p, pg.hash, h)
		}
		if q, twice := ids[pg.id]; twice || pg.id <= rootLink.id || pg.id >= m.nextID {
			return fmt.Errorf("registered page %d has id %d, as page %d has, or never given", p, pg.id, q)
		}
		ids[pg.id] = uint32(p)
	}
	if len(m.byHash) != numRegistered {
		return fmt.Errorf("index holds %d pages, %d are registered", len(m.byHash), numRegistered)
	}
	for p := range m.pages {
		pg := &m.pages[p]
		if !pg.registered {
			continue
		}
		parentHash, known := rootLink.hash, pg.parentID == rootLink.id
		if q, ok := ids[pg.parentID]; ok {
			parentHash, known = m.pages[q].hash, true
		}
		if known && parentHash != pg.parentHash {
			return fmt.Errorf("registered page %d: parent hash %x is not its parent's, %x", p, pg.parentHash, parentHash)
		}
	}
	return nil
}
