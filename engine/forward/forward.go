// Package forward runs a Qwen3 model's passes on a gpu.Device with the kernels of the shaders package.
//
// It owns the model's device memory (weights, KV arena, activations), the compiled kernels and the recorded passes. It
// does not decide which tokens to run or which pages they use: that is the InferenceContext's. In a token's trip it
// stands between PageManager.Begin and the logits: Forward writes the step buffer, submits decodePass or prefillPass and
// reads the logits back.
package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// Options say how much memory a Runner takes. Zero values choose defaults.
type Options struct {
	NumPages  int                    // pages of the KV arena; default: a context of min(4096, max_position_embeddings) tokens
	PageSize  int                    // tokens a page; default 16
	KVDType   runner.KVDType         // default f16
	MaxTokens int                    // tokens a pass; default 512, 2048 with much memory, less where a buffer would exceed the limits
	Tuning    map[string]MatvecShape // of Runner.Tuning on the same adapter; what is missing is run in default shapes
	// Progress is called while weights are uploaded, with bytes done and in all; may be nil.
	Progress func(doneBytes, totalBytes int64)
}

// What a device has whose prefill is worth larger chunks.
const (
	largeMemory  = 8 << 30
	largeBinding = 1 << 30
)

func (o Options) withDefaults(c *config.Config, limits gpu.Limits) Options {
	if o.PageSize == 0 {
		o.PageSize = 16
	}
	if o.NumPages == 0 {
		o.NumPages = (min(4096, c.MaxPositionEmbeddings) + o.PageSize - 1) / o.PageSize
	}
	if o.KVDType == "" {
		o.KVDType = runner.KVF16
	}
	if o.MaxTokens == 0 {
		o.MaxTokens = 512
		if limits.MemoryBytes >= largeMemory && limits.MaxStorageBindingBytes >= largeBinding {
			o.MaxTokens = 2048
		}
	}
	widest := 4 * roundUp(max(c.HiddenSize, c.IntermediateSize, c.QDim()+2*c.KVDim()), 32)
	if fit := int(min(partLimit(limits), 1<<40) / uint64(widest)); fit >= 1 {
		o.MaxTokens = min(o.MaxTokens, fit)
	}
	o.MaxTokens = min(o.MaxTokens, o.NumPages*o.PageSize)
	return o
}

// Runner implements runner.Runner on a device. It is used by one goroutine at a time.
type Runner struct {
	dev        gpu.Device
	shape      shape
	memory     Memory
	dtypeNames string

	buffers []gpu.Buffer // everything to release
	act     []gpu.Buffer // activations, by buf* constant
	layers  []layer
	head    *matrix     // lm_head, or the embedding it is tied to
	norm    gpu.Binding // the final one of norms
	norms   gpu.Buffer  // [hiddenPad] f32 each, normBytes apart: by layer input_layernorm and post_attention_layernorm, then norm; by layer [2, headDim], see qkNormOffset

	embedSteps, normSteps, lmHeadSteps, sampleSteps, sampleFullSteps, combineSteps []dispatch

	subgroups     int   // threads of each, 0: decode products do without
	halvesExact   *bool // see halves
	numProcessors int   // see processors; 0: not known
	kernels       map[string]gpu.Kernel
	loading       bool                   // kernels need not be compiled yet
	compiling     []func() error         // what they wait for
	tuned         map[string]MatvecShape // by tuningKey
	groups        []gpu.BindGroup
	decode        map[passSize]*gpu.Pass
	decodeAhead   map[aheadKey]*gpu.Pass // likewise, with lm_head and sampling
	sampleFull    bool                   // draws are from the whole vocabulary
	ahead         ahead
	aheadPasses   []*gpu.Pass      // scratch for SampleAhead
	products      *layerProducts   // in place of five dispatches a layer; nil: none
	firstQKV      []dispatch       // in front of layer_products, once recorded
	bare          []attentionSteps // likewise, attention by layer
	numSampled    uint32           // tokens drawn on the device, as its pass state counts them
	copySteps     []dispatch       // copy-on-write, one a layer
	pageTable     []uint32         // as last written
	step          []byte           // scratch for the step buffer
	logitBytes    []byte
}

// part is a range of a matrix's rows in device memory.
type part struct {
	rowStart, rows int
	data, scales   gpu.Binding // without scales, as with bf16, their Buffer is nil
	params         gpu.Binding // uniform MatrixPart{row_start, num_rows, 0, 0}
}

// withScales adds the scales to a kernel's bindings where there are some.
func (p part) withScales(bindings []gpu.Binding) []gpu.Binding {
	if p.scales.Buffer == nil {
		return bindings
	}
	return append(bindings, p.scales)
}

// matrix is a matrix in device memory, [rows, kPad].
type matrix struct {
	dtype weights.DType
	kPad  int
	parts []part
}

// layer is one decoder layer's memory and its recorded dispatches.
type layer struct {
	weights layerWeights
	decode  struct {
		rmsnormQKV, attnOut, attnOutSplits, attnOutCombined, rmsnormGateUp, down []dispatch

		attention attentionSteps
	}
	prefill struct {
		rowRMS, attention          []dispatch
		qkv, attnOut, gateUp, down matmulSteps
	}
}

// New plans, allocates and uploads. On an error nothing stays allocated.
func New(dev gpu.Device, m *weights.Model, opt Options) (*Runner, error) {
	opt = opt.withDefaults(m.Config, dev.Limits())
	s, err := newShape(m.Config, opt)
	if err != nil {
		return nil, err
	}
	mem, plans, err := planMemory(m, &s, dev.Limits())
	if err != nil {
		return nil, err
	}
	r := &Runner{dev: dev, shape: s, memory: mem, kernels: map[string]gpu.Kernel{}, decode: map[passSize]*gpu.Pass{}, decodeAhead: map[aheadKey]*gpu.Pass{}, tuned: maps.Clone(opt.Tuning)}
	if r.tuned == nil {
		r.tuned = map[string]MatvecShape{}
	}
	r.subgroups = subgroupSize(dev)
	if err := r.load(m, plans, opt.Progress); err != nil {
		r.Close()
		return nil, err
	}
	r.step = make([]byte, s.stepBytes())
	r.logitBytes = make([]byte, 4*s.VocabSize)
	return r, nil
}

// MaxTokensPerPass is the largest chunk of a prefill.
func (r *Runner) MaxTokensPerPass() int { return r.shape.maxTokens }

// Memory tells the bytes allocated on the device.
func (r *Runner) Memory() Memory { return r.memory }

// Describe says what runs the model.
func (r *Runner) Describe() string {
	info := r.dev.Info()
	text := fmt.Sprintf("GPU %s (%s, %s), weights %s, KV %s", info.Name, info.Backend, info.Library, r.dtypeNames, r.shape.kv)
	if r.subgroups > 0 {
		text += fmt.Sprintf(", subgroups of %d", r.subgroups)
	}
	return text
}

// Close frees all device memory of this model; the device stays open.
func (r *Runner) Close() error {
	for _, g := range r.groups {
		g.Release()
	}
	for _, k := range r.kernels {
		k.Release()
	}
	for _, b := range r.buffers {
		b.Release()
	}
	r.groups, r.kernels, r.buffers, r.firstQKV, r.bare, r.products, r.decode, r.decodeAhead = nil, nil, nil, nil, nil, nil, nil, nil
	return nil
}

// Forward implements runner.Runner.
func (r *Runner) Forward(req runner.Request) ([]float32, error) {
	r.ahead = ahead{}
	if err := r.writeStep(req); err != nil {
		return nil, err
	}
	logits, err := r.run(req, req.Tap)
	var bad *nonFiniteError
	if errors.As(err, &bad) && req.Tap == nil {
		repeat, readErr := r.gaveUp()
		if readErr != nil {
			return nil, readErr
		}
		if repeat {
			return r.Forward(req)
		}
		return nil, r.findNonFinite(req, bad)
	}
	if err == nil && req.Logits == runner.LogitsNone {
		r.ahead = ahead{ic: req.Context, kvLen: req.Context.KVLen()}
	}
	return logits, err
}

// run submits the pass that the step buffer describes and reads what was asked for.
func (r *Runner) run(req runner.Request, tap runner.Tap) ([]float32, error) {
	n := r.passSize(req.Context)
	var err error
	if tap == nil {
		err = r.dev.Submit(r.pass(n))
	} else {
		err = r.runTapped(r.segments(n, nil), n, tap)
	}
	if err != nil {
		return nil, err
	}
	switch req.Logits {
	case runner.LogitsNone:
		return nil, nil
	case runner.LogitsLast:
		return r.logits(nil, n.tokens-1)
	}
	all := make([]float32, 0, n.tokens*r.shape.VocabSize)
	for row := range n.tokens {
		if all, err = r.logits(all, row); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// passSize is that of a context's pass.
func (r *Runner) passSize(ic *kvcache.InferenceContext) passSize {
	if ic.NumTokens() > 1 {
		return passSize{tokens: ic.NumTokens()}
	}
	return r.decodeSize(ic.Start())
}

// decodeSize is that of one token at position pos.
func (r *Runner) decodeSize(pos int) passSize {
	if attend := r.products.attends(pos); attend != apart {
		return passSize{tokens: 1, attend: attend}
	}
	return passSize{tokens: 1, splits: r.shape.numSplits(pos)}
}

// segments lists the dispatches of a pass, of one token with products between attentions, which have no taps, or with nil without.
func (r *Runner) segments(n passSize, products *layerProducts) []segment {
	if n.tokens == 1 {
		return r.decodeSegments(n, products)
	}
	return r.prefillSegments(n.tokens)
}

// pass joins the segments. Decode passes are recorded once and kept.
func (r *Runner) pass(n passSize) *gpu.Pass {
	if n.tokens > 1 {
		return joinSegments(r.segments(n, r.products), n, "prefill")
	}
	pass := r.decode[n]
	if pass == nil {
		pass = joinSegments(r.segments(n, r.products), n, "decode")
		r.decode[n] = pass
	}
	return pass
}

// logits runs the final norm and lm_head on one row of x and appends [vocab] numbers to dst.
func (r *Runner) logits(dst []float32, row int) ([]float32, error) {
	var word [4]byte
	binary.LittleEndian.PutUint32(word[:], uint32(row))
	if err := r.dev.Write(r.act[bufStep], 4*stateLogitsRow, word[:]); err != nil {
		return nil, err
	}
	pass := joinSegments([]segment{{dispatches: r.lmHeadSteps}}, passSize{}, "lm_head")
	if err := gpu.Read(r.dev, r.act[bufLogits], 0, r.logitBytes, pass); err != nil {
		return nil, err
	}
	start := len(dst)
	dst = append(dst, make([]float32, r.shape.VocabSize)...)
	out := dst[start:]
	for i := range out {
		v := math.Float32frombits(binary.LittleEndian.Uint32(r.logitBytes[4*i:]))
		if v-v != 0 { // NaN or infinite
			return nil, &nonFiniteError{tensor: "logits", row: row, index: i, value: v}
		}
		out[i] = v
	}
	return dst, nil
}

// nonFiniteError names the first NaN or infinity found.
type nonFiniteError struct {
	tensor     string
	row, index int
	value      float32
}

func (e *nonFiniteError) Error() string {
	return fmt.Sprintf("forward: %s is %v at token %d of the pass, index %d", e.tensor, e.value, e.row, e.index)
}

// findNonFinite repeats a failed pass (it overwrites the same slots with the same numbers) and names the tensor where the
// first NaN or infinity appears.
func (r *Runner) findNonFinite(req runner.Request, found *nonFiniteError) error {
	req.Logits = runner.LogitsNone
	_, err := r.run(req, func(name string, rows int, data []float32) error {
		for i, v := range data {
			if v-v != 0 {
				cols := len(data) / rows
				return &nonFiniteError{tensor: name, row: i / cols, index: i % cols, value: v}
			}
		}
		return nil
	})
	if err == nil {
		err = found
	}
	return fmt.Errorf("%w (positions from %d): the weights or the KV cache format cannot represent this model's activations; try --kv f32, and `trace --compare`", err, req.Context.Start())
}

// Words of the step buffer's state, as kernels read them from pass_state.
const (
	stateNumTokens = iota
	stateStart
	stateKVLen
	stateNumSplits
	stateLogitsRow
	stateNumSampled // tokens drawn on the device so far, modulo 2^32
)

// writeStep checks the request and writes state, token ids, page table and page copies for the pass.
func (r *Runner) writeStep(req runner.Request) error {
	ic := req.Context
	if ic == nil {
		return errors.New("forward: no inference context")
	}
	if err := ic.Valid(); err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	s := &r.shape
	tokens, table := ic.Tokens(), ic.PageTable()
	if len(tokens) != ic.NumTokens() {
		return fmt.Errorf("forward: %d of %d tokens are not known yet", ic.NumTokens()-len(tokens), ic.NumTokens())
	}
	if len(tokens) > s.maxTokens {
		return fmt.Errorf("forward: %d tokens in one pass, at most %d fit: split the prompt", len(tokens), s.maxTokens)
	}
	if ic.PageSize() != s.pageSize {
		return fmt.Errorf("forward: the inference context has pages of %d tokens, the cache of %d", ic.PageSize(), s.pageSize)
	}
	for i, t := range tokens {
		if t < 0 || int(t) >= s.VocabSize {
			return fmt.Errorf("forward: token %d of the pass is %d, outside the vocabulary [0, %d)", i, t, s.VocabSize)
		}
	}
	if err := r.checkTable(table, ic.KVLen()); err != nil {
		return err
	}
	if err := r.copyOnWrite(ic.Copies()); err != nil {
		return err
	}
	state := [8]uint32{
		stateNumTokens: uint32(len(tokens)), stateStart: uint32(ic.Start()), stateKVLen: uint32(ic.KVLen()),
		stateNumSplits: uint32(s.numSplits(ic.Start())), stateLogitsRow: uint32(len(tokens) - 1),
		stateNumSampled: r.numSampled,
	}
	putUint32s(r.step, state[:])
	at := s.tokensOffset()
	for i, t := range tokens {
		binary.LittleEndian.PutUint32(r.step[at+4*uint64(i):], uint32(t))
	}
	if err := r.dev.Write(r.act[bufStep], 0, r.step[:at+4*uint64(len(tokens))]); err != nil {
		return err
	}
	return r.writePageTable(table)
}

// checkTable refuses what would reach outside the arena.
func (r *Runner) checkTable(table []uint32, kvLen int) error {
	s := &r.shape
	if kvLen > s.MaxPositionEmbeddings || len(table) > s.maxPages {
		return fmt.Errorf("forward: a context of %d tokens does not fit: the model takes %d, the KV cache %d", kvLen, s.MaxPositionEmbeddings, s.maxPages*s.pageSize)
	}
	for i, p := range table {
		if int(p) >= s.numPages {
			return fmt.Errorf("forward: page table entry %d is page %d, the arena has %d", i, p, s.numPages)
		}
	}
	return nil
}

// writePageTable writes the entries that differ from the ones on the device.
func (r *Runner) writePageTable(table []uint32) error {
	same := 0
	for same < len(table) && same < len(r.pageTable) && table[same] == r.pageTable[same] {
		same++
	}
	if same == len(table) {
		return nil
	}
	at := r.shape.pageTableOffset()
	putUint32s(r.step[at:], table)
	from := at + 4*uint64(same)
	if err := r.dev.Write(r.act[bufStep], from, r.step[from:at+4*uint64(len(table))]); err != nil {
		r.pageTable = r.pageTable[:0]
		return err
	}
	r.pageTable = append(r.pageTable[:0], table...)
	return nil
}

func putUint32s(dst []byte, values []uint32) {
	for i, v := range values {
		binary.LittleEndian.PutUint32(dst[4*i:], v)
	}
}
