//go:build !js

package forward_test

// Devices that are too small or that fail: New says what is missing and leaves nothing allocated.

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
)

// smallDevice changes a device's limits, counts what is allocated, and fails where it is told to.
type smallDevice struct {
	gpu.Device
	limits    gpu.Limits
	live      map[string]bool // buffers, kernels and bind groups not released
	numMade   int
	sizes     []uint64 // of all buffers, in bytes
	failAt    int      // the how manieth NewBuffer, NewKernel or Bind fails; 0: none
	failWrite bool
	badWGSL   string // kernel whose source is damaged
}

func newSmallDevice(dev gpu.Device, change func(*gpu.Limits)) *smallDevice {
	d := &smallDevice{Device: dev, limits: dev.Limits(), live: map[string]bool{}}
	if change != nil {
		change(&d.limits)
	}
	return d
}

func (d *smallDevice) Limits() gpu.Limits { return d.limits }

func (d *smallDevice) made(what string) (string, error) {
	if d.numMade++; d.numMade == d.failAt {
		return "", fmt.Errorf("%s: %w", what, gpu.ErrOutOfMemory)
	}
	what = fmt.Sprintf("%s (%d)", what, d.numMade)
	d.live[what] = true
	return what, nil
}

type countedBuffer struct {
	gpu.Buffer
	release func()
}

func (b *countedBuffer) Release() { b.release(); b.Buffer.Release() }

type countedKernel struct {
	gpu.Kernel
	release func()
}

func (k *countedKernel) Release() { k.release(); k.Kernel.Release() }

type countedGroup struct {
	gpu.BindGroup
	release func()
}

func (g *countedGroup) Release() { g.release(); g.BindGroup.Release() }

func (d *smallDevice) NewBuffer(label string, size uint64, usage gpu.Usage) (gpu.Buffer, error) {
	name, err := d.made("buffer " + label)
	if err != nil {
		return nil, err
	}
	b, err := d.Device.NewBuffer(label, size, usage)
	if err != nil {
		return nil, err
	}
	d.sizes = append(d.sizes, size)
	return &countedBuffer{b, func() { delete(d.live, name) }}, nil
}

func (d *smallDevice) NewKernel(desc gpu.KernelDesc) (gpu.Kernel, error) {
	name, err := d.made("kernel " + desc.Label)
	if err != nil {
		return nil, err
	}
	if desc.Entry == d.badWGSL {
		desc.WGSL = strings.Replace(desc.WGSL, "fn "+desc.Entry+"(", "fn broken() -> f32 { return 1u; }\nfn "+desc.Entry+"(", 1)
		desc.WGSL = strings.Replace(desc.WGSL, "@compute", "", 1)
	}
	k, err := d.Device.NewKernel(desc)
	if err != nil {
		delete(d.live, name)
		return nil, err
	}
	return &countedKernel{k, func() { delete(d.live, name) }}, nil
}

func (d *smallDevice) Bind(k gpu.Kernel, bindings ...gpu.Binding) (gpu.BindGroup, error) {
	name, err := d.made("bind group of " + k.Label())
	if err != nil {
		return nil, err
	}
	real := make([]gpu.Binding, len(bindings))
	for i, b := range bindings {
		real[i] = b
		real[i].Buffer = b.Buffer.(*countedBuffer).Buffer
	}
	g, err := d.Device.Bind(k.(*countedKernel).Kernel, real...)
	if err != nil {
		delete(d.live, name)
		return nil, err
	}
	return &countedGroup{g, func() { delete(d.live, name) }}, nil
}

func (d *smallDevice) Write(b gpu.Buffer, offset uint64, data []byte) error {
	if d.failWrite {
		return gpu.ErrLost
	}
	return d.Device.Write(b.(*countedBuffer).Buffer, offset, data)
}

// limitsModel has a vocabulary that makes its embedding the largest buffer.
func limitsModel(tb testing.TB, dtype weights.DType) *weights.Model {
	tb.Helper()
	return goldentest.OpenModel(tb, goldentest.ModelOf(tb, limitsConfig(), 1, dtype))
}

func limitsConfig() *config.Config {
	return &config.Config{
		HiddenSize: 64, NumHiddenLayers: 2, NumKeyValueHeads: 2, NumAttentionHeads: 4, HeadDim: 32, IntermediateSize: 96,
		VocabSize: 3001, MaxPositionEmbeddings: 4096, RMSNormEps: 1e-6, RopeTheta: 1e6, TieWordEmbeddings: true, BosTokenID: -1,
	}
}

// A device without enough memory, or whose bindings are too small, is refused with the numbers before anything is allocated.
func TestTooSmall(t *testing.T) {
	dev := testdevice.Open(t)
	m := limitsModel(t, weights.BF16)
	opt := forward.Options{NumPages: 256, MaxTokens: 64, KVDType: runner.KVF32}
	need, err := forward.PlanMemory(m, opt, dev.Limits())
	if err != nil {
		t.Fatal(err)
	}
	kvBuffer := uint64(256 * 16 * 2 * 32 * 4) // [pages, 16, kvHeads, headDim] f32
	for _, tc := range []struct {
		name   string
		change func(*gpu.Limits)
		opt    forward.Options
		words  []string
	}{
		{"memory", func(l *gpu.Limits) { l.MemoryBytes = need.Total() - 1 }, opt,
			[]string{fmt.Sprint(need.Total()), fmt.Sprint(need.Total() - 1), fmt.Sprintf("KV cache %d", need.KVBytes), "smaller context"}},
		{"KV buffer", func(l *gpu.Limits) { l.MaxStorageBindingBytes = kvBuffer - 4 }, opt,
			[]string{"4096 tokens", fmt.Sprint(kvBuffer), "at most 4080 tokens", "--kv f16"}},
		{"weights", func(l *gpu.Limits) { l.MaxStorageBindingBytes = 128 << 10 }, forward.Options{NumPages: 4, MaxTokens: 16},
			[]string{"embed_tokens", fmt.Sprint(128 << 10), "--shard-mib"}},
	} {
		d := newSmallDevice(dev, tc.change)
		_, planErr := forward.PlanMemory(m, tc.opt, d.Limits())
		r, err := forward.New(d, m, tc.opt)
		if err == nil {
			r.Close()
			t.Errorf("%s: accepted", tc.name)
			continue
		}
		for _, w := range tc.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q lacks %q", tc.name, err, w)
			}
		}
		if planErr == nil || planErr.Error() != err.Error() {
			t.Errorf("%s: PlanMemory says %v, New %v", tc.name, planErr, err)
		}
		if d.numMade != 0 {
			t.Errorf("%s: %d objects were made first", tc.name, d.numMade)
		}
	}
	// With exactly what is needed it runs.
	d := newSmallDevice(dev, func(l *gpu.Limits) { l.MemoryBytes, l.MaxStorageBindingBytes = need.Total(), kvBuffer })
	r, err := forward.New(d, m, opt)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Memory(); got != need {
		t.Errorf("allocated %+v, planned %+v", got, need)
	}
	r.Close()
	if len(d.live) > 0 {
		t.Errorf("not released: %v", d.live)
	}
}

// What looks after the buffers of a pass takes time for each: more layers are no more buffers, unless they are too large for one.
func TestFewBuffers(t *testing.T) {
	dev := testdevice.Open(t)
	opt := forward.Options{NumPages: 8, MaxTokens: 32}
	buffers := func(layers int, maxBytes uint64) []uint64 {
		c := limitsConfig()
		c.NumHiddenLayers = layers
		d := newSmallDevice(dev, func(l *gpu.Limits) { l.MaxBufferBytes = min(l.MaxBufferBytes, maxBytes) })
		r, err := forward.New(d, goldentest.OpenModel(t, goldentest.ModelOf(t, c, 1, weights.Q8)), opt)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		return d.sizes
	}
	few, same := buffers(2, math.MaxUint64), buffers(5, math.MaxUint64)
	if len(few) != len(same) {
		t.Errorf("%d buffers with 2 layers, %d with 5", len(few), len(same))
	}
	const limit = 256 << 10
	small := buffers(5, limit)
	if len(small) <= len(few) || slices.Max(small) > limit || slices.Max(same) <= limit {
		t.Errorf("buffers of %d bytes where %d are allowed, else of %d", small, limit, same)
	}
}

// limited has other limits than its device.
type limited struct {
	gpu.Device
	limits gpu.Limits
}

func (d limited) Limits() gpu.Limits { return d.limits }

// Where memory lies changes no bit.
func TestSlabsAreExact(t *testing.T) {
	dev := testdevice.Open(t)
	dir := goldentest.ModelOf(t, limitsConfig(), 1, weights.Q8)
	ids := []int32{5, 700, 3000, 41, 0}
	var want []float32
	for _, maxBytes := range []uint64{dev.Limits().MaxBufferBytes, 256 << 10} {
		d := limited{dev, dev.Limits()}
		d.limits.MaxBufferBytes = maxBytes
		r := open(t, d, dir, forward.Options{NumPages: 8, MaxTokens: 32})
		s := goldentest.NewTimeline(t, "slabs", r, 8)
		got := append(slices.Clone(s.Pass(ids, runner.LogitsAll, nil)), s.Pass(ids[:1], runner.LogitsLast, nil)...)
		if want == nil {
			want = got
		} else if !slices.Equal(got, want) {
			t.Errorf("with buffers of at most %d bytes the scores differ", maxBytes)
		}
	}
}

// A head that the kernels do not take is refused by name.
func TestHeadTooLarge(t *testing.T) {
	c := &config.Config{
		HiddenSize: 32, NumHiddenLayers: 1, NumKeyValueHeads: 1, NumAttentionHeads: 1, HeadDim: 264, IntermediateSize: 32,
		VocabSize: 33, MaxPositionEmbeddings: 64, RMSNormEps: 1e-6, RopeTheta: 1e6, TieWordEmbeddings: true, BosTokenID: -1,
	}
	m := goldentest.OpenModel(t, goldentest.ModelOf(t, c, 1, weights.BF16))
	if _, err := forward.PlanMemory(m, forward.Options{}, gpu.Limits{MaxStorageBindingBytes: math.MaxUint32, MaxBufferBytes: math.MaxUint32}); err == nil || !strings.Contains(err.Error(), "head_dim 264") {
		t.Errorf("error %v", err)
	}
}

// Whatever fails while a model is loaded, nothing stays allocated, and the error wraps the device's.
func TestFailingDevice(t *testing.T) {
	dev := testdevice.Open(t)
	m := limitsModel(t, weights.Q8)
	opt := forward.Options{NumPages: 8, MaxTokens: 32}
	whole := newSmallDevice(dev, nil)
	r, err := forward.New(whole, m, opt)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	for at := 1; at <= whole.numMade; at += 7 {
		d := newSmallDevice(dev, nil)
		d.failAt = at
		if _, err := forward.New(d, m, opt); !errors.Is(err, gpu.ErrOutOfMemory) {
			t.Errorf("object %d: error %v", at, err)
		}
		if len(d.live) > 0 {
			t.Fatalf("object %d fails: not released: %v", at, d.live)
		}
	}
	d := newSmallDevice(dev, nil)
	d.failWrite = true
	if _, err := forward.New(d, m, opt); !errors.Is(err, gpu.ErrLost) {
		t.Errorf("error %v", err)
	}
	if len(d.live) > 0 {
		t.Errorf("a write fails: not released: %v", d.live)
	}
}

// A kernel that the library refuses becomes an error with the kernel's name and the library's reason.
func TestKernelRefused(t *testing.T) {
	dev := testdevice.Open(t)
	m := limitsModel(t, weights.BF16)
	for _, kernel := range []string{"rmsnorm_qkv", "attention", "matmul"} {
		d := newSmallDevice(dev, nil)
		d.badWGSL = kernel
		_, err := forward.New(d, m, forward.Options{NumPages: 8, MaxTokens: 32})
		if err == nil || !strings.Contains(err.Error(), "kernel "+kernel) || !strings.Contains(err.Error(), "broken") {
			t.Errorf("%s: error %v", kernel, err)
		}
		if len(d.live) > 0 {
			t.Errorf("%s: not released: %v", kernel, d.live)
		}
	}
}
