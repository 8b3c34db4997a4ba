// Package ref runs Qwen3 on the CPU in plain Go: the oracle that the GPU path is compared with, and the fallback where
// there is no GPU.
//
// It owns the standard path, written as the equations are (layer.go), over a paged KV cache that is addressed exactly as
// on the GPU: keys and values are written at InferenceContext.Slot and read through InferenceContext.PageTable. It decides
// neither tokens nor pages. In a token's trip it stands between PageManager.Begin and the logits.
//
// Numbers: weights are widened to float32 as packed (value = integer * scale, rounded once); products are added in
// float32, eight partial sums a row in a fixed order; RMSNorm's and softmax's sums are float64, and exp, cos and sin are
// rounded from float64. Every output is computed by one goroutine in an order that depends neither on the number of
// threads nor on how a prompt is cut into passes, so logits are equal bit by bit in all of these cases.
package ref

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// maxTokensPerPass bounds the activations held; longer chunks are not faster.
const maxTokensPerPass = 128

// Options say how much memory and how many threads a Runner takes. Zero values choose defaults.
type Options struct {
	NumPages int            // pages of the KV arena; default: a context of min(4096, the model's limit) tokens
	PageSize int            // tokens a page; default 16
	KVDType  runner.KVDType // default f16
	Threads  int            // goroutines that compute; default GOMAXPROCS
	// Progress is called while weights are read, with bytes done and in all; may be nil.
	Progress func(doneBytes, totalBytes int64)
}

func (o Options) withDefaults(c *config.Config) (Options, error) {
	if o.PageSize == 0 {
		o.PageSize = kvcache.DefaultPageSize
	}
	if o.PageSize < 1 || o.PageSize > 1<<20 {
		return o, fmt.Errorf("ref: pages of %d tokens: use 1 to %d, or 0 for %d", o.PageSize, 1<<20, kvcache.DefaultPageSize)
	}
	if o.NumPages == 0 {
		o.NumPages = (min(4096, c.ContextLimit()) + o.PageSize - 1) / o.PageSize
	}
	if o.NumPages < 1 || o.NumPages > (1<<31)/o.PageSize {
		return o, fmt.Errorf("ref: %d pages of %d tokens: the KV cache takes 1 to %d tokens", o.NumPages, o.PageSize, 1<<31)
	}
	if o.KVDType == "" {
		o.KVDType = runner.KVF16
	}
	if _, err := runner.ParseKVDType(string(o.KVDType)); err != nil {
		return o, fmt.Errorf("ref: %w", err)
	}
	if o.Threads < 0 {
		return o, fmt.Errorf("ref: %d threads: use 1 or more, or 0 for one a processor", o.Threads)
	}
	return o, nil
}

// Runner implements runner.Runner. It is used by one goroutine at a time.
type Runner struct {
	*config.Config
	opt       Options
	maxTokens int
	dtypes    string
	pool      *pool
	closed    bool

	embedTokens *matrix // [vocab, hidden]
	layers      []layer
	norm        []float32 // [hidden]
	lmHead      *matrix   // [vocab, hidden]; embedTokens where tied

	rope    rope
	cache   cache
	act     activations
	product matmul    // the matrix product being computed
	gates   swiGLU    // the gated products being computed
	attend  attention // the attention being computed
}

// layer is one decoder layer's weights.
type layer struct {
	inputLayernorm         []float32 // [hidden]
	qkvProj                *matrix   // [qDim+2*kvDim, hidden]
	qNorm, kNorm           []float32 // [headDim]
	oProj                  *matrix   // [hidden, qDim]
	postAttentionLayernorm []float32 // [hidden]
	gateUpProj             *matrix   // [2*intermediate, hidden], rows 2i gate, 2i+1 up
	downProj               *matrix   // [hidden, intermediate]
}

// activations are the buffers of a pass. Inputs of matrices have rows padded with zeros to the matrices' stride.
type activations struct {
	x      []float32 // [maxTokens, hidden] residual stream
	normed []float32 // [maxTokens, stride(hidden)]
	qkv    []float32 // [maxTokens, qDim+2*kvDim]
	attn   []float32 // [maxTokens, stride(qDim)]
	gateUp []float32 // [maxTokens, 2*intermediate]
	mlp    []float32 // [maxTokens, stride(intermediate)]
}

// New reads all weights into memory, as packed, and reserves the KV cache. m may be closed afterwards.
func New(m *weights.Model, opt Options) (*Runner, error) {
	c := m.Config
	opt, err := opt.withDefaults(c)
	if err != nil {
		return nil, err
	}
	if err := checkMemory(m.WeightBytes(), cacheBytes(c, opt), opt.NumPages*opt.PageSize); err != nil {
		return nil, err
	}
	r := &Runner{Config: c, opt: opt, maxTokens: min(maxTokensPerPass, opt.NumPages*opt.PageSize)}
	if err := r.load(m); err != nil {
		return nil, err
	}
	r.cache = newCache(c, opt)
	r.rope = newRope(c, r.maxTokens)
	floats := func(width int) []float32 { return make([]float32, r.maxTokens*width) }
	r.act = activations{
		x: floats(c.HiddenSize), normed: floats(weights.Stride(c.HiddenSize)), qkv: floats(c.QDim() + 2*c.KVDim()),
		attn: floats(weights.Stride(c.QDim())), gateUp: floats(2 * c.IntermediateSize), mlp: floats(weights.Stride(c.IntermediateSize)),
	}
	r.pool = newPool(opt.Threads)
	r.product.rowBuffers = r.pool.perWorker(r.widest())
	r.attend.r = r
	r.attend.tiles = r.pool.perWorker(opt.PageSize * c.HeadDim)
	r.attend.scores = make([][]float32, r.pool.workers)
	return r, nil
}

// boundKeys moves what bounds the keys from their norm's gain to the queries': scores stay as they are, and keys lie in
// [-1, 1].
func (l *layer) boundKeys(c *config.Config) {
	l.qNorm, l.kNorm = slices.Clone(l.qNorm), slices.Clone(l.kNorm)
	for i, bound := range c.KeyBounds(l.kNorm) {
		l.qNorm[i] *= bound
		l.kNorm[i] /= bound
	}
}

// load reads every matrix and vector.
func (r *Runner) load(m *weights.Model) error {
	l := loader{m: m, progress: r.opt.Progress, total: m.WeightBytes()}
	r.embedTokens = l.matrix("embed_tokens")
	for i := range r.NumHiddenLayers {
		p := fmt.Sprintf("layers.%d.", i)
		r.layers = append(r.layers, layer{
			inputLayernorm: l.vector(p + "input_layernorm"), qkvProj: l.matrix(p + "qkv_proj"),
			qNorm: l.vector(p + "q_norm"), kNorm: l.vector(p + "k_norm"), oProj: l.matrix(p + "o_proj"),
			postAttentionLayernorm: l.vector(p + "post_attention_layernorm"),
			gateUpProj:             l.matrix(p + "gate_up_proj"), downProj: l.matrix(p + "down_proj"),
		})
	}
	if r.opt.KVDType == runner.KVF16 && l.err == nil {
		for i := range r.layers {
			r.layers[i].boundKeys(r.Config)
		}
	}
	r.norm = l.vector("norm")
	r.lmHead = r.embedTokens
	if m.HasLMHead() {
		r.lmHead = l.matrix("lm_head")
	}
	slices.Sort(l.dtypes)
	r.dtypes = strings.Join(slices.Compact(l.dtypes), "+")
	return l.err
}

// widest is the longest row of any matrix, padded.
func (r *Runner) widest() int { return weights.Stride(max(r.HiddenSize, r.QDim(), r.IntermediateSize)) }

// MaxTokensPerPass is the largest chunk of a prefill.
func (r *Runner) MaxTokensPerPass() int { return r.maxTokens }

// Describe says what runs the model.
func (r *Runner) Describe() string {
	threads := "threads"
	if r.pool.workers == 1 {
		threads = "thread"
	}
	return fmt.Sprintf("CPU (plain Go, %d %s), weights %s, KV %s", r.pool.workers, threads, r.dtypes, r.opt.KVDType)
}

// Close ends the threads and drops weights and cache.
func (r *Runner) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.pool.close()
	r.embedTokens, r.lmHead, r.layers, r.cache, r.act = nil, nil, nil, cache{}, activations{}
	return nil
}

// Forward implements runner.Runner. Apart from the returned logits it allocates nothing once the cache is warm.
func (r *Runner) Forward(req runner.Request) ([]float32, error) {
	if err := r.check(req.Context); err != nil {
		return nil, err
	}
	for _, c := range req.Context.Copies() {
		if err := r.cache.copyPage(c); err != nil {
			return nil, err
		}
	}
	logits, err := r.pass(&req)
	if err != nil {
		return nil, r.explain(&req, err)
	}
	return logits, nil
}

// check refuses what cannot be run, before anything is written.
func (r *Runner) check(ic *kvcache.InferenceContext) error {
	if r.closed {
		return errors.New("ref: the runner is closed")
	}
	if ic == nil {
		return errors.New("ref: no inference context: PageManager.Begin makes one")
	}
	if err := ic.Valid(); err != nil {
		return fmt.Errorf("ref: %w", err)
	}
	tokens, table := ic.Tokens(), ic.PageTable()
	switch {
	case len(tokens) != ic.NumTokens():
		return fmt.Errorf("ref: %d of %d tokens are not known yet: this path samples nothing by itself", ic.NumTokens()-len(tokens), ic.NumTokens())
	case len(tokens) > r.maxTokens:
		return fmt.Errorf("ref: %d tokens in one pass, at most %d fit: split the prompt", len(tokens), r.maxTokens)
	case ic.KVLen() > r.ContextLimit():
		return fmt.Errorf("ref: a context of %d tokens, the model takes %d", ic.KVLen(), r.ContextLimit())
	case ic.PageSize() != r.opt.PageSize:
		return fmt.Errorf("ref: the inference context has pages of %d tokens, the cache of %d", ic.PageSize(), r.opt.PageSize)
	case len(table)*r.opt.PageSize < ic.KVLen():
		return fmt.Errorf("ref: the page table has %d pages of %d, too few for %d tokens", len(table), r.opt.PageSize, ic.KVLen())
	}
	for i, t := range tokens {
		if t < 0 || int(t) >= r.VocabSize {
			return fmt.Errorf("ref: token %d of the pass is %d, outside the vocabulary [0, %d)", i, t, r.VocabSize)
		}
		if slot := ic.Slot(i); int64(slot) >= int64(r.cache.numSlots) {
			return fmt.Errorf("ref: token %d of the pass goes to slot %d, the arena has %d", i, slot, r.cache.numSlots)
		}
	}
	for i, p := range table {
		if int64(p) >= int64(r.opt.NumPages) {
			return fmt.Errorf("ref: page table entry %d is page %d, the arena has %d", i, p, r.opt.NumPages)
		}
	}
	return nil
}

// nonFiniteError names a NaN or infinity.
type nonFiniteError struct {
	tensor   string
	position int // of the token in its sequence
	index    int // within the token's row
	value    float32
}

func (e *nonFiniteError) Error() string {
	return fmt.Sprintf("ref: %s is %v at position %d, index %d", e.tensor, e.value, e.position, e.index)
}

// checkFinite looks for the first NaN or infinity in data, [rows, len(data)/rows].
func checkFinite(tensor string, firstPosition, rows int, data []float32) error {
	for i, v := range data {
		if v-v != 0 { // NaN or infinite
			cols := len(data) / rows
			return &nonFiniteError{tensor: tensor, position: firstPosition + i/cols, index: i % cols, value: v}
		}
	}
	return nil
}

// explain names, when a pass failed on a NaN or infinity, the layer and tensor where the first one appears. It repeats
// the pass, which overwrites the same slots with the same numbers.
func (r *Runner) explain(req *runner.Request, err error) error {
	var found *nonFiniteError
	if !errors.As(err, &found) {
		return err
	}
	start := req.Context.Start()
	again := runner.Request{Context: req.Context, Logits: runner.LogitsNone, Tap: func(name string, rows int, data []float32) error {
		return checkFinite(name, start, rows, data)
	}}
	_, err = r.pass(&again)
	var first *nonFiniteError
	if !errors.As(err, &first) {
		return fmt.Errorf("%w: every tensor before it is finite, so it comes from the last product", found)
	}
	if first.tensor == found.tensor {
		return fmt.Errorf("%w: the first tensor of the pass that is not finite", first)
	}
	return fmt.Errorf("%w: the first tensor of the pass that is not finite; it reached %s at position %d, index %d (%v)",
		first, found.tensor, found.position, found.index, found.value)
}
