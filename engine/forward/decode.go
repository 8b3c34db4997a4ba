package forward

// Recording a decode step: five dispatches a layer (six where the context is in many splits), and the final norm with
// lm_head. Matrix-vector kernels are recorded in the shape that tuning chose.

import (
	"fmt"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// recordDecode records the five dispatches of a decode layer.
func (r *Runner) recordDecode(out *layer) error {
	for name := range decodeMatvecs {
		if err := r.recordMatvec(out, name); err != nil {
			return err
		}
	}
	s, w := &r.shape, &out.weights
	att, err := r.dispatch("attention", shaders.Options{KV: string(s.kv), Consts: s.attentionConsts(), Floats: s.attentionFloats()},
		func(n passSize) [3]uint32 {
			return [3]uint32{uint32(s.NumKeyValueHeads * s.qTiles), uint32(n.splits), 1}
		},
		r.state(), r.pages(), gpu.Whole(w.qkNorms), r.whole(bufRope), r.whole(bufQKV), gpu.Whole(w.k), gpu.Whole(w.v), r.whole(bufSplits))
	out.decode.attention = []dispatch{att}
	return err
}

// recordCombine records what joins the splits of a long context before attn_out, which then sees one: bufOneSplit holds
// the state words and statistics of that.
func (r *Runner) recordCombine() error {
	s := &r.shape
	outputs, ml := r.splits()
	d, err := r.dispatch("combine_splits", shaders.Options{Consts: map[string]uint32{
		"NUM_HEADS": uint32(s.NumAttentionHeads), "HEAD_DIM": uint32(s.HeadDim), "Q_PAD": uint32(s.qPad), "MAX_SPLITS": maxSplits,
	}},
		func(passSize) [3]uint32 { return [3]uint32{uint32(s.NumAttentionHeads), 1, 1} },
		r.state(), outputs, ml, r.whole(bufAttn))
	if err != nil {
		return err
	}
	r.combineSteps = []dispatch{d}
	words := make([]uint32, stateBytes/4+2*s.NumAttentionHeads)
	words[stateNumSplits] = 1
	for h := range s.NumAttentionHeads {
		words[stateBytes/4+2*h+1] = math.Float32bits(1)
	}
	raw := make([]byte, 4*len(words))
	putUint32s(raw, words)
	return r.dev.Write(r.act[bufOneSplit], 0, raw)
}

// splits are the two parts of the buffer that attention writes: outputs and statistics.
func (r *Runner) splits() (outputs, ml gpu.Binding) {
	bytes := uint64(4 * maxSplits * r.shape.qPad)
	return gpu.Binding{Buffer: r.act[bufSplits], Size: bytes}, gpu.Binding{Buffer: r.act[bufSplits], Offset: bytes}
}

// decodeMatvec is a matrix-vector kernel of a decode layer: which matrix, with what in front, and where it is kept for
// which buffers.
type decodeMatvec struct {
	matrix   func(*layerWeights) *matrix
	options  func(*Runner) shaders.Options
	variants []decodeVariant
}

type decodeVariant struct {
	bindings func(*Runner, *layerWeights, part) []gpu.Binding
	recorded func(*layer) *[]dispatch
}

var decodeMatvecs = map[string]decodeMatvec{
	"rmsnorm_qkv": {
		func(w *layerWeights) *matrix { return w.qkv },
		(*Runner).normed,
		[]decodeVariant{{func(r *Runner, w *layerWeights, p part) []gpu.Binding {
			return []gpu.Binding{gpu.Whole(p.params), r.whole(bufX), gpu.Whole(w.inputNorm), gpu.Whole(p.data), gpu.Whole(p.scales), r.whole(bufQKV)}
		}, func(l *layer) *[]dispatch { return &l.decode.rmsnormQKV }}},
	},
	"attn_out": {
		func(w *layerWeights) *matrix { return w.o },
		func(r *Runner) shaders.Options {
			s := &r.shape
			return shaders.Options{Consts: map[string]uint32{
				"NUM_HEADS": uint32(s.NumAttentionHeads), "HEAD_DIM": uint32(s.HeadDim), "MAX_SPLITS": fusedSplits, "COEFS": uint32(fusedSplits * s.NumAttentionHeads),
			}}
		},
		[]decodeVariant{
			{func(r *Runner, _ *layerWeights, p part) []gpu.Binding {
				outputs, ml := r.splits()
				return []gpu.Binding{gpu.Whole(p.params), r.state(), outputs, ml, gpu.Whole(p.data), gpu.Whole(p.scales), r.whole(bufX)}
			}, func(l *layer) *[]dispatch { return &l.decode.attnOut }},
			{func(r *Runner, _ *layerWeights, p part) []gpu.Binding {
				return []gpu.Binding{gpu.Whole(p.params), {Buffer: r.act[bufOneSplit], Size: stateBytes}, r.whole(bufAttn),
					{Buffer: r.act[bufOneSplit], Offset: stateBytes}, gpu.Whole(p.data), gpu.Whole(p.scales), r.whole(bufX)}
			}, func(l *layer) *[]dispatch { return &l.decode.attnOutCombined }},
		},
	},
	"rmsnorm_gate_up": {
		func(w *layerWeights) *matrix { return w.gateUp },
		(*Runner).normed,
		[]decodeVariant{{func(r *Runner, w *layerWeights, p part) []gpu.Binding {
			return []gpu.Binding{gpu.Whole(p.params), r.whole(bufX), gpu.Whole(w.postNorm), gpu.Whole(p.data), gpu.Whole(p.scales), r.whole(bufMLP)}
		}, func(l *layer) *[]dispatch { return &l.decode.rmsnormGateUp }}},
	},
	"down": {
		func(w *layerWeights) *matrix { return w.down },
		func(*Runner) shaders.Options { return shaders.Options{Consts: map[string]uint32{}} },
		[]decodeVariant{{func(r *Runner, _ *layerWeights, p part) []gpu.Binding {
			return []gpu.Binding{gpu.Whole(p.params), r.whole(bufMLP), gpu.Whole(p.data), gpu.Whole(p.scales), r.whole(bufX)}
		}, func(l *layer) *[]dispatch { return &l.decode.down }}},
	},
}

// recordMatvec records one of decodeMatvecs for a layer.
func (r *Runner) recordMatvec(l *layer, name string) error {
	d := decodeMatvecs[name]
	for _, v := range d.variants {
		steps, err := r.matvec(name, d.matrix(&l.weights), d.options(r), func(p part) []gpu.Binding { return v.bindings(r, &l.weights, p) })
		if err != nil {
			return err
		}
		*v.recorded(l) = steps
	}
	return nil
}

// attentionConsts are the constants of decode attention.
func (s *shape) attentionConsts() map[string]uint32 {
	redB := uint32(1)
	if s.qTile > 4 {
		redB = 128
	}
	return map[string]uint32{
		"NUM_HEADS": uint32(s.NumAttentionHeads), "NUM_KV_HEADS": uint32(s.NumKeyValueHeads), "HEAD_DIM": uint32(s.HeadDim),
		"HEAD_PAD": uint32(s.headPad), "PAGE_SIZE": uint32(s.pageSize), "Q_PAD": uint32(s.qPad), "ML_BASE": uint32(maxSplits * s.qPad),
		"MAX_PAGES": uint32(s.maxPages), "Q_TILE": uint32(s.qTile), "Q_TILES": uint32(s.qTiles), "LANES": uint32(64 / s.qTile),
		"HEAD_VECS": uint32((s.qTile + 1) * s.headPad / 4), "RED_B": redB,
	}
}

func (s *shape) attentionFloats() map[string]float32 {
	return map[string]float32{"SCALE": s.attentionScale(), "EPS": s.RMSNormEps}
}

func (s *shape) attentionScale() float32 { return float32(1 / math.Sqrt(float64(s.HeadDim))) }

// recordHead records the final norm and lm_head for one row of x.
func (r *Runner) recordHead() (err error) {
	r.lmHeadSteps, err = r.matvec("rmsnorm_lm_head", r.head, r.normed(), func(p part) []gpu.Binding {
		return []gpu.Binding{gpu.Whole(p.params), r.state(), r.whole(bufX), gpu.Whole(r.norm), gpu.Whole(p.data), gpu.Whole(p.scales), r.whole(bufLogits)}
	})
	return err
}

// normed are the options of a kernel with an RMSNorm over x fused in.
func (r *Runner) normed() shaders.Options {
	return shaders.Options{
		Consts: map[string]uint32{"HIDDEN": uint32(r.shape.HiddenSize)},
		Floats: map[string]float32{"EPS": r.shape.RMSNormEps},
	}
}

// MatvecShape is how a decode matrix-vector kernel is spread over threads.
type MatvecShape struct {
	Workgroup     int `json:"workgroup"`       // threads a workgroup
	ThreadsPerRow int `json:"threads_per_row"` // threads that share four rows; at least 4, divides Workgroup
	Unroll        int `json:"unroll"`          // 16-byte loads of each row that a thread has in flight: 1, 2 or 4
}

// valid refuses what a damaged tuning file might say.
func (v MatvecShape) valid(limits gpu.Limits) bool {
	powerOfTwo := func(n int) bool { return n > 0 && n&(n-1) == 0 }
	return powerOfTwo(v.Workgroup) && powerOfTwo(v.ThreadsPerRow) && v.ThreadsPerRow >= 4 && v.ThreadsPerRow <= v.Workgroup &&
		v.Workgroup <= int(min(limits.MaxInvocationsPerWorkgroup, limits.MaxWorkgroupSizeX)) && (v.Unroll == 1 || v.Unroll == 2 || v.Unroll == 4)
}

// tuningKey names a kernel on a matrix, for example "rmsnorm_qkv bf16 4096x1024".
func tuningKey(kernel string, m *matrix) string {
	rows := 0
	for _, p := range m.parts {
		rows += p.rows
	}
	return fmt.Sprintf("%s %s %dx%d", kernel, m.dtype, rows, m.kPad)
}

// defaultMatvecShape gives a row's quad as many threads as it has 16-byte loads, up to 32.
func defaultMatvecShape(m *matrix) MatvecShape {
	threads := 4
	for threads < 32 && threads < m.kPad/weightsPerLoad[m.dtype] {
		threads *= 2
	}
	return MatvecShape{Workgroup: 128, ThreadsPerRow: threads, Unroll: 1}
}

// weightsPerLoad is the number of weights in 16 bytes.
var weightsPerLoad = map[weights.DType]int{weights.BF16: 8, weights.Q8: 16, weights.Q4: 32}

// matvec records a decode matrix-vector product, in the shape that tuning chose for the kernel, if it did.
func (r *Runner) matvec(name string, m *matrix, opt shaders.Options, bindings func(part) []gpu.Binding) ([]dispatch, error) {
	v, ok := r.tuned[tuningKey(name, m)]
	if !ok || !v.valid(r.dev.Limits()) {
		v = defaultMatvecShape(m)
	}
	opt.Consts["WORKGROUP_SIZE"], opt.Consts["THREADS_PER_ROW"], opt.Consts["UNROLL"] = uint32(v.Workgroup), uint32(v.ThreadsPerRow), uint32(v.Unroll)
	rowsPerGroup := 4 * v.Workgroup / v.ThreadsPerRow
	return r.perPart(name, m, opt, func(p part, _ passSize) [3]uint32 {
		return foldGrid((p.rows+rowsPerGroup-1)/rowsPerGroup, r.dev.Limits().MaxWorkgroupsPerDimension)
	}, bindings)
}
