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

// smallMatmulTiles is the number of 128x128 tiles below which matmul_small's finer ones spread the work better.
const smallMatmulTiles = 132

// recordPrefill records a layer over many tokens.
func (r *Runner) recordPrefill(out *layer) error {
	s, w, p := &r.shape, &out.weights, &out.prefill
	rms, err := r.rowRMS()
	if err != nil {
		return err
	}
	qkv, err := r.matmul(w.qkv, matmulArgs{in: bufX, stride: s.hiddenPad, gain: w.inputNorm, epilogue: epilogueStore, out: bufQKV, outStride: s.qkvStride})
	if err != nil {
		return err
	}
	p.qkv = append([]dispatch{rms}, qkv...)
	if p.attention, err = r.prefillAttention(w); err != nil {
		return err
	}
	if p.attnOut, err = r.matmul(w.o, matmulArgs{in: bufAttn, stride: s.qPad, epilogue: epilogueResidual, out: bufX, outStride: s.hiddenPad}); err != nil {
		return err
	}
	gateUp, err := r.matmul(w.gateUp, matmulArgs{in: bufX, stride: s.hiddenPad, gain: w.postNorm, epilogue: epilogueSwiGLU, out: bufMLP, outStride: s.interPad})
	if err != nil {
		return err
	}
	p.gateUp = append([]dispatch{rms}, gateUp...)
	p.down, err = r.matmul(w.down, matmulArgs{in: bufMLP, stride: s.interPad, epilogue: epilogueResidual, out: bufX, outStride: s.hiddenPad})
	return err
}

// rowRMS is the statistic of every row of x.
func (r *Runner) rowRMS() (dispatch, error) {
	opt := r.normed()
	opt.Consts["HIDDEN_PAD"] = uint32(r.shape.hiddenPad)
	return r.dispatch("row_rms", opt, func(n passSize) [3]uint32 { return [3]uint32{uint32(n.tokens), 1, 1} },
		r.state(), r.whole(bufX), r.whole(bufInvRMS))
}

// matmulArgs says what a matrix product reads and where its result goes.
type matmulArgs struct {
	in, stride     int        // activation buffer and its row stride
	gain           gpu.Buffer // of a norm fused in; nil: none
	epilogue       int
	out, outStride int
}

func (r *Runner) matmul(m *matrix, a matmulArgs) ([]dispatch, error) {
	consts := map[string]uint32{"A_STRIDE": uint32(a.stride), "OUT_STRIDE": uint32(a.outStride), "EPILOGUE": uint32(a.epilogue)}
	gain := r.whole(bufInvRMS)
	if a.gain != nil {
		consts["NORM"], gain = 1, gpu.Whole(a.gain)
	}
	bindings := func(p part) []gpu.Binding {
		return []gpu.Binding{gpu.Whole(p.params), r.state(), r.whole(a.in), gain, r.whole(bufInvRMS), gpu.Whole(p.data), gpu.Whole(p.scales), r.whole(a.out)}
	}
	return r.perPart("matmul", m, shaders.Options{Consts: consts}, func(p part, n passSize) [3]uint32 {
		return [3]uint32{uint32((n.tokens + 127) / 128), uint32((p.rows + 127) / 128), 1}
	}, bindings)
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
		r.state(), r.pages(), gpu.Whole(w.qkNorms), r.whole(bufRope), r.whole(bufQKV), gpu.Whole(w.k), gpu.Whole(w.v))
	if err != nil {
		return nil, err
	}
	return []dispatch{rope}, nil
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
		r.state(), r.whole(bufX), gpu.Whole(r.norm), r.whole(bufInvRMS), r.whole(bufNormed))
	return []dispatch{rms, norm}, err
}

// recordCopy records the copy-on-write of a layer's pages; the grid's first dimension is the number of copies.
func (r *Runner) recordCopy(l *layer) error {
	s := &r.shape
	vectors := s.NumKeyValueHeads * s.pageSize * s.headPad / 4
	d, err := r.dispatch("copy_pages", shaders.Options{KV: string(s.kv), Consts: map[string]uint32{"PAGE_VECTORS": uint32(vectors)}},
		func(n passSize) [3]uint32 { return [3]uint32{uint32(n.tokens), uint32((vectors + 255) / 256), 1} },
		r.whole(bufCopies), gpu.Whole(l.weights.k), gpu.Whole(l.weights.v))
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
