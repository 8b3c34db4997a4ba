//go:build linux && !js

package native

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// tokenPass makes a pass with the dispatches, bindings and barriers of a decode step of 28 layers, two dispatches each, and next to no work.
func tokenPass(tb testing.TB, d gpu.Device) (*gpu.Pass, gpu.Buffer) {
	tb.Helper()
	const piece = 512
	buffer := func(label string, pieces uint64) gpu.Buffer {
		b, err := d.NewBuffer(label, piece*pieces, gpu.UsageStorage|gpu.UsageUniform|gpu.UsageCopySrc|gpu.UsageCopyDst)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	taken := map[gpu.Buffer]uint64{}
	take := func(slab gpu.Buffer) gpu.Binding {
		taken[slab]++
		return gpu.Binding{Buffer: slab, Offset: piece * (taken[slab] - 1), Size: piece}
	}
	kernels := map[[2]int]gpu.Kernel{}
	pass := &gpu.Pass{Label: "token"}
	// dispatch reads all bindings and writes the last few.
	dispatch := func(written int, bindings ...gpu.Binding) {
		n := len(bindings)
		k := kernels[[2]int{n, written}]
		var err error
		if k == nil {
			wgsl, sum, kinds := "", "0u", make([]gpu.BindingKind, n)
			for i := range n {
				kind := "read"
				if kinds[i] = gpu.BindStorageRead; i >= n-written {
					kind, kinds[i] = "read_write", gpu.BindStorage
				}
				wgsl += fmt.Sprintf("@group(0) @binding(%d) var<storage, %s> b%d: array<u32>;\n", i, kind, i)
				sum += fmt.Sprintf(" + b%d[0]", i)
			}
			wgsl += fmt.Sprintf("@compute @workgroup_size(1) fn main() { b%d[0] = %s; }", n-1, sum)
			if k, err = d.NewKernel(gpu.KernelDesc{Label: "token", WGSL: wgsl, Entry: "main", Bindings: kinds}); err != nil {
				tb.Fatal(err)
			}
			kernels[[2]int{n, written}] = k
		}
		g, err := d.Bind(k, bindings...)
		if err != nil {
			tb.Fatal(err)
		}
		pass.Dispatch(k, g, 1, 1, 1)
	}
	const layers = 28
	own := func(label string) gpu.Binding { return gpu.Whole(buffer(label, 1)) }
	weights, norms, qkNorms, cache := buffer("weights", 8*layers+1), buffer("norms", layers+1), buffer("qk_norms", layers), buffer("kv_cache", 2*layers)
	x, qkv, splits, step, rope := own("x"), own("qkv"), own("splits"), own("step"), own("rope")
	logits, slices, params, sampled := own("logits"), own("slices"), own("params"), own("sampled")
	head := take(weights)
	dispatch(1, step, head, x)
	for range layers {
		dispatch(4, step, take(qkNorms), rope, qkv, take(cache), take(cache), splits, x)
		products := []gpu.Binding{step, splits, take(norms)}
		for range 8 { // four matrices and their scales
			products = append(products, take(weights))
		}
		dispatch(2, append(products, x, qkv)...)
	}
	dispatch(1, params, x, take(norms), head, logits)
	dispatch(1, params, logits, slices)
	dispatch(1, params, logits, slices, step, sampled)
	return pass, sampled.Buffer
}

// BenchmarkToken reports the processor time of a token on the submitting thread, which a CPU device leaves to others, with
// two submissions in flight. An iteration is 16 tokens.
func BenchmarkToken(b *testing.B) {
	for _, batch := range []int{1, 4, 8, 16} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			d := open(b)
			pass, sampled := tokenPass(b, d)
			var passes []*gpu.Pass
			for range batch {
				passes = append(passes, pass)
			}
			var raw [512]byte
			var flying gpu.Readback
			round := func() {
				for range 16 / batch {
					r, err := d.Download(sampled, 0, uint64(len(raw)), passes...)
					if err == nil && flying != nil {
						err = flying.Wait(raw[:])
					}
					if flying = r; err != nil {
						b.Fatal(err)
					}
				}
			}
			round()
			used := func() time.Duration {
				const rusageThread = 1
				var u syscall.Rusage
				if err := syscall.Getrusage(rusageThread, &u); err != nil {
					b.Fatal(err)
				}
				return time.Duration(u.Utime.Nano() + u.Stime.Nano())
			}
			from := used()
			for b.Loop() {
				round()
			}
			b.ReportMetric(float64((used()-from).Nanoseconds())/1000/16/float64(b.N), "µs-cpu/token")
		})
	}
}
