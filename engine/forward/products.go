package forward

// Layers in few dispatches (layer_products): workgroups that stay on the device and hand each other their rows, from one attention to the next,
// or, unless the context is long, with attention in front from layer to layer. They all have to run at the same time, which only a trial
// shows: tuneProducts makes it.

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// layerProducts are the recorded dispatches of one shape.
type layerProducts struct {
	shape shaders.ProductsShape // Apart where the device cannot attend in it
	// Of neighbouring layers, with attention: of a workgroup a head, to at most wholeTo positions, in splits, to at most splitsTo, and, where
	// long is not Apart, in splits of all query heads of a KV head to more. The last two are nil until they are used. Not with Apart.
	whole, inSplits, inWideSplits []dispatch
	wholeTo, splitsTo             int
	trial                         dispatch // of layer 0 alone
	// Otherwise, by layer, in the shape long: behind attention in up to fusedSplits splits, and in more; what is not timed is nil until it is used.
	few, many []dispatch
	long      shaders.ProductsShape
}

// attending tells how layer_products attends.
type attending int

const (
	apart attending = iota // not at all
	whole
	inSplits
	inWideSplits
)

const (
	splitsBuffers = 5 // storage buffers of layer_products, besides scales
	attendBuffers = 8 // with attention in front

	unsetWord    = 0x7fc0a5a5
	maxRunGroups = 128 // workgroups that attend in splits
	maxRunQTile  = 2   // query heads of a workgroup, at most, unless the context is long: with four most shapes outgrow the instruction cache of a large GPU
	wideThreads  = 512 // of a workgroup that attends with more, at most: it takes 128 registers a thread
	manyThreads  = 768 // of a workgroup: with more, attention may have too few registers to be worth having in front

	layerWords = 64 // of a layer in layers, see layer_products.wgsl
)

// productsName is layer_products among the names of decodeMatvecs, longProductsName that of contexts from manyPerHead positions on, where it
// has a shape of its own for them: see attendsWide.
const (
	productsName     = "layer_products"
	longProductsName = "layer_products of long contexts"
)

// canFuse tells whether the device can take all matrices of a layer in one dispatch.
func (r *Runner) canFuse() bool {
	first := r.layers[0].weights.gateUp
	for i := range r.layers {
		slab := r.layers[i].weights.o.parts[0].data.Buffer
		for _, m := range r.between(i) {
			if len(m.parts) != 1 || m.dtype != first.dtype || m.parts[0].data.Buffer != slab || m.parts[0].scales.Buffer != nil && m.parts[0].scales.Buffer != slab {
				return false
			}
		}
	}
	return len(r.layers) > 1 && r.hasBuffers(splitsBuffers)
}

// hasBuffers tells whether a kernel may have so many storage buffers, and scales.
func (r *Runner) hasBuffers(n int) bool {
	if r.layers[0].weights.gateUp.parts[0].scales.Buffer != nil {
		n++
	}
	return int(r.dev.Limits().MaxStorageBuffersPerStage) >= n
}

// between are the matrices from a layer's attention to the next one's; the last layer has one less.
func (r *Runner) between(layer int) []*matrix {
	w := &r.layers[layer].weights
	matrices := []*matrix{w.o, w.gateUp, w.down}
	if layer+1 < len(r.layers) {
		matrices = append(matrices, r.layers[layer+1].weights.qkv)
	}
	return matrices
}

// fuses tells whether it may be worth it: a CPU runs few workgroups at the same time, and none faster for it.
func (r *Runner) fuses() bool { return r.canFuse() && (r.dev.Info().Type != "cpu" || fuseOnCPU) }

// clearExchange makes its numbers unset, with no wait given up.
func (r *Runner) clearExchange() error {
	words := make([]uint32, r.shape.placeOf(r.shape.NumHiddenLayers))
	for i := range words[1:] {
		words[1+i] = unsetWord
	}
	raw := make([]byte, 4*len(words))
	putUint32s(raw, words)
	return r.dev.Write(r.act[bufExchange], 0, raw)
}

// layerRun is layers first to end-1, of one dispatch.
type layerRun struct{ first, end int }

// runs are of as many neighbours as have their weights, keys and values in the same buffers, and at least two, since a run clears the places
// of another.
func (r *Runner) runs() (runs []layerRun) {
	for i := range r.layers {
		if last := len(runs) - 1; last >= 0 {
			w, first := &r.layers[i].weights, &r.layers[runs[last].first].weights
			if w.o.parts[0].data.Buffer == first.o.parts[0].data.Buffer && w.k.Buffer == first.k.Buffer && w.v.Buffer == first.v.Buffer {
				runs[last].end++
				continue
			}
		}
		runs = append(runs, layerRun{i, i + 1})
	}
	if n := len(r.layers); len(runs) == 1 {
		runs = []layerRun{{0, (n + 1) / 2}, {(n + 1) / 2, n}}
	}
	return runs
}

// longestRun is how many layers a run has at most.
func (r *Runner) longestRun() (longest int) {
	for _, run := range r.runs() {
		longest = max(longest, run.end-run.first)
	}
	return longest
}

// writeLayers writes what layersFrom binds, four words for each of layer_products.wgsl's constants *_VEC.
func (r *Runner) writeLayers() error {
	s, runs, n := &r.shape, r.runs(), len(r.layers)
	table := make([]uint32, layerWords*2*n)
	for i := range r.layers {
		w, row := &r.layers[i].weights, table[layerWords*i:]
		place := s.placeOf(i)
		next := min(i+1, n-1)
		copy(row, []uint32{uint32(place), 0, uint32(s.projectionsOf(i) - place), uint32(next - i)})
		if i > 0 {
			row[1] = uint32(s.placeOf(i-1) + s.HiddenSize + s.IntermediateSize - place)
		}
		for j, m := range r.between(i) {
			row[4+j] = uint32(m.parts[0].data.Offset / 16)
			row[8+j] = uint32(m.parts[0].scales.Offset / 4)
		}
		copy(row[12:], []uint32{uint32(w.postNorm.Offset / 4), uint32(r.layers[next].weights.inputNorm.Offset / 4), uint32(w.qkNorms.Offset / 4)})
		copy(row[16:], []uint32{uint32(w.k.Offset / uint64(8*s.kv.Bytes())), uint32(w.v.Offset / uint64(4*s.kv.Bytes()))})
		if i > 0 {
			copy(row[25:], r.cleared(layerRun{i - 1, i}))
		}
	}
	before := runs[len(runs)-1]
	copy(table[25:], r.cleared(before)) // a pass in splits may follow one in runs
	for _, run := range runs {
		row := table[layerWords*run.first:]
		row[20] = uint32(run.end - run.first)
		copy(row[21:], r.cleared(before))
		before = run
	}
	trial := table[layerWords*n:]
	copy(trial, table[:layerWords])
	trial[20] = 1
	raw := make([]byte, 4*len(table))
	putUint32s(raw, table)
	return r.dev.Write(r.act[bufLayers], 0, raw)
}

// cleared is from where to where the exchange holds what was handed on in a run, and to the first of its layers: not what is handed on to the
// layer behind it, which is read while the rest is cleared.
func (r *Runner) cleared(run layerRun) []uint32 {
	s := &r.shape
	if run.end == s.NumHiddenLayers {
		return []uint32{uint32(s.projectionsOf(run.first)), uint32(s.placeOf(run.end))}
	}
	return []uint32{uint32(s.projectionsOf(run.first)), uint32(s.projectionsOf(run.end))}
}

// layersFrom binds n layers of what writeLayers writes, from first on; behind the last layer is layer 0 for a trial.
func (r *Runner) layersFrom(first, n int) gpu.Binding {
	return gpu.Binding{Buffer: r.act[bufLayers], Offset: uint64(4 * layerWords * first), Size: uint64(4 * layerWords * n)}
}

// projections are a layer's q, k and v in the exchange.
func (r *Runner) projections(layer int) gpu.Binding {
	s := &r.shape
	return gpu.Binding{Buffer: r.act[bufExchange], Offset: uint64(4 * s.projectionsOf(layer)), Size: uint64(4 * (s.QDim() + 2*s.KVDim()))}
}

// recordProducts records layer_products in a shape; nil: it does not fit the device.
func (r *Runner) recordProducts(shape shaders.ProductsShape) (*layerProducts, error) {
	opt, shape, ok := r.productsOptions(shape)
	if !ok {
		return nil, nil
	}
	var err error
	if r.firstQKV == nil {
		if err = r.writeLayers(); err != nil {
			return nil, err
		}
		if err = r.recordFirstQKV(); err != nil {
			return nil, err
		}
	}
	p := &layerProducts{shape: shape}
	attend, ok := r.attendOptions(shape, 1, 1)
	p.shape.Apart = shape.Apart || !ok
	p.long = p.shape
	p.long.Apart = true
	if p.shape.Apart {
		p.few, err = r.recordLayers(opt)
		return p, err
	}
	p.wholeTo = attendRounds * shape.AttentionTile(r.shape.headPad)
	if p.whole, err = r.recordRuns(attend); err != nil {
		return nil, err
	}
	p.trial, err = r.recordRun(attend, 0, len(r.layers))
	return p, err
}

// recordRest records what a shape needs besides that which tuning times: nothing for longer contexts than there can be.
func (r *Runner) recordRest(p *layerProducts) (err error) {
	if p.many != nil || p.inSplits != nil || p.inWideSplits != nil {
		return nil
	}
	inSplits, splitsTo := r.attendsInSplits(p.shape)
	if p.splitsTo = splitsTo; splitsTo > 0 {
		if p.inSplits, err = r.recordRuns(inSplits); err != nil || splitsTo >= r.shape.maxPages*r.shape.pageSize {
			return err
		}
	}
	if wide, ok := r.attendsWide(p.long); ok {
		p.inWideSplits, err = r.recordRuns(wide)
		return err
	}
	return r.recordLong(p)
}

// recordWide records layer_products with attention of wide splits in front, for contexts of any length; nil: it does not fit the device.
func (r *Runner) recordWide(shape shaders.ProductsShape) (*layerProducts, error) {
	_, shape, ok := r.productsOptions(shape)
	wide, fits := r.attendsWide(shape)
	if !ok || !fits {
		return nil, nil
	}
	p := &layerProducts{shape: shape, long: shape}
	var err error
	if p.inWideSplits, err = r.recordRuns(wide); err != nil {
		return nil, err
	}
	p.trial, err = r.recordRun(wide, 0, len(r.layers))
	return p, err
}

// attendsWide gives the options with which layer_products attends to a long context, all query heads of a KV head to a workgroup; ok is false
// when it does not, and attention is a dispatch of its own. One dispatch costs the processor less, and the GPU about as much.
func (r *Runner) attendsWide(shape shaders.ProductsShape) (opt shaders.Options, ok bool) {
	s := &r.shape
	if shape.Apart || shape.Workgroup > wideThreads || s.qTile > s.wideQTile() {
		return opt, false
	}
	return r.attendOptions(shape, s.runSplits(shape.Groups, s.wideQTile()), s.wideQTile())
}

// attendsInSplits gives the options with which layer_products attends in splits, and to how many positions; 0: not at all.
func (r *Runner) attendsInSplits(shape shaders.ProductsShape) (opt shaders.Options, positions int) {
	if shape.Apart {
		return opt, 0
	}
	tile := r.shape.runQTile()
	opt, ok := r.attendOptions(shape, r.shape.runSplits(shape.Groups, tile), tile)
	switch {
	case !ok:
		return opt, 0
	case r.shape.qTile <= maxRunQTile:
		return opt, math.MaxInt
	}
	return opt, manyPerHead
}

// hasLong tells whether the products of longer contexts have a shape of their own.
func (r *Runner) hasLong(shape shaders.ProductsShape) bool {
	_, positions := r.attendsInSplits(shape)
	return !shape.Apart && positions < math.MaxInt
}

// recordLong records the products behind attention in a dispatch of its own.
func (r *Runner) recordLong(p *layerProducts) (err error) {
	opt, _, _ := r.productsOptions(p.long)
	if p.few == nil {
		if p.few, err = r.recordLayers(opt); err != nil {
			return err
		}
	}
	opt.Consts["MANY_SPLITS"] = 1
	p.many, err = r.recordLayers(opt)
	return err
}

// recordRuns records layer_products with attention in front, a dispatch a run.
func (r *Runner) recordRuns(opt shaders.Options) (runs []dispatch, err error) {
	for _, run := range r.runs() {
		d, err := r.recordRun(opt, run.first, run.first)
		if err != nil {
			return nil, err
		}
		runs = append(runs, d)
	}
	return runs, nil
}

// recordRun records layer_products with attention in front for the layers that start at row of layers, layer first and its neighbours.
func (r *Runner) recordRun(opt shaders.Options, first, row int) (dispatch, error) {
	w := &r.layers[first].weights
	return r.recordDispatch(opt, w, r.layersFrom(row, int(opt.Consts["ALL_VECS"])/(layerWords/4)), r.whole(bufStep), r.whole(bufRope), gpu.Whole(w.k.Buffer), gpu.Whole(w.v.Buffer))
}

// recordLayers records layer_products behind splits, a dispatch a layer, and the attention in front if it is not there yet.
func (r *Runner) recordLayers(opt shaders.Options) (layers []dispatch, err error) {
	if r.bare == nil {
		if err := r.recordBare(); err != nil {
			return nil, err
		}
	}
	for i := range r.layers {
		d, err := r.recordDispatch(opt, &r.layers[i].weights, r.layersFrom(i, 1), r.whole(bufSplits))
		if err != nil {
			return nil, err
		}
		layers = append(layers, d)
	}
	return layers, nil
}

// recordDispatch records a dispatch of layer_products, with what is in front of it.
func (r *Runner) recordDispatch(opt shaders.Options, w *layerWeights, layers gpu.Binding, front ...gpu.Binding) (dispatch, error) {
	p := w.o.parts[0]
	bindings := append([]gpu.Binding{r.state(), layers, r.whole(bufX), r.whole(bufExchange), gpu.Whole(r.norms), gpu.Whole(p.data.Buffer)}, front...)
	if p.scales.Buffer != nil {
		bindings = append(bindings, gpu.Whole(p.scales.Buffer))
	}
	groups := opt.Consts["GROUPS"]
	return r.dispatch(productsName, opt, func(passSize) [3]uint32 { return [3]uint32{groups, 1, 1} }, bindings...)
}

// attends tells how the token at position pos attends.
func (p *layerProducts) attends(pos int) attending {
	switch {
	case p == nil || p.shape.Apart:
		return apart
	case pos < p.wholeTo:
		return whole
	case pos < p.splitsTo:
		return inSplits
	case p.inWideSplits != nil:
		return inWideSplits
	}
	return apart
}

// behind are a layer's products behind its attention in so many splits.
func (p *layerProducts) behind(layer, numSplits int) []dispatch {
	if numSplits > fusedSplits {
		return p.many[layer : layer+1]
	}
	return p.few[layer : layer+1]
}

// productsOptions are the kernel's for this model, with the shape's spreads filled in; ok is false when a shape does not fit the device.
func (r *Runner) productsOptions(shape shaders.ProductsShape) (opt shaders.Options, filled shaders.ProductsShape, ok bool) {
	s, limits := &r.shape, r.dev.Limits()
	opt = shaders.Options{
		Weight: string(r.layers[0].weights.gateUp.dtype),
		Consts: map[string]uint32{
			"HIDDEN": uint32(s.HiddenSize), "INTERMEDIATE": uint32(s.IntermediateSize), "NUM_HEADS": uint32(s.NumAttentionHeads),
			"HEAD_DIM": uint32(s.HeadDim), "Q_PAD": uint32(s.qPad), "FUSED_SPLITS": fusedSplits, "ML_BASE": uint32(maxSplits * s.qPad),
			"QKV_AT": uint32(s.handedQKV()), "ALL_VECS": layerWords / 4,
		},
		Floats: map[string]float32{"EPS": s.RMSNormEps},
	}
	if shape.Groups > maxProductGroups || shape.Workgroup > matvecThreads(limits) {
		return opt, shape, false
	}
	filled, ok = shape.AddTo(&opt, s.products(), int(limits.MaxWorkgroupStorageBytes), s.coefBytes())
	return opt, filled, ok && (!shape.Halves || r.halves())
}

// attendOptions are the kernel's with attention in front, of qTile query heads to a workgroup and so many splits, in a shape that
// productsOptions has filled in; ok is false when the device has too few buffers or too little memory for it.
func (r *Runner) attendOptions(shape shaders.ProductsShape, splits, qTile int) (opt shaders.Options, ok bool) {
	s, limits := &r.shape, r.dev.Limits()
	if !r.hasBuffers(attendBuffers) {
		return opt, false
	}
	opt = shaders.Options{
		Weight: string(r.layers[0].weights.gateUp.dtype), KV: string(s.kv), Attention: true,
		Consts: s.attentionConsts(),
		Floats: s.attentionFloats(),
	}
	maps.Copy(opt.Consts, map[string]uint32{
		"HIDDEN": uint32(s.HiddenSize), "INTERMEDIATE": uint32(s.IntermediateSize), "QKV_AT": uint32(s.handedQKV()), "ALL_VECS": uint32(r.longestRun() * layerWords / 4),
		"SPLITS": uint32(splits), "Q_TILE": uint32(qTile), "Q_TILES": uint32(s.qTiles(qTile)), "PIPELINED": uint32(min(splits-1, 1)),
	})
	_, ok = shape.AddTo(&opt, s.products(), int(limits.MaxWorkgroupStorageBytes), 0)
	return opt, ok
}

// products are layer_products' in the order of their bindings.
func (s *shape) products() []shaders.Product {
	return []shaders.Product{
		{Name: "attn_out", Rows: s.HiddenSize, K: s.QDim(), KPad: s.qPad},
		{Name: "gate_up", Rows: 2 * s.IntermediateSize, K: s.HiddenSize, KPad: s.hiddenPad, Norm: true, Pairs: true},
		{Name: "down", Rows: s.HiddenSize, K: s.IntermediateSize, KPad: s.interPad},
		{Name: "qkv", Rows: s.QDim() + 2*s.KVDim(), K: s.HiddenSize, KPad: s.hiddenPad, Norm: true},
	}
}

// coefBytes is what the factors of splits take of layer_products' workgroup memory.
func (s *shape) coefBytes() int { return 16 * s.NumAttentionHeads }

// useProducts has decode passes use p from now on; nil: five dispatches a layer.
func (r *Runner) useProducts(p *layerProducts) error {
	if p != nil {
		if err := r.recordRest(p); err != nil {
			return err
		}
		if err := r.clearExchange(); err != nil {
			return err
		}
	}
	r.products = p
	clear(r.decode)
	clear(r.decodeAhead)
	return nil
}

// restoreProducts records the shape that an earlier tuning chose, if it chose one that fits.
func (r *Runner) restoreProducts() error {
	v := r.tuned[r.productsKey()]
	if v.Groups == 0 || !r.canFuse() {
		return nil
	}
	p, err := r.recordProducts(productsShape(v))
	if p == nil { // a damaged tuning file might say anything
		return err
	}
	if r.hasLong(p.shape) {
		long := productsShape(r.tuned[r.longProductsKey()])
		if _, filled, ok := r.productsOptions(long); ok {
			if _, wide := r.attendsWide(filled); wide || long.Apart {
				p.long = filled
			}
		}
	}
	return r.useProducts(p)
}

func (r *Runner) productsKey() string { return tuningKey(productsName, r.layers[0].weights.gateUp) }

func (r *Runner) longProductsKey() string {
	return tuningKey(longProductsName, r.layers[0].weights.gateUp)
}

// gaveUp tells whether layer_products has given up a wait, so that what it computed is not finite. It is not used from then on;
// the passes can be repeated.
func (r *Runner) gaveUp() (bool, error) {
	if r.products == nil {
		return false, nil
	}
	up, err := r.waitGivenUp()
	if up {
		err = r.useProducts(nil)
	}
	return up, err
}

// waitGivenUp tells whether a wait was given up since the exchange was cleared.
func (r *Runner) waitGivenUp() (bool, error) {
	var word [4]byte
	err := gpu.Read(r.dev, r.act[bufExchange], 0, word[:])
	return binary.LittleEndian.Uint32(word[:]) != 0, err
}

// productCandidates are the shapes that tuning begins with: those that were the fastest on an H200 for some model, and their
// neighbours. 640 threads share hidden sizes of 2,560 evenly.
var productCandidates = map[weights.DType][]productCandidate{
	weights.BF16: {
		{512, 6, 32, shaders.AheadNever, true}, {512, 8, 32, shaders.AheadNever, true}, {640, 4, 32, shaders.AheadNever, true}, {1024, 2, 32, shaders.AheadNever, true}, {1024, 4, 32, shaders.AheadNever, true},
		{512, 4, 32, shaders.AheadWithin, false}, {1024, 2, 32, shaders.AheadWithin, false}, {1024, 2, 32, shaders.AheadNever, false},
	},
	weights.Q8: {
		{512, 1, 16, shaders.AheadWithin, false}, {512, 1, 64, shaders.AheadWithin, false}, {512, 8, 32, shaders.AheadWithin, true}, {640, 1, 16, shaders.AheadWithin, false},
		{768, 1, 16, shaders.AheadWithin, false}, {1024, 1, 32, shaders.AheadWithin, false},
		{640, 4, 16, shaders.AheadNever, true}, {640, 4, 32, shaders.AheadWithin, false}, {256, 4, 16, shaders.AheadBehind, true}, {1024, 2, 32, shaders.AheadBehind, false},
	},
	weights.Q4: {
		{256, 1, 8, shaders.AheadWithin, false}, {512, 1, 16, shaders.AheadWithin, false}, {512, 1, 64, shaders.AheadWithin, false}, {640, 1, 16, shaders.AheadWithin, false},
		{640, 1, 32, shaders.AheadWithin, false}, {768, 1, 16, shaders.AheadWithin, false}, {1024, 1, 32, shaders.AheadWithin, false},
		{256, 1, 8, shaders.AheadWithin, true}, {512, 1, 64, shaders.AheadWithin, true},
		{256, 4, 16, shaders.AheadBehind, true}, {640, 4, 16, shaders.AheadBehind, true}, {1024, 2, 32, shaders.AheadBehind, false},
	},
}

type productCandidate struct {
	threads, loads, team int
	ahead                shaders.Ahead
	together             bool
}

// spreadTrials says how many other spreads of each product tuning tries, the product first that reads most.
var spreadTrials = []struct{ product, trials int }{{1, 6}, {2, 5}, {3, 4}, {0, 5}}

// longTrials are those for long contexts: of the product that combines the splits of attention in a dispatch of its own, and of the largest.
var longTrials = []struct{ product, trials int }{{0, 5}, {1, 4}}

var (
	attendRounds     = 2    // of attention of a workgroup a head: longer contexts are faster in splits
	manyPerHead      = 6144 // positions from which on, with more than maxRunQTile query heads a KV head, attention that reads less is faster
	maxProductGroups = 4096
	fuseOnCPU        = false // for tests
)

// tuneProducts finds out how many processors the GPU has and in which shape of layer_products, with a workgroup on each, a decode
// step of a short context is fastest: of the candidates first, then of those that differ from the best of them in the spread of one
// product, product by product. It returns that shape's dispatches (nil: five dispatches a layer are as fast), with the measurements, the
// first of which is of five dispatches; a row's time is that of a step without lm_head.
func (r *Runner) tuneProducts(rounds int) (*layerProducts, []TuneRow, error) {
	if err := r.useProducts(nil); err != nil || !r.fuses() {
		return nil, nil, err
	}
	first, second := &r.layers[0].decode, &r.layers[1].decode
	want, err := r.productsOutput(slices.Concat(first.attention.in(1), first.attnOut, first.rmsnormGateUp, first.down, second.rmsnormQKV), r.whole(bufQKV))
	if err != nil {
		return nil, nil, err
	}
	groups, err := r.processors()
	if err != nil {
		return nil, nil, err
	}
	r.numProcessors = groups
	choices, err := r.addProducts([]*layerProducts{nil}, r.productStarts(groups), r.recordProducts, want)
	if err != nil {
		return nil, nil, err
	}
	best, rows, err := r.timeProducts(choices, rounds, 1)
	if best == nil || err != nil {
		return nil, rows, err
	}
	tracks := []*layerProducts{best}
	if other := fastestProducts(choices, rows, func(p *layerProducts) bool { return p != nil && !p.onTrack(best) }); other != nil {
		tracks = append(tracks, other)
	}
	best, more, err := r.refineProducts(tracks, want, rounds)
	rows = append(rows, more...)
	if best == nil || err != nil {
		return nil, rows, err
	}
	more, err = r.tuneLong(best, want, rounds)
	return best, append(rows, more...), err
}

// recordShape is recordProducts or recordWide.
type recordShape func(shape shaders.ProductsShape) (*layerProducts, error)

// tuneLong finds the shape of long contexts, where best has another for them: what is as fast in short ones may cost a tenth here. Attention is a
// dispatch of its own, or in front of the products where that is faster. A row's time is that of a step without lm_head, whose attention has
// nothing to read.
func (r *Runner) tuneLong(best *layerProducts, want []float32, rounds int) (rows []TuneRow, err error) {
	if !r.hasLong(best.shape) {
		return nil, nil
	}
	var choices []*layerProducts
	for _, start := range []struct {
		record recordShape
		shape  shaders.ProductsShape
	}{{r.recordProducts, best.long}, {r.recordWide, best.shape}} {
		fastest, more, err := r.refineLong(start.record, start.shape, want, rounds)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
		if fastest != nil {
			choices = append(choices, fastest)
		}
	}
	if len(choices) == 0 {
		return rows, nil
	}
	fastest, more, err := r.timeLong(choices, rounds)
	rows = append(rows, more...)
	if fastest != nil {
		best.long = fastest.shape
	}
	return rows, err
}

// refineLong tries other spreads of a shape of long contexts, product by product; nil: it does not fit the device, or a wait was given up.
func (r *Runner) refineLong(record recordShape, shape shaders.ProductsShape, want []float32, rounds int) (fastest *layerProducts, rows []TuneRow, err error) {
	choices, err := r.addProducts(nil, []shaders.ProductsShape{shape}, record, want)
	if len(choices) == 0 || err != nil {
		return nil, nil, err
	}
	for _, t := range longTrials {
		if choices, err = r.addProducts(choices[:1], r.alternatives(choices[0].shape, t.product, t.trials), record, want); err != nil {
			return nil, rows, err
		}
		err = r.inParallel(func() error {
			for _, p := range choices {
				if err := r.recordRest(p); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, rows, err
		}
		fastest, more, err := r.timeLong(choices, rounds)
		rows = append(rows, more...)
		if fastest == nil || err != nil {
			return nil, rows, err
		}
		choices = []*layerProducts{fastest}
	}
	return choices[0], rows, nil
}

// timeLong is timeProducts for long contexts.
func (r *Runner) timeLong(choices []*layerProducts, rounds int) (*layerProducts, []TuneRow, error) {
	fastest, rows, err := r.timeProducts(choices, rounds, r.shape.longSplits())
	for i := range rows {
		rows[i].Kernel = longProductsName
	}
	return fastest, rows, err
}

// alternatives are at most n shapes like s with other spreads of a product.
func (r *Runner) alternatives(s shaders.ProductsShape, product, n int) []shaders.ProductsShape {
	weight := string(r.layers[0].weights.gateUp.dtype)
	return s.Alternatives(r.shape.products(), product, weight, int(r.dev.Limits().MaxWorkgroupStorageBytes), r.shape.coefBytes(), n)
}

// productStarts are the shapes that tuning begins with on so many processors.
func (r *Runner) productStarts(groups int) (shapes []shaders.ProductsShape) {
	dtype := r.layers[0].weights.gateUp.dtype
	halves := dtype == weights.Q4 && r.halves() // faster with most
	for _, c := range productCandidates[dtype] {
		shape := shaders.ProductsShape{Groups: groups, Workgroup: c.threads, Loads: c.loads, Team: c.team, Ahead: c.ahead, Together: c.together, Halves: halves}
		shapes = append(shapes, shape)
		if shape.Apart = c.threads > manyThreads; shape.Apart {
			shapes = append(shapes, shape)
		}
	}
	return shapes
}

// onTrack tells whether p and other differ in their spreads alone.
func (p *layerProducts) onTrack(other *layerProducts) bool {
	return p.shape.Workgroup == other.shape.Workgroup && p.shape.Ahead == other.shape.Ahead && p.shape.Together == other.shape.Together && p.shape.Apart == other.shape.Apart
}

// refineProducts tries other spreads, product by product, of tracks, which differ in their workgroups' threads or in when they ask
// for loads, then variants of the fastest; nil: a wait was given up.
func (r *Runner) refineProducts(tracks []*layerProducts, want []float32, rounds int) (best *layerProducts, rows []TuneRow, err error) {
	try := func(shapes []shaders.ProductsShape) (choices []*layerProducts, timed []TuneRow, err error) {
		if choices, err = r.addProducts(tracks[:len(tracks):len(tracks)], shapes, r.recordProducts, want); err != nil {
			return nil, nil, err
		}
		best, timed, err = r.timeProducts(choices, rounds, 1)
		rows = append(rows, timed...)
		return choices, timed, err
	}
	for _, t := range spreadTrials {
		var shapes []shaders.ProductsShape
		for _, track := range tracks {
			shapes = append(shapes, r.alternatives(track.shape, t.product, t.trials)...)
		}
		choices, timed, err := try(shapes)
		if best == nil || err != nil {
			return nil, rows, err
		}
		for i, track := range tracks {
			if p := fastestProducts(choices, timed, func(p *layerProducts) bool { return p.onTrack(track) }); p != nil {
				tracks[i] = p
			}
		}
	}
	tracks = []*layerProducts{best}
	_, _, err = try(variantsOf(best.shape))
	return best, rows, err
}

// variantsOf are shapes that differ in one of what all products have alike.
func variantsOf(s shaders.ProductsShape) (shapes []shaders.ProductsShape) {
	other := s
	other.Halves = !s.Halves
	shapes = append(shapes, other)
	other = s
	other.Together = !s.Together
	shapes = append(shapes, other)
	other = s
	other.Apart = !s.Apart
	shapes = append(shapes, other)
	other = s
	for _, other.Ahead = range []shaders.Ahead{shaders.AheadNever, shaders.AheadBehind, shaders.AheadWithin} {
		if other != s {
			shapes = append(shapes, other)
		}
	}
	return shapes
}

// fastestProducts is the fastest of those of choices, with their rows, that are wanted; nil: there is none.
func fastestProducts(choices []*layerProducts, rows []TuneRow, wanted func(*layerProducts) bool) (best *layerProducts) {
	least := 0.0
	for i, p := range choices {
		if i < len(rows) && wanted(p) && (least == 0 || rows[i].Seconds < least) {
			best, least = p, rows[i].Seconds
		}
	}
	return best
}

// addProducts adds those shapes to choices, as record gives them, that the device can run, all at the same time, and that are none of them.
func (r *Runner) addProducts(choices []*layerProducts, shapes []shaders.ProductsShape, record recordShape, want []float32) ([]*layerProducts, error) {
	var recorded []*layerProducts
	err := r.inParallel(func() error {
		for _, shape := range shapes {
			p, err := record(shape)
			if err != nil {
				return err
			}
			known := func(q *layerProducts) bool { return q != nil && q.shape == p.shape }
			if p != nil && !slices.ContainsFunc(choices, known) && !slices.ContainsFunc(recorded, known) {
				recorded = append(recorded, p)
			}
		}
		return nil
	})
	for i := 0; i < len(recorded) && err == nil; i++ {
		var runs bool
		if runs, err = r.tryProducts(recorded[i], want); runs {
			choices = append(choices, recorded[i])
		}
	}
	return choices, err
}

// timeProducts times decode steps, in so many splits where attention is apart, with each of choices and returns the fastest; the first,
// unless another is faster by more than chance: by a hundredth where the first is nil, five dispatches a layer. Those are returned too
// where a wait was given up.
func (r *Runner) timeProducts(choices []*layerProducts, rounds, numSplits int) (*layerProducts, []TuneRow, error) {
	minGain := 0.003
	if choices[0] == nil {
		minGain = 0.01
	}
	if len(choices) == 1 {
		return choices[0], nil, nil
	}
	var timings []*timing
	for _, p := range choices {
		n := passSize{tokens: 1, splits: numSplits, attend: p.attends(0)}
		t := r.timing(dispatchesOf(r.decodeSegments(n, p)), n)
		t.before = func() error { return r.tuneInput(numSplits) }
		timings = append(timings, t)
	}
	if err := r.clearExchange(); err != nil {
		return nil, nil, err
	}
	if err := timings[0].raiseClocks(); err != nil {
		return nil, nil, err
	}
	if err := timeContenders(timings, 2*rounds); err != nil {
		return nil, nil, err
	}
	var rows []TuneRow
	best, bytes := 0, r.layerBytes()
	for i, t := range timings {
		row := TuneRow{Kernel: productsName, MatvecShape: choices[i].tuned(), Seconds: t.median()}
		row.BytesPerSecond = float64(bytes) / row.Seconds
		rows = append(rows, row)
		if row.Seconds < (1-minGain)*rows[0].Seconds && row.Seconds < rows[best].Seconds {
			best = i
		}
	}
	up, err := r.waitGivenUp()
	if err != nil {
		return nil, nil, err
	}
	if err := r.clearExchange(); err != nil {
		return nil, nil, err
	}
	if up { // so many workgroups run at the same time only at times
		return nil, rows, nil
	}
	rows[best].Chosen = true
	return choices[best], rows, nil
}

// tuned is the shape as a tuning keeps it.
func (p *layerProducts) tuned() MatvecShape {
	if p == nil {
		return MatvecShape{}
	}
	return tunedProducts(p.shape)
}

func tunedProducts(s shaders.ProductsShape) MatvecShape {
	return MatvecShape{Groups: s.Groups, Workgroup: s.Workgroup, Spreads: s.Spreads, Halves: s.Halves, Ahead: s.Ahead, Together: s.Together, Apart: s.Apart}
}

// productsShape is the shape that a tuning has kept.
func productsShape(v MatvecShape) shaders.ProductsShape {
	return shaders.ProductsShape{Groups: v.Groups, Workgroup: v.Workgroup, Spreads: v.Spreads, Loads: v.Loads, Team: v.ThreadsPerRow, Halves: v.Halves, Ahead: v.Ahead, Together: v.Together, Apart: v.Apart}
}

// layerBytes is what the products of all layers read.
func (r *Runner) layerBytes() (bytes uint64) {
	for i := range r.layers {
		w := &r.layers[i].weights
		bytes += w.qkv.bytes() + w.o.bytes() + w.gateUp.bytes() + w.down.bytes()
	}
	return bytes
}

// processors is how many processors, compute units or the like the GPU has, by how many workgroups run at the same time.
func (r *Runner) processors() (int, error) {
	const few, many = 640, 1024
	if matvecThreads(r.dev.Limits()) < many {
		n, err := r.groupsAtOnce(256)
		return max(n/8, 1), err
	}
	atFew, err := r.groupsAtOnce(few)
	if err != nil {
		return 0, err
	}
	atMany, err := r.groupsAtOnce(many)
	return processorsOf(atFew, atMany), err
}

// processorsOf is how many run so many workgroups of 640 and of 1,024 threads: those of 2,048 threads at a time three and two each,
// those of 1,536 two and one, those of 1,024 one and one.
func processorsOf(at640, at1024 int) int {
	if 4*at640 > 5*at1024 && 4*at640 < 7*at1024 {
		at1024 /= 2
	}
	return max(at1024, 1)
}

// groupsAtOnce is how many workgroups of so many threads, with nothing else, run at the same time, at most maxProductGroups: found
// by doubling and halving. What runs too many gives up within milliseconds.
func (r *Runner) groupsAtOnce(threads int) (int, error) {
	if threads > matvecThreads(r.dev.Limits()) {
		return 0, nil
	}
	arrived := r.act[bufLogits] // which nothing else uses meanwhile
	groups := 0
	d, err := r.dispatch("resident_groups", shaders.Options{Consts: map[string]uint32{"WORKGROUP_SIZE": uint32(threads)}},
		func(passSize) [3]uint32 { return [3]uint32{uint32(groups), 1, 1} }, gpu.Whole(arrived))
	if err != nil {
		return 0, err
	}
	good, bad := 1, maxProductGroups+1
	for good+1 < bad {
		if groups = (good + bad) / 2; bad > maxProductGroups {
			groups = min(2*good, maxProductGroups)
		}
		var words [8]byte
		if err := r.dev.Write(arrived, 0, words[:]); err != nil {
			return 0, err
		}
		if err := gpu.Read(r.dev, arrived, 0, words[:], joinSegments([]segment{{dispatches: []dispatch{d}}}, passSize{}, "resident groups")); err != nil {
			return 0, err
		}
		switch gaveUp := binary.LittleEndian.Uint32(words[4:]) != 0; {
		case gaveUp:
			bad = groups
		case groups == maxProductGroups:
			return groups, nil
		default:
			good = groups
		}
	}
	return good, nil
}

// tryProducts tells whether all workgroups run at the same time. A result that is wrong is an error.
func (r *Runner) tryProducts(p *layerProducts, want []float32) (bool, error) {
	got, err := r.layerOutput(p)
	if err != nil {
		return false, err
	}
	if up, err := r.waitGivenUp(); up || err != nil {
		return false, err
	}
	if err := closeTo(want, got); err != nil {
		return false, fmt.Errorf("forward: tuning %s: %s: %w", productsName, p.tuned(), err)
	}
	return true, nil
}

// layerOutput is productsOutput of p, which attends if it can.
func (r *Runner) layerOutput(p *layerProducts) ([]float32, error) {
	if !p.shape.Apart {
		return r.productsOutput([]dispatch{p.trial}, r.projections(1))
	}
	return r.productsOutput(slices.Concat(r.bare[0].in(1), p.few[:1]), r.projections(1))
}

// productsOutput runs layer 0 from its attention to layer 1's on a fixed input, and reads the residual stream and q, k and v. Scaled
// alike, as closeTo compares them.
func (r *Runner) productsOutput(steps []dispatch, qkv gpu.Binding) ([]float32, error) {
	s := &r.shape
	if err := r.clearExchange(); err != nil {
		return nil, err
	}
	first := r.projections(0)
	if err := r.dev.Write(first.Buffer, first.Offset, floatBytes(tuneNumbers(s.QDim()+2*s.KVDim()))); err != nil {
		return nil, err
	}
	out, err := r.outputOf(steps, r.act[bufX], s.HiddenSize)
	if err != nil {
		return nil, err
	}
	cols := s.QDim() + 2*s.KVDim()
	projections, err := r.readTap(tapPoint{buffer: qkv.Buffer, offset: qkv.Offset, cols: cols, stride: cols}, 1)
	return append(scaledToOne(out), scaledToOne(projections)...), err
}

func scaledToOne(v []float32) []float32 {
	largest := float32(1e-30)
	for _, x := range v {
		largest = max(largest, x, -x)
	}
	for i := range v {
		v[i] /= largest
	}
	return v
}
