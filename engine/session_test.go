//go:build !js

package engine

// Sessions on both paths: what must be refused, what a cancelled or failed pass leaves behind, and a fault that the tracer
// must find.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// onBothPaths runs a test on the CPU and, where there is one, on a device.
func onBothPaths(t *testing.T, test func(t *testing.T, dev gpu.Device)) {
	t.Run("cpu", func(t *testing.T) { test(t, nil) })
	t.Run("gpu", func(t *testing.T) { test(t, testdevice.Open(t)) })
}

func synced(t *testing.T, s *Session, ids []int32) ([]float32, SyncStats) {
	t.Helper()
	logits, stats, err := s.Sync(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	return logits, stats
}

func contains(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q lacks %q", what, err, w)
		}
	}
}

func TestRefusedOptions(t *testing.T) {
	c := tinyShape()
	dir := goldentest.ModelOf(t, c, 1, weights.BF16)
	for _, tc := range []struct {
		opt   Options
		words []string
	}{
		{Options{ContextTokens: c.MaxPositionEmbeddings + 1}, []string{"513", "1 to 512"}},
		{Options{ContextTokens: -1}, []string{"-1", "1 to 512"}},
		{Options{KVDType: "f8"}, []string{`"f8"`}},
	} {
		e, err := Open(goldentest.OpenModel(t, dir), tc.opt)
		if err == nil {
			e.Close()
		}
		contains(t, fmt.Sprintf("%+v", tc.opt), err, tc.words...)
	}
}

// What cannot be run is refused before anything is: the session stays as it was.
func TestRefusedPrompts(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 1, weights.BF16)
	onBothPaths(t, func(t *testing.T, dev gpu.Device) {
		e := openTest(t, dir, Options{Device: dev, ContextTokens: 40})
		s := e.NewSession()
		defer s.Close()
		synced(t, s, testPrompt(20))
		before := e.CacheStats()
		for _, tc := range []struct {
			name  string
			ids   []int32
			full  bool
			words []string
		}{
			{"empty", nil, false, []string{"empty"}},
			{"beyond the vocabulary", []int32{1, 2, 1777}, false, []string{"token 2", "1777", "[0, 1777)"}},
			{"negative", []int32{-5}, false, []string{"token 0", "-5"}},
			{"too long", testPrompt(41), true, []string{"41 tokens", "holds 40", "up to 512"}},
		} {
			_, _, err := s.Sync(t.Context(), tc.ids)
			contains(t, tc.name, err, tc.words...)
			if errors.Is(err, ErrContextFull) != tc.full {
				t.Errorf("%s: ErrContextFull is %v", tc.name, !tc.full)
			}
			_, err = e.Trace(t.Context(), tc.ids, 0)
			contains(t, tc.name+", traced", err, tc.words...)
			if s.Len() != 20 || e.CacheStats() != before {
				t.Errorf("%s: the session has %d tokens, the cache %+v", tc.name, s.Len(), e.CacheStats())
			}
		}
		_, err := e.Trace(t.Context(), testPrompt(30), 12)
		contains(t, "a trace that does not fit", err, "30 prompt", "12 generated", "41", "40")
		checkPages(t, e)
	})
}

// A cancelled prefill keeps the chunks that were done; going on gives what an undisturbed one gives.
func TestCancelledPrefill(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 2, weights.BF16)
	onBothPaths(t, func(t *testing.T, dev gpu.Device) {
		e := openTest(t, dir, Options{Device: dev, ContextTokens: 256, PassTokens: 16, KVDType: runner.KVF32})
		want, _ := synced(t, newSession(t, e), testPrompt(100))
		ids := slices.Concat([]int32{7}, testPrompt(99)) // nothing of it is cached
		alone, _ := synced(t, newSession(t, openTest(t, dir, Options{Device: dev, ContextTokens: 256, PassTokens: 16, KVDType: runner.KVF32})), ids)

		s := newSession(t, e)
		ctx, cancel := context.WithCancel(t.Context())
		failing := &failingRunner{Runner: e.runner, at: 3, fail: func(runner.Request) error { cancel(); return nil }}
		e.runner = failing
		if _, _, err := s.Sync(ctx, ids); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
		if s.Len() != 48 {
			t.Errorf("%d tokens are cached, want the 3 chunks that were done", s.Len())
		}
		checkPages(t, e)
		got, stats := synced(t, s, ids)
		if stats.Reused != 48 || stats.Prefilled != 52 {
			t.Errorf("going on reused %d and ran %d tokens", stats.Reused, stats.Prefilled)
		}
		if d, where := goldentest.Diff(alone, got, 1); d > 1e-4 {
			t.Errorf("going on: logits, %s", where)
		}
		if again, _ := synced(t, newSession(t, e), testPrompt(100)); !slices.Equal(want, again) {
			if d, where := goldentest.Diff(want, again, 1); d > 1e-4 {
				t.Errorf("another session afterwards: logits, %s", where)
			}
		}
	})
}

func newSession(t *testing.T, e *Engine) *Session {
	s := e.NewSession()
	t.Cleanup(s.Close)
	return s
}

// failingRunner calls fail instead of the pass number at, counted from 1; where that returns nil the pass is run.
type failingRunner struct {
	runner.Runner
	at, passes int
	fail       func(runner.Request) error
}

func (f *failingRunner) Forward(req runner.Request) ([]float32, error) {
	if f.passes++; f.passes == f.at {
		if err := f.fail(req); err != nil {
			return nil, err
		}
	}
	return f.Runner.Forward(req)
}

// A pass that fails, before it ran, half-way or when all was written, leaves tokens, pages and the next logits as they were.
func TestFailedPass(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 3, weights.BF16)
	broken := errors.New("broken")
	onBothPaths(t, func(t *testing.T, dev gpu.Device) {
		e := openTest(t, dir, Options{Device: dev, ContextTokens: 256, PassTokens: 32})
		real := e.runner
		s := newSession(t, e)
		synced(t, s, testPrompt(37))
		next := func() []float32 {
			t.Helper()
			logits, err := s.pass([]int32{5}, runner.LogitsLast, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.seq.Truncate(37); err != nil {
				t.Fatal(err)
			}
			return logits
		}
		want := next()
		for name, fail := range map[string]func(runner.Request) error{
			"before": func(runner.Request) error { return broken },
			"half-way": func(req runner.Request) error {
				req.Tap = func(name string, _ int, _ []float32) error {
					if name == "layers.1.qkv" {
						return broken
					}
					return nil
				}
				_, err := real.Forward(req)
				return err
			},
			"at the end": func(req runner.Request) error {
				if _, err := real.Forward(req); err != nil {
					return err
				}
				return broken
			},
		} {
			for _, more := range [][]int32{{9}, testPrompt(90)[37:]} {
				tokens, stats := s.Tokens(), e.CacheStats()
				e.runner = &failingRunner{Runner: real, at: 1, fail: fail}
				if _, err := s.pass(more[:min(len(more), 32)], runner.LogitsLast, nil); !errors.Is(err, broken) {
					t.Fatalf("%s: error %v", name, err)
				}
				e.runner = real
				after := e.CacheStats()
				after.Counters = stats.Counters
				if !slices.Equal(s.Tokens(), tokens) || after != stats {
					t.Errorf("%s: %d tokens and %+v, before %d and %+v", name, s.Len(), after, len(tokens), stats)
				}
				checkPages(t, e)
				if got := next(); !slices.Equal(got, want) {
					t.Errorf("%s, %d tokens: the next logits differ", name, len(more))
				}
			}
		}
	})
}

// Two conversations that begin alike, in one engine, say what they say in engines of their own.
func TestSharedPrefix(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 4, weights.Q8)
	onBothPaths(t, func(t *testing.T, dev gpu.Device) {
		opt := Options{Device: dev, ContextTokens: 256, KVDType: runner.KVF32}
		a := testPrompt(70)
		b := slices.Concat(a[:45], []int32{1, 2, 3, 4, 5, 6})
		shared := openTest(t, dir, opt)
		sa, sb := newSession(t, shared), newSession(t, shared)
		gotA, _ := synced(t, sa, a)
		gotB, stats := synced(t, sb, b)
		if stats.Reused != 32 {
			t.Errorf("%d tokens were found in the cache, want two pages", stats.Reused)
		}
		longerA := slices.Concat(a, []int32{8, 9})
		gotLonger, stats := synced(t, sa, longerA)
		if stats.Reused != 70 {
			t.Errorf("%d tokens of the first conversation were kept", stats.Reused)
		}
		for _, c := range []struct {
			name     string
			ids      []int32
			together []float32
		}{{"first", a, gotA}, {"second", b, gotB}, {"first, going on", longerA, gotLonger}} {
			alone, _ := synced(t, newSession(t, openTest(t, dir, opt)), c.ids)
			if d, where := goldentest.Diff(alone, c.together, 1); d > 1e-4 {
				t.Errorf("%s: logits, %s", c.name, where)
			}
		}
		checkPages(t, shared)
	})
}

// Compare finds nothing between the two paths, and names attention's first layer when the page table is wrong: the fault
// that made a model write " context context context".
func TestCompareFindsWrongPage(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	ids := testPrompt(40)
	onBothPaths(t, func(t *testing.T, dev gpu.Device) {
		fault := &kvcache.Fault{}
		want := openTest(t, dir, Options{ContextTokens: 128, KVDType: runner.KVF32})
		got := openTest(t, dir, Options{Device: dev, ContextTokens: 128, KVDType: runner.KVF32, Fault: fault})
		c, err := Compare(t.Context(), want, got, ids, 4, 1e-4)
		if err != nil {
			t.Fatal(err)
		}
		if c.First != nil || len(c.Generated) != 4 {
			t.Errorf("without a fault: %+v, generated %v", c.First, c.Generated)
		}
		fault.ShiftPageTable = true
		if c, err = Compare(t.Context(), want, got, ids, 4, 1e-4); err != nil {
			t.Fatal(err)
		}
		if c.First == nil || c.First.Tensor != "layers.0.attn" {
			t.Errorf("with a wrong page: %+v", c.First)
		}
	})
}
