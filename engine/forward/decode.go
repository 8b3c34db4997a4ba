package forward

// Recording a decode step: five dispatches a layer (six where the context is in many splits), and the final norm with
// lm_head. Matrix-vector kernels are recorded in the shape that tuning chose.

import (
	"fmt"
	"maps"
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
	return r.recordAttention(out)
}

// recordAttention records decode attention, with the prefetch of gate_up's first weights that tuning chose.
func (r *Runner) recordAttention(out *layer) (err error) {
	prefetch := r.tuned[tuningKey("gate_up", out.weights.gateUp)].Prefetch
	out.decode.attention, err = r.attention(&out.weights, r.whole(bufQKV), prefetch)
	return err
}

// recordFirstQKV records layer 0's q, k and v, to the exchange.
func (r *Runner) recordFirstQKV() (err error) {
	first := &r.layers[0].weights
	r.firstQKV, err = r.matvec("qkv", "rmsnorm_qkv", first.qkv, r.normed(), func(p part) []gpu.Binding {
		return []gpu.Binding{r.whole(bufX), first.inputNorm, p.data, r.projections(0)}
	})
	return err
}

// recordBare records attention from the exchange, with nothing beside.
func (r *Runner) recordBare() error {
	var bare []attentionSteps
	for i := range r.layers {
		a, err := r.attention(&r.layers[i].weights, r.projections(i), 0)
		if err != nil {
			return err
		}
		bare = append(bare, a)
	}
	r.bare = bare
	return nil
}

// attentionSteps are decode attention of a layer. A workgroup of few splits has shortQTile query heads: its instructions take longer
// than what it reads, and there are processors enough. One of many splits has as many as share what it reads, and up to pipelinedQTile
// are pipelined.
type attentionSteps struct{ few, many []dispatch }

const (
	shortQTile     = 1
	pipelinedQTile = 4 // a workgroup's memory takes two tiles' scores of so many
)

// in are those of a context in so many splits.
func (a attentionSteps) in(numSplits int) []dispatch {
	if numSplits > fusedSplits {
		return a.many
	}
	return a.few
}

// attention records decode attention to projections with so many rows of further workgroups beside, which prefetch gate_up's weights.
func (r *Runner) attention(w *layerWeights, projections gpu.Binding, rows int) (steps attentionSteps, err error) {
	s, next := &r.shape, w.gateUp.parts[0].data
	record := func(qTile int, pipelined uint32) ([]dispatch, error) {
		columns := s.NumKeyValueHeads * s.qTiles(qTile)
		opt := shaders.Options{KV: string(s.kv), Consts: s.attentionConsts(), Floats: s.attentionFloats()}
		maps.Copy(opt.Consts, map[string]uint32{
			"Q_PAD": uint32(s.qPad), "ML_BASE": uint32(maxSplits * s.qPad), "BESIDE": uint32(rows), "NEXT_VECS": uint32(next.Size / 16),
			"Q_TILE": uint32(qTile), "Q_TILES": uint32(s.qTiles(qTile)), "PIPELINED": pipelined,
		})
		d, err := r.dispatch("attention", opt,
			func(n passSize) [3]uint32 { return [3]uint32{uint32(columns), uint32(n.splits + rows), 1} },
			r.whole(bufStep), w.qkNorms, r.whole(bufRope), projections, w.k, w.v, r.whole(bufSplits), next)
		return []dispatch{d}, err
	}
	pipelined := uint32(0)
	if s.qTile <= pipelinedQTile {
		pipelined = 1
	}
	if steps.many, err = record(s.qTile, pipelined); err != nil {
		return steps, err
	}
	steps.few, err = record(min(shortQTile, s.qTile), 0)
	return steps, err
}

// combineColumns are the columns of a head that a workgroup of combine_splits takes.
const combineColumns = 32

// recordCombine records what joins the splits of a long context before attn_out.
func (r *Runner) recordCombine() error {
	s := &r.shape
	outputs, ml := r.splits()
	d, err := r.dispatch("combine_splits", shaders.Options{Consts: map[string]uint32{
		"NUM_HEADS": uint32(s.NumAttentionHeads), "HEAD_DIM": uint32(s.HeadDim), "Q_PAD": uint32(s.qPad), "MAX_SPLITS": maxSplits,
	}},
		func(passSize) [3]uint32 {
			return [3]uint32{uint32(s.NumAttentionHeads), uint32(s.HeadDim+combineColumns-1) / combineColumns, 1}
		},
		r.state(), outputs, ml, r.whole(bufAttn))
	r.combineSteps = []dispatch{d}
	return err
}

// splits are the two parts of the buffer that attention writes: outputs and statistics.
func (r *Runner) splits() (outputs, ml gpu.Binding) {
	bytes := uint64(4 * maxSplits * r.shape.qPad)
	return gpu.Binding{Buffer: r.act[bufSplits], Size: bytes}, gpu.Binding{Buffer: r.act[bufSplits], Offset: bytes}
}

// decodeMatvec is a matrix-vector product of a decode layer: which matrix, by which kernels, and where it is kept. The
// variants differ in what they read; tuning measures the first and serves all.
type decodeMatvec struct {
	matrix   func(*layerWeights) *matrix
	variants []decodeVariant
}

type decodeVariant struct {
	kernel   string
	options  func(*Runner) shaders.Options
	bindings func(*Runner, *layerWeights, part) []gpu.Binding
	recorded func(*layer) *[]dispatch
}

var decodeMatvecs = map[string]decodeMatvec{
	"qkv": {
		func(w *layerWeights) *matrix { return w.qkv },
		[]decodeVariant{{"rmsnorm_qkv", (*Runner).normed, func(r *Runner, w *layerWeights, p part) []gpu.Binding {
			return []gpu.Binding{r.whole(bufX), w.inputNorm, p.data, r.whole(bufQKV)}
		}, func(l *layer) *[]dispatch { return &l.decode.rmsnormQKV }}},
	},
	"attn_out": {
		func(w *layerWeights) *matrix { return w.o },
		[]decodeVariant{
			{"residual_proj", plain, func(r *Runner, _ *layerWeights, p part) []gpu.Binding {
				return []gpu.Binding{{Buffer: r.act[bufSplits], Size: uint64(4 * r.shape.qPad)}, p.data, r.whole(bufX)}
			}, func(l *layer) *[]dispatch { return &l.decode.attnOut }},
			{"attn_out", func(r *Runner) shaders.Options {
				heads := r.shape.NumAttentionHeads
				return shaders.Options{Consts: map[string]uint32{
					"NUM_HEADS": uint32(heads), "HEAD_DIM": uint32(r.shape.HeadDim), "MAX_SPLITS": fusedSplits, "COEFS": uint32(fusedSplits * heads),
				}}
			}, func(r *Runner, _ *layerWeights, p part) []gpu.Binding {
				outputs, ml := r.splits()
				return []gpu.Binding{r.state(), outputs, ml, p.data, r.whole(bufX)}
			}, func(l *layer) *[]dispatch { return &l.decode.attnOutSplits }},
			{"residual_proj", plain, func(r *Runner, w *layerWeights, p part) []gpu.Binding {
				return []gpu.Binding{r.whole(bufAttn), p.data, r.whole(bufX)}
			}, func(l *layer) *[]dispatch { return &l.decode.attnOutCombined }},
		},
	},
	"gate_up": {
		func(w *layerWeights) *matrix { return w.gateUp },
		[]decodeVariant{{"rmsnorm_gate_up", (*Runner).normed, func(r *Runner, w *layerWeights, p part) []gpu.Binding {
			return []gpu.Binding{r.whole(bufX), w.postNorm, p.data, r.whole(bufMLP)}
		}, func(l *layer) *[]dispatch { return &l.decode.rmsnormGateUp }}},
	},
	"down": {
		func(w *layerWeights) *matrix { return w.down },
		[]decodeVariant{{"residual_proj", plain, func(r *Runner, _ *layerWeights, p part) []gpu.Binding {
			return []gpu.Binding{r.whole(bufMLP), p.data, r.whole(bufX)}
		}, func(l *layer) *[]dispatch { return &l.decode.down }}},
	},
}

// plain are the options of a kernel with nothing in front.
func plain(*Runner) shaders.Options { return shaders.Options{Consts: map[string]uint32{}} }

// attnOut is the layer's attn_out for a context in so many splits.
func (l *layer) attnOut(splits int) []dispatch {
	switch {
	case splits == 1:
		return l.decode.attnOut
	case splits <= fusedSplits:
		return l.decode.attnOutSplits
	}
	return l.decode.attnOutCombined
}

// recordMatvec records one of decodeMatvecs for a layer.
func (r *Runner) recordMatvec(l *layer, name string) error {
	d := decodeMatvecs[name]
	for _, v := range d.variants {
		steps, err := r.matvec(name, v.kernel, d.matrix(&l.weights), v.options(r), func(p part) []gpu.Binding { return v.bindings(r, &l.weights, p) })
		if err != nil {
			return err
		}
		*v.recorded(l) = steps
	}
	return nil
}

// attentionConsts are the constants of decode attention wherever it stands.
func (s *shape) attentionConsts() map[string]uint32 {
	return map[string]uint32{
		"NUM_HEADS": uint32(s.NumAttentionHeads), "NUM_KV_HEADS": uint32(s.NumKeyValueHeads), "HEAD_DIM": uint32(s.HeadDim),
		"HEAD_PAD": uint32(s.headPad), "PAGE_SIZE": uint32(s.pageSize),
		"PAGE_TABLE": uint32(s.pageTableOffset() / 4), "MAX_PAGES": uint32(s.maxPages),
	}
}

func (s *shape) attentionFloats() map[string]float32 {
	return map[string]float32{"SCALE": s.attentionScale(), "EPS": s.RMSNormEps}
}

func (s *shape) attentionScale() float32 { return float32(1 / math.Sqrt(float64(s.HeadDim))) }

// lmHead is the final norm and lm_head among the names of decodeMatvecs.
const lmHead = "lm_head"

// recordHead records the final norm and lm_head for one row of x.
func (r *Runner) recordHead() (err error) {
	r.lmHeadSteps, err = r.matvec(lmHead, "rmsnorm_lm_head", r.head, r.normed(), func(p part) []gpu.Binding {
		return []gpu.Binding{r.state(), r.whole(bufX), r.norm, p.data, r.whole(bufLogits)}
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
type MatvecShape = shaders.MatvecShape

// fitsMatvec tells whether v can run on m; a damaged tuning file might say anything.
func fitsMatvec(v MatvecShape, m *matrix, limits gpu.Limits) bool {
	return v.Fits(m.kPad, string(m.dtype), matvecBytes(v, limits), matvecThreads(limits))
}

// matvecBytes is how much workgroup memory a matrix-vector kernel may take in a shape: more would leave too few workgroups room at a
// time.
func matvecBytes(v MatvecShape, limits gpu.Limits) int {
	return min(int(limits.MaxWorkgroupStorageBytes), 28<<10*max(v.Workgroup/256, 1))
}

// matvecThreads is how many threads a workgroup of a matrix-vector kernel may have.
func matvecThreads(limits gpu.Limits) int {
	return int(min(limits.MaxInvocationsPerWorkgroup, limits.MaxWorkgroupSizeX))
}

// tuningKey names a product and its matrix, for example "qkv bf16 4096x1024".
func tuningKey(name string, m *matrix) string {
	rows := 0
	for _, p := range m.parts {
		rows += p.rows
	}
	return fmt.Sprintf("%s %s %dx%d", name, m.dtype, rows, m.kPad)
}

// defaultMatvecShape is what no tuning has been better than by much on an H200: two rows to as many threads as there are
// 16-byte loads, up to 128 in bf16 and 64 else. Short rows take four at a time instead.
func defaultMatvecShape(m *matrix) MatvecShape {
	loads := m.kPad / shaders.WeightsPerLoad[string(m.dtype)]
	upTo := func(most int) int {
		threads := 4
		for threads < most && 2*threads <= loads {
			threads *= 2
		}
		return threads
	}
	switch {
	case loads < 32:
		return MatvecShape{Workgroup: 128, ThreadsPerRow: upTo(16), Rows: 4}
	case m.dtype == weights.BF16:
		return MatvecShape{Workgroup: 256, ThreadsPerRow: upTo(128), Rows: 2, Direct: true}
	}
	return MatvecShape{Workgroup: 256, ThreadsPerRow: upTo(64), Rows: 2}
}

// matvec records a decode matrix-vector product, in the shape that tuning chose for the name, if it did.
func (r *Runner) matvec(name, kernel string, m *matrix, opt shaders.Options, bindings func(part) []gpu.Binding) ([]dispatch, error) {
	v, ok := r.tuned[tuningKey(name, m)]
	if !ok || !fitsMatvec(v, m, r.dev.Limits()) || v.Halves && !r.halves() {
		if v = defaultMatvecShape(m); !fitsMatvec(v, m, r.dev.Limits()) {
			v = MatvecShape{Workgroup: 64, ThreadsPerRow: 4, Rows: 4} // which every device runs
		}
	}
	opt.Weight = string(m.dtype)
	v.AddTo(&opt, m.kPad, matvecBytes(v, r.dev.Limits()))
	opt.UseSubgroups(r.subgroups)
	rowsPerGroup := v.GroupRows()
	var steps []dispatch
	for _, p := range m.parts {
		opt.Consts["ROW_START"], opt.Consts["NUM_ROWS"] = uint32(p.rowStart), uint32(p.rows)
		grid := foldGrid((p.rows+rowsPerGroup-1)/rowsPerGroup, r.dev.Limits().MaxWorkgroupsPerDimension)
		d, err := r.dispatch(kernel, opt, func(passSize) [3]uint32 { return grid }, p.withScales(bindings(p))...)
		if err != nil {
			return nil, err
		}
		steps = append(steps, d)
	}
	return steps, nil
}
