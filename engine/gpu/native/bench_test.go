//go:build !js

package native

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// manyDispatches makes a pass of n dependent dispatches that alternate between two kernels and two bind groups.
func manyDispatches(tb testing.TB, d gpu.Device, n int) *gpu.Pass {
	tb.Helper()
	r := newRig(tb, d, 1024)
	k, err := d.NewKernel(gpu.KernelDesc{Label: "copy back", WGSL: copyWGSL, Entry: "main",
		Bindings: []gpu.BindingKind{gpu.BindStorageRead, gpu.BindStorage}})
	if err != nil {
		tb.Fatal(err)
	}
	back, err := d.Bind(k, gpu.Whole(r.y), gpu.Whole(r.x))
	if err != nil {
		tb.Fatal(err)
	}
	pass := &gpu.Pass{Label: "many"}
	for i := range n {
		if i%2 == 0 {
			pass.Dispatch(r.k, r.g, 16, 1, 1)
		} else {
			pass.Dispatch(k, back, 16, 1, 1)
		}
	}
	return pass
}

func idle(tb testing.TB, d gpu.Device) {
	tb.Helper()
	b, err := d.NewBuffer("idle", 4, gpu.UsageCopySrc)
	if err != nil {
		tb.Fatal(err)
	}
	defer b.Release()
	if err := gpu.Read(d, b, 0, make([]byte, 4)); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkSubmit reports the CPU time of Submit for 300 dispatches, the wait excluded, and the whole of it.
func BenchmarkSubmit(b *testing.B) {
	d := open(b)
	pass := manyDispatches(b, d, 300)
	if err := d.Submit(pass); err != nil {
		b.Fatal(err)
	}
	idle(b, d)
	b.ResetTimer()
	b.ReportAllocs()
	var submit time.Duration
	for range b.N {
		start := time.Now()
		if err := d.Submit(pass); err != nil {
			b.Fatal(err)
		}
		submit += time.Since(start)
		idle(b, d)
	}
	perDispatch := func(t time.Duration) float64 { return float64(t.Nanoseconds()) / float64(b.N) / 300 / 1000 }
	b.ReportMetric(perDispatch(submit), "µs-cpu/dispatch")
	b.ReportMetric(perDispatch(b.Elapsed()), "µs-all/dispatch")
}

// BenchmarkRoundTrip is one small dispatch and a download of its result.
func BenchmarkRoundTrip(b *testing.B) {
	d := open(b)
	r := newRig(b, d, 64)
	raw := make([]byte, 4)
	for range b.N {
		if err := d.Submit(&r.pass); err != nil {
			b.Fatal(err)
		}
		if err := gpu.Read(d, r.y, 0, raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrite uploads as the engine does, in chunks of a few MiB.
func BenchmarkWrite(b *testing.B) {
	for _, chunk := range []int{1 << 20, 4 << 20, 16 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("%dMiB", chunk>>20), func(b *testing.B) {
			d := open(b)
			const total = 256 << 20
			buf, err := d.NewBuffer("weights", total, gpu.UsageStorage|gpu.UsageCopyDst)
			if err != nil {
				b.Fatal(err)
			}
			data := make([]byte, chunk)
			b.SetBytes(total)
			b.ResetTimer()
			for range b.N {
				for at := 0; at < total; at += chunk {
					if err := d.Write(buf, uint64(at), data); err != nil {
						b.Fatal(err)
					}
				}
				idle(b, d)
			}
		})
	}
}

// BenchmarkDownload reads 4 MiB.
func BenchmarkDownload(b *testing.B) {
	d := open(b)
	const size = 4 << 20
	buf, err := d.NewBuffer("logits", size, gpu.UsageStorage|gpu.UsageCopySrc)
	if err != nil {
		b.Fatal(err)
	}
	raw := make([]byte, size)
	b.SetBytes(size)
	for range b.N {
		if err := gpu.Read(d, buf, 0, raw); err != nil {
			b.Fatal(err)
		}
	}
}

func residentBytes(tb testing.TB) int64 {
	tb.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Skip("no /proc/self/statm to read the resident size from")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// Thousands of writes, passes and downloads, some never waited for, must not make the process grow.
func TestSoak(t *testing.T) {
	d := open(t)
	pass := manyDispatches(t, d, 12)
	params, err := d.NewBuffer("params", 256, gpu.UsageUniform|gpu.UsageCopyDst|gpu.UsageCopySrc)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 256)
	step := func(i int) {
		if err := d.Write(params, 0, data); err != nil {
			t.Fatal(err)
		}
		if err := d.Submit(pass); err != nil {
			t.Fatal(err)
		}
		r, err := d.Download(params, 0, uint64(4+i%64*4)&^3)
		if err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 {
			return // abandoned
		}
		if err := r.Wait(data[:4+i%64*4]); err != nil {
			t.Fatal(err)
		}
	}
	const warm, rounds = 500, 2000
	for i := range warm {
		step(i)
	}
	before := residentBytes(t)
	for i := range rounds {
		step(i)
	}
	growth := residentBytes(t) - before
	t.Logf("resident size grew by %d KiB in %d rounds", growth>>10, rounds)
	if growth > 8<<20 {
		t.Errorf("the process grew by %d bytes in %d rounds of write, submit and download", growth, rounds)
	}
	dev := d.(*device)
	dev.mu.Lock()
	defer dev.mu.Unlock()
	if n := len(dev.staging.all); n > 64 {
		t.Errorf("%d staging buffers exist after the soak", n)
	}
}

// Creating and releasing everything, devices included, must not make the process grow either.
func TestSoakCreation(t *testing.T) {
	opener := openForTest(t)
	round := func() {
		d, err := opener()
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			r := newRig(t, d, 1<<18)
			if err := d.Submit(&r.pass); err != nil {
				t.Fatal(err)
			}
			r.g.Release()
			r.x.Release()
			r.k.Release()
			r.y.Release()
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		round()
	}
	before := residentBytes(t)
	const rounds = 20
	for range rounds {
		round()
	}
	growth := residentBytes(t) - before
	t.Logf("resident size grew by %d KiB in %d rounds", growth>>10, rounds)
	if growth > rounds*keptDeviceBytes+8<<20 {
		t.Errorf("the process grew by %d bytes while %d devices were opened and closed", growth, rounds)
	}
}
