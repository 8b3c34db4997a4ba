// Page accounting case by case: each test is one promise of the package.

package kvcache

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func newManager(t testing.TB, numPages, pageSize int) *PageManager {
	t.Helper()
	m, err := New(Config{NumPages: numPages, PageSize: pageSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.CheckInvariants(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// run commits one pass.
func run(t testing.TB, m *PageManager, s *Sequence, tokens ...int32) {
	t.Helper()
	ic, err := m.Begin(s, tokens)
	if err != nil {
		t.Fatal(err)
	}
	if err := ic.Commit(); err != nil {
		t.Fatal(err)
	}
}

func count(from, n int32) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = from + int32(i)
	}
	return out
}

func TestNewRefusesBadSizes(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{NumPages: 0}, "0 pages"},
		{Config{NumPages: -3, PageSize: 16}, "-3 pages"},
		{Config{NumPages: 4, PageSize: -1}, "page size -1"},
		{Config{NumPages: 1 << 30, PageSize: 16}, "1073741824 pages of 16"},
	} {
		if _, err := New(c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%+v): error %v, want one with %q", c.config, err, c.want)
		}
	}
	m, err := New(Config{NumPages: 4})
	if err != nil || m.PageSize() != 16 || m.NumPages() != 4 {
		t.Errorf("New with 4 pages: %v, %v", m, err)
	}
}

func TestContextNumbers(t *testing.T) {
	m := newManager(t, 8, 4)
	other := m.NewSequence()
	run(t, m, other, 9) // takes page 0
	s := m.NewSequence()
	run(t, m, s, count(0, 6)...)
	ic, err := m.Begin(s, []int32{6, 7, 8})
	if err != nil {
		t.Fatal(err)
	}
	if ic.Start() != 6 || ic.NumTokens() != 3 || ic.KVLen() != 9 || ic.PageSize() != 4 || ic.NumPages() != 8 || ic.SequenceID() != s.ID() {
		t.Errorf("start %d, %d tokens, kvLen %d, %d pages of %d, sequence %d", ic.Start(), ic.NumTokens(), ic.KVLen(), ic.NumPages(), ic.PageSize(), ic.SequenceID())
	}
	if got := ic.PageTable(); !slices.Equal(got, []uint32{1, 2, 3}) {
		t.Errorf("page table %v", got)
	}
	if got := ic.AppendSlots([]uint32{99}); !slices.Equal(got, []uint32{99, 10, 11, 12}) {
		t.Errorf("slots %v", got)
	}
	if got := s.PageTable(); s.Len() != 6 || !slices.Equal(got, []uint32{1, 2}) {
		t.Errorf("before Commit the sequence has %d tokens, pages %v", s.Len(), got)
	}
	if err := ic.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := s.PageTable(); s.Len() != 9 || !slices.Equal(got, []uint32{1, 2, 3}) || !slices.Equal(s.Tokens(), count(0, 9)) {
		t.Errorf("after Commit the sequence has %v, pages %v", s.Tokens(), got)
	}
}

func TestNoContextWithoutManager(t *testing.T) {
	var zero InferenceContext
	var null *InferenceContext
	for _, ic := range []*InferenceContext{&zero, null} {
		if err := ic.Valid(); !errors.Is(err, ErrInvalidContext) {
			t.Errorf("Valid: %v", err)
		}
		if err := ic.Commit(); !errors.Is(err, ErrInvalidContext) {
			t.Errorf("Commit: %v", err)
		}
		if err := ic.Extend(1); !errors.Is(err, ErrInvalidContext) {
			t.Errorf("Extend: %v", err)
		}
		ic.Abort()
	}
	if n := zero.NumTokens() + zero.PageSize() + zero.NumPages() + zero.SequenceID() + len(zero.PageTable()) + len(zero.Copies()) + len(zero.Tokens()); n != 0 {
		t.Error("a zero context has numbers")
	}
	m, other := newManager(t, 2, 4), newManager(t, 2, 4)
	var zeroSequence Sequence
	for _, s := range []*Sequence{nil, &zeroSequence, other.NewSequence()} {
		if _, err := m.Begin(s, []int32{1}); err == nil {
			t.Error("Begin accepted a sequence that is not the manager's")
		}
		if n := m.Reuse(s, []int32{1, 2, 3, 4, 5}); n != 0 {
			t.Error("Reuse accepted a sequence that is not the manager's")
		}
	}
	if _, err := zeroSequence.Fork(); err == nil || zeroSequence.Truncate(0) == nil {
		t.Error("a zero sequence can be forked or truncated")
	}
	zeroSequence.Release()
}

func TestReuseWholePagesButNeverAllTokens(t *testing.T) {
	m := newManager(t, 16, 4)
	s := m.NewSequence()
	run(t, m, s, count(0, 14)...) // three full pages and two tokens
	for _, c := range []struct {
		name   string
		tokens []int32
		want   int
	}{
		{"longer", count(0, 20), 12},
		{"the same", count(0, 14), 12},
		{"exactly three pages", count(0, 12), 8},
		{"one token more", count(0, 13), 12},
		{"differs in the second page", append(count(0, 5), 77, 78, 79, 80, 81, 82, 83), 4},
		{"differs at once", count(1, 12), 0},
		{"second page first", count(4, 10), 0},
		{"empty", nil, 0},
	} {
		r := m.NewSequence()
		if got := m.Reuse(r, c.tokens); got != c.want || !slices.Equal(r.Tokens(), c.tokens[:c.want]) || !slices.Equal(r.PageTable(), s.PageTable()[:c.want/4]) {
			t.Errorf("%s: reused %d, want %d; tokens %v, pages %v", c.name, got, c.want, r.Tokens(), r.PageTable())
		}
		r.Release()
	}
	s.Release()
	r := m.NewSequence()
	if got := m.Reuse(r, count(0, 20)); got != 12 {
		t.Errorf("after release: reused %d, want 12", got)
	}
	if st := m.Stats(); st.UsedPages != 3 || st.FreePages != 13 || st.CachedPages != 0 || st.RegisteredPages != 3 {
		t.Errorf("stats %+v", st)
	}
}

func TestUncommittedPagesAreNotFound(t *testing.T) {
	m := newManager(t, 16, 4)
	s := m.NewSequence()
	ic, err := m.Begin(s, count(0, 8))
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Reuse(m.NewSequence(), count(0, 9)); n != 0 {
		t.Errorf("%d tokens of an open context were reused", n)
	}
	ic.Abort()
	if n := m.Reuse(m.NewSequence(), count(0, 9)); n != 0 {
		t.Errorf("%d tokens of an aborted context were reused", n)
	}
}

func TestLeastRecentlyUsedIsEvictedFirst(t *testing.T) {
	m := newManager(t, 6, 4)
	texts := [][]int32{count(0, 8), count(100, 8), count(200, 8)}
	for _, text := range texts {
		s := m.NewSequence()
		run(t, m, s, text...)
		s.Release()
	}
	s := m.NewSequence() // uses text 0 again: text 1 is the oldest now
	if n := m.Reuse(s, append(slices.Clone(texts[0]), 1)); n != 8 {
		t.Fatalf("reused %d of text 0, want 8", n)
	}
	s.Release()

	reusable := func(text []int32) int {
		s := m.NewSequence()
		defer s.Release()
		ids := append(slices.Clone(text), 1)
		// Looking must not change the order: count without attaching.
		n, parent := 0, rootLink
		for end := 4; end < len(ids); end += 4 {
			p, _, ok := m.lookup(parent, ids[end-4:end])
			if !ok {
				break
			}
			parent, n = m.link(p), end
		}
		return n
	}
	want := [][3]int{{8, 4, 8}, {8, 0, 8}, {8, 0, 4}, {8, 0, 0}, {4, 0, 0}, {0, 0, 0}}
	grow := m.NewSequence()
	for i, w := range want {
		run(t, m, grow, count(300+int32(i)*4, 4)...)
		if got := [3]int{reusable(texts[0]), reusable(texts[1]), reusable(texts[2])}; got != w {
			t.Errorf("after %d evictions %v tokens of the texts can be found, want %v", i+1, got, w)
		}
	}
	if st := m.Stats(); st.Evictions != 6 {
		t.Errorf("%d evictions, want 6", st.Evictions)
	}
}

func TestFullNamesTheNumbers(t *testing.T) {
	m := newManager(t, 5, 4)
	a, b := m.NewSequence(), m.NewSequence()
	run(t, m, a, count(0, 5)...)
	run(t, m, m.NewSequence(), 1)
	run(t, m, b, count(50, 4)...)
	b.Release() // its page is evictable
	before := m.Stats()
	_, err := m.Begin(a, count(5, 12))
	if !errors.Is(err, ErrFull) {
		t.Fatalf("error %v, want ErrFull", err)
	}
	for _, want := range []string{"sequence 1", "from 5 to 17", "needs 3 more pages of 4", "1 of 5 are free", "1 can be evicted"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if m.Stats() != before {
		t.Errorf("a failed Begin changed %+v to %+v", before, m.Stats())
	}
	run(t, m, a, count(5, 11)...) // exactly all
	if st := m.Stats(); st.FreePages != 0 || st.Evictions != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestForkCopiesOnWrite(t *testing.T) {
	m := newManager(t, 8, 4)
	a := m.NewSequence()
	run(t, m, a, count(0, 6)...)
	b, err := a.Fork()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.PageTable(), b.PageTable()) || m.Stats().UsedPages != 2 {
		t.Fatalf("fork has pages %v, original %v", b.PageTable(), a.PageTable())
	}
	icA, err := m.Begin(a, []int32{10})
	if err != nil {
		t.Fatal(err)
	}
	shared := b.PageTable()[1]
	if got := icA.Copies(); len(got) != 1 || got[0].Src != shared || got[0].NumTokens != 2 || got[0].Dst != icA.PageTable()[1] || got[0].Dst == shared {
		t.Errorf("copies %v, page table %v", got, icA.PageTable())
	}
	// While the copy may still have to be read, the other must not write its source in place.
	icB, err := m.Begin(b, []int32{20})
	if err != nil {
		t.Fatal(err)
	}
	if len(icB.Copies()) != 1 {
		t.Error("the source of a pending copy is written in place")
	}
	icB.Abort()
	if err := icA.Commit(); err != nil {
		t.Fatal(err)
	}
	icB, err = m.Begin(b, []int32{20})
	if err != nil {
		t.Fatal(err)
	}
	if len(icB.Copies()) != 0 || icB.Slot(0) != shared*4+2 {
		t.Errorf("the last owner copies %v to slot %d", icB.Copies(), icB.Slot(0))
	}
	if err := icB.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestTruncatedCachedPageIsNotRewritten(t *testing.T) {
	m := newManager(t, 8, 4)
	s := m.NewSequence()
	run(t, m, s, count(0, 8)...)
	old := s.PageTable()[1]
	if err := s.Truncate(6); err != nil {
		t.Fatal(err)
	}
	ic, err := m.Begin(s, []int32{70, 71})
	if err != nil {
		t.Fatal(err)
	}
	if got := ic.Copies(); len(got) != 1 || got[0] != (PageCopy{old, ic.PageTable()[1], 2}) {
		t.Fatalf("copies %v, want from page %d", got, old)
	}
	if err := ic.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]int32{append(count(0, 8), 9), {0, 1, 2, 3, 4, 5, 70, 71, 9}} {
		if n := m.Reuse(m.NewSequence(), text); n != 8 {
			t.Errorf("%v: reused %d, want 8", text, n)
		}
	}
}

func TestTruncatedCachedPageIsTakenBackWhenNoneIsLeft(t *testing.T) {
	m := newManager(t, 2, 4)
	s := m.NewSequence()
	run(t, m, s, count(0, 8)...)
	if err := s.Truncate(6); err != nil {
		t.Fatal(err)
	}
	ic, err := m.Begin(s, []int32{70, 71})
	if err != nil {
		t.Fatal(err)
	}
	if len(ic.Copies()) != 0 || ic.Slot(0) != s.PageTable()[1]*4+2 {
		t.Errorf("copies %v, slot %d, pages %v", ic.Copies(), ic.Slot(0), s.PageTable())
	}
	if err := ic.Commit(); err != nil {
		t.Fatal(err)
	}
	if n := m.Reuse(m.NewSequence(), append(count(0, 8), 9)); n != 4 {
		t.Errorf("reused %d tokens of a text whose second page was overwritten, want 4", n)
	}
}

func TestPrivateCopyReplacesEvictedPage(t *testing.T) {
	m := newManager(t, 5, 4)
	a, b := m.NewSequence(), m.NewSequence()
	// Both run the same page before either is registered, so b's stays private.
	icA, errA := m.Begin(a, count(0, 4))
	icB, errB := m.Begin(b, count(0, 4))
	if err := errors.Join(errA, errB, icA.Commit(), icB.Commit()); err != nil {
		t.Fatal(err)
	}
	run(t, m, b, count(4, 4)...)
	a.Release()
	filler := m.NewSequence()
	run(t, m, filler, count(100, 12)...) // evicts a's page
	filler.Release()
	if m.Stats().Evictions != 1 {
		t.Fatalf("stats %+v: want one eviction", m.Stats())
	}
	b.Release()
	if n := m.Reuse(m.NewSequence(), count(0, 9)); n != 8 {
		t.Errorf("reused %d, want 8: b's first page must be found in place of the evicted one", n)
	}
}

// Texts that collide under the hash must neither be taken for each other nor stop the cache from working.
func TestHashCollisions(t *testing.T) {
	m := newManager(t, 16, 2)
	m.hashPage = func(uint64, []int32) uint64 { return 42 }
	a := m.NewSequence()
	run(t, m, a, 1, 2, 3, 4)
	for _, text := range [][]int32{{5, 6, 7}, {3, 4, 7}, {1, 2, 7}} {
		if n := m.Reuse(m.NewSequence(), text); n != 0 {
			t.Errorf("%v: reused %d tokens of another text", text, n)
		}
	}
	b := m.NewSequence()
	run(t, m, b, 5, 6)
	if n := m.Reuse(m.NewSequence(), []int32{5, 6, 7}); n != 2 {
		t.Errorf("reused %d of the newest text, want 2", n)
	}
}

func TestCommitAhead(t *testing.T) {
	m := newManager(t, 4, 4)
	s := m.NewSequence()
	run(t, m, s, 0, 1, 2)
	ic, err := m.BeginAhead(s, []int32{3}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if ic.NumTokens() != 4 || ic.NumAhead() != 3 || ic.KVLen() != 7 || len(ic.Tokens()) != 1 || len(ic.PageTable()) != 2 {
		t.Errorf("%d tokens, %d ahead, kvLen %d, pages %v", ic.NumTokens(), ic.NumAhead(), ic.KVLen(), ic.PageTable())
	}
	if err := ic.Extend(5); err != nil || ic.KVLen() != 12 || len(ic.PageTable()) != 3 {
		t.Errorf("extended to %d with pages %v: %v", ic.KVLen(), ic.PageTable(), err)
	}
	if err := ic.Extend(5); !errors.Is(err, ErrFull) || ic.KVLen() != 12 || ic.Valid() != nil {
		t.Errorf("extending past the cache: %v, kvLen %d", err, ic.KVLen())
	}
	if err := ic.CommitAhead(count(4, 9)); err == nil {
		t.Error("nine tokens were committed to eight positions")
	}
	if err := ic.CommitAhead([]int32{4, -5}); err == nil {
		t.Error("a negative id was committed")
	}
	if err := ic.CommitAhead([]int32{4, 5}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Tokens(), count(0, 6)) || len(s.PageTable()) != 2 || m.Stats().FreePages != 2 {
		t.Errorf("tokens %v, pages %v, stats %+v", s.Tokens(), s.PageTable(), m.Stats())
	}
}

func TestFaults(t *testing.T) {
	fault := &Fault{}
	m, err := New(Config{NumPages: 4, PageSize: 4, Fault: fault})
	if err != nil {
		t.Fatal(err)
	}
	s := m.NewSequence()
	run(t, m, s, count(0, 6)...)

	fault.ShiftPageTable, fault.Entry = true, 1
	ic, err := m.Begin(s, []int32{6})
	if err != nil {
		t.Fatal(err)
	}
	if got := ic.PageTable(); !slices.Equal(got, []uint32{0, 2}) || ic.Slot(0) != 1*4+2 {
		t.Errorf("shifted table %v, slot %d", got, ic.Slot(0))
	}
	fault.Entry = 2 // beyond the table
	if got := ic.PageTable(); !slices.Equal(got, []uint32{0, 1}) {
		t.Errorf("table %v, want it unshifted", got)
	}

	*fault = Fault{SkipCommit: true}
	if err := ic.Commit(); err != nil || s.Len() != 6 || ic.Valid() == nil {
		t.Errorf("commit: %v, length %d", err, s.Len())
	}
	*fault = Fault{}
	run(t, m, s, 6)
	if err := m.CheckInvariants(); err != nil || s.Len() != 7 {
		t.Errorf("after the fault: %v, length %d", err, s.Len())
	}
}

// CheckInvariants is the judge of the random tests, so it must be able to condemn.
func TestCheckInvariantsFindsCorruption(t *testing.T) {
	for _, c := range []struct {
		name, want string
		corrupt    func(m *PageManager, s, f *Sequence, ic *InferenceContext)
	}{
		{"page free and used", "free page", func(m *PageManager, s, _ *Sequence, _ *InferenceContext) { m.free = append(m.free, s.pages[0]) }},
		{"page lost", "listed as free or cached: false", func(m *PageManager, _, _ *Sequence, _ *InferenceContext) { m.free = m.free[1:] }},
		{"reference lost", "owners", func(m *PageManager, s, _ *Sequence, _ *InferenceContext) { m.pages[s.pages[0]].refs-- }},
		{"two writers", "twice in the table|owners", func(m *PageManager, s, f *Sequence, ic *InferenceContext) {
			ic.table[len(ic.table)-1] = f.pages[len(f.pages)-1]
		}},
		{"written while registered", "registered: true", func(m *PageManager, s, _ *Sequence, ic *InferenceContext) {
			m.pages[ic.table[len(ic.table)-1]].registered = true
		}},
		{"length beyond the table", "tokens and 3 pages", func(_ *PageManager, s, _ *Sequence, ic *InferenceContext) {
			s.tokens = append(s.tokens, count(0, 8)...)
		}},
		{"token changed", "hash", func(_ *PageManager, s, _ *Sequence, _ *InferenceContext) { s.tokens[1]++ }},
		{"registered token changed", "tokens are not the sequence's", func(m *PageManager, s, _ *Sequence, _ *InferenceContext) { m.pageTokens(s.pages[0])[2]++ }},
		{"parent changed", "continues text", func(m *PageManager, s, _ *Sequence, _ *InferenceContext) { m.pages[s.pages[1]].parentID = 1 }},
		{"hash changed", "index", func(m *PageManager, _, _ *Sequence, _ *InferenceContext) { m.pages[m.oldest].hash++ }},
		{"index entry lost", "index", func(m *PageManager, _, _ *Sequence, _ *InferenceContext) {
			delete(m.byHash, m.pages[m.oldest].hash)
		}},
		{"list of cached pages cut", "wrongly linked", func(m *PageManager, _, _ *Sequence, _ *InferenceContext) { m.oldest = m.pages[m.oldest].next }},
		{"context behind its sequence", "starts at", func(_ *PageManager, _, _ *Sequence, ic *InferenceContext) { ic.start-- }},
		{"copy forgotten", "copies", func(_ *PageManager, _, _ *Sequence, ic *InferenceContext) { ic.numCopies = 0 }},
	} {
		m, err := New(Config{NumPages: 16, PageSize: 4})
		if err != nil {
			t.Fatal(err)
		}
		gone, s := m.NewSequence(), m.NewSequence()
		run(t, m, gone, count(50, 8)...)
		gone.Release()
		run(t, m, s, count(0, 10)...)
		f, err := s.Fork()
		if err != nil {
			t.Fatal(err)
		}
		ic, err := m.Begin(s, count(10, 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.CheckInvariants(); err != nil {
			t.Fatalf("%s: before the corruption: %v", c.name, err)
		}
		c.corrupt(m, s, f, ic)
		err = m.CheckInvariants()
		if err == nil || !slices.ContainsFunc(strings.Split(c.want, "|"), func(w string) bool { return strings.Contains(err.Error(), w) }) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

// One token's Begin and Commit allocate the context and nothing else, apart from the growth of tables.
func TestBeginAllocatesOnlyTheContext(t *testing.T) {
	m := newManager(t, 4096, 16)
	s := m.NewSequence()
	run(t, m, s, count(0, 1000)...)
	token := []int32{1}
	if n := testing.AllocsPerRun(5000, func() { run(t, m, s, token...) }); n > 1 {
		t.Errorf("%v allocations a token, want 1", n)
	}
}

func BenchmarkOneToken(b *testing.B) {
	const contextTokens = 32768
	m := newManager(b, contextTokens/16, 16)
	token := []int32{1}
	b.ReportAllocs()
	var s *Sequence
	for i := 0; b.Loop(); i++ {
		if i%contextTokens == 0 {
			s.Release()
			s = m.NewSequence()
		}
		ic, err := m.Begin(s, token)
		if err != nil {
			b.Fatal(err)
		}
		if err := ic.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReuse attaches a cached prompt of 4096 tokens and releases it.
func BenchmarkReuse(b *testing.B) {
	m := newManager(b, 512, 16)
	s := m.NewSequence()
	text := count(0, 4097)
	run(b, m, s, text...)
	s.Release()
	b.ReportAllocs()
	for b.Loop() {
		s := m.NewSequence()
		if m.Reuse(s, text) != 4096 {
			b.Fatal("not found")
		}
		s.Release()
	}
}
