package forward

// Loading: uploads the weights chunk by chunk, allocates arena and activations, compiles the kernels and records the
// dispatches of every layer. Nothing of a shard is held longer than one chunk.

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

const uploadChunkBytes = 4 << 20

// loader carries what only loading needs.
type loader struct {
	*Runner
	model                         *weights.Model
	progress                      func(done, total int64)
	done                          int64
	dtypes                        map[weights.DType]bool
	weights, params, keys, values *slabs
}

func (r *Runner) load(m *weights.Model, plans slabPlans, progress func(done, total int64)) error {
	r.loading = true
	l := &loader{
		Runner: r, model: m, progress: progress, dtypes: map[weights.DType]bool{},
		weights: newSlabs("weights", gpu.UsageStorage|gpu.UsageCopyDst, plans.matrices),
		params:  newSlabs("parts", gpu.UsageUniform|gpu.UsageCopyDst, plans.params),
		keys:    newSlabs("k_cache", gpu.UsageStorage|gpu.UsageCopySrc, plans.keys),
		values:  newSlabs("v_cache", gpu.UsageStorage|gpu.UsageCopySrc, plans.values),
	}
	for _, a := range r.shape.activations() {
		b, err := l.buffer(a.label, a.bytes, gpu.UsageStorage|gpu.UsageUniform|gpu.UsageCopySrc|gpu.UsageCopyDst)
		if err != nil {
			return err
		}
		r.act = append(r.act, b)
	}
	var err error
	if r.norms, err = l.buffer("norms", r.shape.qkNormOffset(r.shape.NumHiddenLayers), gpu.UsageStorage|gpu.UsageCopyDst); err != nil {
		return err
	}
	if err := l.writeRope(); err != nil {
		return err
	}
	if err := l.ends(); err != nil {
		return err
	}
	if err := r.recordSampling(); err != nil {
		return err
	}
	if err := r.recordCombine(); err != nil {
		return err
	}
	for i := range r.shape.NumHiddenLayers {
		if err := l.layer(i); err != nil {
			return fmt.Errorf("forward: layer %d: %w", i, err)
		}
	}
	if err := r.restoreProducts(); err != nil {
		return err
	}
	if err := r.compiled(); err != nil {
		return err
	}
	var names []string
	for d := range l.dtypes {
		names = append(names, string(d))
	}
	sort.Strings(names)
	r.dtypeNames = strings.Join(names, "+")
	return nil
}

// buffer allocates device memory that Close frees.
func (r *Runner) buffer(label string, size uint64, usage gpu.Usage) (gpu.Buffer, error) {
	b, err := r.dev.NewBuffer(label, size, usage)
	if err != nil {
		return nil, fmt.Errorf("forward: %s (%d bytes): %w", label, size, err)
	}
	r.buffers = append(r.buffers, b)
	return b, nil
}

func floatBytes(values []float32) []byte {
	raw := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(v))
	}
	return raw
}

// gain uploads the gain of a norm, number i of norms.
func (l *loader) gain(i int, name string) (gpu.Binding, error) {
	b := gpu.Binding{Buffer: l.norms, Offset: uint64(i) * l.shape.normBytes(), Size: uint64(4 * l.shape.hiddenPad)}
	v, err := l.model.Vector(name)
	if err != nil {
		return b, err
	}
	return b, l.dev.Write(l.norms, b.Offset, floatBytes(v))
}

// writeRope fills the table of cos and sin, [positions, headDim/2, 2]: angles and their functions in float32 as
// transformers computes them, times YaRN's attention factor.
func (l *loader) writeRope() error {
	s := &l.shape
	invFreq, factor := s.InvFreq()
	row := make([]float32, 0, s.HeadDim*1024)
	flushed := uint64(0)
	for pos := range s.maxPages * s.pageSize {
		for _, f := range invFreq {
			angle := float64(float32(pos) * f)
			row = append(row, float32(math.Cos(angle))*factor, float32(math.Sin(angle))*factor)
		}
		if len(row) == cap(row) || pos == s.maxPages*s.pageSize-1 {
			if err := l.dev.Write(l.act[bufRope], flushed, floatBytes(row)); err != nil {
				return err
			}
			flushed += uint64(4 * len(row))
			row = row[:0]
		}
	}
	return nil
}

// matrix uploads a matrix, split where the device cannot bind it whole.
func (l *loader) matrix(name string) (*matrix, error) {
	mat, err := l.model.Matrix(name)
	if err != nil {
		return nil, err
	}
	split, err := splitMatrix(mat, partLimit(l.dev.Limits()))
	if err != nil {
		return nil, err
	}
	l.dtypes[mat.DType] = true
	out := &matrix{dtype: mat.DType, kPad: mat.Stride}
	for i, sp := range split {
		p, err := l.part(fmt.Sprintf("%s[%d]", name, i), sp)
		if err != nil {
			return nil, err
		}
		out.parts = append(out.parts, p)
	}
	return out, nil
}

func (l *loader) part(label string, sp matrixPart) (part, error) {
	p := part{rowStart: sp.rowStart, rows: sp.rows}
	var err error
	if p.data, err = l.take(l.weights, sp.dataBytes); err != nil {
		return p, err
	}
	if sp.scaleBytes > 0 {
		if p.scales, err = l.take(l.weights, sp.scaleBytes); err != nil {
			return p, err
		}
	}
	var dataAt, scalesAt uint64
	for _, piece := range sp.pieces {
		if err := l.plane(p.data, &dataAt, piece.Data); err != nil {
			return p, fmt.Errorf("%s: %w", label, err)
		}
		if err := l.plane(p.scales, &scalesAt, piece.Scales); err != nil {
			return p, fmt.Errorf("%s scales: %w", label, err)
		}
	}
	if p.params, err = l.take(l.params, partParamBytes); err != nil {
		return p, err
	}
	var raw [partParamBytes]byte
	putUint32s(raw[:], []uint32{uint32(sp.rowStart), uint32(sp.rows)})
	return p, l.dev.Write(p.params.Buffer, p.params.Offset, raw[:])
}

// plane streams one plane to *at of a piece of memory and moves *at behind it.
func (l *loader) plane(to gpu.Binding, at *uint64, plane weights.Plane) error {
	if plane.Size == 0 {
		return nil
	}
	start := to.Offset + *at
	*at += uint64(plane.Size)
	return l.model.Stream(plane, uploadChunkBytes, func(offset int64, chunk []byte) error {
		if err := l.dev.Write(to.Buffer, start+uint64(offset), chunk); err != nil {
			return err
		}
		l.done += int64(len(chunk))
		if l.progress != nil {
			l.progress(l.done, int64(l.memory.WeightBytes))
		}
		return nil
	})
}

// kernel compiles a specialized kernel once: layers ask for the same ones.
func (r *Runner) kernel(name string, opt shaders.Options) (gpu.Kernel, error) {
	key := fmt.Sprintf("%s %+v", name, opt)
	if k, ok := r.kernels[key]; ok {
		return k, nil
	}
	desc, err := shaders.Specialize(name, opt)
	if err != nil {
		return nil, err
	}
	var k gpu.Kernel
	if a, ok := r.dev.(gpu.AsyncCompiler); ok && r.loading {
		var wait func() error
		if k, wait = a.NewKernelAsync(desc); k == nil {
			err = wait()
		} else {
			r.compiling = append(r.compiling, wait)
		}
	} else {
		k, err = r.dev.NewKernel(desc)
	}
	if err != nil {
		return nil, fmt.Errorf("forward: kernel %s: %w", name, err)
	}
	r.kernels[key] = k
	return k, nil
}

// compiled waits for the kernels that compile while other things are done.
func (r *Runner) compiled() (err error) {
	for _, wait := range r.compiling {
		if e := wait(); e != nil && err == nil {
			err = fmt.Errorf("forward: %w", e)
		}
	}
	r.loading, r.compiling = false, nil
	return err
}

// inParallel has the kernels that record asks for compile at the same time.
func (r *Runner) inParallel(record func() error) error {
	r.loading = true
	err := record()
	if e := r.compiled(); err == nil {
		err = e
	}
	return err
}

// dispatch compiles, binds and records one launch.
func (r *Runner) dispatch(name string, opt shaders.Options, grid func(passSize) [3]uint32, bindings ...gpu.Binding) (dispatch, error) {
	k, err := r.kernel(name, opt)
	if err != nil {
		return dispatch{}, err
	}
	g, err := r.dev.Bind(k, bindings...)
	if err != nil {
		return dispatch{}, fmt.Errorf("forward: kernel %s: %w", name, err)
	}
	r.groups = append(r.groups, g)
	return dispatch{name: name, kernel: k, group: g, grid: grid}, nil
}

// perPart records one launch for each part of a matrix. bindings puts the part's buffers in the kernel's order.
func (r *Runner) perPart(name string, m *matrix, opt shaders.Options, grid func(part, passSize) [3]uint32, bindings func(part) []gpu.Binding) ([]dispatch, error) {
	opt.Weight = string(m.dtype)
	opt.Consts["K_PAD"] = uint32(m.kPad)
	var out []dispatch
	for _, p := range m.parts {
		d, err := r.dispatch(name, opt, func(n passSize) [3]uint32 { return grid(p, n) }, p.withScales(bindings(p))...)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func (r *Runner) whole(buf int) gpu.Binding { return gpu.Whole(r.act[buf]) }

func (r *Runner) state() gpu.Binding {
	return gpu.Binding{Buffer: r.act[bufStep], Size: stateBytes}
}

func (r *Runner) tokens() gpu.Binding {
	at := r.shape.tokensOffset()
	return gpu.Binding{Buffer: r.act[bufStep], Offset: at, Size: r.shape.pageTableOffset() - at}
}

func (r *Runner) pages() gpu.Binding {
	return gpu.Binding{Buffer: r.act[bufStep], Offset: r.shape.pageTableOffset()}
}

// ends records what stands before the first and behind the last layer.
func (l *loader) ends() error {
	r, s := l.Runner, &l.shape
	embed, err := l.matrix("embed_tokens")
	if err != nil {
		return err
	}
	r.embedSteps, err = r.perPart("embed", embed, shaders.Options{Consts: map[string]uint32{}},
		func(_ part, n passSize) [3]uint32 {
			return [3]uint32{uint32((s.hiddenPad/8 + 63) / 64), uint32(n.tokens), 1}
		},
		func(p part) []gpu.Binding {
			return []gpu.Binding{p.params, r.state(), r.tokens(), p.data, r.whole(bufX)}
		})
	if err != nil {
		return err
	}
	head := embed
	if l.model.HasLMHead() {
		if head, err = l.matrix("lm_head"); err != nil {
			return err
		}
	}
	r.head = head
	if r.norm, err = l.gain(2*s.NumHiddenLayers, "norm"); err != nil {
		return err
	}
	if err := r.recordHead(); err != nil {
		return err
	}
	r.normSteps, err = r.finalNormSteps()
	return err
}

// foldGrid spreads n workgroups over x and y.
func foldGrid(n int, maxPerDimension uint32) [3]uint32 {
	x := min(uint32(n), maxPerDimension)
	return [3]uint32{x, (uint32(n) + x - 1) / x, 1}
}

// layer loads decoder layer i and records both its passes.
func (l *loader) layer(i int) error {
	r, s := l.Runner, &l.shape
	name := func(what string) string { return fmt.Sprintf("layers.%d.%s", i, what) }
	var w layerWeights
	for _, m := range []struct {
		to   **matrix
		name string
	}{{&w.qkv, "qkv_proj"}, {&w.o, "o_proj"}, {&w.gateUp, "gate_up_proj"}, {&w.down, "down_proj"}} {
		var err error
		if *m.to, err = l.matrix(name(m.name)); err != nil {
			return err
		}
	}
	var err error
	if w.inputNorm, err = l.gain(2*i, name("input_layernorm")); err != nil {
		return err
	}
	if w.postNorm, err = l.gain(2*i+1, name("post_attention_layernorm")); err != nil {
		return err
	}
	q, err := l.model.Vector(name("q_norm"))
	if err != nil {
		return err
	}
	k, err := l.model.Vector(name("k_norm"))
	if err != nil {
		return err
	}
	w.qkNorms = gpu.Binding{Buffer: r.norms, Offset: s.qkNormOffset(i), Size: uint64(2 * 4 * s.HeadDim)}
	if err := r.dev.Write(r.norms, w.qkNorms.Offset, floatBytes(s.qkNorms(q, k))); err != nil {
		return err
	}
	if w.k, err = l.take(l.keys, s.arenaBytes()); err != nil {
		return err
	}
	if w.v, err = l.take(l.values, s.arenaBytes()); err != nil {
		return err
	}
	out := layer{weights: w}
	if err := r.recordDecode(&out); err != nil {
		return err
	}
	if err := r.recordPrefill(&out); err != nil {
		return err
	}
	if err := r.recordCopy(&out); err != nil {
		return err
	}
	r.layers = append(r.layers, out)
	return nil
}

// qkNorms are the gains of the query and key norms, one behind the other. A 16-bit cache holds keys divided by their bounds.
func (s *shape) qkNorms(q, k []float32) []float32 {
	norms := append(slices.Clone(q), k...)
	if s.kv == runner.KVF16 {
		for i, bound := range s.KeyBounds(k) {
			norms[i] *= bound
			norms[s.HeadDim+i] /= bound
		}
	}
	return norms
}

// layerWeights is one layer's device memory.
type layerWeights struct {
	qkv, o, gateUp, down *matrix
	inputNorm, postNorm  gpu.Binding // [hiddenPad] f32, of Runner.norms
	qkNorms              gpu.Binding // [2, headDim] f32, likewise
	k, v                 gpu.Binding // [numPages, kvHeads, pageSize, headPad] f16 or f32
}
