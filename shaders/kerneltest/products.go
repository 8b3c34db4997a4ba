package kerneltest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

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
	touch                              int
}

const (
	unsetWord      = 0x7fc0a5a5
	firstExchanged = 4
)

// productsBuffers is what layer_products needs with scales, more storage buffers than WebGPU promises.
const productsBuffers = 12

// layerBuffers is what decode_layer needs with scales.
const layerBuffers = 16

// CasesWithin lists the cases of Cases and, where a device has the storage buffers for it, those of layer_products and decode_layer.
func CasesWithin(limits gpu.Limits) []Case {
	all := Cases()
	if limits.MaxStorageBuffersPerStage >= productsBuffers {
		for _, c := range productsCases {
			all = append(all, c.named())
		}
	}
	if limits.MaxStorageBuffersPerStage >= layerBuffers {
		for _, c := range layerCases {
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
	{weight: "q8", heads: 6, headDim: 30, hidden: 100, inter: 70, qkv: 222, workgroup: 128, splits: 3, loads: 4},
	{weight: "q4", heads: 3, headDim: 64, hidden: 320, inter: 1000, qkv: 130, workgroup: 64, splits: 4, loads: 3},
	{weight: "q4", heads: 2, headDim: 128, hidden: 256, inter: 4500, qkv: 512, workgroup: 256, splits: 8, loads: 8},
	{weight: "bf16", heads: 5, headDim: 100, hidden: 132, inter: 2600, qkv: 300, workgroup: 256, splits: 2, loads: 4, last: true, touch: 5},
	{weight: "q8", heads: 8, headDim: 128, hidden: 520, inter: 9000, qkv: 640, workgroup: 128, splits: 1, loads: 6, touch: 16},
	{weight: "bf16", heads: 4, headDim: 64, hidden: 330, inter: 500, qkv: 250, workgroup: 96, splits: 1, loads: 1, random: true},
	{weight: "q8", heads: 3, headDim: 100, hidden: 800, inter: 1300, qkv: 440, workgroup: 160, splits: 2, loads: 2, random: true, touch: 8},
	{weight: "q4", heads: 5, headDim: 128, hidden: 640, inter: 2000, qkv: 900, workgroup: 160, splits: 1, loads: 2, random: true, touch: 8},
	{weight: "q4", heads: 4, headDim: 128, hidden: 1280, inter: 900, qkv: 770, workgroup: 192, splits: 3, loads: 2, random: true, touch: 8},
}

func (c productsCase) named() Case {
	return Case{fmt.Sprintf("layer_products/%+v", c), func() *Setup { return c.setup() }}
}

// productsData is what layer_products reads but for the attention output, and what it should make of that.
type productsData struct {
	o, gateUp, down, qkv  Matrix
	x, postNorm, nextNorm []float32

	middle, mlp, out, wantQKV []float64
}

func (c productsCase) pads() (qPad, hiddenPad, interPad int) {
	return RoundUp(c.heads*c.headDim, 32), RoundUp(c.hidden, 32), RoundUp(c.inter, 32)
}

func (c productsCase) data(rng *rand.Rand) *productsData {
	qPad, hiddenPad, interPad := c.pads()
	d := &productsData{
		o:      RandomMatrix(rng, c.weight, c.hidden, c.heads*c.headDim, qPad, 0.05),
		gateUp: RandomMatrix(rng, c.weight, 2*c.inter, c.hidden, hiddenPad, 0.05),
		down:   RandomMatrix(rng, c.weight, c.hidden, c.inter, interPad, 0.05),
		qkv:    RandomMatrix(rng, c.weight, c.qkv, c.hidden, hiddenPad, 0.05),
		x:      Rows(rng, 1, c.hidden, hiddenPad, 2),
	}
	d.x[c.hidden/2] = 400
	d.postNorm, d.nextNorm = Rows(rng, 1, c.hidden, hiddenPad, 1), Rows(rng, 1, c.hidden, hiddenPad, 1)
	return d
}

// expect computes what follows from the attention output.
func (d *productsData) expect(c productsCase, attn []float64) {
	qPad, hiddenPad, interPad := c.pads()
	d.middle = make([]float64, c.hidden)
	product(d.middle, d.o, qPad, attn)
	for i := range d.middle {
		d.middle[i] += float64(d.x[i])
	}
	both := make([]float64, 2*c.inter)
	product(both, d.gateUp, hiddenPad, normed(d.middle, d.postNorm))
	d.mlp = make([]float64, c.inter)
	for i := range d.mlp {
		d.mlp[i] = both[2*i] / (1 + math.Exp(-both[2*i])) * both[2*i+1]
	}
	d.out = make([]float64, c.hidden)
	product(d.out, d.down, interPad, d.mlp)
	for i := range d.out {
		d.out[i] += d.middle[i]
	}
	d.wantQKV = make([]float64, c.qkv)
	product(d.wantQKV, d.qkv, hiddenPad, normed(d.out, d.nextNorm))
}

// handed is what the exchange holds at the end.
func (d *productsData) handed() []float64 {
	return append(append(append([]float64{}, d.middle...), d.mlp...), d.out...)
}

// unset are words of an exchange as it should be found.
func unset(words int) []byte {
	raw := make([]byte, 4*words)
	for i := range words {
		binary.LittleEndian.PutUint32(raw[4*i:], unsetWord)
	}
	return raw
}

// options are the kernel's in one workgroup, of decode_layer where it attends.
func (c productsCase) options(rng *rand.Rand, attends bool) shaders.Options {
	qPad, hiddenPad, interPad := c.pads()
	opt := shaders.Options{Weight: c.weight, Floats: map[string]float32{"EPS": eps}, Consts: map[string]uint32{
		"HIDDEN": uint32(c.hidden), "INTERMEDIATE": uint32(c.inter), "NUM_HEADS": uint32(c.heads), "HEAD_DIM": uint32(c.headDim),
		"Q_PAD": uint32(qPad), "FUSED_SPLITS": fusedSplits, "ML_BASE": uint32(maxSplits * qPad), "COEFS": uint32(fusedSplits * c.heads),
		"EXCHANGE": uint32(hiddenPad), "NEXT_NORM": uint32(hiddenPad),
	}}
	products := []shaders.Product{
		{Name: "attn_out", Rows: c.hidden, K: c.heads * c.headDim, KPad: qPad},
		{Name: "gate_up", Rows: 2 * c.inter, K: c.hidden, KPad: hiddenPad, Norm: true, Pairs: true},
		{Name: "down", Rows: c.hidden, K: c.inter, KPad: interPad},
		{Name: "qkv", Rows: c.qkv, K: c.hidden, KPad: hiddenPad, Norm: true},
	}
	coefBytes := 4 * fusedSplits * c.heads
	shape, ok := shaders.ProductsShape{Groups: 1, Workgroup: c.workgroup, Loads: c.loads, Team: 4, Halves: c.halves, Attends: attends, Touch: c.touch}.AddTo(&opt, products, workgroupBytes, coefBytes)
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
	return opt
}

func (c productsCase) setup() *Setup {
	rng := NewRand(uint64(100 + c.inter))
	qDim := c.heads * c.headDim
	qPad, hiddenPad, _ := c.pads()
	data := c.data(rng)
	fused := c.splits
	if c.splits > fusedSplits {
		fused = 1
	}
	// The splits' outputs, then their statistics, as attention leaves them.
	mlBase := maxSplits * qPad
	a := make([]float32, mlBase+2*maxSplits*c.heads)
	attn := make([]float64, qDim)
	for h := range c.heads {
		var m, l [fusedSplits]float64
		largest := math.Inf(-1)
		for s := range fused {
			at := mlBase + 2*(s*c.heads+h)
			a[at], a[at+1] = float32(3*rng.NormFloat64()), float32(1+rng.Float64())
			m[s], l[s] = float64(a[at]), float64(a[at+1])
			largest = math.Max(largest, m[s])
		}
		sum := 0.0
		for s := range fused {
			sum += l[s] * math.Exp(m[s]-largest)
		}
		for d := range c.headDim {
			for s := range fused {
				v := float32(rng.NormFloat64())
				a[s*qPad+h*c.headDim+d] = v
				if factor := math.Exp(m[s]-largest) / sum; fused > 1 {
					attn[h*c.headDim+d] += float64(v) * factor
				} else {
					attn[h*c.headDim+d] = float64(v)
				}
			}
		}
	}
	data.expect(c, attn)

	// x, with what has been handed on behind it.
	wantX := Untouched(hiddenPad)
	copy(wantX, data.out)
	wantX = append(append(wantX, make([]float64, firstExchanged)...), data.handed()...)
	size, wantQKV := c.qkv+5, append(data.wantQKV, Untouched(5)...)
	if c.last {
		size, wantQKV = 1, Untouched(1)
	}
	bindings := Bind("pass_state", "a", "x", "norms", "qkv", "o", "gate_up", "down", "next")
	if c.weight != "bf16" {
		bindings = append(bindings, Bind("o_scales", "gate_up_scales", "down_scales", "next_scales")...)
	}
	exchange := append(make([]byte, 4*firstExchanged), unset(2*c.hidden+c.inter)...)
	return &Setup{
		Buffers: data.with(map[string][]byte{
			"pass_state": PassState(1, 0, c.splits, 0), "a": F32Bytes(a), "x": append(F32Bytes(data.x), exchange...), "norms": data.norms(), "qkv": Poison(size),
		}),
		Steps:  []Step{{Kernel: "layer_products", Options: c.options(rng, false), Bindings: bindings, Grid: [3]uint32{1, 1, 1}}},
		Checks: []Check{{"qkv", F32, wantQKV, f32Tolerance}, {"x", F32, wantX, f32Tolerance}},
	}
}

func (d *productsData) norms() []byte { return append(F32Bytes(d.postNorm), F32Bytes(d.nextNorm)...) }

// with adds the matrices.
func (d *productsData) with(buffers map[string][]byte) map[string][]byte {
	for name, m := range map[string]Matrix{"o": d.o, "gate_up": d.gateUp, "down": d.down, "next": d.qkv} {
		buffers[name], buffers[name+"_scales"] = m.Data, m.Scales
	}
	return buffers
}

// layerCase is a decode layer in one dispatch.
type layerCase struct {
	attention attentionCase
	productsCase
}

var layerCases = []layerCase{
	{attentionCase{headShape: headShape{kv: "f16", heads: 4, kvHeads: 2, headDim: 32, start: 9}, splits: 1}, productsCase{weight: "bf16", hidden: 96, inter: 160, workgroup: 256, loads: 1}},
	{attentionCase{headShape: headShape{kv: "f32", heads: 6, kvHeads: 3, headDim: 30, start: 100}, splits: 2}, productsCase{weight: "q8", hidden: 100, inter: 70, workgroup: 512, loads: 4}},
	{attentionCase{headShape: headShape{kv: "f16", heads: 8, kvHeads: 2, headDim: 64, start: 300}, splits: 4}, productsCase{weight: "q4", hidden: 320, inter: 1000, workgroup: 320, loads: 3, random: true, touch: 3}},
	{attentionCase{headShape: headShape{kv: "f16", heads: 4, kvHeads: 2, headDim: 128, start: 63}, splits: 1}, productsCase{weight: "q4", hidden: 256, inter: 3000, workgroup: 256, loads: 8, last: true}},
	{attentionCase{headShape: headShape{kv: "f32", heads: 4, kvHeads: 1, headDim: 128, start: 128}, splits: 4}, productsCase{weight: "q8", hidden: 520, inter: 900, workgroup: 640, loads: 4, random: true}},
}

func (c layerCase) named() Case {
	c.attention.tokens, c.attention.pageSize, c.attention.weight = 1, 16, c.weight
	c.heads, c.headDim, c.splits = c.attention.heads, c.attention.headDim, c.attention.splits
	c.qkv = (c.heads + 2*c.attention.kvHeads) * c.headDim
	return Case{fmt.Sprintf("decode_layer/%s %s splits=%d %dx%d %d threads", c.attention.kv, c.weight, c.splits, c.hidden, c.inter, c.workgroup), func() *Setup { return c.setup() }}
}

func (c layerCase) setup() *Setup {
	rng := NewRand(uint64(200 + c.inter))
	qPad, hiddenPad, _ := c.pads()
	in, data := c.attention.attend(rng), c.data(rng)
	data.expect(c.productsCase, in.attn[:c.heads*c.headDim])

	// x, a part of the exchange that others have, this layer's, and the next one's to be cleared.
	const others, dirty = 3, 777
	handed := 2*c.hidden + c.inter
	parts := fusedSplits * (qPad + 2*c.heads) // attention outputs and statistics of splits
	first := hiddenPad + firstExchanged + others
	x := append(F32Bytes(data.x), make([]byte, 4*(firstExchanged+others))...)
	x = append(append(x, unset(handed+parts)...), make([]byte, 4*dirty)...)
	wantX := Untouched(hiddenPad)
	copy(wantX, data.out)
	wantX = append(append(wantX, make([]float64, firstExchanged+others)...), data.handed()...)
	wantCleared := anything(len(wantX))
	wantX, wantCleared = append(wantX, anything(parts)...), append(wantCleared, anything(parts)...)
	if c.splits == 1 { // else only all splits together are known
		copy(wantX[len(wantX)-parts:], in.attn[:c.heads*c.headDim])
	}
	wantX = append(append(wantX, anything(dirty-1)...), math.NaN())
	for range dirty - 1 {
		wantCleared = append(wantCleared, unsetWord)
	}
	wantCleared = append(wantCleared, Any)
	const in1 = 7 // where the projections lie in their buffer
	outAt := in1 + c.qkv + 3
	projections := append(append(Poison(in1), F32Bytes(in.qkv)...), Poison(3+c.qkv)...)
	wantQKV := append(Untouched(in1), Float64s(in.qkv)...)
	wantQKV = append(wantQKV, Untouched(3)...)
	norms := data.norms()
	if c.last {
		norms = F32Bytes(data.postNorm)
		wantQKV = append(wantQKV, Untouched(c.qkv)...)
	} else {
		wantQKV = append(wantQKV, data.wantQKV...)
	}
	opt := c.options(rng, true)
	attentionOpt, _, _ := c.attention.options(qPad)
	for name, v := range attentionOpt.Consts {
		switch name {
		case "BESIDE", "NEXT_VECS", "EXCHANGE", "CLEARED":
		default:
			opt.Consts[name] = v
		}
	}
	for name, v := range map[string]uint32{
		"Q_TILE": 1, "Q_TILES": uint32(c.heads / c.attention.kvHeads), "ML_BASE": uint32(fusedSplits * qPad), "FIRST": uint32(first), "CLEAR_FROM": uint32(first + handed + parts),
		"CLEARED": dirty - 1, "QKV_IN": in1, "QKV_OUT": uint32(outAt), "IDLE": uint32(max(c.workgroup-shaders.AttentionThreads, 0)),
	} {
		opt.Consts[name] = v
	}
	opt.KV, opt.Floats["SCALE"] = attentionOpt.KV, attentionOpt.Floats["SCALE"]
	bindings := Bind("pass_state", "qk_norms", "rope", "k_cache", "v_cache", "x", "norms", "qkv", "o", "gate_up", "down", "next")
	if c.weight != "bf16" {
		bindings = append(bindings, Bind("o_scales", "gate_up_scales", "down_scales", "next_scales")...)
	}
	keys, out, values := c.attention.tolerances()
	cache := c.attention.cache()
	return &Setup{
		Buffers: data.with(map[string][]byte{
			"pass_state": append(PassState(1, c.attention.start, c.splits, 0), U32Bytes(in.table...)...), "qk_norms": F32Bytes(in.norms), "rope": F32Bytes(in.rope),
			"k_cache": in.keys, "v_cache": in.values, "x": x, "norms": norms, "qkv": projections,
		}),
		Steps: []Step{{Kernel: "decode_layer", Options: opt, Bindings: bindings, Grid: [3]uint32{1, 1, 1}}},
		Checks: []Check{
			{"k_cache", cache.Keys().Format(), in.wantK, keys}, {"v_cache", cache.Format(), in.wantV, values},
			{"qkv", F32, wantQKV, out}, {"x", F32, wantX, out}, {"x", U32, wantCleared, 0},
		},
	}
}

func anything(n int) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = Any
	}
	return all
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
