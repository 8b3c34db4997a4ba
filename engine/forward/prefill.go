package forward

// Prefill: the dispatches of a layer over many tokens, the copy-on-write of pages, and the final norm.

import (
	"fmt"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// Epilogues of matmul.wgsl.
const (
	epilogueStore = iota
	epilogueResidual
	epilogueSwiGLU
)

// Below so many tiles of its own a matrix product takes the next finer tiling, which spreads the work better.
const (
	largeMatmulTiles  = 132 // one for each of an H200's multiprocessors
	mediumMatmulTiles = 88  // two thirds of them
)

// recordPrefill records a layer over many tokens.
func (r *Runner) recordPrefill(out *layer) error {
	s, w, p := &r.shape, &out.weights, &out.prefill
	var err error
	if p.rowRMS, err = r.rowRMS(); err != nil {
		return err
	}
	if p.qkv, err = r.matmul(w.qkv, matmulArgs{in: bufX, stride: s.hiddenPad, gain: w.inputNorm, epilogue: epilogueStore, out: bufQKV, outStride: s.qkvStride}); err != nil {
		return err
	}
	if p.attention, err = r.prefillAttention(w); err != nil {
		return err
	}
	if p.attnOut, err = r.matmul(w.o, matmulArgs{in: bufAttn, stride: s.qPad, epilogue: epilogueResidual, out: bufX, outStride: s.hiddenPad}); err != nil {
		return err
	}
	if p.gateUp, err = r.matmul(w.gateUp, matmulArgs{in: bufX, stride: s.hiddenPad, gain: w.postNorm, epilogue: epilogueSwiGLU, out: bufMLP, outStride: s.interPad}); err != nil {
		return err
	}
	p.down, err = r.matmul(w.down, matmulArgs{in: bufMLP, stride: s.interPad, epilogue: epilogueResidual, out: bufX, outStride: s.hiddenPad})
	return err
}

// rowRMS is the statistic of every row of x.
func (r *Runner) rowRMS() ([]dispatch, error) {
	opt := r.normed()
	opt.Consts["HIDDEN_PAD"] = uint32(r.shape.hiddenPad)
	d, err := r.dispatch("row_rms", opt, func(n passSize) [3]uint32 { return [3]uint32{uint32(n.tokens), 1, 1} },
		r.state(), r.whole(bufX), r.whole(bufInvRMS))
	return []dispatch{d}, err
}

// matmulArgs says what a matrix product reads and where its result goes.
type matmulArgs struct {
	in, stride     int         // activation buffer and its row stride
	gain           gpu.Binding // of a norm fused in; without a buffer: none
	epilogue       int
	out, outStride int
}

// matmulSteps is a matrix product over many tokens in three tilings.
type matmulSteps struct {
	rows                 int
	large, medium, small []dispatch // tiles of 128x128, 64x64 and 32x32
}

// pick chooses the tiling for n tokens: large tiles reuse more, small ones keep every multiprocessor busy.
func (m *matmulSteps) pick(n int) []dispatch {
	tiles := func(size int) int { return (n + size - 1) / size * ((m.rows + size - 1) / size) }
	switch {
	case tiles(128) >= largeMatmulTiles:
		return m.large
	case tiles(64) >= mediumMatmulTiles:
		return m.medium
	}
	return m.small
}

// all lists the dispatches of every tiling.
func (m *matmulSteps) all() [][]dispatch { return [][]dispatch{m.large, m.medium, m.small} }

func (r *Runner) matmul(m *matrix, a matmulArgs) (steps matmulSteps, err error) {
	gain := r.whole(bufInvRMS)
	if a.gain.Buffer != nil {
		gain = a.gain
	}
	record := func(name string, tile int) ([]dispatch, error) {
		consts := map[string]uint32{"A_STRIDE": uint32(a.stride), "OUT_STRIDE": uint32(a.outStride), "EPILOGUE": uint32(a.epilogue)}
		if a.gain.Buffer != nil {
			consts["NORM"] = 1
		}
		return r.perPart(name, m, shaders.Options{Consts: consts}, func(p part, n passSize) [3]uint32 {
			return [3]uint32{uint32((n.tokens + tile - 1) / tile), uint32((p.rows + tile - 1) / tile), 1}
		}, func(p part) []gpu.Binding {
			return []gpu.Binding{p.params, r.state(), r.whole(a.in), gain, r.whole(bufInvRMS), p.data, r.whole(a.out)}
		})
	}
	for _, p := range m.parts {
		steps.rows += p.rows
	}
	if steps.large, err = record("matmul", 128); err != nil {
		return steps, err
	}
	if steps.medium, err = record("matmul_medium", 64); err != nil {
		return steps, err
	}
	steps.small, err = record("matmul_small", 32)
	return steps, err
}

// prefillAttention is QK-norm, RoPE and the KV write, then attention over all cached positions.
func (r *Runner) prefillAttention(w *layerWeights) ([]dispatch, error) {
	s := &r.shape
	consts := map[string]uint32{
		"NUM_HEADS": uint32(s.NumAttentionHeads), "NUM_KV_HEADS": uint32(s.NumKeyValueHeads), "HEAD_DIM": uint32(s.HeadDim),
		"HEAD_PAD": uint32(s.headPad), "QKV_STRIDE": uint32(s.qkvStride), "PAGE_SIZE": uint32(s.pageSize), "MAX_PAGES": uint32(s.maxPages),
	}
	heads := s.NumAttentionHeads + 2*s.NumKeyValueHeads
	rope, err := r.dispatch("qk_norm_rope", shaders.Options{KV: string(s.kv), Consts: consts, Floats: map[string]float32{"EPS": s.RMSNormEps}},
		func(n passSize) [3]uint32 { return [3]uint32{uint32((heads + 3) / 4), uint32(n.tokens), 1} },
		r.state(), r.pages(), w.qkNorms, r.whole(bufRope), r.whole(bufQKV), w.k, w.v)
	if err != nil {
		return nil, err
	}
	attend, err := r.dispatch("attention_prefill", shaders.Options{KV: string(s.kv), Consts: map[string]uint32{
		"NUM_HEADS": uint32(s.NumAttentionHeads), "NUM_KV_HEADS": uint32(s.NumKeyValueHeads), "HEAD_DIM": uint32(s.HeadDim), "HEAD_PAD": uint32(s.headPad),
		"QKV_STRIDE": uint32(s.qkvStride), "Q_PAD": uint32(s.qPad), "PAGE_SIZE": uint32(s.pageSize), "MAX_KV": uint32(s.maxPages * s.pageSize),
	}, Floats: map[string]float32{"SCALE": s.attentionScale()}},
		func(n passSize) [3]uint32 {
			return [3]uint32{uint32(s.NumKeyValueHeads), uint32((n.tokens*s.group + 63) / 64), uint32((s.headPad + 127) / 128)}
		},
		r.state(), r.pages(), r.whole(bufQKV), w.k, w.v, r.whole(bufAttn))
	return []dispatch{rope, attend}, err
}

// finalNormSteps make hidden.L of every row of x.
func (r *Runner) finalNormSteps() ([]dispatch, error) {
	rms, err := r.rowRMS()
	if err != nil {
		return nil, err
	}
	s := &r.shape
	norm, err := r.dispatch("rmsnorm", shaders.Options{Consts: map[string]uint32{"HIDDEN_PAD": uint32(s.hiddenPad)}},
		func(n passSize) [3]uint32 {
			return [3]uint32{uint32((s.hiddenPad/4 + 63) / 64), uint32(n.tokens), 1}
		},
		r.state(), r.whole(bufX), r.norm, r.whole(bufInvRMS), r.whole(bufNormed))
	return append(rms, norm), err
}

// recordCopy records the copy-on-write of a layer's pages; the grid's first dimension is the number of copies.
func (r *Runner) recordCopy(l *layer) error {
	s := &r.shape
	vectors := s.NumKeyValueHeads * s.pageSize * s.headPad / 4
	d, err := r.dispatch("copy_pages", shaders.Options{KV: string(s.kv), Consts: map[string]uint32{"PAGE_VECTORS": uint32(vectors)}},
		func(n passSize) [3]uint32 { return [3]uint32{uint32(n.tokens), uint32((vectors + 255) / 256), 1} },
		r.whole(bufCopies), l.weights.k, l.weights.v)
	r.copySteps = append(r.copySteps, d)
	return err
}

// copyOnWrite copies pages in every layer before a pass writes to them.
func (r *Runner) copyOnWrite(copies []kvcache.PageCopy) error {
	if len(copies) == 0 {
		return nil
	}
	if len(copies) > r.shape.maxPages {
		return fmt.Errorf("forward: %d page copies in one pass, at most %d fit", len(copies), r.shape.maxPages)
	}
	pairs := make([]uint32, 0, 2*len(copies))
	for _, c := range copies {
		if int(c.Src) >= r.shape.numPages || int(c.Dst) >= r.shape.numPages {
			return fmt.Errorf("forward: copy of page %d to page %d, the arena has %d", c.Src, c.Dst, r.shape.numPages)
		}
		pairs = append(pairs, c.Src, c.Dst)
	}
	raw := make([]byte, 4*len(pairs))
	putUint32s(raw, pairs)
	if err := r.dev.Write(r.act[bufCopies], 0, raw); err != nil {
		return err
	}
	return r.dev.Submit(joinSegments([]segment{{dispatches: r.copySteps}}, passSize{tokens: len(copies)}, "copy-on-write"))
}
