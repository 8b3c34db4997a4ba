package forward

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// RMSNormQKV runs layer 0's first half on x, [rows, hidden], with the kernels of the recorded passes and nothing else:
// rmsnorm_qkv on one row after another, or row_rms and the matrix product on all of them.
func (r *Runner) RMSNormQKV(x []float32, rows int, prefill bool) ([]float32, error) {
	hidden, l := r.shape.HiddenSize, &r.layers[0]
	if prefill {
		return r.runRows(x, rows, append(l.prefill.rowRMS, l.prefill.qkv.pick(rows)...))
	}
	var all []float32
	for i := range rows {
		qkv, err := r.runRows(x[i*hidden:(i+1)*hidden], 1, l.decode.rmsnormQKV)
		if err != nil {
			return nil, err
		}
		all = append(all, qkv...)
	}
	return all, nil
}

func (r *Runner) runRows(x []float32, rows int, steps []dispatch) ([]float32, error) {
	s := &r.shape
	padded := make([]float32, rows*s.hiddenPad)
	for i := range rows {
		copy(padded[i*s.hiddenPad:], x[i*s.HiddenSize:(i+1)*s.HiddenSize])
	}
	var state [stateBytes]byte
	putUint32s(state[:], []uint32{stateNumTokens: uint32(rows), stateKVLen: uint32(rows), stateNumSplits: 1})
	if err := r.dev.Write(r.act[bufStep], 0, state[:]); err != nil {
		return nil, err
	}
	if err := r.dev.Write(r.act[bufX], 0, floatBytes(padded)); err != nil {
		return nil, err
	}
	if err := r.dev.Submit(joinSegments([]segment{{dispatches: steps}}, passSize{tokens: rows, splits: 1}, "rows")); err != nil {
		return nil, err
	}
	return r.readTap(r.rowTap("qkv", bufQKV, s.QDim()+2*s.KVDim(), s.qkvStride), rows)
}

// Splitting sets the lengths from which on contexts are split, for runners that are made until the returned function is
// called.
func Splitting(short, fusedLength, long int) (restore func()) {
	old := splitting
	splitting = splitRule{short: short, fusedLength: fusedLength, long: long}
	return func() { splitting = old }
}

// AttendRounds sets how many tiles layer_products attends to with a workgroup a head, for runners that are made until the returned
// function is called.
func AttendRounds(n int) (restore func()) {
	old := attendRounds
	attendRounds = n
	return func() { attendRounds = old }
}

// ManyPerHead sets from which position on a context is long, for runners that are made until the returned function is called.
func ManyPerHead(n int) (restore func()) {
	old := manyPerHead
	manyPerHead = n
	return func() { manyPerHead = old }
}

// LongProductsKey is where a tuning has the shape of long contexts.
func (r *Runner) LongProductsKey() string { return r.longProductsKey() }

// LongProducts is the shape of long contexts.
func (r *Runner) LongProducts() MatvecShape { return tunedProducts(r.products.long) }

// AttendsWide tells whether layer_products attends at position pos with all query heads of a KV head in a workgroup.
func (r *Runner) AttendsWide(pos int) bool { return r.products.attends(pos) == inWideSplits }

// TuneLong tries shapes for long contexts, for layer_products in one workgroup of 256 threads. It returns its shape and the one for long
// contexts.
func (r *Runner) TuneLong() (shape, long MatvecShape, rows []TuneRow, err error) {
	p, err := r.recordProducts(shaders.ProductsShape{Groups: 1, Workgroup: 256, Loads: 2, Team: 4})
	if err != nil {
		return shape, long, nil, err
	}
	want, err := r.layerOutput(p)
	if err != nil {
		return shape, long, nil, err
	}
	trials := longTrials
	defer func() { longTrials = trials }()
	longTrials = slices.Clone(trials)
	for i := range longTrials {
		longTrials[i].trials = 1
	}
	rows, err = r.tuneLong(p, want, 1)
	return p.tuned(), tunedProducts(p.long), rows, err
}

// KVCache reads the arena's keys and values of every layer, as bytes.
func (r *Runner) KVCache() ([][]byte, error) {
	var all [][]byte
	for _, l := range r.layers {
		for _, b := range []gpu.Binding{l.weights.k, l.weights.v} {
			raw := make([]byte, b.Size)
			if err := gpu.Read(r.dev, b.Buffer, b.Offset, raw); err != nil {
				return nil, err
			}
			all = append(all, raw)
		}
	}
	return all, nil
}

// PoisonDownProj makes weight [row 0, column 0] of layer i's down_proj, a bf16 matrix, NaN.
func (r *Runner) PoisonDownProj(i int) error {
	data := r.layers[i].weights.down.parts[0].data
	return r.dev.Write(data.Buffer, data.Offset, []byte{0xc0, 0x7f, 0, 0})
}

// ScaleKNorm sets layer i's K-norm gains to value.
func (r *Runner) ScaleKNorm(i int, value float32) error {
	raw := make([]byte, 4*r.shape.HeadDim)
	for d := range r.shape.HeadDim {
		binary.LittleEndian.PutUint32(raw[4*d:], math.Float32bits(value))
	}
	norms := r.layers[i].weights.qkNorms
	return r.dev.Write(norms.Buffer, norms.Offset+uint64(len(raw)), raw)
}

// PassState reads the first words of the step buffer: tokens, start, length of the context.
func (r *Runner) PassState() (state [3]uint32, err error) {
	raw := make([]byte, 4*len(state))
	err = gpu.Read(r.dev, r.act[bufStep], 0, raw)
	for i := range state {
		state[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	return state, err
}

// ProductsKey is where a tuning has the shape of layer_products.
func (r *Runner) ProductsKey() string { return r.productsKey() }

// UsesProducts tells whether decode passes run layer_products.
func (r *Runner) UsesProducts() bool { return r.products != nil }

// CheckExchange tells what is wrong with the exchange between two passes: everything is unset but what the last run of layers has handed on,
// and layer 0's q, k and v.
func (r *Runner) CheckExchange() error {
	raw := make([]byte, r.act[bufExchange].Size())
	if err := gpu.Read(r.dev, r.act[bufExchange], 0, raw); err != nil {
		return err
	}
	s, runs, n := &r.shape, r.runs(), len(r.layers)
	last := runs[len(runs)-1].first
	for i := range len(raw) / 4 {
		used := i < s.placeOf(0) || i >= s.projectionsOf(last) && i < s.placeOf(n)
		if word := binary.LittleEndian.Uint32(raw[4*i:]); !used && word != unsetWord {
			return fmt.Errorf("word %d of the exchange is %#x (places from %d on, %d words apart)", i, word, s.placeOf(0), s.placeOf(1)-s.placeOf(0))
		}
	}
	return nil
}

// TuneProducts tries layer_products in one workgroup, as many as a CPU device is sure to run at the same time, in two shapes and then
// with some other spreads of each product of the first. It returns what it ended with.
func (r *Runner) TuneProducts() (MatvecShape, []TuneRow, error) {
	groups, candidates, trials := maxProductGroups, productCandidates, spreadTrials
	defer func() {
		maxProductGroups, productCandidates, spreadTrials, fuseOnCPU = groups, candidates, trials, false
	}()
	maxProductGroups, fuseOnCPU = 1, true
	productCandidates = map[weights.DType][]productCandidate{r.layers[0].weights.gateUp.dtype: {{64, 3, 8, shaders.AheadNever, true}, {64, 2, 4, shaders.AheadWithin, false}}}
	spreadTrials = slices.Clone(trials)
	for i := range spreadTrials {
		spreadTrials[i].trials = 1
	}
	_, rows, err := r.tuneProducts(1)
	if err != nil {
		return MatvecShape{}, rows, err
	}
	p, err := r.recordProducts(shaders.ProductsShape{Groups: 1, Workgroup: 64, Loads: 2, Team: 4})
	if err != nil {
		return MatvecShape{}, rows, err
	}
	want, err := r.layerOutput(p)
	if err != nil {
		return MatvecShape{}, rows, err
	}
	p, more, err := r.refineProducts([]*layerProducts{p}, want, 1)
	return p.tuned(), append(rows, more...), err
}

// ProcessorsOf is processorsOf.
var ProcessorsOf = processorsOf
