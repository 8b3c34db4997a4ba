//go:build linux && !js

package engine

// What a token costs the thread that generates it, with as many dispatches as a model of 28 layers has.

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
)

// threadTime is the processor time of the calling thread. A CPU device computes on other threads.
func threadTime() time.Duration {
	const rusageThread = 1
	var u syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTokenCPU reports the processor time of a token on the generating thread, by the tokens of a submission.
func BenchmarkTokenCPU(b *testing.B) {
	shape := tinyShape()
	shape.NumHiddenLayers = 28
	e := openTest(b, goldentest.ModelOf(b, shape, 5, weights.BF16), Options{Device: testdevice.Open(b)})
	const tokens = 64
	for _, batch := range []int{1, 4, 8, 16} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			e.fly([2]int{batch, 2})
			var used time.Duration
			for b.Loop() {
				s := e.NewSession()
				var from time.Duration
				_, err := s.Generate(context.Background(), testPrompt(8), GenerateOptions{Sampling: sampling.Greedy(), MaxTokens: tokens + 1, IgnoreEOS: true}, func(sampling.Result) error {
					if from == 0 {
						from = threadTime()
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				used += threadTime() - from
				s.Close()
			}
			b.ReportMetric(float64(used.Microseconds())/float64(b.N)/tokens, "µs-cpu/token")
		})
	}
}
