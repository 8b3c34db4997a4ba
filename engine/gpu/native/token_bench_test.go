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

// tokenPass makes a pass with the dispatches, bindings and barriers of a decode step of 28 layers, and next to no work.
func tokenPass(tb testing.TB, d gpu.Device) (*gpu.Pass, gpu.Buffer) {
	tb.Helper()
	buffer := func(label string) gpu.Buffer {
		b, err := d.NewBuffer(label, 4096, gpu.UsageStorage|gpu.UsageUniform|gpu.UsageCopySrc|gpu.UsageCopyDst)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	kernels := map[int]gpu.Kernel{}
	pass := &gpu.Pass{Label: "token"}
	// dispatch reads all buffers but the last and writes that.
	dispatch := func(buffers ...gpu.Buffer) {
		n := len(buffers)
		k := kernels[n]
		var err error
		if k == nil {
			wgsl, kinds := "", make([]gpu.BindingKind, n)
			for i := range n {
				kind := "read"
				if kinds[i] = gpu.BindStorageRead; i == n-1 {
					kind, kinds[i] = "read_write", gpu.BindStorage
				}
				wgsl += fmt.Sprintf("@group(0) @binding(%d) var<storage, %s> b%d: array<u32>;\n", i, kind, i)
			}
			wgsl += fmt.Sprintf("@compute @workgroup_size(1) fn main() { b%d[0] = b%d[0] + b0[0]; }", n-1, n-1)
			if k, err = d.NewKernel(gpu.KernelDesc{Label: "token", WGSL: wgsl, Entry: "main", Bindings: kinds}); err != nil {
				tb.Fatal(err)
			}
			kernels[n] = k
		}
		var bindings []gpu.Binding
		for _, b := range buffers {
			bindings = append(bindings, gpu.Whole(b))
		}
		g, err := d.Bind(k, bindings...)
		if err != nil {
			tb.Fatal(err)
		}
		pass.Dispatch(k, g, 1, 1, 1)
	}
	x, qkv, splits, mlp, step, rope, sampled := buffer("x"), buffer("qkv"), buffer("splits"), buffer("mlp"), buffer("step"), buffer("rope"), buffer("sampled")
	logits, slices, params := buffer("logits"), buffer("slices"), buffer("params")
	dispatch(step, buffer("embedding"), x)
	for range 28 {
		dispatch(params, x, buffer("norm"), buffer("qkv weights"), qkv)
		dispatch(step, buffer("norms"), rope, qkv, buffer("k"), buffer("v"), splits)
		dispatch(params, splits, buffer("o"), x)
		dispatch(params, x, buffer("norm"), buffer("gate and up"), mlp)
		dispatch(params, mlp, buffer("down"), x)
	}
	dispatch(params, x, buffer("norm"), buffer("head"), logits)
	dispatch(params, logits, slices)
	dispatch(params, logits, slices, step, sampled)
	return pass, sampled
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
