// Sequence: one text in the cache, its committed tokens and page table.
//
// It changes only through Reuse, Commit, Truncate and Release; it never grows by itself.

package kvcache

import (
	"errors"
	"fmt"
	"slices"
)

// ErrOpenContext is wrapped when a sequence must not change because a context of it is open.
var ErrOpenContext = errors.New("a context is open: commit or abort it first")

// ErrReleased is wrapped by every use of a released sequence.
var ErrReleased = errors.New("sequence was released")

// Sequence is a text whose tokens have been run. Make one with PageManager.NewSequence or Fork.
type Sequence struct {
	m        *PageManager
	id       int
	tokens   []int32  // [len] committed; an open context's tokens lie in the spare capacity
	pages    []uint32 // [ceil(len/pageSize)]; an open context's new pages lie in the spare capacity
	chain    []link   // [len/pageSize] the text up to the end of every full page
	open     *InferenceContext
	released bool
}

// NewSequence returns an empty sequence. It owns no pages yet.
func (m *PageManager) NewSequence() *Sequence {
	m.nextSequenceID++
	s := &Sequence{m: m, id: m.nextSequenceID}
	m.sequences[s.id] = s
	return s
}

// ID names the sequence in errors; ids of one manager are not used twice.
func (s *Sequence) ID() int { return s.id }

// Len is the number of committed tokens.
func (s *Sequence) Len() int { return len(s.tokens) }

// Tokens are the committed tokens, [Len]. Read only, and valid until the sequence changes.
func (s *Sequence) Tokens() []int32 { return s.tokens[:len(s.tokens):len(s.tokens)] }

// PageTable is [ceil(Len/PageSize)] page numbers. Read only, and valid until the sequence changes.
func (s *Sequence) PageTable() []uint32 { return s.pages[:len(s.pages):len(s.pages)] }

// usable tells whether s is a live sequence of m.
func (s *Sequence) usable(m *PageManager) error {
	switch {
	case s == nil || s.m == nil:
		return errors.New("sequence is nil or zero: make it with NewSequence")
	case s.m != m:
		return errors.New("sequence belongs to another PageManager")
	case s.released:
		return ErrReleased
	}
	return nil
}

// changeable tells whether s may be truncated or forked.
func (s *Sequence) changeable() error {
	if s == nil {
		return s.usable(nil)
	}
	if err := s.usable(s.m); err != nil {
		return err
	}
	if s.open != nil {
		return ErrOpenContext
	}
	return nil
}

// Truncate forgets all tokens from position n on. Pages that are not needed any more stay findable by Reuse if they are
// registered. The next Begin copies the page that n lies in if others may read it.
func (s *Sequence) Truncate(n int) error {
	if err := s.changeable(); err != nil {
		return fmt.Errorf("kvcache: truncate sequence: %w", err)
	}
	if n < 0 || n > len(s.tokens) {
		return fmt.Errorf("kvcache: truncate sequence %d to %d tokens: it has %d", s.id, n, len(s.tokens))
	}
	s.truncate(n)
	return nil
}

func (s *Sequence) truncate(n int) {
	m, keep := s.m, s.m.pagesFor(n)
	// From the end, so that of one text's pages the last are evicted first.
	for i := len(s.pages) - 1; i >= keep; i-- {
		if i < len(s.chain) {
			m.keepText(s.pages[i], s.parent(i), s.chain[i], s.tokens[i*m.pageSize:(i+1)*m.pageSize])
		}
		m.unref(s.pages[i])
	}
	s.tokens = s.tokens[:n]
	s.pages = s.pages[:keep]
	s.chain = s.chain[:n/m.pageSize]
}

// parent names the text before page i.
func (s *Sequence) parent(i int) link {
	if i == 0 {
		return rootLink
	}
	return s.chain[i-1]
}

// Fork returns a second sequence with the same tokens. They share all pages; whichever writes to a shared page first
// gets a copy of it.
func (s *Sequence) Fork() (*Sequence, error) {
	if err := s.changeable(); err != nil {
		return nil, fmt.Errorf("kvcache: fork sequence: %w", err)
	}
	f := s.m.NewSequence()
	f.tokens, f.pages, f.chain = slices.Clone(s.tokens), slices.Clone(s.pages), slices.Clone(s.chain)
	for _, p := range f.pages {
		s.m.ref(p)
	}
	return f, nil
}

// Release aborts the open context, if any, and gives up all pages. Registered ones stay findable until they are
// evicted. Releasing twice does nothing.
func (s *Sequence) Release() {
	if s == nil || s.m == nil || s.released {
		return
	}
	if s.open != nil {
		s.open.Abort()
	}
	s.truncate(0)
	s.tokens, s.pages, s.chain = nil, nil, nil
	s.released = true
	delete(s.m.sequences, s.id)
}
