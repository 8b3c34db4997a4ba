//go:build !js

package forward_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// Few dispatches compute what five a layer do, step after step, from layer to layer, with contexts of a workgroup a head and in splits, and
// between two attentions, with contexts in one, few and many splits; and again in a context that is short again.
func TestLayerProducts(t *testing.T) {
	dev := testdevice.Open(t)
	if dev.Limits().MaxStorageBuffersPerStage < 6 {
		t.Skipf("the device has %d storage buffers a stage, layer_products needs 6", dev.Limits().MaxStorageBuffersPerStage)
	}
	defer forward.Splitting(7, 30, 8)()
	for i, c := range []struct {
		dtype                       weights.DType
		layers, threads, loads, row int
		ahead                       shaders.Ahead
	}{{weights.BF16, 3, 64, 4, 8, shaders.AheadBehind}, {weights.Q8, 2, 512, 6, 4, shaders.AheadNever}, {weights.Q4, 5, 64, 2, 4, shaders.AheadWithin},
		{weights.BF16, 2, 256, 4, 8, shaders.AheadWithin}, {weights.Q4, 3, 320, 2, 4, shaders.AheadWithin}, {weights.BF16, 3, 256, 4, 8, shaders.AheadNever}} {
		t.Run(fmt.Sprintf("%s in %d layers", c.dtype, c.layers), func(t *testing.T) {
			defer forward.AttendRounds(i % 2)() // 0: all in splits
			config := goldentest.RandomConfig(uint64(20 + i))
			config.NumHiddenLayers = c.layers
			dir := goldentest.ModelOf(t, config, uint64(20+i), c.dtype)
			ids := longIDs(config)
			opt := forward.Options{NumPages: 8, KVDType: runner.KVF32}
			plain := open(t, dev, dir, opt)
			want := longAndShort(t, plain, ids)
			opt.Tuning = map[string]forward.MatvecShape{plain.ProductsKey(): {Groups: 1, Workgroup: c.threads, Loads: c.loads, ThreadsPerRow: c.row, Prefetch: i, Halves: c.dtype == weights.Q4, Ahead: c.ahead, Together: c.dtype == weights.Q8}}
			fused := open(t, dev, dir, opt)
			checkExchange(t, fused, "as it is opened")
			got := longAndShort(t, fused, ids)
			if !fused.UsesProducts() || plain.UsesProducts() {
				t.Errorf("one dispatch between attentions: %v and %v, want true and false", fused.UsesProducts(), plain.UsesProducts())
			}
			if rel, text := goldentest.Diff(want, got, len(ids)+9); rel > 2e-5 {
				t.Errorf("logits differ from four dispatches': %s", text)
			}
			if !maps.Equal(fused.Tuning(), opt.Tuning) {
				t.Errorf("tuning %v, want %v", fused.Tuning(), opt.Tuning)
			}
		})
	}
}

// longIDs are tokens enough for all ways of attending.
func longIDs(c *config.Config) []int32 {
	ids := make([]int32, 80)
	for i := range ids {
		ids[i] = int32((7*i + 3) % c.VocabSize)
	}
	return ids
}

// longAndShort are the logits of ids, one token a pass, and of the first nine in a context of their own.
func longAndShort(t *testing.T, r *forward.Runner, ids []int32) []float32 {
	t.Helper()
	all := goldentest.NewTimeline(t, "long", r, 8).Run(ids, 1, nil)
	checkExchange(t, r, "behind a long context")
	all = append(all, goldentest.NewTimeline(t, "short", r, 8).Run(ids[:9], 1, nil)...)
	checkExchange(t, r, "behind a short one")
	return all
}

// A workgroup takes what is not unset for what another one has handed on.
func checkExchange(t *testing.T, r *forward.Runner, when string) {
	t.Helper()
	if !r.UsesProducts() {
		return
	}
	if err := r.CheckExchange(); err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

// More workgroups than the device runs at the same time give up. The pass is repeated without them, and nobody notices.
func TestLayerProductsGiveUp(t *testing.T) {
	dev := testdevice.Open(t)
	if info := dev.Info(); info.Type != "cpu" || dev.Limits().MaxStorageBuffersPerStage < 6 {
		t.Skip("only a CPU device is known to run few workgroups at the same time")
	}
	config := goldentest.RandomConfig(30)
	config.NumHiddenLayers, config.HiddenSize = 2, 256
	dir := goldentest.ModelOf(t, config, 30, weights.BF16)
	t.Run("few splits", func(t *testing.T) { testGiveUp(t, dev, dir, 64) })
	t.Run("many splits", func(t *testing.T) {
		defer forward.Splitting(1, 2, 1)()
		testGiveUp(t, dev, dir, 64)
	})
	t.Run("attention in front", func(t *testing.T) { testGiveUp(t, dev, dir, 256) })
	t.Run("attention in splits in front", func(t *testing.T) {
		defer forward.AttendRounds(0)()
		testGiveUp(t, dev, dir, 256)
	})
}

func testGiveUp(t *testing.T, dev gpu.Device, dir string, threads int) {
	ids := []int32{1, 2, 3, 4, 5, 6, 7, 8}
	opt := forward.Options{NumPages: 8, KVDType: runner.KVF32}
	plain := open(t, dev, dir, opt)
	want := goldentest.NewTimeline(t, "plain", plain, 8).Run(ids, 1, nil)
	opt.Tuning = map[string]forward.MatvecShape{plain.ProductsKey(): {Groups: 64, Workgroup: threads, Loads: 1, ThreadsPerRow: 16}}
	r := open(t, dev, dir, opt)
	if !r.UsesProducts() {
		t.Fatal("64 workgroups were not tried")
	}
	line := goldentest.NewTimeline(t, "giving up", r, 8)
	got := line.Run(ids[:4], 4, nil) // a prefill is not concerned
	if !r.UsesProducts() {
		t.Error("a prefill gave up")
	}
	got = append(got, line.Run(ids[4:], 1, nil)...)
	if r.UsesProducts() {
		t.Error("64 workgroups ran at the same time")
	}
	if rel, text := goldentest.Diff(want, got, len(ids)); rel > 2e-5 {
		t.Errorf("logits differ from four dispatches': %s", text)
	}
}

// spreads are the same for every product.
func spreads(rows, threads, depth int) (all [shaders.NumProducts]shaders.Spread) {
	for i := range all {
		all[i] = shaders.Spread{Rows: rows, Threads: threads, Depth: depth}
	}
	return all
}

// How many processors a GPU has follows from how many workgroups they take, whatever they have room for.
func TestProcessors(t *testing.T) {
	for _, c := range []struct{ threads, processors int }{{2048, 132}, {2048, 108}, {1536, 128}, {1536, 46}, {1024, 72}, {2048, 2}, {1024, 1}} {
		if got := forward.ProcessorsOf(c.threads/640*c.processors, c.threads/1024*c.processors); got != c.processors {
			t.Errorf("%d processors of %d threads: %d", c.processors, c.threads, got)
		}
	}
	if got := forward.ProcessorsOf(0, 0); got != 1 {
		t.Errorf("a device that runs none at the same time: %d", got)
	}
}

// Tuning tries shapes, then other spreads of the best, and what it keeps runs.
func TestTuneProducts(t *testing.T) {
	dev := testdevice.Open(t)
	if dev.Limits().MaxStorageBuffersPerStage < 6 {
		t.Skipf("the device has %d storage buffers a stage, layer_products needs 6", dev.Limits().MaxStorageBuffersPerStage)
	}
	config := goldentest.RandomConfig(32)
	config.NumHiddenLayers, config.HiddenSize, config.IntermediateSize = 2, 256, 512
	dir := goldentest.ModelOf(t, config, 32, weights.Q4)
	opt := forward.Options{NumPages: 8, KVDType: runner.KVF32}
	r := open(t, dev, dir, opt)
	ids := []int32{1, 2, 3, 4, 5, 6, 7, 8}
	run := func(r *forward.Runner) []float32 { return goldentest.NewTimeline(t, "tuned", r, 8).Run(ids, 1, nil) }
	want := run(r)
	kept, rows, err := r.TuneProducts()
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]int{}
	for _, row := range rows {
		tried[row.MatvecShape.String()]++
		if row.Seconds <= 0 {
			t.Errorf("%v took %g s", row.MatvecShape, row.Seconds)
		}
	}
	// Five dispatches, two shapes, and of the second another spread of each of the four products.
	if len(tried) < 7 || tried[kept.String()] == 0 || tried[(forward.MatvecShape{}).String()] == 0 {
		t.Errorf("kept %v of %v", kept, tried)
	}
	opt.Tuning = map[string]forward.MatvecShape{r.ProductsKey(): kept}
	tuned := open(t, dev, dir, opt)
	if !tuned.UsesProducts() {
		t.Fatalf("%v is not used", kept)
	}
	if rel, text := goldentest.Diff(want, run(tuned), len(ids)); rel > 2e-5 {
		t.Errorf("logits differ from five dispatches': %s", text)
	}
	if !maps.Equal(tuned.Tuning(), opt.Tuning) {
		t.Errorf("tuning %v, want %v", tuned.Tuning(), opt.Tuning)
	}
}

// A damaged tuning is not used.
func TestLayerProductsDamaged(t *testing.T) {
	dev := testdevice.Open(t)
	config := goldentest.RandomConfig(31)
	config.NumHiddenLayers = 2
	dir := goldentest.ModelOf(t, config, 31, weights.Q8)
	opt := forward.Options{NumPages: 8}
	key := open(t, dev, dir, opt).ProductsKey()
	for _, v := range []forward.MatvecShape{
		{Groups: -1, Workgroup: 64, Loads: 4}, {Groups: 1 << 20, Workgroup: 64, Loads: 4}, {Groups: 4, Workgroup: 100, Loads: 4}, {Groups: 4, Workgroup: 1 << 16, Loads: 4},
		{Groups: 4, Workgroup: 64, Loads: -4}, {Groups: 4, Workgroup: 64, Loads: 4, Spreads: spreads(9, 16, 1)},
		{Groups: 4, Workgroup: 64, Loads: 4, Spreads: spreads(2, 24, 1)}, {Groups: 4, Workgroup: 64, Loads: 4, Spreads: spreads(2, 0, 1)}, {Groups: 4, Workgroup: 64, Loads: 4, Spreads: spreads(2, 16, 5)},
		{Groups: 4, Workgroup: 64, Loads: 4, Spreads: spreads(2, -16, 1)}, {Groups: 4, Workgroup: -64, Spreads: spreads(2, 16, 1)}, {Groups: 4, Workgroup: 64, Loads: 4, Ahead: -1}, {Groups: 4, Workgroup: 64, Loads: 4, Ahead: 3},
	} {
		opt.Tuning = map[string]forward.MatvecShape{key: v}
		if open(t, dev, dir, opt).UsesProducts() {
			t.Errorf("%+v is used", v)
		}
	}
}

// Long contexts have a shape of their own, with attention in a dispatch of its own or in front.
func TestLongProducts(t *testing.T) {
	dev := testdevice.Open(t)
	if dev.Limits().MaxStorageBuffersPerStage < 9 {
		t.Skipf("the device has %d storage buffers a stage, layer_products with attention needs 9", dev.Limits().MaxStorageBuffersPerStage)
	}
	defer forward.Splitting(7, 30, 8)()
	defer forward.AttendRounds(0)()
	const from = 50
	defer forward.ManyPerHead(from)()
	config := goldentest.RandomConfig(33)
	config.NumHiddenLayers, config.HiddenSize, config.IntermediateSize = 2, 256, 512
	config.NumAttentionHeads, config.NumKeyValueHeads = 8, 2
	dir := goldentest.ModelOf(t, config, 33, weights.Q8)
	ids := longIDs(config)
	opt := forward.Options{NumPages: 8, KVDType: runner.KVF32}
	plain := open(t, dev, dir, opt)
	want := longAndShort(t, plain, ids)
	shape, long, rows, err := plain.TuneLong()
	if err != nil {
		t.Fatal(err)
	}
	tried, chosen := map[bool]map[string]forward.MatvecShape{true: {}, false: {}}, false
	for _, row := range rows {
		tried[row.Apart][row.MatvecShape.String()] = row.MatvecShape
		chosen = chosen || row.Chosen && row.MatvecShape == long
		if row.Kernel == "layer_products" || row.Seconds <= 0 {
			t.Errorf("tried %s as %v, %g s", row.Kernel, row.MatvecShape, row.Seconds)
		}
	}
	if shape.Apart || len(tried[true]) < 2 || len(tried[false]) < 2 || !chosen {
		t.Errorf("%v for short contexts; kept %v of %v for long ones", shape, long, tried)
	}
	opt.Tuning = map[string]forward.MatvecShape{plain.ProductsKey(): shape}
	for apart, shapes := range tried {
		var other forward.MatvecShape
		for _, s := range shapes {
			if other = s; s != long { // whatever was the fastest
				break
			}
		}
		opt.Tuning[plain.LongProductsKey()] = other
		fused := open(t, dev, dir, opt)
		if !fused.UsesProducts() || fused.LongProducts() != other || fused.AttendsWide(from) == apart || fused.AttendsWide(from-1) {
			t.Fatalf("in a long context %v is used, wide %v, want %v", fused.LongProducts(), fused.AttendsWide(from), other)
		}
		if rel, text := goldentest.Diff(want, longAndShort(t, fused, ids), len(ids)+9); rel > 2e-5 {
			t.Errorf("%v: logits differ from five dispatches': %s", other, text)
		}
		if !maps.Equal(fused.Tuning(), opt.Tuning) {
			t.Errorf("tuning %v, want %v", fused.Tuning(), opt.Tuning)
		}
	}
	apart := shape
	apart.Apart = true
	wide := shape
	wide.Workgroup = 1024
	for _, damaged := range []forward.MatvecShape{{}, wide, {Groups: -1, Workgroup: 64, Apart: true}} {
		opt.Tuning[plain.LongProductsKey()] = damaged
		if r := open(t, dev, dir, opt); r.LongProducts() != apart {
			t.Errorf("with a damaged shape %v is used in a long context, want %v", r.LongProducts(), apart)
		}
	}
}
