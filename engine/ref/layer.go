// The equations: one pass from token ids to logits.
//
// Source: transformers' modeling_qwen3.py in float32. Where it rounds to float32 between two operations, this does too:
// conversions float32(a*b) keep a compiler from fusing a product with the sum that follows.

package ref

import (
	"fmt"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// pass runs the tokens of a checked request and returns the logits asked for, [rows, vocab].
func (r *Runner) pass(req *runner.Request) ([]float32, error) {
	ic, a := req.Context, &r.act
	n, start := ic.NumTokens(), ic.Start()
	r.embed(ic.Tokens())
	if err := r.tap(req, "embed", n, a.x, r.HiddenSize); err != nil {
		return nil, err
	}
	r.rope.rotateTo(start, n)
	for i := range r.layers {
		if err := r.layer(i, req); err != nil {
			return nil, err
		}
	}
	if err := checkFinite("the residual stream", start, n, a.x[:n*r.HiddenSize]); err != nil {
		return nil, err
	}

	firstRow := 0 // of logits
	switch req.Logits {
	case runner.LogitsNone:
		firstRow = n
	case runner.LogitsLast:
		firstRow = n - 1
	}
	stride := weights.Stride(r.HiddenSize)
	if req.Tap != nil {
		r.rmsNorm(r.norm, 0, n)
		if err := r.tap(req, "final_norm", n, a.normed, r.HiddenSize); err != nil {
			return nil, err
		}
	} else {
		r.rmsNorm(r.norm, firstRow, n)
	}
	if firstRow == n {
		return nil, nil
	}
	logits := make([]float32, (n-firstRow)*r.VocabSize)
	r.multiply(logits, r.lmHead, a.normed[firstRow*stride:], n-firstRow, false)
	return logits, checkFinite("logits", start+firstRow, n-firstRow, logits)
}

// layer adds layer i's attention and MLP to the residual stream.
func (r *Runner) layer(i int, req *runner.Request) error {
	l, a, c := &r.layers[i], &r.act, r.Config
	n := req.Context.NumTokens()
	tapLayer := func(name string, data []float32, cols int) error {
		if req.Tap == nil {
			return nil
		}
		return r.tap(req, fmt.Sprintf("layers.%d.%s", i, name), n, data, cols)
	}

	// q, k, v = W RMSNorm(x)
	r.rmsNorm(l.inputLayernorm, 0, n)
	r.multiply(a.qkv, l.qkvProj, a.normed, n, false)
	if err := tapLayer("qkv", a.qkv, c.QDim()+2*c.KVDim()); err != nil {
		return err
	}
	// q = RoPE(RMSNorm(q)), k = RoPE(RMSNorm(k)), head by head; k and v go to the cache.
	r.normAndRotateHeads(l, n)
	if err := r.cache.write(i, req.Context, a.qkv, c); err != nil {
		return err
	}
	// attn = softmax(q kᵀ / √headDim + causal) v
	r.attention(i, req.Context)
	if err := tapLayer("attn", a.attn, c.QDim()); err != nil {
		return err
	}
	// x += W attn
	r.multiply(a.x, l.oProj, a.attn, n, true)
	if err := tapLayer("attn_out", a.x, c.HiddenSize); err != nil {
		return err
	}
	// x += W (silu(gate) * up), gate and up = W RMSNorm(x)
	r.rmsNorm(l.postAttentionLayernorm, 0, n)
	r.multiply(a.gateUp, l.gateUpProj, a.normed, n, false)
	r.swiGLU(n)
	if err := tapLayer("mlp", a.mlp, c.IntermediateSize); err != nil {
		return err
	}
	r.multiply(a.x, l.downProj, a.mlp, n, true)
	return tapLayer("out", a.x, c.HiddenSize)
}

// tap hands the first rows of an activation buffer to the request's tap, without the padding.
func (r *Runner) tap(req *runner.Request, name string, rows int, buffer []float32, cols int) error {
	if req.Tap == nil {
		return nil
	}
	stride := len(buffer) / r.maxTokens
	if stride == cols {
		return req.Tap(name, rows, buffer[:rows*cols])
	}
	packed := make([]float32, 0, rows*cols)
	for t := range rows {
		packed = append(packed, buffer[t*stride:][:cols]...)
	}
	return req.Tap(name, rows, packed)
}

// embed sets x to the tokens' rows of the embedding.
func (r *Runner) embed(tokens []int32) {
	wide := r.product.rowBuffers[0][:r.embedTokens.stride]
	for t, id := range tokens {
		r.embedTokens.decodeRow(wide, int(id))
		copy(r.act.x[t*r.HiddenSize:(t+1)*r.HiddenSize], wide)
	}
}

// rmsNorm sets rows first to last-1 of normed to the RMSNorm of x's.
func (r *Runner) rmsNorm(gain []float32, first, last int) {
	hidden, stride := r.HiddenSize, weights.Stride(r.HiddenSize)
	for t := first; t < last; t++ {
		rmsNorm(r.act.normed[t*stride:][:hidden], r.act.x[t*hidden:][:hidden], gain, r.RMSNormEps)
	}
}

// rmsNorm is out = x / √(mean(x²) + eps) * gain; out may be x. The sum is float64, so the statistic is right to the last
// bit of float32; the gain comes last, on float32.
func rmsNorm(out, x, gain []float32, eps float32) {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	scale := float32(1 / math.Sqrt(sum/float64(len(x))+float64(eps)))
	for i, v := range x {
		out[i] = float32(v*scale) * gain[i]
	}
}

// normAndRotateHeads applies QK-norm and RoPE to every query and key head of n tokens, in place.
func (r *Runner) normAndRotateHeads(l *layer, n int) {
	d, width := r.HeadDim, r.QDim()+2*r.KVDim()
	for t := range n {
		row := r.act.qkv[t*width:][:width]
		for h := range r.NumAttentionHeads + r.NumKeyValueHeads {
			gain := l.qNorm
			if h >= r.NumAttentionHeads {
				gain = l.kNorm
			}
			head := row[h*d : (h+1)*d]
			rmsNorm(head, head, gain, r.RMSNormEps)
			r.rope.rotate(head, t)
		}
	}
}

// rope holds the rotations of a pass's positions.
type rope struct {
	invFreq  []float32 // [headDim/2] radians a position
	factor   float32   // YaRN's attention factor; 1 without
	cos, sin []float32 // [maxTokens, headDim/2]
}

func newRope(c *config.Config, maxTokens int) rope {
	p := rope{}
	p.invFreq, p.factor = c.InvFreq()
	p.cos, p.sin = make([]float32, maxTokens*len(p.invFreq)), make([]float32, maxTokens*len(p.invFreq))
	return p
}

// rotateTo computes cos and sin of positions start to start+n-1. The angle is a float32 product, as in transformers.
func (p *rope) rotateTo(start, n int) {
	half := len(p.invFreq)
	for t := range n {
		pos := float32(start + t)
		for i, f := range p.invFreq {
			sin, cos := math.Sincos(float64(pos * f))
			p.cos[t*half+i] = float32(cos) * p.factor
			p.sin[t*half+i] = float32(sin) * p.factor
		}
	}
}

// rotate turns the pairs (i, i+headDim/2) of a head of token t of the pass (rotate_half, NeoX order).
func (p *rope) rotate(head []float32, t int) {
	half := len(p.invFreq)
	cos, sin := p.cos[t*half:][:half], p.sin[t*half:][:half]
	lo, hi := head[:half], head[half:][:half]
	for i, c := range cos {
		s, a, b := sin[i], lo[i], hi[i]
		lo[i] = float32(a*c) - float32(b*s)
		hi[i] = float32(b*c) + float32(a*s)
	}
}

// swiGLU is the task mlp = silu(gate) * up, a part a token.
type swiGLU struct{ r *Runner }

func (r *Runner) swiGLU(n int) {
	r.gates.r = r
	r.pool.run(&r.gates, n)
}

func (g *swiGLU) run(_, t int) {
	width := g.r.IntermediateSize
	pairs := g.r.act.gateUp[2*t*width:][:2*width] // gate 0, up 0, gate 1, up 1, …
	out := g.r.act.mlp[t*weights.Stride(width):][:width]
	for i := range out {
		gate, up := pairs[2*i], pairs[2*i+1]
		out[i] = silu(gate) * up
	}
}

// silu is x*sigmoid(x).
func silu(x float32) float32 { return float32(float64(x) / (1 + math.Exp(-float64(x)))) }
