package forward

// The dispatches of a pass in order. decodeSegments is one token through five dispatches a layer, prefillSegments many
// tokens through seven; both end in the residual stream x, from which logits() computes what is asked for.

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
)

// passSize is what the grids of a pass depend on.
type passSize struct {
	tokens int
	splits int       // of the context in decode attention
	attend attending // if it is not apart, there are no splits to tell apart
}

// dispatch is a kernel with its buffers.
type dispatch struct {
	name   string // of the kernel
	kernel gpu.Kernel
	group  gpu.BindGroup
	grid   func(n passSize) [3]uint32 // workgroups
}

// segment is a run of dispatches and the activation that can be tapped behind it.
type segment struct {
	dispatches []dispatch
	tap        tapPoint
	tapOnly    bool // dispatched for the tap alone
}

// tapPoint says where an activation lies: [n, cols] float32 with a row stride from offset on, or combined by read.
type tapPoint struct {
	name         string
	buffer       gpu.Buffer
	cols, stride int
	offset       uint64
	read         func() ([]float32, error) // instead of buffer: [1, cols]
}

func joinSegments(segments []segment, n passSize, label string) *gpu.Pass {
	pass := &gpu.Pass{Label: label}
	segment{dispatches: dispatchesOf(segments)}.add(pass, n)
	return pass
}

// dispatchesOf are the dispatches of a pass without taps.
func dispatchesOf(segments []segment) (all []dispatch) {
	for _, s := range segments {
		if !s.tapOnly {
			all = append(all, s.dispatches...)
		}
	}
	return all
}

func (s segment) add(pass *gpu.Pass, n passSize) {
	for _, d := range s.dispatches {
		g := d.grid(n)
		pass.Dispatch(d.kernel, d.group, g[0], g[1], g[2])
	}
}

// runTapped submits segment by segment and hands each activation to tap.
func (r *Runner) runTapped(segments []segment, n passSize, tap runner.Tap) error {
	for _, s := range segments {
		pass := &gpu.Pass{Label: s.tap.name}
		s.add(pass, n)
		if err := r.dev.Submit(pass); err != nil {
			return fmt.Errorf("forward: up to %s: %w", s.tap.name, err)
		}
		data, err := r.readTap(s.tap, n.tokens)
		if err != nil {
			return fmt.Errorf("forward: reading %s: %w", s.tap.name, err)
		}
		if err := tap(s.tap.name, n.tokens, data); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runner) readTap(p tapPoint, rows int) ([]float32, error) {
	if p.read != nil {
		return p.read()
	}
	raw := make([]byte, 4*rows*p.stride)
	if err := gpu.Read(r.dev, p.buffer, p.offset, raw); err != nil {
		return nil, err
	}
	data := make([]float32, rows*p.cols)
	for i := range rows {
		for j := range p.cols {
			data[i*p.cols+j] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*(i*p.stride+j):]))
		}
	}
	return data, nil
}

// readSplits combines the splits of decode attention as attn_out does.
func (r *Runner) readSplits(numSplits int) ([]float32, error) {
	s := &r.shape
	raw := make([]byte, r.act[bufSplits].Size())
	if err := gpu.Read(r.dev, r.act[bufSplits], 0, raw); err != nil {
		return nil, err
	}
	at := func(i int) float64 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
	}
	out := make([]float32, s.QDim())
	for h := range s.NumAttentionHeads {
		ml := func(split int) (m, l float64) {
			i := maxSplits*s.qPad + 2*(split*s.NumAttentionHeads+h)
			return at(i), at(i + 1)
		}
		largest, sum := math.Inf(-1), 0.0
		for i := range numSplits {
			m, _ := ml(i)
			largest = max(largest, m)
		}
		for i := range numSplits {
			m, l := ml(i)
			sum += l * math.Exp(m-largest)
		}
		for d := range s.HeadDim {
			v := 0.0
			for i := range numSplits {
				m, _ := ml(i)
				v += at(i*s.qPad+h*s.HeadDim+d) * math.Exp(m-largest)
			}
			out[h*s.HeadDim+d] = float32(v / sum)
		}
	}
	return out, nil
}

// rowTap is a tap of a [tokens, cols] activation.
func (r *Runner) rowTap(name string, buf, cols, stride int) tapPoint {
	return tapPoint{name: name, buffer: r.act[buf], cols: cols, stride: stride}
}

// decodeSegments is one token's pass; see segments.
func (r *Runner) decodeSegments(n passSize, products *layerProducts) []segment {
	s, numSplits := &r.shape, n.splits
	segs := []segment{{dispatches: r.embedSteps, tap: r.rowTap("embed", bufX, s.HiddenSize, s.hiddenPad)}}
	if products != nil {
		segs = append(segs, segment{dispatches: r.firstQKV}, segment{dispatches: r.layersOf(n, products)})
		return append(segs, r.finalNorm())
	}
	for i := range r.layers {
		attnOut := r.layers[i].attnOut(numSplits)
		l, name := &r.layers[i].decode, func(what string) string { return fmt.Sprintf("layers.%d.%s", i, what) }
		attn := tapPoint{name: name("attn"), read: func() ([]float32, error) { return r.readSplits(numSplits) }}
		attention := l.attention.in(numSplits)
		if numSplits > fusedSplits {
			attn = r.rowTap(name("attn"), bufAttn, s.QDim(), s.qPad)
			attention = slices.Concat(attention, r.combineSteps)
		}
		segs = append(segs,
			segment{dispatches: l.rmsnormQKV, tap: r.rowTap(name("qkv"), bufQKV, s.QDim()+2*s.KVDim(), s.qkvStride)},
			segment{dispatches: attention, tap: attn},
			segment{dispatches: attnOut, tap: r.rowTap(name("attn_out"), bufX, s.HiddenSize, s.hiddenPad)},
			segment{dispatches: l.rmsnormGateUp, tap: r.rowTap(name("mlp"), bufMLP, s.IntermediateSize, s.interPad)},
			segment{dispatches: l.down, tap: r.rowTap(name("out"), bufX, s.HiddenSize, s.hiddenPad)})
	}
	return append(segs, r.finalNorm())
}

// layersOf are the dispatches of one token's pass from layer 0's attention on, with products.
func (r *Runner) layersOf(n passSize, products *layerProducts) (all []dispatch) {
	switch n.attend {
	case whole:
		return products.whole
	case inSplits:
		return products.inSplits
	case inWideSplits:
		return products.inWideSplits
	}
	for i := range r.layers {
		all = slices.Concat(all, r.bare[i].in(n.splits), products.behind(i, n.splits))
	}
	return all
}

// prefillSegments is the pass of n tokens.
func (r *Runner) prefillSegments(n int) []segment {
	s := &r.shape
	segs := []segment{{dispatches: r.embedSteps, tap: r.rowTap("embed", bufX, s.HiddenSize, s.hiddenPad)}}
	for i := range r.layers {
		l, name := &r.layers[i].prefill, func(what string) string { return fmt.Sprintf("layers.%d.%s", i, what) }
		segs = append(segs,
			segment{dispatches: slices.Concat(l.rowRMS, l.qkv.pick(n)), tap: r.rowTap(name("qkv"), bufQKV, s.QDim()+2*s.KVDim(), s.qkvStride)},
			segment{dispatches: l.attention, tap: r.rowTap(name("attn"), bufAttn, s.QDim(), s.qPad)},
			segment{dispatches: l.attnOut.pick(n), tap: r.rowTap(name("attn_out"), bufX, s.HiddenSize, s.hiddenPad)},
			segment{dispatches: slices.Concat(l.rowRMS, l.gateUp.pick(n)), tap: r.rowTap(name("mlp"), bufMLP, s.IntermediateSize, s.interPad)},
			segment{dispatches: l.down.pick(n), tap: r.rowTap(name("out"), bufX, s.HiddenSize, s.hiddenPad)})
	}
	return append(segs, r.finalNorm())
}

// finalNorm is hidden.L; the logits do not need it, since lm_head has the norm fused in.
func (r *Runner) finalNorm() segment {
	return segment{dispatches: r.normSteps, tapOnly: true, tap: r.rowTap("final_norm", bufNormed, r.shape.HiddenSize, r.shape.hiddenPad)}
}
