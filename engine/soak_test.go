//go:build linux && !js

package engine

// Memory over a long conversation: what a token leaves behind in the engine, the backend, the library or the driver.

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
)

// memoryInUse is the resident size of the process and Go's part of it, in bytes.
func memoryInUse(t *testing.T) (resident, heap int64) {
	t.Helper()
	runtime.GC()
	runtime.GC() // cleanups of the first
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc/self/statm to read the resident size from")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return pages * int64(os.Getpagesize()), int64(m.HeapAlloc)
}

// Ten thousand tokens in batches, in answers that are cut off in mid-flight, leave memory and cache as they were.
func TestSoakTokens(t *testing.T) {
	shape := tinyShape()
	shape.NumHiddenLayers, shape.VocabSize = 1, 300
	e := openTest(t, goldentest.ModelOf(t, shape, 5, weights.BF16), Options{Device: testdevice.Open(t)})
	tokens := 0
	answers := func(upTo int) {
		for i := 0; tokens < upTo; i++ {
			s := e.fly([2]int{1 + i%16, 2}).NewSession()
			left := 450 - i%7
			prompt := []int32{int32(i % 300), 2, 3, 4, 5}
			_, err := s.Generate(context.Background(), prompt, GenerateOptions{Sampling: samplings()["drawn"], IgnoreEOS: true}, func(sampling.Result) error {
				tokens++
				if left--; left == 0 {
					return ErrStop
				}
				return nil
			})
			s.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	warm, rounds := 1500, 10000
	if testing.Short() {
		warm, rounds = 500, 1000
	}
	answers(warm)
	resident, heap := memoryInUse(t)
	answers(warm + rounds)
	resident2, heap2 := memoryInUse(t)
	t.Logf("%d tokens: the resident size grew by %d KiB, Go's heap by %d KiB", tokens-warm, (resident2-resident)>>10, (heap2-heap)>>10)
	if resident2-resident > 8<<20 || heap2-heap > 256<<10 {
		t.Errorf("in %d tokens the process grew by %d bytes, Go's heap by %d", tokens-warm, resident2-resident, heap2-heap)
	}
	checkPages(t, e)
	if used := e.CacheStats().UsedPages; used != 0 {
		t.Errorf("%d pages are in use", used)
	}
}
