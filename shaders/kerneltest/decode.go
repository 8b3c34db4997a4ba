package kerneltest

// Cases of the decode kernels: one token at a time. Rows and lengths lie off what a workgroup owns and what 16 bytes hold;
// every spread of a matrix-vector product over threads that autotuning may choose from gives the same result.

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

func init() { registered = append(registered, DecodeCases) }

// DecodeCases lists the cases of the kernels that take one token.
func DecodeCases() []Case {
	var all []Case
	for _, more := range [][]Case{embedCases(), matvecCases(), attentionCases()} {
		all = append(all, more...)
	}
	return all
}

func embedCases() []Case {
	var all []Case
	for i, weight := range Weights {
		all = append(all, Case{"embed/" + weight, func() *Setup { return embedSetup(weight, uint64(i)) }})
	}
	return all
}

// embedSetup gathers tokens from a table whose middle rows are in the dispatch; the others' rows must stay untouched.
func embedSetup(weight string, seed uint64) *Setup {
	const hidden, kPad, rowStart, rows = 100, 128, 40, 25
	rng := NewRand(seed)
	w := RandomMatrix(rng, weight, rows, hidden, kPad, 1)
	tokens := []uint32{40, 64, 39, 65, 0, 52, 1 << 30}
	want := Untouched((len(tokens) + 1) * kPad)
	for t, id := range tokens {
		if id >= rowStart && id < rowStart+rows {
			copy(want[t*kPad:(t+1)*kPad], Float64s(w.Values[(int(id)-rowStart)*kPad:][:kPad]))
		}
	}
	return &Setup{
		Buffers: map[string][]byte{
			"part": MatrixPart(rowStart, rows), "pass_state": PassState(len(tokens), 0, 1, 0), "tokens": U32Bytes(tokens...),
			"weights": w.Data, "scales": w.Scales, "x": Poison((len(tokens) + 1) * kPad),
		},
		Steps: []Step{{
			Kernel: "embed", Options: shaders.Options{Weight: weight, Consts: map[string]uint32{"K_PAD": kPad}},
			Bindings: w.bind(Bind("part", "pass_state", "tokens", "weights", "x")), Grid: [3]uint32{CeilDiv(kPad/8, 64), uint32(len(tokens) + 1), 1},
		}},
		Checks: []Check{{"x", F32, want, 0}},
	}
}

// workgroupBytes is what every WebGPU device has of workgroup memory.
const workgroupBytes = 16 << 10

// matvecCase is a shape of a decode matrix-vector kernel.
type matvecCase struct {
	kernel, weight    string
	k, rows, rowStart int
	shape             shaders.MatvecShape
}

// matvecShapes are for all devices, subgroupShapes for kernels with subgroups, however large they are: teams of less than one
// and of exactly one.
var matvecShapes = []matvecCase{
	{k: 64, rows: 2, shape: shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 4, Rows: 4}},
	{k: 100, rows: 70, rowStart: 32, shape: shaders.MatvecShape{Workgroup: 64, ThreadsPerRow: 8, Rows: 1}},
	{k: 1024, rows: 34, shape: shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 32, Rows: 4}},
	{k: 2600, rows: 18, rowStart: 16, shape: shaders.MatvecShape{Workgroup: 256, ThreadsPerRow: 64, Rows: 2}},
	{k: 4500, rows: 6, shape: shaders.MatvecShape{Workgroup: 64, ThreadsPerRow: 16, Rows: 8}},
	{k: 3000, rows: 10, shape: shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 64, Rows: 1}},
	{k: 1000, rows: 40, rowStart: 8, shape: shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 32, Rows: 2, Direct: true}},
	{k: 3072, rows: 20, shape: shaders.MatvecShape{Workgroup: 256, ThreadsPerRow: 256, Rows: 8, Direct: true}},
	{k: 1100, rows: 90, rowStart: 16, shape: shaders.MatvecShape{Workgroup: 64, ThreadsPerRow: 8, Rows: 2, Blocks: 3}},
	{k: 6000, rows: 50, shape: shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 32, Rows: 4, Blocks: 2}},
	{k: 500, rows: 30, shape: shaders.MatvecShape{Workgroup: 64, ThreadsPerRow: 16, Rows: 1, Direct: true, Blocks: 4}},
}

var subgroupShapes = []matvecCase{
	{k: 70, rows: 70, shape: shaders.MatvecShape{Workgroup: 64, ThreadsPerRow: 2, Rows: 1}},
	{k: 130, rows: 66, rowStart: 4, shape: shaders.MatvecShape{Workgroup: 64, ThreadsPerRow: 2, Rows: 2}},
	{k: 500, rows: 34, shape: shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 4, Rows: 1}},
	{k: 600, rows: 70, shape: shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 4, Rows: 2, Direct: true}},
	{k: 1000, rows: 18, shape: shaders.MatvecShape{Workgroup: 256, ThreadsPerRow: 32, Rows: 1}},
	{k: 1500, rows: 34, shape: shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 32, Rows: 8}},
	{k: 700, rows: 34, shape: shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 16, Rows: 4, Direct: true}},
}

func matvecCases() []Case { return matvecCasesIn(matvecShapes, false) }

// HalvesCases lists cases of the kernels' variant with halves, for devices where shaders.HalvesExact.
func HalvesCases(limits gpu.Limits) []Case {
	all := matvecCasesIn(matvecShapes, true)
	for _, c := range productsCases {
		if c.halves = true; c.weight != "bf16" && c.fits(limits) {
			all = append(all, c.named())
		}
	}
	return all
}

// matvecCasesIn lists cases of every kernel and format in shapes; with halves the same ones of quantized weights.
func matvecCasesIn(shapes []matvecCase, halves bool) []Case {
	var all []Case
	seed := uint64(0)
	for _, kernel := range []string{"rmsnorm_qkv", "rmsnorm_gate_up", "rmsnorm_lm_head", "residual_proj"} {
		for _, weight := range Weights {
			for _, c := range shapes {
				if c.shape.Direct && weight != "bf16" {
					continue
				}
				c.shape.Halves = halves
				c.kernel, c.weight = kernel, weight
				if kernel != "rmsnorm_gate_up" {
					c.rows++
				}
				seed++
				if halves && weight == "bf16" {
					continue
				}
				s := seed
				name := fmt.Sprintf("%s/%s k=%d rows=%d %s", kernel, weight, c.k, c.rows, c.shape)
				all = append(all, Case{name, func() *Setup { return c.setup(s) }})
			}
		}
	}
	return all
}

func (c matvecCase) setup(seed uint64) *Setup {
	rng := NewRand(seed)
	kPad := RoundUp(c.k, 32)
	w := RandomMatrix(rng, c.weight, c.rows, c.k, kPad, 0.05)
	xRow := 0
	if c.kernel == "rmsnorm_lm_head" {
		xRow = 2
	}
	x, gain := Rows(rng, xRow+1, c.k, kPad, 2), Rows(rng, 1, c.k, kPad, 1)
	row := x[xRow*kPad : (xRow+1)*kPad]
	row[c.k/2], gain[0] = 400, 96.5 // outliers, as residual streams and norms have
	normed := c.kernel != "residual_proj"
	inv := 1.0
	if normed {
		inv = invRMS(row[:c.k])
	}
	sums := make([]float64, c.rows)
	for n := range sums {
		for k := range c.k {
			v := float64(row[k]) * float64(w.Values[n*kPad+k])
			if normed {
				v *= float64(gain[k])
			}
			sums[n] += v
		}
		sums[n] *= inv
	}
	size := c.rowStart + c.rows + 5
	out, want := Poison(size), Untouched(size)
	residual := Normal(rng, size, 1)
	switch c.kernel {
	case "rmsnorm_gate_up":
		for n := 0; n < c.rows; n += 2 {
			want[(c.rowStart+n)/2] = sums[n] / (1 + math.Exp(-sums[n])) * sums[n+1]
		}
	case "residual_proj":
		out = F32Bytes(residual)
		for n := range sums {
			want[c.rowStart+n] = float64(residual[c.rowStart+n]) + sums[n]
		}
	default:
		copy(want[c.rowStart:], sums)
	}
	opt := shaders.Options{Weight: c.weight, Consts: map[string]uint32{
		"ROW_START": uint32(c.rowStart), "NUM_ROWS": uint32(c.rows)}}
	c.shape.AddTo(&opt, kPad, workgroupBytes)
	bindings := Bind("x", "weights", "out")
	if normed {
		opt.Consts["HIDDEN"] = uint32(c.k)
		opt.Floats = map[string]float32{"EPS": eps}
		bindings = Bind("x", "gain", "weights", "out")
	}
	if c.kernel == "rmsnorm_lm_head" {
		bindings = Bind("pass_state", "x", "gain", "weights", "out")
	}
	groups := CeilDiv(c.rows, c.shape.GroupRows())
	return &Setup{
		Buffers: map[string][]byte{
			"pass_state": PassState(3, 0, 1, xRow), "x": F32Bytes(x), "gain": F32Bytes(gain),
			"weights": w.Data, "scales": w.Scales, "out": out,
		},
		// One workgroup more than needed, folded over two dimensions.
		Steps:  []Step{{Kernel: c.kernel, Options: opt, Bindings: w.bind(bindings), Grid: [3]uint32{groups/2 + 1, 2, 1}}},
		Checks: []Check{{"out", F32, want, f32Tolerance}},
	}
}

// attentionCase is a decode step at position start, with its context spread over splits, through attention and what follows it.
type attentionCase struct {
	headShape
	splits int
	weight string
	rows   int
}

const (
	maxSplits   = 128
	fusedSplits = 4 // attn_out combines so many itself
	stalePages  = 2 // of the page table, behind the context
)

// attentionCases has each shape with one cache format, as compiling is what costs; those of the published models with both.
// A tile of attention is 64 positions, or 32 where a head has more than 128 numbers: contexts end before, on and behind its
// last one, and splits have no tile, the token's alone, one or several.
func attentionCases() []Case {
	var all []Case
	for i, c := range []attentionCase{
		{headShape{kv: "f16", heads: 1, kvHeads: 1, headDim: 24, start: 0}, 1, "bf16", 40},
		{headShape{kv: "f16", heads: 6, kvHeads: 2, headDim: 30, start: 17}, 1, "bf16", 33},
		{headShape{kv: "f16", heads: 6, kvHeads: 2, headDim: 30, start: 100}, 4, "q8", 33},
		{headShape{kv: "f32", heads: 4, kvHeads: 2, headDim: 80, start: 130}, 8, "q4", 64},
		{headShape{kv: "f16", heads: 4, kvHeads: 2, headDim: 128, start: 300}, 2, "bf16", 70},
		{headShape{kv: "f32", heads: 4, kvHeads: 2, headDim: 128, start: 300}, 2, "bf16", 70},
		{headShape{kv: "f16", heads: 4, kvHeads: 2, headDim: 128, start: 31}, 32, "q8", 70},
		{headShape{kv: "f16", heads: 8, kvHeads: 1, headDim: 128, start: 63}, 2, "q4", 16},
		{headShape{kv: "f32", heads: 8, kvHeads: 1, headDim: 128, start: 64}, 4, "q4", 16},
		{headShape{kv: "f16", heads: 12, kvHeads: 1, headDim: 64, start: 200}, 4, "bf16", 16},
		{headShape{kv: "f32", heads: 5, kvHeads: 1, headDim: 160, start: 48}, 2, "bf16", 16},
		{headShape{kv: "f16", heads: 7, kvHeads: 1, headDim: 256, start: 20}, 1, "q8", 16},
		{headShape{kv: "f32", heads: 3, kvHeads: 3, headDim: 2, start: 40}, 2, "bf16", 16},
		{headShape{kv: "f16", heads: 5, kvHeads: 1, headDim: 40, start: 70}, 2, "bf16", 16},
		{headShape{kv: "f16", heads: 4, kvHeads: 2, headDim: 96, start: 127}, 1, "bf16", 16},
		{headShape{kv: "f16", heads: 2, kvHeads: 2, headDim: 104, start: 65, pageSize: 32}, 1, "bf16", 16},
		{headShape{kv: "f16", heads: 2, kvHeads: 2, headDim: 128, start: 255, pageSize: 5}, 1, "bf16", 16},
		{headShape{kv: "f32", heads: 4, kvHeads: 2, headDim: 128, start: 192, pageSize: 12}, 1, "bf16", 16},
		{headShape{kv: "f16", heads: 8, kvHeads: 2, headDim: 128, start: 700}, 4, "bf16", 16},
		{headShape{kv: "f32", heads: 8, kvHeads: 1, headDim: 128, start: 333}, 2, "bf16", 16},
		{headShape{kv: "f16", heads: 4, kvHeads: 1, headDim: 256, start: 130, pageSize: 8}, 1, "bf16", 16},
		{headShape{kv: "f16", heads: 2, kvHeads: 1, headDim: 128, start: 4500}, 64, "bf16", 16},
		{headShape{kv: "f32", heads: 2, kvHeads: 1, headDim: 62, start: 1000}, 128, "bf16", 16},
		{headShape{kv: "f16", heads: 4, kvHeads: 1, headDim: 128, start: 2300}, 33, "bf16", 16},
		{headShape{kv: "f16", heads: 3, kvHeads: 1, headDim: 62, start: 389}, 6, "q8", 16},
	} {
		c.tokens = 1
		if c.pageSize == 0 {
			c.pageSize = 16
		}
		kernels := "attention+" + c.outKernel()
		if c.splits > fusedSplits {
			kernels = "attention+combine_splits+residual_proj"
		}
		name := fmt.Sprintf("%s splits=%d %s", c.name(kernels), c.splits, c.weight)
		all = append(all, Case{name, func() *Setup { return c.setup(uint64(i), 0) }})
		if c.qTile() <= pipelinedQTile {
			all = append(all, Case{name + " pipelined", func() *Setup { return c.setup(uint64(i), 1) }})
		}
	}
	return all
}

func (c attentionCase) setup(seed uint64, pipelined uint32) *Setup {
	rng := NewRand(seed)
	d, cache := c.headDim, c.cache()
	qDim, kvDim, qPad := c.heads*d, c.kvHeads*d, RoundUp(c.heads*d, 32)
	qkv, a := Normal(rng, qDim+2*kvDim, 2), c.context(rng)
	norms, table, rope, keys, values := a.norms, a.table, a.rope, a.keys, a.values
	attn, wantK, wantV := a.attend(qkv, qPad)
	w := RandomMatrix(rng, c.weight, c.rows, qDim, qPad, 0.05)
	residual := Normal(rng, c.rows, 1)
	want := Float64s(residual)
	for n := range want {
		for k, v := range attn {
			want[n] += v * float64(w.Values[n*qPad+k])
		}
	}

	attnOpt, outOpt, qTiles := c.options(qPad, pipelined)
	beside := make([]byte, 16*nextVectors)
	tolerance, copyTolerance, outTolerance := c.tolerances()
	outputs := uint64(4 * maxSplits * qPad)
	splits := append(Poison(maxSplits*qPad), Poison(RoundUp(2*maxSplits*c.heads, 4))...)
	clearPadding(splits, maxSplits, qPad, qDim)
	part := func(name string, from, size uint64) Binding {
		return Binding{Buffer: name, Offset: from, Size: size}
	}
	attention := Step{Kernel: "attention", Options: attnOpt, Bindings: Bind("pass_state", "norms", "rope", "qkv", "k_cache", "v_cache", "splits", "beside"),
		Grid: [3]uint32{uint32(c.kvHeads * qTiles), uint32(c.splits + c.beside()), 1}}
	combine := Step{Kernel: "combine_splits", Options: shaders.Options{Consts: map[string]uint32{
		"NUM_HEADS": uint32(c.heads), "HEAD_DIM": uint32(d), "Q_PAD": uint32(qPad), "MAX_SPLITS": maxSplits,
	}}, Bindings: []Binding{{Buffer: "pass_state"}, part("splits", 0, outputs), part("splits", outputs, 0), {Buffer: "attn"}},
		Grid: [3]uint32{uint32(c.heads), CeilDiv(d, 32), 1}}
	out := Step{Kernel: c.outKernel(), Options: outOpt, Grid: [3]uint32{CeilDiv(c.rows, outShape.GroupRows()), 1, 1}}
	steps := []Step{attention, out}
	switch {
	case c.splits == 1:
		steps[1].Bindings = w.bind([]Binding{part("splits", 0, uint64(4*qPad)), {Buffer: "weights"}, {Buffer: "x"}})
	case c.splits <= fusedSplits:
		steps[1].Bindings = w.bind([]Binding{{Buffer: "pass_state"}, part("splits", 0, outputs), part("splits", outputs, 0), {Buffer: "weights"}, {Buffer: "x"}})
	default:
		out.Bindings = w.bind(Bind("attn", "weights", "x"))
		steps = []Step{attention, combine, out}
	}
	passState := append(PassState(1, c.start, c.splits, 0), U32Bytes(table...)...)
	return &Setup{
		Buffers: map[string][]byte{
			"pass_state": passState, "norms": F32Bytes(norms), "rope": F32Bytes(rope), "qkv": F32Bytes(qkv), "k_cache": keys, "v_cache": values, "splits": splits, "beside": beside,
			"weights": w.Data, "scales": w.Scales, "x": F32Bytes(residual), "attn": make([]byte, 4*qPad),
		},
		Steps: steps,
		Checks: []Check{
			{"k_cache", cache.Keys().Format(), wantK, tolerance},
			{"v_cache", cache.Format(), wantV, copyTolerance},
			{"x", F32, want, outTolerance},
			{"beside", U32, Untouched(4 * nextVectors), 0},
		},
	}
}

// decodeContext is what a token at position start attends to in one layer.
type decodeContext struct {
	headShape
	norms        []float32 // [2, headDim] q_norm, k_norm
	table        []uint32  // with stalePages behind the context
	rope         []float32
	keys, values []byte
}

func (h headShape) context(rng *rand.Rand) decodeContext {
	d, cache := h.headDim, h.cache()
	norms := Normal(rng, 2*d, 1)
	norms[d] = 20 // a key gain that amplifies roundings
	cache.BoundKeys(norms)
	table := RandomPageTable(rng, h.numPages()+stalePages, cache.NumPages)
	return decodeContext{h, norms, table, RopeTable(h.kvLen(), d), cache.Keys().Random(rng, table, h.start, h.keySpread()), cache.Random(rng, table, h.start, 1)}
}

// attend gives the attention output [qPad] of a token with these projections, and what it leaves in the cache. Its own key and value are
// attended to as the cache holds them.
func (a decodeContext) attend(qkv []float32, qPad int) (attn, wantK, wantV []float64) {
	d, cache := a.headDim, a.cache()
	wantK, wantV = Untouched(cache.Len()), Untouched(cache.Len())
	attn = make([]float64, qPad)
	for kvHead := range a.kvHeads {
		at := func(head int) []float32 { return qkv[head*d : (head+1)*d] }
		key := normRope(at(a.heads+kvHead), a.norms[d:], a.rope[a.start*d:])
		value := Float64s(at(a.heads + a.kvHeads + kvHead))
		slot := cache.Index(a.table, a.start, kvHead, 0)
		copy(wantK[slot:], make([]float64, cache.HeadPad()))
		copy(wantV[slot:], make([]float64, cache.HeadPad()))
		copy(wantK[slot:], key)
		copy(wantV[slot:], value)
		ks, vs := cache.Keys().Head(a.keys, a.table, kvHead, a.start), cache.Head(a.values, a.table, kvHead, a.start)
		ks, vs = append(ks, cache.Keys().rounded(key)), append(vs, cache.rounded(value))
		group := a.heads / a.kvHeads
		for head := kvHead * group; head < (kvHead+1)*group; head++ {
			q := normRope(at(head), a.norms[:d], a.rope[a.start*d:])
			copy(attn[head*d:], attend64(q, ks, vs))
		}
	}
	return attn, wantK, wantV
}

// tolerances are those of keys, of copied values and of what is computed from both.
func (h headShape) tolerances() (key, copied, out float64) {
	if h.kv == "f16" {
		// The key is rounded to 16 bits from a float32 result: where that lies close to the middle of two neighbours the
		// device may choose the other one, which moves the output by far less than the cache's own tolerance.
		return keyTolerance, f16Tolerance, f16Tolerance
	}
	return f32Tolerance, 0, f32Tolerance
}

// outKernel is what adds the attention output to the residual stream.
func (c attentionCase) outKernel() string {
	if c.splits > 1 && c.splits <= fusedSplits {
		return "attn_out"
	}
	return "residual_proj"
}

// nextVectors of 16 bytes are prefetched by rows of workgroups beside attention.
const nextVectors = 5000

func (c attentionCase) beside() int { return c.start % 3 }

// pipelinedQTile are the query heads of a workgroup of which attention can be pipelined.
const pipelinedQTile = 4

// qTile is the number of query heads of a workgroup: forward has one where splits are few.
func (c attentionCase) qTile() int {
	qTile, most := 1, []int{8, 1, 2, 4}[c.start%4]
	for qTile < c.heads/c.kvHeads && qTile < most && 2*qTile*RoundUp(c.headDim, 8) <= 1024 {
		qTile *= 2
	}
	return qTile
}

// options are the constants of attention and outKernel, and the number of query tiles of a KV head.
func (c attentionCase) options(qPad int, pipelined uint32) (attention, attnOut shaders.Options, qTiles int) {
	d, headPad, qTile := c.headDim, RoundUp(c.headDim, 8), c.qTile()
	qTiles = (c.heads/c.kvHeads + qTile - 1) / qTile
	attention = shaders.Options{KV: c.kv, Consts: map[string]uint32{
		"NUM_HEADS": uint32(c.heads), "NUM_KV_HEADS": uint32(c.kvHeads), "HEAD_DIM": uint32(d), "HEAD_PAD": uint32(headPad), "PAGE_SIZE": uint32(c.pageSize),
		"BESIDE": uint32(c.beside()), "Q_PAD": uint32(qPad), "ML_BASE": uint32(maxSplits * qPad), "PAGE_TABLE": 8, "MAX_PAGES": uint32(c.numPages() + stalePages), "Q_TILE": uint32(qTile), "Q_TILES": uint32(qTiles),
		"PIPELINED": pipelined, "NEXT_VECS": nextVectors,
	}, Floats: map[string]float32{"SCALE": float32(1 / math.Sqrt(float64(d))), "EPS": eps}}
	attnOut = shaders.Options{Weight: c.weight, Consts: map[string]uint32{
		"NUM_ROWS": uint32(c.rows),
	}}
	outShape.AddTo(&attnOut, qPad, workgroupBytes)
	if c.outKernel() == "attn_out" {
		attnOut.Consts["NUM_HEADS"], attnOut.Consts["HEAD_DIM"] = uint32(c.heads), uint32(d)
		attnOut.Consts["MAX_SPLITS"], attnOut.Consts["COEFS"] = fusedSplits, uint32(fusedSplits*c.heads)
	}
	return attention, attnOut, qTiles
}

// outShape is how the output projection behind attention is spread.
var outShape = shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 32, Rows: 4}

// rounded is what numbers become in the cache.
func (s KVShape) rounded(v []float64) []float64 {
	cell := make([]byte, 4)
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(s.Set(cell, 0, float32(x)))
	}
	return out
}

// clearPadding zeroes the columns from cols to stride of float32 [rows, stride], as the engine's buffers have them.
func clearPadding(data []byte, rows, stride, cols int) {
	for r := range rows {
		clear(data[4*(r*stride+cols) : 4*(r+1)*stride])
	}
}

// attend64 is attend with a query in float64.
func attend64(query []float64, keys, values [][]float64) []float64 {
	q := make([]float32, len(query))
	for i, v := range query {
		q[i] = float32(v)
	}
	return attend(q, keys, values)
}
