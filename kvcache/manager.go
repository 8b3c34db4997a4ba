// PageManager: the pool of pages, their reference counts, the free list and the least-recently-used list.
//
// Sequences and contexts (sequence.go, context.go) take and return pages through alloc, ref and unref; the prefix index
// is in prefix.go.

package kvcache

import (
	"errors"
	"fmt"
	"math"
)

// ErrFull is wrapped by Begin, BeginAhead and Extend when there are fewer free and evictable pages than the pass needs.
// Nothing has changed then: release or truncate a sequence and try again.
var ErrFull = errors.New("KV cache full")

// DefaultPageSize is the number of tokens in a page unless Config says otherwise.
const DefaultPageSize = 16

// Config sizes a PageManager.
type Config struct {
	NumPages int    // pages in the arena
	PageSize int    // tokens a page; 0 means DefaultPageSize
	Fault    *Fault // for fault-injection tests only; nil in every program
}

// page is the account of one page of the arena.
type page struct {
	refs       int32  // owners: sequences, or the context that reserved it
	registered bool   // in the prefix index; the fields below are valid then
	prev, next int32  // neighbours in the list of registered pages without owner, noPage at the ends
	hash       uint64 // of all tokens of the text up to the end of this page
	parentHash uint64 // of all tokens before this page
	id         uint64 // names that text exactly: ids are never given to two different texts
	parentID   uint64
}

const noPage = int32(-1)

// PageManager owns the pages of one KV cache arena.
type PageManager struct {
	numPages int
	pageSize int
	fault    *Fault

	pages  []page   // [numPages]
	tokens []int32  // [numPages, pageSize], valid for registered pages
	free   []uint32 // stack

	oldest, newest int32 // ends of the list of registered pages without owner
	numCached      int   // its length

	byHash   map[uint64]uint32 // registered pages
	nextID   uint64
	hashPage func(parent uint64, tokens []int32) uint64

	sequences      map[int]*Sequence // live
	nextSequenceID int
	counters       Counters
}

// New returns a manager whose pages are all free.
func New(c Config) (*PageManager, error) {
	if c.PageSize == 0 {
		c.PageSize = DefaultPageSize
	}
	if c.PageSize < 1 {
		return nil, fmt.Errorf("kvcache: page size %d: use at least 1 token (0 means %d)", c.PageSize, DefaultPageSize)
	}
	if c.NumPages < 1 {
		return nil, fmt.Errorf("kvcache: %d pages: use at least 1", c.NumPages)
	}
	if int64(c.NumPages) > math.MaxInt32/int64(c.PageSize) {
		return nil, fmt.Errorf("kvcache: %d pages of %d tokens: slots would pass %d, use fewer pages",
			c.NumPages, c.PageSize, math.MaxInt32)
	}
	m := &PageManager{
		numPages: c.NumPages, pageSize: c.PageSize, fault: c.Fault,
		pages:  make([]page, c.NumPages),
		tokens: make([]int32, c.NumPages*c.PageSize),
		free:   make([]uint32, c.NumPages),
		oldest: noPage, newest: noPage,
		byHash: make(map[uint64]uint32), nextID: rootLink.id + 1, hashPage: hashTokens,
		sequences: make(map[int]*Sequence),
	}
	for i := range m.pages {
		m.pages[i].prev, m.pages[i].next = noPage, noPage
		m.free[i] = uint32(c.NumPages - 1 - i) // page 0 is handed out first
	}
	return m, nil
}

// NumPages is the number of pages in the arena.
func (m *PageManager) NumPages() int { return m.numPages }

// PageSize is the number of tokens in a page.
func (m *PageManager) PageSize() int { return m.pageSize }

// Counters count events since New.
type Counters struct {
	ReusedTokens int // attached by Reuse
	PageCopies   int // copies listed by committed contexts
	Evictions    int // cached pages given to another text
}

// Stats is the state of the pool. NumPages = UsedPages + CachedPages + FreePages.
type Stats struct {
	NumPages, PageSize int
	UsedPages          int // owned by sequences and open contexts
	CachedPages        int // registered, without owner: evictable
	FreePages          int
	RegisteredPages    int // used or cached
	Sequences          int // not released
	Counters
}

// Stats counts the pages by state.
func (m *PageManager) Stats() Stats {
	return Stats{
		NumPages: m.numPages, PageSize: m.pageSize,
		UsedPages:   m.numPages - m.numCached - len(m.free),
		CachedPages: m.numCached, FreePages: len(m.free), RegisteredPages: len(m.byHash),
		Sequences: len(m.sequences), Counters: m.counters,
	}
}

// pagesFor is the number of pages that numTokens tokens occupy.
func (m *PageManager) pagesFor(numTokens int) int { return (numTokens + m.pageSize - 1) / m.pageSize }

// available is the number of pages that alloc can hand out.
func (m *PageManager) available() int { return len(m.free) + m.numCached }

// alloc hands out a page with one owner, evicting the least recently used cached page when none is free. The caller has
// checked available.
func (m *PageManager) alloc() uint32 {
	if len(m.free) == 0 {
		m.unregister(uint32(m.oldest))
		m.counters.Evictions++
	}
	p := m.free[len(m.free)-1]
	m.free = m.free[:len(m.free)-1]
	m.pages[p].refs = 1
	return p
}

// ref adds an owner to a page that is used or cached.
func (m *PageManager) ref(p uint32) {
	if m.pages[p].refs == 0 {
		m.unlink(p)
	}
	m.pages[p].refs++
}

// unref takes an owner away; a page without owner becomes the most recently used cached page, or free.
func (m *PageManager) unref(p uint32) {
	pg := &m.pages[p]
	pg.refs--
	if pg.refs > 0 {
		return
	}
	if pg.registered {
		m.linkNewest(p)
	} else {
		m.free = append(m.free, p)
	}
}

// linkNewest puts p at the recent end of the list of cached pages.
func (m *PageManager) linkNewest(p uint32) {
	pg := &m.pages[p]
	pg.prev, pg.next = m.newest, noPage
	if m.newest == noPage {
		m.oldest = int32(p)
	} else {
		m.pages[m.newest].next = int32(p)
	}
	m.newest = int32(p)
	m.numCached++
}

// unlink takes p out of the list of cached pages.
func (m *PageManager) unlink(p uint32) {
	pg := &m.pages[p]
	if pg.prev == noPage {
		m.oldest = pg.next
	} else {
		m.pages[pg.prev].next = pg.next
	}
	if pg.next == noPage {
		m.newest = pg.prev
	} else {
		m.pages[pg.next].prev = pg.prev
	}
	pg.prev, pg.next = noPage, noPage
	m.numCached--
}
