package kerneltest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// productsCase is a layer's products between two attentions, or some layers with attention in front, in one workgroup: a CPU device
// promises no more at the same time.
type productsCase struct {
	weight                        string
	heads, headDim, hidden, inter int
	kvHeads                       int // of q, k and v behind the products
	workgroup, splits, loads      int
	last                          bool // there is no next layer
	random                        bool // any spreads that fit, not those that should cost least
	halves                        bool
	ahead                         shaders.Ahead
	together                      bool
	// With attention in front: to start+1 positions, in so many splits, in layers layers; wide: of up to four query heads a workgroup.
	kv            string
	start, layers int
	wide          bool
}

const (
	unsetWord  = 0x7fc0a5a5
	layerWords = 64 // of a layer in layers, see layer_products.wgsl
	clearWords = 77 // of the exchange, which layer_products clears
)

// Storage buffers that layer_products needs with scales, behind splits and with attention, which is more than WebGPU promises.
const (
	splitsBuffers = 6
	attendBuffers = 9
)

// CasesWithin lists the cases of Cases and, where a device has the storage buffers for it, those of layer_products.
func CasesWithin(limits gpu.Limits) []Case {
	all := Cases()
	for _, c := range productsCases {
		if c.fits(limits) {
			all = append(all, c.named())
		}
	}
	return all
}

func (c productsCase) fits(limits gpu.Limits) bool {
	buffers := splitsBuffers
	if c.kv != "" {
		buffers = attendBuffers
	}
	return int(limits.MaxStorageBuffersPerStage) >= buffers && int(limits.MaxWorkgroupStorageBytes) >= c.workgroupBytes() &&
		int(min(limits.MaxInvocationsPerWorkgroup, limits.MaxWorkgroupSizeX)) >= c.workgroup
}

// workgroupBytes is how much workgroup memory the case may take: with attention more than WebGPU promises.
func (c productsCase) workgroupBytes() int {
	if c.kv != "" {
		return 2 * workgroupBytes
	}
	return workgroupBytes
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
	{weight: "bf16", heads: 4, headDim: 32, hidden: 96, inter: 160, kvHeads: 1, workgroup: 64, splits: 1, loads: 1},
	{weight: "q8", heads: 6, headDim: 30, hidden: 100, inter: 70, kvHeads: 2, workgroup: 128, splits: 3, loads: 4, ahead: shaders.AheadBehind, together: true},
	{weight: "q4", heads: 3, headDim: 64, hidden: 320, inter: 1000, kvHeads: 1, workgroup: 64, splits: 4, loads: 3, ahead: shaders.AheadWithin},
	{weight: "q4", heads: 2, headDim: 128, hidden: 256, inter: 4500, kvHeads: 1, workgroup: 256, splits: 8, loads: 8, ahead: shaders.AheadBehind, together: true},
	{weight: "bf16", heads: 5, headDim: 100, hidden: 132, inter: 2600, kvHeads: 1, workgroup: 256, splits: 2, loads: 4, last: true, ahead: shaders.AheadWithin},
	{weight: "q8", heads: 8, headDim: 128, hidden: 520, inter: 9000, kvHeads: 2, workgroup: 128, splits: 1, loads: 6, ahead: shaders.AheadWithin, together: true},
	{weight: "bf16", heads: 4, headDim: 64, hidden: 330, inter: 500, kvHeads: 2, workgroup: 96, splits: 1, loads: 1, random: true, ahead: shaders.AheadWithin},
	{weight: "q8", heads: 3, headDim: 100, hidden: 800, inter: 1300, kvHeads: 1, workgroup: 160, splits: 2, loads: 2, random: true, ahead: shaders.AheadBehind, together: true},
	{weight: "q4", heads: 5, headDim: 128, hidden: 640, inter: 2000, kvHeads: 1, workgroup: 160, splits: 1, loads: 2, random: true, ahead: shaders.AheadWithin},
	{weight: "q4", heads: 4, headDim: 128, hidden: 1280, inter: 900, kvHeads: 1, workgroup: 192, splits: 3, loads: 2, random: true, ahead: shaders.AheadWithin, together: true},
	{weight: "bf16", heads: 3, headDim: 40, hidden: 96, inter: 64, kvHeads: 1, workgroup: 64, splits: 16, loads: 1},
	{weight: "q8", heads: 7, headDim: 100, hidden: 260, inter: 300, kvHeads: 7, workgroup: 160, splits: 128, loads: 2, ahead: shaders.AheadWithin},
	{weight: "q4", heads: 2, headDim: 128, hidden: 160, inter: 96, kvHeads: 1, workgroup: 256, splits: 64, loads: 2, last: true, ahead: shaders.AheadWithin, together: true},
	{weight: "q4", heads: 4, headDim: 128, hidden: 128, inter: 96, kvHeads: 1, workgroup: 320, splits: 33, loads: 2, ahead: shaders.AheadWithin},
	// Attention in front: 256 or 512 threads attend, to tiles of 64 and 128 positions, or half of that with more than 128 numbers a head.
	{weight: "bf16", heads: 4, headDim: 128, hidden: 96, inter: 160, kvHeads: 2, workgroup: 256, splits: 1, loads: 1, kv: "f32", start: 0, layers: 1},
	{weight: "q4", heads: 4, headDim: 128, hidden: 128, inter: 96, kvHeads: 2, workgroup: 320, splits: 1, loads: 2, kv: "f16", start: 63, layers: 2, ahead: shaders.AheadWithin},
	{weight: "q8", heads: 3, headDim: 80, hidden: 100, inter: 70, kvHeads: 1, workgroup: 256, splits: 1, loads: 2, kv: "f32", start: 130, layers: 3, ahead: shaders.AheadBehind},
	{weight: "bf16", heads: 6, headDim: 30, hidden: 70, inter: 65, kvHeads: 2, workgroup: 512, splits: 1, loads: 1, kv: "f16", start: 200, layers: 2, last: true},
	{weight: "bf16", heads: 2, headDim: 160, hidden: 64, inter: 96, kvHeads: 2, workgroup: 640, splits: 1, loads: 1, kv: "f32", start: 64, layers: 1, ahead: shaders.AheadWithin},
	{weight: "q4", heads: 4, headDim: 128, hidden: 96, inter: 128, kvHeads: 2, workgroup: 256, splits: 2, loads: 1, kv: "f16", start: 300, layers: 2, ahead: shaders.AheadWithin},
	{weight: "q8", heads: 3, headDim: 128, hidden: 64, inter: 96, kvHeads: 1, workgroup: 512, splits: 4, loads: 2, kv: "f32", start: 127, layers: 2, ahead: shaders.AheadWithin, together: true},
	{weight: "bf16", heads: 5, headDim: 96, hidden: 64, inter: 96, kvHeads: 1, workgroup: 288, splits: 16, loads: 1, kv: "f16", start: 70, layers: 1, last: true},
	{weight: "bf16", heads: 1, headDim: 256, hidden: 64, inter: 64, kvHeads: 1, workgroup: 512, splits: 8, loads: 1, kv: "f16", start: 513, layers: 2},
	{weight: "q4", heads: 8, headDim: 128, hidden: 128, inter: 96, kvHeads: 2, workgroup: 512, splits: 16, loads: 2, kv: "f16", start: 300, layers: 2, ahead: shaders.AheadWithin, wide: true},
	{weight: "q8", heads: 3, headDim: 80, hidden: 100, inter: 70, kvHeads: 1, workgroup: 256, splits: 4, loads: 2, kv: "f32", start: 130, layers: 2, ahead: shaders.AheadWithin, wide: true},
}

func (c productsCase) named() Case {
	return Case{fmt.Sprintf("layer_products/%+v", c), func() *Setup { return c.setup() }}
}

// sizes are those of the padded rows, of q, k and v, and of a place in the exchange, whose q, k and v begin at handed.
func (c productsCase) sizes() (qDim, qPad, hiddenPad, interPad, qkv, handed int) {
	qDim = c.heads * c.headDim
	handed = 2*c.hidden + c.inter + qDim
	if c.kv != "" && c.splits > 1 {
		handed += c.splits * (qDim + 2*c.heads)
	}
	return qDim, RoundUp(qDim, 32), RoundUp(c.hidden, 32), RoundUp(c.inter, 32), qDim + 2*c.kvHeads*c.headDim, handed
}

func (c productsCase) setup() *Setup {
	rng := NewRand(uint64(100 + c.inter + c.start))
	qDim, qPad, hiddenPad, interPad, qkv, handed := c.sizes()
	m := []Matrix{
		RandomMatrix(rng, c.weight, c.hidden, qDim, qPad, 0.05), RandomMatrix(rng, c.weight, 2*c.inter, c.hidden, hiddenPad, 0.05),
		RandomMatrix(rng, c.weight, c.hidden, c.inter, interPad, 0.05), RandomMatrix(rng, c.weight, qkv, c.hidden, hiddenPad, 0.05),
	}
	x := Rows(rng, 1, c.hidden, hiddenPad, 2)
	x[c.hidden/2] = 400
	postNorm, nextNorm := Rows(rng, 1, c.hidden, hiddenPad, 1), Rows(rng, 1, c.hidden, hiddenPad, 1)
	s := &Setup{Buffers: map[string][]byte{"x": F32Bytes(x)}}

	// layers gets a row a layer; all layers have the same matrices, and keys and values of their own.
	layers := max(c.layers, 1)
	table := make([]uint32, layerWords*layers)
	var weights, scales []byte
	for i := range m {
		for l := range layers {
			table[layerWords*l+4+i], table[layerWords*l+8+i] = uint32(len(weights)/16), uint32(len(scales)/4)
		}
		weights, scales = append(weights, m[i].Data...), append(scales, m[i].Scales...)
	}
	norms := slices.Concat(postNorm, nextNorm)
	firstQKV := layerWords
	exchange := Poison(firstQKV + qkv + 3)
	copy(exchange, make([]byte, 4))
	// One reference for each kind of number, with magnitudes of its own: x, silu(gate)*up, attention and q, k and v.
	var want [4][]float64
	expect := func(kind int, numbers []float64) {
		for i := range want {
			if i == kind {
				want[i] = append(want[i], numbers...)
			} else {
				want[i] = append(want[i], slices.Repeat([]float64{Any}, len(numbers))...)
			}
		}
	}
	expect(0, Untouched(len(exchange)/4))

	at := Float64s(x[:c.hidden])
	var tolerance float64 = f32Tolerance
	var attend func(layer int, qkv []float32) []float64
	if c.kv == "" {
		a, attn := c.splitOutputs(rng, qPad)
		s.Buffers["a"], s.Buffers["pass_state"] = F32Bytes(a), PassState(1, 0, c.splits, 0)
		attend = func(int, []float32) []float64 { return attn }
	} else {
		attend, tolerance = c.addContexts(s, rng, table, &norms, len(postNorm)+len(nextNorm), layers)
	}
	next := Normal(rng, qkv, 2)
	copy(exchange[4*firstQKV:], F32Bytes(next))
	for l := range layers {
		row, place := table[layerWords*l:], len(exchange)/4
		copy(row, []uint32{uint32(place), 0, uint32(firstQKV - place), 1})
		if l > 0 {
			row[1], row[2] = -uint32(handed+qkv-c.hidden-c.inter), -uint32(qkv) // of the place before
		}
		if c.last && l == layers-1 {
			row[3] = 0
		}
		row[12], row[13] = 0, uint32(hiddenPad)
		attn := attend(l, next)
		middle, mlp, out, wantQKV := c.layer(m, at, attn, postNorm, nextNorm)
		unset := make([]byte, 4*(handed+qkv))
		for i := range handed + qkv {
			binary.LittleEndian.PutUint32(unset[4*i:], unsetWord)
		}
		exchange = append(exchange, unset...)
		expect(0, middle)
		expect(1, mlp)
		expect(0, out)
		if c.kv != "" || c.splits > fusedSplits {
			expect(2, attn[:qDim])
		} else {
			expect(2, Untouched(qDim))
		}
		expect(-1, make([]float64, handed-2*c.hidden-c.inter-qDim)) // splits
		if row[3] == 0 {
			wantQKV = Untouched(qkv)
		}
		expect(3, wantQKV)
		at = out
		next = make([]float32, qkv)
		for i, v := range wantQKV {
			next[i] = float32(v)
		}
	}
	// What is behind the places is cleared.
	from := len(exchange) / 4
	exchange = append(exchange, Poison(clearWords)...)
	expect(-1, make([]float64, clearWords))
	wantClear := append(slices.Repeat([]float64{Any}, from), slices.Repeat([]float64{unsetWord}, clearWords)...)
	copy(table[20:], []uint32{uint32(layers), uint32(from), uint32(from + clearWords)})
	copy(table[25:], table[21:23])
	wantX := Untouched(hiddenPad)
	copy(wantX, at)

	s.Buffers["layers"], s.Buffers["exchange"], s.Buffers["norms"], s.Buffers["weights"], s.Buffers["scales"] = U32Bytes(table...), exchange, F32Bytes(norms), weights, scales
	bindings := Bind("pass_state", "layers", "x", "exchange", "norms", "weights")
	if c.kv == "" {
		bindings = append(bindings, Bind("a")...)
	} else {
		bindings = append(bindings, Bind("step_state", "rope", "k_cache", "v_cache")...)
	}
	if c.weight != "bf16" {
		bindings = append(bindings, Bind("scales")...)
	}
	s.Steps = []Step{{Kernel: "layer_products", Options: c.options(rng, handed, layers), Bindings: bindings, Grid: [3]uint32{1, 1, 1}}}
	s.Checks = append(s.Checks, Check{"x", F32, wantX, tolerance}, Check{"exchange", U32, wantClear, 0})
	for _, numbers := range want {
		s.Checks = append(s.Checks, Check{"exchange", F32, numbers, tolerance})
	}
	return s
}

// layer is a layer's reference: x behind attention, silu(gate)*up, x behind the MLP and the next layer's q, k and v.
func (c productsCase) layer(m []Matrix, x, attn []float64, postNorm, nextNorm []float32) (middle, mlp, out, qkv []float64) {
	_, qPad, hiddenPad, interPad, numQKV, _ := c.sizes()
	middle = slices.Clone(x)
	product(middle, m[0], qPad, attn)
	both := make([]float64, 2*c.inter)
	product(both, m[1], hiddenPad, normed(middle, postNorm))
	mlp = make([]float64, c.inter)
	for i := range mlp {
		mlp[i] = both[2*i] / (1 + math.Exp(-both[2*i])) * both[2*i+1]
	}
	out = slices.Clone(middle)
	product(out, m[2], interPad, mlp)
	qkv = make([]float64, numQKV)
	product(qkv, m[3], hiddenPad, normed(out, nextNorm))
	return middle, mlp, out, qkv
}

// splitOutputs are the splits' outputs, then their statistics, as attention leaves them, and what they come to.
func (c productsCase) splitOutputs(rng *rand.Rand, qPad int) (a []float32, attn []float64) {
	mlBase := maxSplits * qPad
	a = make([]float32, mlBase+2*maxSplits*c.heads)
	attn = make([]float64, c.heads*c.headDim)
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
	return a, attn
}

// addContexts adds what the layers attend to, with their rows of the table and the checks of the caches; attend is the reference.
func (c productsCase) addContexts(s *Setup, rng *rand.Rand, table []uint32, norms *[]float32, firstGain, layers int) (attend func(layer int, qkv []float32) []float64, tolerance float64) {
	h := headShape{tokens: 1, start: c.start, heads: c.heads, kvHeads: c.kvHeads, headDim: c.headDim, kv: c.kv, pageSize: 16}
	keyTolerance, copyTolerance, tolerance := h.tolerances()
	if copyTolerance == 0 {
		copyTolerance = tolerance // computed by the layer before, not copied
	}
	var contexts []decodeContext
	for l := range layers {
		a := h.context(rng)
		if l > 0 {
			a.table = contexts[0].table
			a.keys, a.values = h.cache().Keys().Random(rng, a.table, h.start, h.keySpread()), h.cache().Random(rng, a.table, h.start, 1)
		}
		numbers := h.cache().Len()
		row := table[layerWords*l:]
		row[14] = uint32(firstGain + l*len(a.norms))
		row[16], row[17] = uint32(l*numbers/8), uint32(l*numbers/4)
		*norms = append(*norms, a.norms...)
		s.Buffers["k_cache"], s.Buffers["v_cache"] = append(s.Buffers["k_cache"], a.keys...), append(s.Buffers["v_cache"], a.values...)
		contexts = append(contexts, a)
	}
	s.Buffers["pass_state"] = PassState(1, c.start, 1, 0)
	s.Buffers["step_state"] = append(PassState(1, c.start, 1, 0), U32Bytes(contexts[0].table...)...)
	s.Buffers["rope"] = F32Bytes(contexts[0].rope)
	wantK, wantV := make([]float64, 0, layers), make([]float64, 0, layers)
	s.Checks = []Check{{"k_cache", h.cache().Keys().Format(), nil, keyTolerance}, {"v_cache", h.cache().Format(), nil, copyTolerance}}
	return func(layer int, qkv []float32) []float64 {
		attn, k, v := contexts[layer].attend(qkv, RoundUp(c.heads*c.headDim, 32))
		wantK, wantV = append(wantK, k...), append(wantV, v...)
		s.Checks[0].Want, s.Checks[1].Want = wantK, wantV
		return attn
	}, tolerance
}

// options are the kernel's, with the case's spreads.
func (c productsCase) options(rng *rand.Rand, handed, layers int) shaders.Options {
	qDim, qPad, hiddenPad, interPad, qkv, _ := c.sizes()
	opt := shaders.Options{Weight: c.weight, Floats: map[string]float32{"EPS": eps}, Consts: map[string]uint32{
		"HIDDEN": uint32(c.hidden), "INTERMEDIATE": uint32(c.inter), "NUM_HEADS": uint32(c.heads), "HEAD_DIM": uint32(c.headDim),
		"QKV_AT": uint32(handed), "ALL_VECS": uint32(layerWords / 4 * layers),
	}}
	if c.kv == "" {
		maps.Copy(opt.Consts, map[string]uint32{"Q_PAD": uint32(qPad), "FUSED_SPLITS": fusedSplits, "ML_BASE": uint32(maxSplits * qPad)})
		if c.splits > fusedSplits {
			opt.Consts["MANY_SPLITS"] = 1
		}
	} else {
		opt.Attention, opt.KV = true, c.kv
		opt.Floats["SCALE"] = float32(1 / math.Sqrt(float64(c.headDim)))
		group, qTile := c.heads/c.kvHeads, 1
		if c.splits > 1 {
			qTile = min(2, group)
			if c.wide && group > 2 {
				qTile = 4
			}
			opt.Consts["PIPELINED"] = 1
		}
		numPages := c.start/16 + 1 + stalePages
		maps.Copy(opt.Consts, map[string]uint32{
			"NUM_KV_HEADS": uint32(c.kvHeads), "HEAD_PAD": uint32(RoundUp(c.headDim, 8)), "PAGE_SIZE": 16, "PAGE_TABLE": 8, "MAX_PAGES": uint32(numPages),
			"SPLITS": uint32(c.splits), "Q_TILE": uint32(qTile), "Q_TILES": uint32((group + qTile - 1) / qTile),
		})
	}
	products := []shaders.Product{
		{Name: "attn_out", Rows: c.hidden, K: qDim, KPad: qPad},
		{Name: "gate_up", Rows: 2 * c.inter, K: c.hidden, KPad: hiddenPad, Norm: true, Pairs: true},
		{Name: "down", Rows: c.hidden, K: c.inter, KPad: interPad},
		{Name: "qkv", Rows: qkv, K: c.hidden, KPad: hiddenPad, Norm: true},
	}
	memory := c.workgroupBytes()
	coefBytes := 16 * c.heads
	shape, ok := shaders.ProductsShape{Groups: 1, Workgroup: c.workgroup, Loads: c.loads, Team: 4, Halves: c.halves, Ahead: c.ahead, Together: c.together}.AddTo(&opt, products, memory, coefBytes)
	for i := range products {
		if all := shape.Alternatives(products, i, c.weight, memory, coefBytes, 100); c.random {
			shape = all[rng.IntN(len(all))]
		}
	}
	if ok {
		_, ok = shape.AddTo(&opt, products, memory, coefBytes)
	}
	if !ok {
		panic(fmt.Sprintf("kerneltest: %+v does not fit", c))
	}
	return opt
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
