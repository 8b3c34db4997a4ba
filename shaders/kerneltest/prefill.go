package kerneltest

// Cases of the prefill kernels. Sizes lie off the tile boundaries: 128, 64 and 32 tokens or rows in the matrix products,
// 64 query rows and 64 positions (32 and 8 within a tile) in attention.
//
// Tolerances are relative to the largest magnitude of an output. float32 has 6e-8 relative rounding per operation; errors
// of a sum of n terms grow like sqrt(n), here n <= 400, and sums of mixed signs lose one more digit: some 1e-6 in all.
// 16-bit caches round once more: values by up to 2^-11, or 2^-10 where a device truncates, and keys by half a step of
// 2*sqrt(key)/32767, of a largest key of 1/16 at least, or by a whole one where the last bit before the rounding differs.

import (
	"fmt"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

const (
	f32Tolerance = 1e-5
	f16Tolerance = 1.0 / 1024
	keyTolerance = 4.0 / 32767
	eps          = 1e-6
)

func init() { registered = append(registered, PrefillCases) }

// PrefillCases lists the cases of the kernels that take many tokens at once.
func PrefillCases() []Case {
	var all []Case
	for _, more := range [][]Case{rmsCases(), matmulCases(), qkNormRopeCases(), attentionPrefillCases(), copyPagesCases()} {
		all = append(all, more...)
	}
	return all
}

func rmsCases() []Case {
	var all []Case
	for i, s := range []struct{ tokens, hidden int }{{1, 64}, {3, 100}, {17, 1024}, {65, 530}, {130, 48}} {
		all = append(all,
			Case{fmt.Sprintf("row_rms/T=%d hidden=%d", s.tokens, s.hidden), func() *Setup { return rmsSetup("row_rms", uint64(i), s.tokens, s.hidden) }},
			Case{fmt.Sprintf("rmsnorm/T=%d hidden=%d", s.tokens, s.hidden), func() *Setup { return rmsSetup("rmsnorm", uint64(i), s.tokens, s.hidden) }})
	}
	return all
}

// rmsSetup runs row_rms, and rmsnorm behind it if that is the kernel.
func rmsSetup(kernel string, seed uint64, tokens, hidden int) *Setup {
	rng := NewRand(seed)
	pad := RoundUp(hidden, 32)
	x, gain := Rows(rng, tokens, hidden, pad, 3), Rows(rng, 1, hidden, pad, 1)
	x[hidden/2] = 400 // outliers, as residual streams have
	inv, normed := Untouched(tokens+1), Untouched((tokens+1)*pad)
	for t := range tokens {
		inv[t] = invRMS(x[t*pad : t*pad+hidden])
		for k := range pad {
			normed[t*pad+k] = float64(x[t*pad+k]) * inv[t] * float64(gain[k])
		}
	}
	s := &Setup{
		Buffers: map[string][]byte{
			"pass_state": PassState(tokens, 0, 1, 0), "x": F32Bytes(x), "gain": F32Bytes(gain),
			"inv_rms": Poison(tokens + 1), "out": Poison((tokens + 1) * pad),
		},
		Steps: []Step{{
			Kernel:   "row_rms",
			Options:  shaders.Options{Consts: map[string]uint32{"HIDDEN": uint32(hidden), "HIDDEN_PAD": uint32(pad)}, Floats: map[string]float32{"EPS": eps}},
			Bindings: Bind("pass_state", "x", "inv_rms"), Grid: [3]uint32{uint32(tokens) + 1, 1, 1},
		}},
		Checks: []Check{{"inv_rms", F32, inv, f32Tolerance}},
	}
	if kernel == "rmsnorm" {
		s.Steps = append(s.Steps, Step{
			Kernel: "rmsnorm", Options: shaders.Options{Consts: map[string]uint32{"HIDDEN_PAD": uint32(pad)}},
			Bindings: Bind("pass_state", "x", "gain", "inv_rms", "out"), Grid: [3]uint32{CeilDiv(pad/4, 64), uint32(tokens) + 1, 1},
		})
		s.Checks = []Check{{"out", F32, normed, f32Tolerance}}
	}
	return s
}

// invRMS is 1/sqrt(mean(x^2) + eps).
func invRMS(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return 1 / math.Sqrt(sum/float64(len(x))+float64(float32(eps)))
}

// matmulCase is a shape of matmul, matmul_medium and matmul_small.
type matmulCase struct {
	kernel, weight string
	norm, epilogue int
	k, aExtra      int // aExtra: columns of a behind K_PAD
	outStride      int
	rowStart       int
	tokens, rows   int
	tile           int
}

// matmulCases varies what the kernels' constants say (compiling is what costs) less than the sizes of a dispatch.
func matmulCases() []Case {
	var all []Case
	for _, m := range []matmulCase{
		{kernel: "matmul", tile: 128}, {kernel: "matmul_medium", tile: 64}, {kernel: "matmul_small", tile: 32},
	} {
		for _, f := range []matmulCase{
			{weight: "bf16", k: 200, aExtra: 4, outStride: 308, norm: 1},
			{weight: "bf16", k: 70, outStride: 300, epilogue: 1},
			{weight: "q8", k: 160, outStride: 180, norm: 1, epilogue: 2},
			{weight: "q4", k: 400, aExtra: 32, outStride: 300},
		} {
			f.kernel, f.tile = m.kernel, m.tile
			for _, size := range []struct{ tokens, rows, rowStart int }{{1, 8, 0}, {3, 50, 32}, {17, 130, 0}, {65, 262, 32}, {130, 202, 64}, {128, 128, 0}} {
				c := f
				c.tokens, c.rows, c.rowStart = size.tokens, size.rows, size.rowStart
				if c.epilogue != 2 {
					c.rows++
				}
				name := fmt.Sprintf("%s/%s norm=%d epilogue=%d k=%d T=%d rows=%d", c.kernel, c.weight, c.norm, c.epilogue, c.k, c.tokens, c.rows)
				all = append(all, Case{name, func() *Setup { return c.setup(uint64(c.tokens)) }})
			}
		}
	}
	return all
}

func (m matmulCase) setup(seed uint64) *Setup {
	rng := NewRand(seed)
	kPad := RoundUp(m.k, 32)
	aStride := kPad + m.aExtra
	outStride := m.outStride

	w := RandomMatrix(rng, m.weight, m.rows, m.k, kPad, 0.05)
	a := Rows(rng, m.tokens+1, m.k, aStride, 2)
	for i := range a { // what lies behind K_PAD or T must not matter
		if i%aStride >= kPad || i/aStride >= m.tokens {
			a[i] = float32(math.NaN())
		}
	}
	gain := Rows(rng, 1, m.k, kPad, 1)
	gain[0] = 96.5 // as Qwen3's norms have
	inv := Normal(rng, m.tokens, 1)

	out, want := Poison((m.tokens+1)*outStride), Untouched((m.tokens+1)*outStride)
	residual := Normal(rng, (m.tokens+1)*outStride, 1)
	if m.epilogue == 1 {
		out = F32Bytes(residual)
	}
	sums := m.sums(w, a, gain, inv, kPad, aStride)
	for t := range m.tokens {
		for n := range m.rows {
			i, v := t*outStride+m.rowStart+n, sums[t*m.rows+n]
			switch m.epilogue {
			case 0:
				want[i] = v
			case 1:
				want[i] = float64(residual[i]) + v
			case 2:
				if n%2 == 0 {
					want[t*outStride+(m.rowStart+n)/2] = v / (1 + math.Exp(-v)) * sums[t*m.rows+n+1]
				}
			}
		}
	}
	return &Setup{
		Buffers: map[string][]byte{
			"part": MatrixPart(m.rowStart, m.rows), "pass_state": PassState(m.tokens, 5, 1, 0), "a": F32Bytes(a), "gain": F32Bytes(gain),
			"inv_rms": F32Bytes(inv), "weights": w.Data, "scales": w.Scales, "out": out,
		},
		Steps: []Step{{
			Kernel: m.kernel,
			Options: shaders.Options{Weight: m.weight, Consts: map[string]uint32{
				"K_PAD": uint32(kPad), "A_STRIDE": uint32(aStride), "OUT_STRIDE": uint32(outStride), "NORM": uint32(m.norm), "EPILOGUE": uint32(m.epilogue),
			}},
			Bindings: w.bind(Bind("part", "pass_state", "a", "gain", "inv_rms", "weights", "out")),
			Grid:     [3]uint32{CeilDiv(m.tokens, m.tile), CeilDiv(m.rows, m.tile), 1},
		}},
		Checks: []Check{{"out", F32, want, f32Tolerance}},
	}
}

// sums is the product before the epilogue, [tokens, rows].
func (m matmulCase) sums(w Matrix, a, gain, inv []float32, kPad, aStride int) []float64 {
	sums := make([]float64, m.tokens*m.rows)
	for t := range m.tokens {
		for n := range m.rows {
			sum := 0.0
			for k := range m.k {
				v := float64(a[t*aStride+k])
				if m.norm == 1 {
					v *= float64(gain[k])
				}
				sum += v * float64(w.Values[n*kPad+k])
			}
			if m.norm == 1 {
				sum *= float64(inv[t])
			}
			sums[t*m.rows+n] = sum
		}
	}
	return sums
}

// headShape is a shape of the attention kernels: tokens [start, start+tokens) of a sequence in one pass.
type headShape struct {
	tokens, start    int
	heads, kvHeads   int
	headDim          int
	kv               string
	pageSize         int
	qkvExtra, qExtra int // columns behind the true ones
}

func (h headShape) name(kernel string) string {
	return fmt.Sprintf("%s/%s T=%d start=%d heads=%d/%d dim=%d page=%d", kernel, h.kv, h.tokens, h.start, h.heads, h.kvHeads, h.headDim, h.pageSize)
}

func (h headShape) kvLen() int     { return h.start + h.tokens }
func (h headShape) numPages() int  { return int(CeilDiv(h.kvLen(), h.pageSize)) }
func (h headShape) qkvStride() int { return RoundUp((h.heads+2*h.kvHeads)*h.headDim, 4) + h.qkvExtra }
func (h headShape) qPad() int      { return RoundUp(h.heads*h.headDim, 32) + h.qExtra }

func (h headShape) cache() KVShape {
	return KVShape{KV: h.kv, NumPages: h.numPages() + 3, NumKVHeads: h.kvHeads, PageSize: h.pageSize, HeadDim: h.headDim}
}

// keySpread is that of random keys in a cache.
func (h headShape) keySpread() float64 {
	if h.kv == "f16" {
		return 0.4 // some beyond 1 are clamped
	}
	return 1.5
}

// consts are the overrides that the attention kernels have in common.
func (h headShape) consts() map[string]uint32 {
	return map[string]uint32{
		"NUM_HEADS": uint32(h.heads), "NUM_KV_HEADS": uint32(h.kvHeads), "HEAD_DIM": uint32(h.headDim), "HEAD_PAD": uint32(RoundUp(h.headDim, 8)),
		"QKV_STRIDE": uint32(h.qkvStride()), "PAGE_SIZE": uint32(h.pageSize),
	}
}

func qkNormRopeCases() []Case {
	var all []Case
	for i, h := range []headShape{
		{tokens: 1, start: 0, heads: 1, kvHeads: 1, headDim: 24, pageSize: 16, kv: "f32"},
		{tokens: 3, start: 14, heads: 4, kvHeads: 2, headDim: 80, pageSize: 16, kv: "f16"},
		{tokens: 17, start: 31, heads: 6, kvHeads: 2, headDim: 30, pageSize: 16, kv: "f16", qkvExtra: 4},
		{tokens: 65, start: 5, heads: 8, kvHeads: 1, headDim: 128, pageSize: 16, kv: "f32"},
		{tokens: 65, start: 5, heads: 8, kvHeads: 1, headDim: 128, pageSize: 16, kv: "f16"},
		{tokens: 130, start: 0, heads: 3, kvHeads: 3, headDim: 2, pageSize: 8, kv: "f16"},
		{tokens: 5, start: 100, heads: 5, kvHeads: 1, headDim: 256, pageSize: 32, kv: "f32"},
	} {
		all = append(all, Case{h.name("qk_norm_rope"), func() *Setup { return h.qkNormRope(uint64(i)) }})
	}
	return all
}

func (h headShape) qkNormRope(seed uint64) *Setup {
	rng := NewRand(seed)
	d, stride, cache := h.headDim, h.qkvStride(), h.cache()
	qkv, norms := Rows(rng, h.tokens+1, stride, stride, 2), Normal(rng, 2*d, 1)
	norms[d] = 96.5 // as Qwen3's k_norm has
	cache.BoundKeys(norms)
	table := RandomPageTable(rng, h.numPages(), cache.NumPages)
	rope := RopeTable(h.kvLen(), d)

	wantQKV, wantK, wantV := Float64s(qkv), Untouched(cache.Len()), Untouched(cache.Len())
	for t := range h.tokens {
		pos := h.start + t
		at := func(head int) []float32 { return qkv[t*stride+head*d : t*stride+(head+1)*d] }
		for head := range h.heads {
			copy(wantQKV[t*stride+head*d:], normRope(at(head), norms[:d], rope[pos*d:]))
		}
		for head := range h.kvHeads {
			i := cache.Index(table, pos, head, 0)
			copy(wantK[i:], make([]float64, cache.HeadPad()))
			copy(wantV[i:], make([]float64, cache.HeadPad()))
			copy(wantK[i:], normRope(at(h.heads+head), norms[d:], rope[pos*d:]))
			copy(wantV[i:], Float64s(at(h.heads+h.kvHeads+head)))
		}
	}
	tolerance, copyTolerance := f32Tolerance, 0.0
	if h.kv == "f16" {
		tolerance, copyTolerance = keyTolerance, f16Tolerance
	}
	consts := h.consts()
	consts["MAX_PAGES"] = uint32(h.numPages())
	return &Setup{
		Buffers: map[string][]byte{
			"pass_state": PassState(h.tokens, h.start, 1, 0), "page_table": U32Bytes(table...), "norms": F32Bytes(norms), "rope": F32Bytes(rope),
			"qkv": F32Bytes(qkv), "k_cache": cache.Poison(), "v_cache": cache.Poison(),
		},
		Steps: []Step{{
			Kernel:   "qk_norm_rope",
			Options:  shaders.Options{KV: h.kv, Consts: consts, Floats: map[string]float32{"EPS": eps}},
			Bindings: Bind("pass_state", "page_table", "norms", "rope", "qkv", "k_cache", "v_cache"),
			Grid:     [3]uint32{CeilDiv(h.heads+2*h.kvHeads, 4), uint32(h.tokens) + 1, 1},
		}},
		Checks: []Check{
			{"qkv", F32, wantQKV, f32Tolerance},
			{"k_cache", cache.Keys().Format(), wantK, tolerance},
			{"v_cache", cache.Format(), wantV, copyTolerance},
		},
	}
}

// normRope is rope(rmsnorm(x) * gain) with cosSin [len(x)/2, 2] of the position; pairs are (i, i + len(x)/2).
func normRope(x, gain, cosSin []float32) []float64 {
	inv, half := invRMS(x), len(x)/2
	out := make([]float64, len(x))
	for i := range half {
		a := float64(x[i]) * inv * float64(gain[i])
		b := float64(x[i+half]) * inv * float64(gain[i+half])
		cos, sin := float64(cosSin[2*i]), float64(cosSin[2*i+1])
		out[i], out[i+half] = a*cos-b*sin, b*cos+a*sin
	}
	return out
}

func attentionPrefillCases() []Case {
	var all []Case
	for i, group := range []struct {
		shape headShape
		spans [][2]int // tokens, start
	}{
		{headShape{heads: 1, kvHeads: 1, headDim: 24, pageSize: 16, kv: "f32"}, [][2]int{{1, 0}, {3, 61}, {65, 0}, {130, 31}}},
		{headShape{heads: 6, kvHeads: 2, headDim: 30, pageSize: 8, kv: "f16", qkvExtra: 4}, [][2]int{{17, 0}, {1, 64}, {65, 2}}},
		{headShape{heads: 4, kvHeads: 2, headDim: 80, pageSize: 16, kv: "f32", qExtra: 32}, [][2]int{{3, 0}, {65, 7}}},
		{headShape{heads: 4, kvHeads: 2, headDim: 128, pageSize: 16, kv: "f16"}, [][2]int{{65, 0}, {130, 100}}},
		{headShape{heads: 8, kvHeads: 1, headDim: 128, pageSize: 16, kv: "f32"}, [][2]int{{33, 300}, {9, 0}}},
		{headShape{heads: 5, kvHeads: 1, headDim: 160, pageSize: 16, kv: "f16"}, [][2]int{{20, 40}}},
		{headShape{heads: 7, kvHeads: 1, headDim: 256, pageSize: 32, kv: "f16"}, [][2]int{{9, 30}, {17, 0}}},
	} {
		for _, span := range group.spans {
			h := group.shape
			h.tokens, h.start = span[0], span[1]
			all = append(all, Case{h.name("attention_prefill"), func() *Setup { return h.attentionPrefill(uint64(i)) }})
		}
	}
	return all
}

func (h headShape) attentionPrefill(seed uint64) *Setup {
	rng := NewRand(seed)
	cache := h.cache()
	qkv := Normal(rng, (h.tokens+1)*h.qkvStride(), 2)
	table := RandomPageTable(rng, h.numPages(), cache.NumPages)
	keys, values := cache.Keys().Random(rng, table, h.kvLen(), h.keySpread()), cache.Random(rng, table, h.kvLen(), 1)
	return h.attentionPrefillOf(cache, table, qkv, keys, values)
}

// AttentionChunk is one and the same sequence of 90 tokens, attended by tokens [start, start+tokens) in one pass.
// stride is that of a token's row in the output "attn", in float32 numbers.
func AttentionChunk(start, tokens int) (s *Setup, stride int) {
	rng := NewRand(7)
	h := headShape{tokens: 90, heads: 6, kvHeads: 2, headDim: 30, pageSize: 8, kv: "f16", qkvExtra: 4}
	cache := h.cache()
	qkv := Normal(rng, (h.tokens+1)*h.qkvStride(), 2)
	table := RandomPageTable(rng, h.numPages(), cache.NumPages)
	keys, values := cache.Keys().Random(rng, table, h.kvLen(), h.keySpread()), cache.Random(rng, table, h.kvLen(), 1)
	h.start, h.tokens = start, tokens
	return h.attentionPrefillOf(cache, table, qkv[start*h.qkvStride():], keys, values), h.qPad()
}

// attentionPrefillOf attends to a cache that holds the sequence up to at least kvLen; qkv begins with this pass's rows.
func (h headShape) attentionPrefillOf(cache KVShape, table []uint32, qkv []float32, keys, values []byte) *Setup {
	qkv = append([]float32(nil), qkv[:(h.tokens+1)*h.qkvStride()]...)
	for i := range qkv { // only the queries of this pass may be read
		if i%h.qkvStride() >= h.heads*h.headDim || i/h.qkvStride() >= h.tokens {
			qkv[i] = float32(math.NaN())
		}
	}
	want := Untouched((h.tokens + 1) * h.qPad())
	for head := range h.heads {
		kvHead := head * h.kvHeads / h.heads
		k, v := cache.Keys().Head(keys, table, kvHead, h.kvLen()), cache.Head(values, table, kvHead, h.kvLen())
		for t := range h.tokens {
			query := qkv[t*h.qkvStride()+head*h.headDim:][:h.headDim]
			copy(want[t*h.qPad()+head*h.headDim:], attend(query, k[:h.start+t+1], v))
		}
	}
	consts := h.consts()
	consts["Q_PAD"], consts["MAX_KV"] = uint32(h.qPad()), 512
	return &Setup{
		Buffers: map[string][]byte{
			"pass_state": PassState(h.tokens, h.start, 1, 0), "page_table": U32Bytes(table...), "qkv": F32Bytes(qkv),
			"k_cache": keys, "v_cache": values, "attn": Poison((h.tokens + 1) * h.qPad()),
		},
		Steps: []Step{{
			Kernel:   "attention_prefill",
			Options:  shaders.Options{KV: h.kv, Consts: consts, Floats: map[string]float32{"SCALE": float32(1 / math.Sqrt(float64(h.headDim)))}},
			Bindings: Bind("pass_state", "page_table", "qkv", "k_cache", "v_cache", "attn"),
			Grid:     [3]uint32{uint32(h.kvHeads), CeilDiv(h.tokens*h.heads/h.kvHeads, 64), CeilDiv(h.headDim, 128)},
		}},
		Checks: []Check{{"attn", F32, want, f32Tolerance}},
	}
}

// attend is softmax(query keys^T / sqrt(headDim)) values over all keys, [positions, headDim].
func attend(query []float32, keys, values [][]float64) []float64 {
	weights, largest := make([]float64, len(keys)), math.Inf(-1)
	for pos, key := range keys {
		for d, q := range query {
			weights[pos] += float64(q) * key[d]
		}
		weights[pos] /= math.Sqrt(float64(len(query)))
		largest = max(largest, weights[pos])
	}
	sum, out := 0.0, make([]float64, len(query))
	for pos, w := range weights {
		w = math.Exp(w - largest)
		sum += w
		for d, v := range values[pos] {
			out[d] += w * v
		}
	}
	for d := range out {
		out[d] /= sum
	}
	return out
}

func copyPagesCases() []Case {
	var all []Case
	for _, kv := range KVs {
		for _, gridY := range []uint32{1, 2} {
			all = append(all, Case{fmt.Sprintf("copy_pages/%s grid=%d", kv, gridY), func() *Setup { return copyPages(kv, gridY) }})
		}
	}
	return all
}

func copyPages(kv string, gridY uint32) *Setup {
	rng := NewRand(1)
	s := KVShape{KV: kv, NumPages: 7, NumKVHeads: 3, PageSize: 16, HeadDim: 40}
	pairs := []uint32{2, 0, 5, 6, 2, 1}
	pageLen := s.Len() / s.NumPages
	setup := &Setup{
		Buffers: map[string][]byte{"pairs": U32Bytes(pairs...)},
		Steps: []Step{{
			Kernel:   "copy_pages",
			Options:  shaders.Options{KV: kv, Consts: map[string]uint32{"PAGE_VECTORS": uint32(pageLen / 4)}},
			Bindings: Bind("pairs", "k_cache", "v_cache"), Grid: [3]uint32{3, gridY, 1},
		}},
	}
	for _, name := range []string{"k_cache", "v_cache"} {
		want := Untouched(s.Len())
		s.IsKeys = name == "k_cache"
		cache := s.Random(rng, []uint32{0, 1, 2, 3, 4, 5, 6}, s.NumPages*s.PageSize, 1)
		for p := 0; p < len(pairs); p += 2 {
			for i := range pageLen {
				want[int(pairs[p+1])*pageLen+i] = s.Get(cache, int(pairs[p])*pageLen+i)
			}
		}
		setup.Buffers[name] = cache
		setup.Checks = append(setup.Checks, Check{name, s.Format(), want, 0})
	}
	return setup
}
