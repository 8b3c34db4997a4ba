// A model of the cache that operations, drawn from a stream of bytes, are checked against: the arena is an array of
// (token, position) cells that "passes" write and copy as a runner would, and every sequence must read its own text back
// through its page table after every operation. The fuzz target and the random test share it.

package kvcache

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// cell is what stands for one token's keys and values. Keys depend on the whole text before them: text is a hash of it
// that is unrelated to the one in prefix.go.
type cell struct {
	token int32
	pos   int
	text  uint64
}

var garbage = cell{-7, -7, 7}

func textHash(parent uint64, token int32) uint64 {
	return (parent^uint64(token+1))*0x100000001b3 + 0x1234567
}

// modelSequence is a sequence, what it must contain, and its open context.
type modelSequence struct {
	s      *Sequence
	tokens []int32

	ic   *InferenceContext
	next []int32 // tokens of ic, then those sampled ahead
	ran  int     // how many of next the passes have run
}

type model struct {
	m         *PageManager
	arena     []cell
	sequences []*modelSequence
	prompts   [][]int32 // texts that were used, so that prefixes are shared often
	done      map[string]int
}

const (
	maxModelSequences = 6
	numModelTokens    = 3 // distinct ids
)

func newModel(c Config) (*model, error) {
	m, err := New(c)
	if err != nil {
		return nil, err
	}
	md := &model{m: m, arena: make([]cell, m.NumPages()*m.PageSize()), done: make(map[string]int)}
	for i := range md.arena {
		md.arena[i] = garbage
	}
	return md, nil
}

// stream hands out the bytes that steer the operations.
type stream struct {
	data []byte
	at   int
}

func (st *stream) more() bool { return st.at < len(st.data) }

// intn returns a number in [0, n), 0 when the stream has run out.
func (st *stream) intn(n int) int {
	if !st.more() || n <= 0 {
		return 0
	}
	b := int(st.data[st.at])
	st.at++
	return b % n
}

func (st *stream) tokens(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(st.intn(numModelTokens))
	}
	return out
}

// step does one operation and checks everything.
func (md *model) step(st *stream) error {
	ops := []struct {
		name string
		do   func(*stream) error
	}{
		{"new", md.opNew}, {"new", md.opNew},
		{"begin", md.opBegin}, {"begin", md.opBegin}, {"begin", md.opBegin}, {"begin", md.opBegin},
		{"pass", md.opPass},
		{"commit", md.opCommit}, {"commit", md.opCommit}, {"commit", md.opCommit}, {"commit", md.opCommit},
		{"abort", md.opAbort},
		{"truncate", md.opTruncate},
		{"fork", md.opFork},
		{"release", md.opRelease}, {"release", md.opRelease},
		{"extend", md.opExtend},
		{"no trace", md.opNoTrace},
		{"refused", md.opRefused},
	}
	op := ops[st.intn(len(ops))]
	if err := op.do(st); err != nil {
		return fmt.Errorf("%s: %w", op.name, err)
	}
	md.done[op.name]++
	if err := md.check(); err != nil {
		return fmt.Errorf("after %s: %w", op.name, err)
	}
	return nil
}

// pick returns a sequence with or without an open context, nil if there is none.
func (md *model) pick(st *stream, open bool) *modelSequence {
	var found []*modelSequence
	for _, q := range md.sequences {
		if (q.ic != nil) == open {
			found = append(found, q)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[st.intn(len(found))]
}

// opNew makes a sequence and, mostly, reuses the prefix of a text that was used before, changed a little.
func (md *model) opNew(st *stream) error {
	if len(md.sequences) == maxModelSequences {
		return nil
	}
	q := &modelSequence{s: md.m.NewSequence()}
	md.sequences = append(md.sequences, q)
	var text []int32
	if len(md.prompts) > 0 && st.intn(4) > 0 {
		text = slices.Clone(md.prompts[st.intn(len(md.prompts))])
	}
	text = append(text, st.tokens(st.intn(4))...)
	if len(text) > 0 && st.intn(4) == 0 {
		text[st.intn(len(text))] = int32(st.intn(numModelTokens))
	}
	n := md.m.Reuse(q.s, text)
	if n%md.m.PageSize() != 0 || n < 0 || n > 0 && n >= len(text) {
		return fmt.Errorf("%d tokens reused of %d", n, len(text))
	}
	if n > 0 {
		md.done["reused"]++
	}
	q.tokens = text[:n:n]
	return nil
}

// capacity tells, from the manager's lists, whether q can grow by n positions. A shared last page must be copied.
func (md *model) capacity(q *modelSequence, n int) bool {
	ps := md.m.PageSize()
	need := (len(q.tokens)+n+ps-1)/ps - len(q.s.PageTable())
	if len(q.tokens)%ps != 0 {
		last := q.s.PageTable()[len(q.s.PageTable())-1]
		owners := 0
		for _, other := range md.sequences {
			if slices.Contains(other.s.PageTable(), last) {
				owners++
			}
		}
		if owners > 1 {
			need++
		}
	}
	stats := md.m.Stats()
	return need <= stats.FreePages+stats.CachedPages
}

func (md *model) opBegin(st *stream) error {
	q := md.pick(st, false)
	if q == nil {
		return nil
	}
	tokens, ahead := st.tokens(1+st.intn(6)), max(0, st.intn(8)-4)
	fits := md.capacity(q, len(tokens)+ahead)
	before := md.snapshot()
	ic, err := md.m.BeginAhead(q.s, tokens, ahead)
	if (err == nil) != fits {
		return fmt.Errorf("%d+%d tokens fit: %v, and Begin returns %v", len(tokens), ahead, fits, err)
	}
	if err != nil {
		if !errors.Is(err, ErrFull) {
			return err
		}
		md.done["full"]++
		return md.unchanged(before)
	}
	q.ic, q.next, q.ran = ic, slices.Clone(tokens), 0
	clear(tokens) // the context must not depend on the caller's slice
	if ic.Start() != len(q.tokens) || ic.NumTokens() != len(q.next)+ahead || ic.NumAhead() != ahead ||
		ic.KVLen() != ic.Start()+ic.NumTokens() || !slices.Equal(ic.Tokens(), q.next) {
		return fmt.Errorf("context at %d of %v (%d ahead), want at %d of %v (%d ahead)",
			ic.Start(), ic.Tokens(), ic.NumAhead(), len(q.tokens), q.next, ahead)
	}
	if len(ic.Copies()) > 0 {
		md.done["copies"]++
	}
	return nil
}

// runPass does the copies and writes the context's tokens, then samples and writes some of those ahead.
func (md *model) runPass(q *modelSequence, st *stream) {
	ps := md.m.PageSize()
	if q.ran == 0 {
		for _, c := range q.ic.Copies() {
			copy(md.arena[int(c.Dst)*ps:][:c.NumTokens], md.arena[int(c.Src)*ps:][:c.NumTokens])
			for i := c.NumTokens; i < ps; i++ {
				md.arena[int(c.Dst)*ps+i] = garbage
			}
		}
	}
	if n := q.ic.NumTokens() - len(q.next); n > 0 {
		q.next = append(q.next, st.tokens(st.intn(n+1))...)
	}
	text := uint64(0)
	if q.ic.Start() > 0 {
		text = md.arena[slotOf(q.ic.PageTable(), ps, q.ic.Start()-1)].text
	}
	for i, t := range q.next {
		text = textHash(text, t)
		md.arena[q.ic.Slot(i)] = cell{t, q.ic.Start() + i, text}
	}
	q.ran = len(q.next)
}

func slotOf(table []uint32, pageSize, pos int) uint32 {
	return table[pos/pageSize]*uint32(pageSize) + uint32(pos%pageSize)
}

func (md *model) opPass(st *stream) error {
	if q := md.pick(st, true); q != nil {
		md.runPass(q, st)
	}
	return nil
}

func (md *model) opCommit(st *stream) error {
	q := md.pick(st, true)
	if q == nil {
		return nil
	}
	md.runPass(q, st)
	known := len(q.ic.Tokens())
	keep := known + st.intn(len(q.next)-known+1) // what was sampled past a stop is dropped
	ic := q.ic
	if err := ic.CommitAhead(q.next[known:keep]); err != nil {
		return err
	}
	q.tokens = append(q.tokens, q.next[:keep]...)
	q.ic, q.next = nil, nil
	if ic.Valid() == nil || ic.Commit() == nil || ic.Extend(1) == nil {
		return errors.New("a committed context is still valid")
	}
	ic.Abort() // does nothing
	if len(md.prompts) < 16 {
		md.prompts = append(md.prompts, slices.Clone(q.tokens))
	} else {
		md.prompts[st.intn(len(md.prompts))] = slices.Clone(q.tokens)
	}
	return nil
}

// abort leaves garbage in every slot that the pass might have written.
func (md *model) abort(q *modelSequence) error {
	for i := range q.ic.NumTokens() {
		md.arena[q.ic.Slot(i)] = garbage
	}
	ic := q.ic
	ic.Abort()
	q.ic, q.next = nil, nil
	if !errors.Is(ic.Valid(), ErrInvalidContext) || ic.Commit() == nil {
		return errors.New("an aborted context is still valid")
	}
	return nil
}

func (md *model) opAbort(st *stream) error {
	if q := md.pick(st, true); q != nil {
		return md.abort(q)
	}
	return nil
}

// opNoTrace begins, scribbles and aborts: unless pages were evicted, the manager must be exactly as before.
func (md *model) opNoTrace(st *stream) error {
	q := md.pick(st, false)
	if q == nil {
		return nil
	}
	before := md.snapshot()
	ic, err := md.m.BeginAhead(q.s, st.tokens(1+st.intn(6)), st.intn(4))
	if err == nil {
		q.ic = ic
		extendErr := ic.Extend(st.intn(3))
		if extendErr != nil && !errors.Is(extendErr, ErrFull) {
			return extendErr
		}
		if err := md.abort(q); err != nil {
			return err
		}
	}
	after := md.m.Stats()
	if after.RegisteredPages != before.Stats.RegisteredPages {
		md.done["abort after eviction"]++
		before.Stats.Counters, before.Free, before.ByHash, before.Pages = after.Counters, nil, nil, nil
		before.Stats.CachedPages, before.Stats.FreePages = after.CachedPages, after.FreePages
		before.Stats.RegisteredPages = after.RegisteredPages
	}
	return md.unchanged(before)
}

func (md *model) opTruncate(st *stream) error {
	q := md.pick(st, false)
	if q == nil {
		return nil
	}
	n := st.intn(len(q.tokens) + 1)
	q.tokens = q.tokens[:n:n]
	return q.s.Truncate(n)
}

func (md *model) opFork(st *stream) error {
	q := md.pick(st, false)
	if q == nil || len(md.sequences) == maxModelSequences {
		return nil
	}
	f, err := q.s.Fork()
	if err != nil {
		return err
	}
	md.sequences = append(md.sequences, &modelSequence{s: f, tokens: slices.Clone(q.tokens)})
	return nil
}

func (md *model) opRelease(st *stream) error {
	q := md.pick(st, st.intn(4) == 0)
	if q == nil {
		return nil
	}
	if ic := q.ic; ic != nil {
		for i := range ic.NumTokens() {
			md.arena[ic.Slot(i)] = garbage
		}
		defer func() {
			if ic.Valid() == nil {
				panic("context outlives its sequence")
			}
		}()
	}
	q.s.Release()
	q.s.Release() // does nothing
	md.sequences = slices.DeleteFunc(md.sequences, func(o *modelSequence) bool { return o == q })
	if _, err := md.m.Begin(q.s, []int32{1}); !errors.Is(err, ErrReleased) {
		return fmt.Errorf("begin on a released sequence: %v", err)
	}
	return nil
}

func (md *model) opExtend(st *stream) error {
	q := md.pick(st, true)
	if q == nil {
		return nil
	}
	before, n := md.snapshot(), st.intn(5)
	err := q.ic.Extend(n)
	if errors.Is(err, ErrFull) {
		return md.unchanged(before)
	}
	return err
}

// opRefused makes calls that must fail and change nothing.
func (md *model) opRefused(st *stream) error {
	before := md.snapshot()
	if q := md.pick(st, true); q != nil {
		_, beginErr := md.m.Begin(q.s, []int32{1})
		_, forkErr := q.s.Fork()
		for _, err := range []error{beginErr, forkErr, q.s.Truncate(0)} {
			if !errors.Is(err, ErrOpenContext) {
				return fmt.Errorf("with an open context: %v", err)
			}
		}
		if q.ic.CommitAhead(make([]int32, q.ic.NumAhead()+1)) == nil || q.ic.Extend(-1) == nil || md.m.Reuse(q.s, []int32{0, 0, 0, 0, 0}) != 0 {
			return errors.New("more tokens ahead than reserved, a negative extension or a reuse was accepted")
		}
	}
	if q := md.pick(st, false); q != nil {
		_, negative := md.m.Begin(q.s, []int32{1, -1})
		_, empty := md.m.Begin(q.s, nil)
		_, huge := md.m.BeginAhead(q.s, []int32{1}, int(^uint(0)>>1))
		if negative == nil || empty == nil || !errors.Is(huge, ErrFull) || q.s.Truncate(-1) == nil || q.s.Truncate(len(q.tokens)+1) == nil {
			return fmt.Errorf("bad arguments were accepted: %v, %v, %v", negative, empty, huge)
		}
		if len(q.tokens) > 0 && md.m.Reuse(q.s, q.tokens) != 0 {
			return errors.New("reuse on a sequence that is not empty")
		}
	}
	return md.unchanged(before)
}

// check compares everything readable with the model.
func (md *model) check() error {
	if err := md.m.CheckInvariants(); err != nil {
		return err
	}
	st := md.m.Stats()
	if st.UsedPages+st.CachedPages+st.FreePages != st.NumPages || st.Sequences != len(md.sequences) {
		return fmt.Errorf("stats %+v with %d sequences", st, len(md.sequences))
	}
	for _, q := range md.sequences {
		if !slices.Equal(q.s.Tokens(), q.tokens) || q.s.Len() != len(q.tokens) {
			return fmt.Errorf("sequence %d holds %v, want %v", q.s.ID(), q.s.Tokens(), q.tokens)
		}
		if err := md.readBack(q.s.PageTable(), q.tokens); err != nil {
			return fmt.Errorf("sequence %d: %w", q.s.ID(), err)
		}
		if q.ic == nil {
			continue
		}
		if err := q.ic.Valid(); err != nil {
			return err
		}
		if q.ran > 0 {
			if err := md.readBack(q.ic.PageTable(), append(slices.Clone(q.tokens), q.next[:q.ran]...)); err != nil {
				return fmt.Errorf("context of sequence %d: %w", q.s.ID(), err)
			}
		}
	}
	return md.scribble()
}

// readBack reads a text through a page table.
func (md *model) readBack(table []uint32, tokens []int32) error {
	text := uint64(0)
	for pos, t := range tokens {
		text = textHash(text, t)
		slot := slotOf(table, md.m.PageSize(), pos)
		if want := (cell{t, pos, text}); md.arena[slot] != want {
			return fmt.Errorf("position %d, slot %d, holds %+v, want %+v (page table %v)", pos, slot, md.arena[slot], want, table)
		}
	}
	return nil
}

// scribble overwrites the free pages, whose contents nobody may rely on, and checks the registered ones, which wait to
// be reused.
func (md *model) scribble() error {
	ps := md.m.PageSize()
	for _, p := range md.m.free {
		for i := range ps {
			md.arena[int(p)*ps+i] = garbage
		}
	}
	for _, p := range md.m.byHash {
		for i, t := range md.m.pageTokens(p) {
			if c := md.arena[int(p)*ps+i]; c.token != t || c.pos%ps != i {
				return fmt.Errorf("registered page %d, offset %d, holds %+v, want token %d", p, i, c, t)
			}
		}
	}
	return nil
}

// snapshot is a deep copy of all that a pass might leave a trace in.
type snapshot struct {
	Stats  Stats
	Pages  []page
	Free   []uint32
	ByHash map[uint64]uint32
	Tokens map[int][]int32
	Tables map[int][]uint32
	Chains map[int][]link
}

func (md *model) snapshot() snapshot {
	sn := snapshot{
		Stats: md.m.Stats(), Pages: slices.Clone(md.m.pages), Free: slices.Clone(md.m.free), ByHash: maps.Clone(md.m.byHash),
		Tokens: map[int][]int32{}, Tables: map[int][]uint32{}, Chains: map[int][]link{},
	}
	for id, s := range md.m.sequences {
		// Empty and nil are the same here.
		sn.Tokens[id], sn.Tables[id], sn.Chains[id] = append([]int32{}, s.tokens...), append([]uint32{}, s.pages...), append([]link{}, s.chain...)
	}
	return sn
}

// unchanged compares the manager with a snapshot; fields that are nil there are not compared.
func (md *model) unchanged(before snapshot) error {
	after := md.snapshot()
	if before.Pages == nil {
		after.Pages, after.Free, after.ByHash = nil, nil, nil
	}
	if !reflect.DeepEqual(before, after) {
		return fmt.Errorf("a trace was left:\nbefore %+v\nafter  %+v", before, after)
	}
	return nil
}
