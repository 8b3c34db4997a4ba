//go:build !js

package forward_test

// The GPU path against transformers' activations, and against the CPU path on random models.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/ref"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
)

// open makes a Runner until the test ends.
func open(tb testing.TB, dev gpu.Device, modelDir string, opt forward.Options) *forward.Runner {
	tb.Helper()
	r, err := forward.New(dev, goldentest.OpenModel(tb, modelDir), opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close() })
	return r
}

// opener makes runners on a device.
func opener(dev gpu.Device) goldentest.Open {
	return func(t *testing.T, modelDir string, kv runner.KVDType, numPages int) runner.Runner {
		t.Helper()
		return open(t, dev, modelDir, forward.Options{NumPages: numPages, KVDType: kv})
	}
}

func TestGoldens(t *testing.T) { goldentest.Run(t, opener(testdevice.Open(t))) }

// Two models are enough here, the CPU path has all: TestRandomModels holds each format to that path.
func TestQuantTable(t *testing.T) {
	goldentest.QuantTable(t, []string{"tied-gqa2", "knorm-outliers"}, opener(testdevice.Open(t)))
}

// Layer 0's norm and projections against transformers', through the fused decode kernel alone and through the kernels of
// prefill.
func TestRMSNormQKV(t *testing.T) {
	dev := testdevice.Open(t)
	for _, name := range goldentest.Names {
		g := goldentest.Load(t, name)
		c, want := g.Config, g.RMSNormQKV
		r := open(t, dev, goldentest.Pack(t, name, weights.BF16), forward.Options{NumPages: 8})
		for _, prefill := range []bool{false, true} {
			qkv, err := r.RMSNormQKV(want.X, want.Rows, prefill)
			if err != nil {
				t.Fatal(err)
			}
			var q, k, v []float32
			for row := range slices.Chunk(qkv, c.QDim()+2*c.KVDim()) {
				q, k, v = append(q, row[:c.QDim()]...), append(k, row[c.QDim():c.QDim()+c.KVDim()]...), append(v, row[c.QDim()+c.KVDim():]...)
			}
			kernel := map[bool]string{false: "rmsnorm_qkv", true: "row_rms and matmul_small"}[prefill]
			for _, tensor := range []struct {
				name      string
				want, got []float32
			}{{"q", want.Q, q}, {"k", want.K, k}, {"v", want.V, v}} {
				e, where := goldentest.Diff(tensor.want, tensor.got, want.Rows)
				t.Logf("%s, rmsnorm_qkv.%s through %s: %.2g", name, tensor.name, kernel, e)
				if e > 1e-5 {
					t.Errorf("%s, rmsnorm_qkv.%s through %s: %s", name, tensor.name, kernel, where)
				}
			}
		}
	}
}

// randomTolerance bounds the difference of two correct paths: with a 16-bit cache a key that both compute a little
// differently may be rounded to two neighbours.
func randomTolerance(kv runner.KVDType) func(kind string) float64 {
	return func(string) float64 {
		if kv == runner.KVF32 {
			return 1e-4
		}
		return 2e-3
	}
}

// Random models of odd shapes, on the GPU and the CPU in lockstep.
func TestRandomModels(t *testing.T) {
	dev := testdevice.Open(t)
	worst := map[string]float64{}
	for seed := range uint64(8) {
		dtype := []weights.DType{weights.BF16, weights.Q8, weights.Q4}[seed%3]
		kv := runner.KVF32
		if seed%4 == 1 {
			kv = runner.KVF16
		}
		dir := goldentest.RandomModel(t, seed, dtype)
		m := goldentest.OpenModel(t, dir)
		want, err := ref.New(m, ref.Options{NumPages: 16, KVDType: kv})
		if err != nil {
			t.Fatal(err)
		}
		if seed%2 == 1 { // one split up to position 17, then four, and many from 70 on
			defer forward.Splitting(9, 70, 10)()
		}
		got := open(t, dev, dir, forward.Options{NumPages: 16, KVDType: kv})
		where := fmt.Sprintf("seed %d, %s, %s KV (%v)", seed, dtype, kv, m.Config)
		for kind, e := range goldentest.Lockstep(t, where, m.Config, want, got, seed, randomTolerance(kv)) {
			key := fmt.Sprintf("%s, %s KV", kind, kv)
			worst[key] = max(worst[key], e)
		}
		want.Close()
		got.Close()
	}
	for _, key := range slices.Sorted(maps.Keys(worst)) {
		t.Logf("largest difference: %-18s %.2g", key, worst[key])
	}
}

// NaN in a layer's weights, and keys beyond float16, are errors that name the first tensor; the session can go on.
func TestNonFinite(t *testing.T) {
	r := open(t, testdevice.Open(t), goldentest.RandomModel(t, 9, weights.BF16), forward.Options{NumPages: 4})
	s := goldentest.NewTimeline(t, "non-finite", r, 4)
	s.Pass([]int32{1, 2, 3}, runner.LogitsLast, nil)
	if err := r.PoisonDownProj(0); err != nil {
		t.Fatal(err)
	}
	for _, ids := range [][]int32{{4}, {4, 5}} {
		_, err := s.Try(ids, runner.LogitsLast, nil)
		if err == nil || !strings.Contains(err.Error(), "layers.0.out is NaN at token 0 of the pass, index 0") {
			t.Errorf("%d tokens: error %v", len(ids), err)
		}
	}
	if s.Seq.Len() != 3 {
		t.Errorf("%d tokens after failed passes", s.Seq.Len())
	}
}
