package kerneltest

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// productsCase is a layer's products between two attentions, in one workgroup: a CPU device promises no more at the same time.
type productsCase struct {
	weight                             string
	heads, headDim, hidden, inter, qkv int
	workgroup, splits, loads           int
	last                               bool // there is no next layer
	random                             bool // any spreads that fit, not those that should cost least
	halves                             bool
	ahead                              shaders.Ahead
	together                           bool
}

const (
	unsetWord      = 0x7fc0a5a5
	firstExchanged = 4
)

// productsBuffers is what layer_products needs with scales, more storage buffers than WebGPU promises.
const productsBuffers = 12

// CasesWithin lists the cases of Cases and, where a device has the storage buffers for it, those of layer_products.
func CasesWithin(limits gpu.Limits) []Case {
	all := Cases()
	if limits.MaxStorageBuffersPerStage >= productsBuffers {
		for _, c := range productsCases {
			all = append(all, c.named())
		}
	}
	return all
}

// CasesOn lists those that a device can run: of CasesWithin and, where it is exact, of HalvesCases.
func CasesOn(dev gpu.Device) ([]Case, error) {
	all := CasesWithin(dev.Limits())
	exact, err := shaders.HalvesExact(dev)
	if exact {
		all = append(all, HalvesCases(dev.Limits())...)
	}
	return all, err
}

var productsCases = []productsCase{
	{weight: "bf16", heads: 4, headDim: 32, hidden: 96, inter: 160, qkv: 192, workgroup: 64, splits: 1, loads: 1},
	{weight: "q8", heads: 6, headDim: 30, hidden: 100, inter: 70, qkv: 222, workgroup: 128, splits: 3, loads: 4, ahead: shaders.AheadBehind, together: true},
	{weight: "q4", heads: 3, headDim: 64, hidden: 320, inter: 1000, qkv: 130, workgroup: 64, splits: 4, loads: 3, ahead: shaders.AheadWithin},
	{weight: "q4", heads: 2, headDim: 128, hidden: 256, inter: 4500, qkv: 512, workgroup: 256, splits: 8, loads: 8, ahead: shaders.AheadBehind, together: true},
	{weight: "bf16", heads: 5, headDim: 100, hidden: 132, inter: 2600, qkv: 300, workgroup: 256, splits: 2, loads: 4, last: true, ahead: shaders.AheadWithin},
	{weight: "q8", heads: 8, headDim: 128, hidden: 520, inter: 9000, qkv: 640, workgroup: 128, splits: 1, loads: 6, ahead: shaders.AheadWithin, together: true},
	{weight: "bf16", heads: 4, headDim: 64, hidden: 330, inter: 500, qkv: 250, workgroup: 96, splits: 1, loads: 1, random: true, ahead: shaders.AheadWithin},
	{weight: "q8", heads: 3, headDim: 100, hidden: 800, inter: 1300, qkv: 440, workgroup: 160, splits: 2, loads: 2, random: true, ahead: shaders.AheadBehind, together: true},
	{weight: "q4", heads: 5, headDim: 128, hidden: 640, inter: 2000, qkv: 900, workgroup: 160, splits: 1, loads: 2, random: true, ahead: shaders.AheadWithin},
	{weight: "q4", heads: 4, headDim: 128, hidden: 1280, inter: 900, qkv: 770, workgroup: 192, splits: 3, loads: 2, random: true, ahead: shaders.AheadWithin, together: true},
	{weight: "bf16", heads: 3, headDim: 40, hidden: 96, inter: 64, qkv: 100, workgroup: 64, splits: 16, loads: 1},
	{weight: "q8", heads: 7, headDim: 100, hidden: 260, inter: 300, qkv: 140, workgroup: 160, splits: 128, loads: 2, ahead: shaders.AheadWithin},
	{weight: "q4", heads: 2, headDim: 128, hidden: 160, inter: 96, qkv: 70, workgroup: 256, splits: 64, loads: 2, last: true, ahead: shaders.AheadWithin, together: true},
}

func (c productsCase) named() Case {
	return Case{fmt.Sprintf("layer_products/%+v", c), func() *Setup { return c.setup() }}
}

func (c productsCase) setup() *Setup {
	rng := NewRand(uint64(100 + c.inter))
	qDim := c.heads * c.headDim
	qPad, hiddenPad, interPad := RoundUp(qDim, 32), RoundUp(c.hidden, 32), RoundUp(c.inter, 32)
	o := RandomMatrix(rng, c.weight, c.hidden, qDim, qPad, 0.05)
	gateUp := RandomMatrix(rng, c.weight, 2*c.inter, c.hidden, hiddenPad, 0.05)
	down := RandomMatrix(rng, c.weight, c.hidden, c.inter, interPad, 0.05)
	qkv := RandomMatrix(rng, c.weight, c.qkv, c.hidden, hiddenPad, 0.05)
	x := Rows(rng, 1, c.hidden, hiddenPad, 2)
	x[c.hidden/2] = 400
	postNorm, nextNorm := Rows(rng, 1, c.hidden, hiddenPad, 1), Rows(rng, 1, c.hidden, hiddenPad, 1)
	// The splits' outputs, then their statistics, as attention leaves them.
	mlBase := maxSplits * qPad
	a := make([]float32, mlBase+2*maxSplits*c.heads)
	attn := make([]float64, qDim)
	for h := range c.heads {
		var m, l [maxSplits]float64
		largest := math.Inf(-1)
		for s := range c.splits {
			at := mlBase + 2*(s*c.heads+h)
			a[at], a[at+1] = float32(3*rng.NormFloat64()), float32(1+rng.Float64())
			m[s], l[s] = float64(a[at]), float64(a[at+1])
			largest = math.Max(largest, m[s])
		}
		sum := 0.0
		for s := range c.splits {
			sum += l[s] * math.Exp(m[s]-largest)
		}
		for d := range c.headDim {
			for s := range c.splits {
				v := float32(rng.NormFloat64())
				a[s*qPad+h*c.headDim+d] = v
				if factor := math.Exp(m[s]-largest) / sum; c.splits > 1 {
					attn[h*c.headDim+d] += float64(v) * factor
				} else {
					attn[h*c.headDim+d] = float64(v)
				}
			}
		}
	}
	middle := make([]float64, c.hidden)
	product(middle, o, qPad, attn)
	for i := range middle {
		middle[i] += float64(x[i])
	}
	both := make([]float64, 2*c.inter)
	product(both, gateUp, hiddenPad, normed(middle, postNorm))
	mlp := make([]float64, c.inter)
	for i := range mlp {
		mlp[i] = both[2*i] / (1 + math.Exp(-both[2*i])) * both[2*i+1]
	}
	out := make([]float64, c.hidden)
	product(out, down, interPad, mlp)
	for i := range out {
		out[i] += middle[i]
	}
	wantQKV := make([]float64, c.qkv)
	product(wantQKV, qkv, hiddenPad, normed(out, nextNorm))

	// x, with what has been handed on behind it.
	exchange := make([]byte, 4*(firstExchanged+2*c.hidden+c.inter+qDim))
	for i := firstExchanged; i < len(exchange)/4; i++ {
		binary.LittleEndian.PutUint32(exchange[4*i:], unsetWord)
	}
	wantX := Untouched(hiddenPad)
	copy(wantX, out)
	handed, many := slices.Concat(make([]float64, firstExchanged), middle, mlp, out), uint32(0)
	if c.splits > fusedSplits {
		handed, many = append(handed, attn...), 1
	} else {
		handed = append(handed, Untouched(qDim)...)
	}
	size := c.qkv + 5
	if c.last {
		size, wantQKV = 1, Untouched(1)
	} else {
		wantQKV = append(wantQKV, Untouched(5)...)
	}

	opt := shaders.Options{Weight: c.weight, Floats: map[string]float32{"EPS": eps}, Consts: map[string]uint32{
		"HIDDEN": uint32(c.hidden), "INTERMEDIATE": uint32(c.inter), "NUM_HEADS": uint32(c.heads), "HEAD_DIM": uint32(c.headDim),
		"Q_PAD": uint32(qPad), "FUSED_SPLITS": fusedSplits, "ML_BASE": uint32(mlBase),
		"EXCHANGE": uint32(hiddenPad), "NEXT_NORM": uint32(hiddenPad), "MANY_SPLITS": many,
	}}
	products := []shaders.Product{
		{Name: "attn_out", Rows: c.hidden, K: qDim, KPad: qPad},
		{Name: "gate_up", Rows: 2 * c.inter, K: c.hidden, KPad: hiddenPad, Norm: true, Pairs: true},
		{Name: "down", Rows: c.hidden, K: c.inter, KPad: interPad},
		{Name: "qkv", Rows: c.qkv, K: c.hidden, KPad: hiddenPad, Norm: true},
	}
	coefBytes := 16 * c.heads
	shape, ok := shaders.ProductsShape{Groups: 1, Workgroup: c.workgroup, Loads: c.loads, Team: 4, Halves: c.halves, Ahead: c.ahead, Together: c.together}.AddTo(&opt, products, workgroupBytes, coefBytes)
	for i := range products {
		if all := shape.Alternatives(products, i, c.weight, workgroupBytes, coefBytes, 100); c.random {
			shape = all[rng.IntN(len(all))]
		}
	}
	if ok {
		_, ok = shape.AddTo(&opt, products, workgroupBytes, coefBytes)
	}
	if !ok {
		panic(fmt.Sprintf("kerneltest: %+v does not fit", c))
	}
	bindings := Bind("pass_state", "a", "x", "norms", "qkv", "o", "gate_up", "down", "next")
	if c.weight != "bf16" {
		bindings = append(bindings, Bind("o_scales", "gate_up_scales", "down_scales", "next_scales")...)
	}
	return &Setup{
		Buffers: map[string][]byte{
			"pass_state": PassState(1, 0, c.splits, 0), "a": F32Bytes(a), "x": append(F32Bytes(x), exchange...), "norms": append(F32Bytes(postNorm), F32Bytes(nextNorm)...), "qkv": Poison(size),
			"o": o.Data, "gate_up": gateUp.Data, "down": down.Data, "next": qkv.Data,
			"o_scales": o.Scales, "gate_up_scales": gateUp.Scales, "down_scales": down.Scales, "next_scales": qkv.Scales,
		},
		Steps:  []Step{{Kernel: "layer_products", Options: opt, Bindings: bindings, Grid: [3]uint32{1, 1, 1}}},
		Checks: []Check{{"qkv", F32, wantQKV, f32Tolerance}, {"x", F32, append(wantX, handed...), f32Tolerance}},
	}
}

// product is sums[n] = sum over k of w[n, k] * x[k].
func product(sums []float64, w Matrix, kPad int, x []float64) {
	for n := range sums {
		for k, v := range x {
			sums[n] += float64(w.Values[n*kPad+k]) * v
		}
	}
}

func normed(x []float64, gain []float32) []float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	inv := 1 / math.Sqrt(sum/float64(len(x))+eps)
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v * inv * float64(gain[i])
	}
	return out
}

func init() {
	registered = append(registered, func() []Case {
		return []Case{{"resident_groups/one", func() *Setup {
			return &Setup{
				Buffers: map[string][]byte{"arrived": U32Bytes(0, 0)},
				Steps:   []Step{{Kernel: "resident_groups", Bindings: Bind("arrived"), Grid: [3]uint32{1, 1, 1}}},
				Checks:  []Check{{"arrived", U32, []float64{1, 0}, 0}},
			}
		}}}
	})
}
