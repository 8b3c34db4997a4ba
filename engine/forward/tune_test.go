//go:build !js

package forward_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// flusher fails to compile what takes weights by way of float16.
type flusher struct {
	gpu.Device
	halves int // kernels of this kind that were asked for
}

func (f *flusher) NewKernel(desc gpu.KernelDesc) (gpu.Kernel, error) {
	if strings.Contains(desc.WGSL, "INPUT_SUMS: u32 = 1u") {
		f.halves++
		return nil, errors.New("no halves")
	}
	return f.Device.NewKernel(desc)
}

// Tuning keeps the results and can be given to the next Runner; what makes no sense in it is not used.
func TestTuning(t *testing.T) {
	dev := testdevice.Open(t)
	c := goldentest.RandomConfig(6)
	c.NumHiddenLayers, c.HiddenSize, c.IntermediateSize = 1, 128, 128 // few candidates: each one is compiled
	c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim = 8, 2, 16
	dir := goldentest.ModelOf(t, c, 6, weights.Q8)
	ids := []int32{1, 2, 3, 4, 5, 6, 7}
	run := func(r *forward.Runner) []float32 {
		return goldentest.NewTimeline(t, "tuning", r, 8).Run(ids, 1, nil)
	}
	opt := forward.Options{NumPages: 8, KVDType: runner.KVF32}
	first := open(t, dev, dir, opt)
	want := run(first)
	if first.Tuned() {
		t.Error("nothing was measured and it calls itself tuned")
	}
	rows, err := first.Tune(1)
	if err != nil {
		t.Fatal(err)
	}
	chosen, inHalves := map[string]int{}, 0
	for _, row := range rows {
		if row.Chosen {
			chosen[row.Kernel]++
		}
		if row.Halves {
			inHalves++
		}
	}
	if exact, err := shaders.HalvesExact(dev); err != nil || exact != (inHalves > 0) {
		t.Errorf("%d candidates with halves, which are exact: %v, %v", inHalves, exact, err)
	}
	if len(chosen) != 5 || len(rows) < 10 || !first.Tuned() {
		t.Errorf("%d candidates, chosen %v, tuned %v", len(rows), chosen, first.Tuned())
	}
	check := func(what string, r *forward.Runner) {
		if rel, text := goldentest.Diff(want, run(r), len(ids)); rel > 1e-5 {
			t.Errorf("%s: logits differ from the default shapes': %s", what, text)
		}
	}
	check("tuned", first)
	opt.Tuning = first.Tuning()
	second := open(t, dev, dir, opt)
	if !second.Tuned() || !maps.Equal(second.Tuning(), first.Tuning()) {
		t.Errorf("the second runner has %v, want %v", second.Tuning(), first.Tuning())
	}
	check("loaded", second)
	halves := map[string]forward.MatvecShape{}
	for key, v := range opt.Tuning {
		v.Halves = v.Groups == 0 && v.Workgroup > 0
		halves[key] = v
	}
	flushing := &flusher{Device: dev}
	for _, d := range []gpu.Device{dev, flushing} {
		check("halves", open(t, d, dir, forward.Options{NumPages: 8, KVDType: runner.KVF32, Tuning: halves}))
	}
	if flushing.halves != 1 {
		t.Errorf("%d kernels with halves on a device where the first, a trial, failed", flushing.halves)
	}
	opt.Tuning = maps.Clone(opt.Tuning)
	for key := range opt.Tuning {
		opt.Tuning[key] = forward.MatvecShape{Workgroup: 1 << 20, ThreadsPerRow: 3}
	}
	third := open(t, dev, dir, opt)
	if third.Tuned() {
		t.Error("a damaged tuning counts as tuned")
	}
	check("damaged", third)
}

// Blocks of rows and a prefetch are tried on matrices that are large enough, and change nothing but the time.
func TestTuningLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("reads megabytes of weights hundreds of times")
	}
	dev := testdevice.Open(t)
	c := goldentest.RandomConfig(7)
	c.NumHiddenLayers, c.HiddenSize, c.IntermediateSize, c.VocabSize = 1, 512, 2080, 2200
	c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim = 8, 2, 64
	dir := goldentest.ModelOf(t, c, 7, weights.BF16)
	ids := []int32{1, 2, 3, 4, 5}
	run := func(r *forward.Runner) []float32 {
		return goldentest.NewTimeline(t, "large", r, 8).Run(ids, 1, nil)
	}
	opt := forward.Options{NumPages: 8, KVDType: runner.KVF32}
	first := open(t, dev, dir, opt)
	want := run(first)
	rows, err := first.Tune(1)
	if err != nil {
		t.Fatal(err)
	}
	blocks, steps := 0, 0
	for _, row := range rows {
		if row.Blocks > 1 {
			blocks++
		}
		if row.Kernel == "decode step" {
			steps++
		}
	}
	if blocks == 0 || steps < 2 {
		t.Errorf("%d candidates with blocks, %d prefetches", blocks, steps)
	}
	opt.Tuning = first.Tuning()
	for key, v := range opt.Tuning {
		v.Blocks, v.Prefetch = 3, 5
		opt.Tuning[key] = v
	}
	if rel, text := goldentest.Diff(want, run(open(t, dev, dir, opt)), len(ids)); rel > 1e-5 {
		t.Errorf("logits with blocks and prefetch differ from the default shapes': %s", text)
	}
}
