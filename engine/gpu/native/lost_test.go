//go:build linux && !js

package native

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

const copyWGSL = `
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < arrayLength(&y)) { y[id.x] = x[id.x] + 1u; }
}`

type rig struct {
	x, y gpu.Buffer
	k    gpu.Kernel
	g    gpu.BindGroup
	pass gpu.Pass
}

func newRig(tb testing.TB, d gpu.Device, numWords uint64) *rig {
	tb.Helper()
	var r rig
	var err error
	check := func() {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	usage := gpu.UsageStorage | gpu.UsageCopySrc | gpu.UsageCopyDst
	r.x, err = d.NewBuffer("x", 4*numWords, usage)
	check()
	r.y, err = d.NewBuffer("y", 4*numWords, usage)
	check()
	r.k, err = d.NewKernel(gpu.KernelDesc{Label: "copy", WGSL: copyWGSL, Entry: "main",
		Bindings: []gpu.BindingKind{gpu.BindStorageRead, gpu.BindStorage}})
	check()
	r.g, err = d.Bind(r.k, gpu.Whole(r.x), gpu.Whole(r.y))
	check()
	r.pass.Label = "rig"
	r.pass.Dispatch(r.k, r.g, uint32((numWords+63)/64), 1, 1)
	return &r
}

// A submission that the library refuses, which validation normally prevents, stands in for a lost device: the library
// treats both alike. The device ends with ErrLost, the process and its other devices go on.
func TestFatalErrorBecomesErrLost(t *testing.T) {
	opener := openForTest(t)
	other := open(t)
	o := newRig(t, other, 64)
	var closing sync.WaitGroup
	defer closing.Wait()
	for round := range 3 {
		d, err := opener()
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, d, 64)
		if err := d.Submit(&r.pass); err != nil {
			t.Fatal(err)
		}
		pending, err := d.Download(r.y, 0, 4)
		if err != nil {
			t.Fatal(err)
		}
		s := pending.(*readback).s
		d.(*device).waitFor(s, time.Time{})
		var bad gpu.Pass
		mapped, err := d.(*device).checks.NewBuffer("mapped", s.size, gpu.UsageCopyDst)
		if err != nil {
			t.Fatal(err)
		}
		bad.Copy(r.y, 0, &buffer{CheckedBuffer: mapped, d: d.(*device), raw: s.raw, ref: s.ref}, 0, 4)
		if err := d.Submit(&bad); !errors.Is(err, gpu.ErrLost) {
			t.Fatalf("round %d: copy to a mapped buffer: %v, want ErrLost", round, err)
		}
		if err := d.Submit(&r.pass); !errors.Is(err, gpu.ErrLost) {
			t.Errorf("submit to a lost device: %v", err)
		}
		if err := pending.Wait(make([]byte, 4)); !errors.Is(err, gpu.ErrLost) {
			t.Errorf("wait on a lost device: %v", err)
		}
		if err := d.Write(r.y, 0, make([]byte, 4)); !errors.Is(err, gpu.ErrLost) {
			t.Errorf("write to a lost device: %v", err)
		}
		if _, err := d.NewBuffer("b", 64, gpu.UsageStorage); !errors.Is(err, gpu.ErrLost) {
			t.Errorf("new buffer on a lost device: %v", err)
		}
		// The library waits 5 s for the work that never came.
		closing.Go(func() {
			if err := d.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		var got [4]byte
		if err := other.Submit(&o.pass); err != nil {
			t.Fatalf("another device: %v", err)
		}
		if err := gpu.Read(other, o.y, 0, got[:]); err != nil || got[0] != 1 {
			t.Fatalf("another device reads %v, %v", got, err)
		}
	}
}

// Each thread takes a while and then counts.
const busyWGSL = `
@group(0) @binding(0) var<storage, read> seed: array<u32>;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    var x = seed[id.x];
    for (var i = 0u; i < 50000u; i++) {
        x = x * 1664525u + 1013904223u;
    }
    counts[id.x] += 1u + (x & seed[id.x]);
}`

// TestLongWork waits for more work than the library's own wait has patience for (five seconds), on a device of which nothing is known yet:
// a long prompt in front of a first answer.
func TestLongWork(t *testing.T) {
	const numWords, patience, enough = 64 * 1024, 5 * time.Second, 7 * time.Second
	d := open(t)
	r := newRig(t, d, numWords)
	k, err := d.NewKernel(gpu.KernelDesc{Label: "busy", WGSL: busyWGSL, Entry: "main", Bindings: []gpu.BindingKind{gpu.BindStorageRead, gpu.BindStorage}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := d.Bind(k, gpu.Whole(r.x), gpu.Whole(r.y))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4*numWords)
	run := func(times int) time.Duration {
		var whole gpu.Pass
		for range times {
			whole.Dispatch(k, g, numWords/64, 1, 1)
		}
		passes := []*gpu.Pass{&whole}
		begin := time.Now()
		if d.Info().Type != "cpu" { // whose driver waits for what is under way as it is given more; others may stop what takes seconds
			for i := range whole.Steps {
				if err := d.Submit(&gpu.Pass{Steps: whole.Steps[i : i+1]}); err != nil {
					t.Fatal(err)
				}
			}
			passes = nil
		}
		pending, err := d.Download(r.y, 0, 4*numWords, passes...)
		if err != nil {
			t.Fatal(err)
		}
		if err := pending.Wait(got); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	run(1)
	counted, took := 2, run(1)
	for times := 1; took < patience; {
		times = int(float64(times)*float64(enough)/float64(took)) + 1
		took = run(times)
		counted += times
		t.Logf("%d dispatches took %v", times, took)
	}
	for i := range numWords {
		if n := binary.LittleEndian.Uint32(got[4*i:]); n != uint32(counted) {
			t.Fatalf("thread %d has counted to %d, want %d", i, n, counted)
		}
	}
}
