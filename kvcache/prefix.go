// The prefix index: finds full pages by the text that leads up to their end.
//
// A page's hash covers its tokens and its parent's hash, so one lookup a page walks down a text. Hashes only find
// candidates; a match is decided by comparing the page's tokens and the parent's id, so a collision cannot attach a page
// of another text.

package kvcache

import "slices"

// link names a text that ends at a page boundary.
type link struct {
	hash uint64
	id   uint64
}

// rootLink names the empty text.
var rootLink = link{hash: 0x9e3779b97f4a7c15, id: 1}

// hashTokens continues a parent's hash: a multiply-xorshift round (MurmurHash3's 64-bit finalizer) for every token.
func hashTokens(parent uint64, tokens []int32) uint64 {
	h := parent
	for _, t := range tokens {
		h ^= uint64(uint32(t))
		h ^= h >> 33
		h *= 0xff51afd7ed558ccd
		h ^= h >> 33
		h *= 0xc4ceb9fe1a85ec53
		h ^= h >> 33
	}
	return h
}

// pageTokens is the text of a registered page, [pageSize].
func (m *PageManager) pageTokens(p uint32) []int32 {
	return m.tokens[int(p)*m.pageSize:][:m.pageSize]
}

// lookup finds the registered page that continues parent by tokens ([pageSize]). It also returns the hash.
func (m *PageManager) lookup(parent link, tokens []int32) (p uint32, hash uint64, ok bool) {
	hash = m.hashPage(parent.hash, tokens)
	p, ok = m.byHash[hash]
	return p, hash, ok && m.pages[p].parentID == parent.id && slices.Equal(m.pageTokens(p), tokens)
}

// link returns the name of the text up to the end of registered page p.
func (m *PageManager) link(p uint32) link { return link{m.pages[p].hash, m.pages[p].id} }

// registerNew enters a just filled page and returns the name of its text. If another page with the same text is
// registered, that one stays and p remains private. A registered page of another text under the same hash (a collision,
// or a page whose parent has been evicted, so that it cannot be found any more) gives way.
func (m *PageManager) registerNew(p uint32, parent link, tokens []int32) link {
	q, hash, same := m.lookup(parent, tokens)
	if same {
		return m.link(q)
	}
	if q, taken := m.byHash[hash]; taken {
		m.unregister(q)
	}
	l := link{hash, m.nextID}
	m.nextID++
	m.register(p, parent, l, tokens)
	return l
}

// register enters used page p under a hash that is not taken.
func (m *PageManager) register(p uint32, parent, l link, tokens []int32) {
	pg := &m.pages[p]
	pg.registered = true
	pg.hash, pg.id, pg.parentHash, pg.parentID = l.hash, l.id, parent.hash, parent.id
	copy(m.pageTokens(p), tokens)
	m.byHash[l.hash] = p
}

// unregister makes p unfindable; without owner it becomes free.
func (m *PageManager) unregister(p uint32) {
	pg := &m.pages[p]
	delete(m.byHash, pg.hash)
	pg.registered = false
	if pg.refs == 0 {
		m.unlink(p)
		m.free = append(m.free, p)
	}
}

// keepText is called before page p, text l, loses an owner. When p is a private copy of a text that another page
// was registered for, that page is marked as recently used, or, if it has been evicted, p takes its place: otherwise the
// pages that continue the text could not be found.
func (m *PageManager) keepText(p uint32, parent, l link, tokens []int32) {
	if m.pages[p].registered {
		return
	}
	q, taken := m.byHash[l.hash]
	switch {
	case !taken:
		m.register(p, parent, l, tokens)
	case m.pages[q].id == l.id && m.pages[q].refs == 0:
		m.unlink(q)
		m.linkNewest(q)
	}
}

// Reuse attaches to an empty sequence the longest run of registered pages that hold the beginning of tokens, and
// returns how many tokens that is: a multiple of PageSize, and less than len(tokens), because the last token must run
// to give logits. It returns 0, and changes nothing, when the sequence is not empty, has an open context or is released.
func (m *PageManager) Reuse(s *Sequence, tokens []int32) (numReused int) {
	if s.usable(m) != nil || s.open != nil || len(s.tokens) > 0 {
		return 0
	}
	parent := rootLink
	for end := m.pageSize; end < len(tokens); end += m.pageSize {
		p, _, ok := m.lookup(parent, tokens[end-m.pageSize:end])
		if !ok {
			break
		}
		m.ref(p)
		parent = m.link(p)
		s.pages = append(s.pages, p)
		s.chain = append(s.chain, parent)
	}
	numReused = len(s.pages) * m.pageSize
	s.tokens = append(s.tokens, tokens[:numReused]...)
	m.counters.ReusedTokens += numReused
	return numReused
}
