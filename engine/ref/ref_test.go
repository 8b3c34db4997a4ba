package ref_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/ref"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// open makes a Runner until the test ends.
func open(tb testing.TB, modelDir string, opt ref.Options) *ref.Runner {
	tb.Helper()
	r, err := ref.New(goldentest.OpenModel(tb, modelDir), opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close() })
	return r
}

func openRunner(t *testing.T, modelDir string, kv runner.KVDType, numPages int) runner.Runner {
	t.Helper()
	return open(t, modelDir, ref.Options{NumPages: numPages, KVDType: kv})
}

func TestGoldens(t *testing.T) { goldentest.Run(t, openRunner) }

func TestQuantTable(t *testing.T) { goldentest.QuantTable(t, goldentest.Names, openRunner) }

// Layer 0's norm and projections against transformers', the kernel in isolation.
func TestRMSNormQKV(t *testing.T) {
	for _, name := range goldentest.Names {
		g := goldentest.Load(t, name)
		c, want := g.Config, g.RMSNormQKV
		r := open(t, goldentest.Pack(t, name, weights.BF16), ref.Options{})
		normed, qkv := r.RMSNormQKV(want.X, want.Rows)
		var q, k, v []float32
		for row := range slices.Chunk(qkv, c.QDim()+2*c.KVDim()) {
			q, k, v = append(q, row[:c.QDim()]...), append(k, row[c.QDim():c.QDim()+c.KVDim()]...), append(v, row[c.QDim()+c.KVDim():]...)
		}
		for _, tensor := range []struct {
			name      string
			want, got []float32
		}{{"normed", want.Normed, normed}, {"q", want.Q, q}, {"k", want.K, k}, {"v", want.V, v}} {
			e, where := goldentest.Diff(tensor.want, tensor.got, want.Rows)
			t.Logf("%s, rmsnorm_qkv.%s: %.2g", name, tensor.name, e)
			if e > 1e-5 {
				t.Errorf("%s, rmsnorm_qkv.%s: %s", name, tensor.name, where)
			}
		}
	}
}

func newTimeline(tb testing.TB, r runner.Runner, numPages int) *goldentest.Timeline {
	tb.Helper()
	return goldentest.NewTimeline(tb, "ref", r, numPages)
}

// Neither the number of threads nor the cutting into passes changes a bit.
func TestSameBits(t *testing.T) {
	for _, dtype := range []weights.DType{weights.BF16, weights.Q8, weights.Q4} {
		dir := goldentest.RandomModel(t, 11, dtype)
		ids := make([]int32, 70)
		for i := range ids {
			ids[i] = int32(i * 7 % 33)
		}
		var want []float32
		for _, threads := range []int{1, 2, 5} {
			for _, chunk := range []int{70, 1, 9} {
				s := newTimeline(t, open(t, dir, ref.Options{NumPages: 8, Threads: threads}), 8)
				var got []float32
				for part := range slices.Chunk(ids, chunk) {
					got = append(got, s.Pass(part, runner.LogitsAll, nil)...)
				}
				if want == nil {
					want = got
				}
				if e, where := goldentest.Diff(want, got, len(ids)); e != 0 {
					t.Errorf("%s, %d threads, chunks of %d: %s", dtype, threads, chunk, where)
				}
			}
		}
	}
}

// A decode step allocates its logits and nothing else.
func TestAllocations(t *testing.T) {
	for _, kv := range []runner.KVDType{runner.KVF16, runner.KVF32} {
		r := open(t, goldentest.RandomModel(t, 12, weights.Q8), ref.Options{NumPages: 32, KVDType: kv, Threads: 2})
		s := newTimeline(t, r, 32)
		s.Pass(make([]int32, 100), runner.LogitsNone, nil)
		perToken := testing.AllocsPerRun(100, func() {
			ic, err := s.Pages.Begin(s.Seq, []int32{1})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Forward(runner.Request{Context: ic, Logits: runner.LogitsLast}); err != nil {
				t.Fatal(err)
			}
			ic.Abort()
		})
		// The context of Begin, and the logits.
		if perToken > 2 {
			t.Errorf("%s KV: %.1f allocations a token", kv, perToken)
		}
	}
}

// NaN in a layer's weights is named with the layer and tensor where it appears first.
func TestNonFinite(t *testing.T) {
	r := open(t, goldentest.RandomModel(t, 9, weights.BF16), ref.Options{NumPages: 4})
	s := newTimeline(t, r, 4)
	s.Pass([]int32{1, 2, 3}, runner.LogitsNone, nil)
	last := r.NumHiddenLayers - 1
	r.PoisonDownProj(last)
	for _, want := range []runner.LogitsWanted{runner.LogitsNone, runner.LogitsLast} {
		_, err := s.Try([]int32{4, 5}, want, nil)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("layers.%d.out is NaN at position 3, index 0", last)) {
			t.Errorf("error %v", err)
		}
	}
	if s.Seq.Len() != 3 {
		t.Errorf("%d tokens after failed passes", s.Seq.Len())
	}
}

// A value beyond float16 is an error with an f16 cache and a number like any other with f32. A key never is: its norm's
// gain may be of any size.
func TestOverflow(t *testing.T) {
	dir := goldentest.RandomModel(t, 10, weights.BF16)
	for _, kv := range []runner.KVDType{runner.KVF16, runner.KVF32} {
		r := open(t, dir, ref.Options{NumPages: 4, KVDType: kv})
		last := r.NumHiddenLayers - 1
		r.ScaleInput(last, 1e6)
		_, err := newTimeline(t, r, 4).Try([]int32{4, 5}, runner.LogitsLast, nil)
		named := err != nil && strings.Contains(err.Error(), fmt.Sprintf("layers.%d.v at position 0", last))
		if named != (kv == runner.KVF16) || err != nil && kv == runner.KVF32 {
			t.Errorf("%s: error %v", kv, err)
		}
	}
}

func TestOptions(t *testing.T) {
	dir := goldentest.RandomModel(t, 8, weights.BF16)
	for _, opt := range []ref.Options{
		{NumPages: -1}, {PageSize: -1}, {NumPages: 1 << 40}, {PageSize: 1 << 40}, {KVDType: "f8"}, {Threads: -1}, {NumPages: 1 << 27},
	} {
		if _, err := ref.New(goldentest.OpenModel(t, dir), opt); err == nil {
			t.Errorf("%+v was accepted", opt)
		}
	}
	var done, total int64
	r := open(t, dir, ref.Options{Threads: 3, Progress: func(d, t int64) { done, total = d, t }})
	if done == 0 || done != total {
		t.Errorf("progress ended at %d of %d bytes", done, total)
	}
	if got, want := r.Describe(), "CPU (plain Go, 3 threads), weights bf16, KV f16"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	s := newTimeline(t, r, 4)
	if _, err := s.Try([]int32{1}, runner.LogitsLast, nil); err == nil {
		t.Error("a closed runner ran")
	}
}

// The faults that a page manager can be told to make must show, or the tracer could not find them.
func TestBrokenPageTable(t *testing.T) {
	r := open(t, goldentest.RandomModel(t, 7, weights.BF16), ref.Options{NumPages: 8})
	fault := &kvcache.Fault{Entry: 0}
	pages, err := kvcache.New(kvcache.Config{NumPages: 8, Fault: fault})
	if err != nil {
		t.Fatal(err)
	}
	s := goldentest.NewTimelineIn(t, "broken page table", r, pages)
	ids := make([]int32, 40)
	for i := range ids {
		ids[i] = int32(i % 33)
	}
	s.Pass(ids, runner.LogitsNone, nil)
	right := s.Pass([]int32{1}, runner.LogitsLast, nil)
	if err := s.Seq.Truncate(40); err != nil {
		t.Fatal(err)
	}
	fault.ShiftPageTable = true
	wrong := s.Pass([]int32{1}, runner.LogitsLast, nil)
	if e, _ := goldentest.Diff(right, wrong, 1); e < 1e-3 {
		t.Errorf("logits differ by %g only with a wrong page", e)
	}
}
