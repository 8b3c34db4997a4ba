// Random operations against the model: a long deterministic run, and a fuzz target over the same operations.

package kvcache

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// weakHash has four values, so that different texts collide all the time.
func weakHash(parent uint64, tokens []int32) uint64 { return hashTokens(parent, tokens) & 3 }

// newModelFor takes the sizes from the first bytes.
func newModelFor(st *stream) (*model, error) {
	md, err := newModel(Config{NumPages: 1 + st.intn(40), PageSize: 1 + st.intn(5)})
	if err == nil && st.intn(4) == 0 {
		md.m.hashPage = weakHash
	}
	return md, err
}

func TestRandomOperations(t *testing.T) {
	const opsPerRun, numRuns = 1000, 80
	total := make(map[string]int)
	for run := range numRuns {
		rng := rand.New(rand.NewPCG(uint64(run), 1))
		st := &stream{data: make([]byte, 16*opsPerRun)}
		for i := range st.data {
			st.data[i] = byte(rng.Uint32())
		}
		md, err := newModelFor(st)
		if err != nil {
			t.Fatal(err)
		}
		for op := range opsPerRun {
			if err := md.step(st); err != nil {
				t.Fatalf("run %d (%d pages of %d), operation %d: %v", run, md.m.NumPages(), md.m.PageSize(), op, err)
			}
		}
		for name, n := range md.done {
			total[name] += n
		}
		total["evictions"] += md.m.Stats().Evictions
		for len(md.sequences) > 0 {
			q := md.sequences[0]
			q.s.Release()
			md.sequences = md.sequences[1:]
			if err := md.check(); err != nil {
				t.Fatalf("run %d, releasing: %v", run, err)
			}
		}
		if used := md.m.Stats().UsedPages; used != 0 {
			t.Fatalf("run %d: %d pages are used by nobody", run, used)
		}
	}
	// The run is worth something only if every interesting thing happened often.
	for _, name := range []string{"reused", "copies", "full", "evictions", "abort", "abort after eviction", "extend", "fork", "truncate"} {
		if total[name] < 300 {
			t.Errorf("%q happened %d times in %d operations", name, total[name], opsPerRun*numRuns)
		}
	}
	t.Log(fmt.Sprint(total))
}

// FuzzOperations is best run with -fuzzminimizetime=10x: minimizing an input takes minutes otherwise, because the order of
// Go's maps makes its coverage vary.
func FuzzOperations(f *testing.F) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 2))
		data := make([]byte, 400)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		st := &stream{data: data[:min(len(data), 4096)]}
		md, err := newModelFor(st)
		if err != nil {
			t.Fatal(err)
		}
		for op := 0; st.more(); op++ {
			if err := md.step(st); err != nil {
				t.Fatalf("%d pages of %d, operation %d: %v", md.m.NumPages(), md.m.PageSize(), op, err)
			}
		}
	})
}
