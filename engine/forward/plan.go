package forward

// Shapes, strides, kernel constants and the bytes they cost: everything that follows from a config and a device's limits.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

const (
	maxSplits       = 128 // of a context in decode attention
	fusedSplits     = 4   // attn_out combines so many itself; combine_splits more
	attentionGroups = 264 // workgroups of decode attention in a long context, at most: two on each processor of a large GPU
	stateBytes      = 256
	bindAlignment   = 256 // offsets of bindings inside one buffer, the largest alignment WebGPU allows a device to ask for
)

// splitRule says from which lengths on a context is in more splits.
type splitRule struct {
	short       int // positions of a split, while there are at most fusedSplits
	fusedLength int // up to so many positions, longer splits cost less than the dispatch of combine_splits
	long        int // positions of a split behind that, at most, unless there are longSplits
}

var splitting = splitRule{short: 64, fusedLength: 1024, long: 64}

// shape holds the padded sizes that kernels and buffers share. Strides count float32 numbers.
type shape struct {
	*config.Config
	hiddenPad int // hidden rounded up to 32
	qkvStride int // qDim+2*kvDim rounded up to 4
	qPad      int // qDim rounded up to 32
	interPad  int // intermediate rounded up to 32
	headPad   int // head_dim rounded up to 8
	group     int // query heads of a KV head
	qTile     int // query heads of a workgroup in decode attention of a long context
	pageSize  int
	numPages  int // of the arena
	maxPages  int // of one sequence
	maxTokens int // of one pass
	kv        runner.KVDType
}

func roundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }

func newShape(c *config.Config, opt Options) (shape, error) {
	s := shape{
		Config: c, hiddenPad: roundUp(c.HiddenSize, 32), qkvStride: roundUp(c.QDim()+2*c.KVDim(), 4),
		qPad: roundUp(c.QDim(), 32), interPad: roundUp(c.IntermediateSize, 32), headPad: roundUp(c.HeadDim, 8),
		group: c.NumAttentionHeads / c.NumKeyValueHeads, pageSize: opt.PageSize, numPages: opt.NumPages,
		maxTokens: opt.MaxTokens, kv: opt.KVDType,
	}
	if s.headPad > 256 {
		return s, fmt.Errorf("forward: head_dim %d is more than the GPU kernels take (256): use the CPU path", c.HeadDim)
	}
	s.qTile = 1
	for s.qTile < s.group && s.qTile < 8 && 2*s.qTile*s.headPad <= 1024 {
		s.qTile *= 2
	}
	s.maxPages = min(s.numPages, (c.MaxPositionEmbeddings+s.pageSize-1)/s.pageSize)
	return s, nil
}

// qTiles is how many workgroups of decode attention share a KV head's query heads, tile for each.
func (s *shape) qTiles(tile int) int { return (s.group + tile - 1) / tile }

// kvPageBytes is one page's keys (or values) in one layer.
func (s *shape) kvPageBytes() uint64 {
	return uint64(s.NumKeyValueHeads*s.pageSize*s.headPad) * uint64(s.kv.Bytes())
}

// arenaBytes is all pages' keys (or values) of one layer.
func (s *shape) arenaBytes() uint64 { return s.kvPageBytes() * uint64(s.numPages) }

// numSplits chooses over how many workgroups of a KV head the context of a decode step at position pos is spread: about
// twice as many each time, so that few different passes exist, up to longSplits. sample_token chooses likewise.
func (s *shape) numSplits(pos int) int {
	length, n := pos+1, 1
	for n < fusedSplits && length > splitting.short*n {
		n *= 2
	}
	if length > splitting.fusedLength {
		n = s.longSplits()
		for n/2 >= fusedSplits && length <= splitting.long*(n/2) {
			n /= 2
		}
	}
	return n
}

// longSplits is the number of splits of a long context: as many as have a place on the device at the same time.
func (s *shape) longSplits() int {
	n := attentionGroups / (s.NumKeyValueHeads * s.qTiles(s.qTile))
	return min(max(n, fusedSplits), maxSplits)
}

// matrixPart is the rows of a matrix that one binding can hold.
type matrixPart struct {
	rowStart, rows int
	pieces         []weights.Piece
	dataBytes      uint64
	scaleBytes     uint64
}

// splitMatrix groups a matrix's pieces into parts of at most maxBytes.
func splitMatrix(m *weights.Matrix, maxBytes uint64) ([]matrixPart, error) {
	var parts []matrixPart
	open := false
	for _, p := range m.Pieces {
		size := uint64(p.Data.Size)
		if size > maxBytes {
			return nil, fmt.Errorf("forward: a piece of %s has %d bytes, the device binds at most %d: convert again with a smaller --shard-mib", m.Name, size, maxBytes)
		}
		if open {
			last := &parts[len(parts)-1]
			if last.dataBytes+size <= maxBytes {
				last.pieces = append(last.pieces, p)
				last.rows += p.Rows
				last.dataBytes += size
				last.scaleBytes += uint64(p.Scales.Size)
			} else {
				open = false
			}
		}
		if !open {
			parts = append(parts, matrixPart{rowStart: p.RowStart, rows: p.Rows, pieces: []weights.Piece{p}, dataBytes: size, scaleBytes: uint64(p.Scales.Size)})
			open = true
		}
		// Scales are float16: a piece with an odd number of them ends on half a u32, and nothing can be put behind it.
		if p.Rows*(m.Stride/weights.GroupSize)%2 == 1 {
			open = false
		}
	}
	return parts, nil
}

// Memory is the device memory that a model needs, in bytes.
type Memory struct {
	WeightBytes     uint64 `json:"weight_bytes"`
	KVBytes         uint64 `json:"kv_bytes"`
	ActivationBytes uint64 `json:"activation_bytes"`
	KVBytesPerToken uint64 `json:"kv_bytes_per_token"`
}

// Total is the sum of all parts.
func (m Memory) Total() uint64 { return m.WeightBytes + m.KVBytes + m.ActivationBytes }

// PlanMemory counts the bytes that New would allocate, and checks every buffer against the limits, without a device.
func PlanMemory(m *weights.Model, opt Options, limits gpu.Limits) (Memory, error) {
	opt = opt.withDefaults(m.Config, limits)
	s, err := newShape(m.Config, opt)
	if err != nil {
		return Memory{}, err
	}
	mem, _, err := planMemory(m, &s, limits)
	return mem, err
}

func planMemory(m *weights.Model, s *shape, limits gpu.Limits) (mem Memory, plans slabPlans, err error) {
	if plans, mem.WeightBytes, err = planSlabs(m, s, limits); err != nil {
		return mem, plans, err
	}
	arena := s.arenaBytes()
	if arena > min(limits.MaxStorageBindingBytes, limits.MaxBufferBytes) {
		fit := min(limits.MaxStorageBindingBytes, limits.MaxBufferBytes) / s.kvPageBytes() * uint64(s.pageSize)
		return mem, plans, fmt.Errorf("forward: a KV cache of %d tokens needs buffers of %d bytes, the device binds at most %d: use a context of at most %d tokens, or --kv f16",
			s.numPages*s.pageSize, arena, min(limits.MaxStorageBindingBytes, limits.MaxBufferBytes), fit)
	}
	mem.KVBytes = 2 * arena * uint64(s.NumHiddenLayers)
	mem.KVBytesPerToken = 2 * s.kvPageBytes() / uint64(s.pageSize) * uint64(s.NumHiddenLayers)
	for _, b := range s.activations() {
		if b.bytes > min(limits.MaxStorageBindingBytes, limits.MaxBufferBytes) {
			return mem, plans, fmt.Errorf("forward: buffer %s needs %d bytes, the device binds at most %d", b.label, b.bytes, min(limits.MaxStorageBindingBytes, limits.MaxBufferBytes))
		}
		mem.ActivationBytes += b.bytes
	}
	if limits.MemoryBytes > 0 && mem.Total() > limits.MemoryBytes {
		return mem, plans, fmt.Errorf("forward: the model needs %d bytes of device memory (weights %d, KV cache %d, activations %d), the device has %d: use a smaller --dtype when converting or a smaller context",
			mem.Total(), mem.WeightBytes, mem.KVBytes, mem.ActivationBytes, limits.MemoryBytes)
	}
	return mem, plans, nil
}

// slabPlans are where the pieces of a model lie, in the order in which they are loaded.
type slabPlans struct {
	matrices     slabPlan // each part's data, and its scales if it has some
	params       slabPlan // partParamBytes of each part
	keys, values slabPlan // of each layer
}

const partParamBytes = 16

// planSlabs also counts the bytes of all matrices.
func planSlabs(m *weights.Model, s *shape, limits gpu.Limits) (p slabPlans, weightBytes uint64, err error) {
	p = slabPlans{newSlabPlan(limits), newSlabPlan(limits), newSlabPlan(limits), newSlabPlan(limits)}
	names := matrixNames(m)
	pieces := make([][]uint64, len(names))
	for i, name := range names {
		mat, err := m.Matrix(name)
		if err != nil {
			return p, 0, err
		}
		parts, err := splitMatrix(mat, partLimit(limits))
		if err != nil {
			return p, 0, err
		}
		for _, part := range parts {
			weightBytes += part.dataBytes + part.scaleBytes
			pieces[i] = append(pieces[i], part.dataBytes)
			if part.scaleBytes > 0 {
				pieces[i] = append(pieces[i], part.scaleBytes)
			}
			p.params.add(partParamBytes)
		}
	}
	for i, name := range names {
		if strings.HasSuffix(name, ".o_proj") { // to the next layer's qkv_proj
			p.matrices.together(slices.Concat(pieces[i:min(i+4, len(pieces))]...))
		}
		for _, bytes := range pieces[i] {
			p.matrices.add(bytes)
		}
	}
	for range s.NumHiddenLayers {
		p.keys.add(s.arenaBytes())
		p.values.add(s.arenaBytes())
	}
	return p, weightBytes, nil
}

// partLimit is the most bytes of a matrix that one buffer holds.
func partLimit(l gpu.Limits) uint64 { return min(l.MaxStorageBindingBytes, l.MaxBufferBytes) }

// matrixNames are all matrices, in the order in which they are loaded.
func matrixNames(m *weights.Model) []string {
	names := []string{"embed_tokens"}
	if m.HasLMHead() {
		names = append(names, "lm_head")
	}
	for i := range m.Config.NumHiddenLayers {
		for _, kind := range []string{"qkv_proj", "o_proj", "gate_up_proj", "down_proj"} {
			names = append(names, fmt.Sprintf("layers.%d.%s", i, kind))
		}
	}
	return names
}

// activation is one working buffer.
type activation struct {
	label string
	bytes uint64
}

// activations lists the working buffers in the order of the activation* constants.
func (s *shape) activations() []activation {
	t := uint64(s.maxTokens)
	f32 := func(n int) uint64 { return 4 * uint64(n) }
	return []activation{
		{"step", s.stepBytes()},
		{"x", t * f32(s.hiddenPad)},
		{"qkv", t * f32(s.qkvStride)},
		{"attn", t * f32(s.qPad)},
		{"mlp", t * f32(s.interPad)},
		{"inv_rms", t * 4},
		{"normed", t * f32(s.hiddenPad)},
		{"splits", f32(maxSplits*s.qPad) + f32(roundUp(2*maxSplits*s.NumAttentionHeads, 4))},
		{"logits", f32(roundUp(s.VocabSize, 4))},
		{"rope", f32(s.maxPages * s.pageSize * s.HeadDim)},
		{"copies", 8 * uint64(s.maxPages)},
		{"sampling", samplingBytes},
		{"vocab_state", 8 * uint64(s.VocabSize)},
		{"slices", 16 * uint64(s.numSlices())},
		{"sample_ids", 2 * f32(s.VocabSize)},
		{"sample_sums", sumsBytes},
		{"sampled", 8 * sampleRing},
		{"exchange", f32(s.placeOf(s.NumHiddenLayers))},
		{"layers", 2 * f32(layerWords*s.NumHiddenLayers)},
	}
}

const (
	bufStep = iota
	bufX
	bufQKV
	bufAttn
	bufMLP
	bufInvRMS
	bufNormed
	bufSplits
	bufLogits
	bufRope
	bufCopies
	bufSampling
	bufVocabState
	bufSlices
	bufSampleIDs
	bufSampleSums
	bufSampled
	bufExchange
	bufLayers
)

// The step buffer holds all that changes from pass to pass: state words, token ids, page table, each on a binding boundary.
func (s *shape) tokensOffset() uint64 { return stateBytes }

// qkNormOffset is where in norms, behind the others, a layer's gains of q and k are.
func (s *shape) qkNormOffset(layer int) uint64 {
	return uint64(2*s.NumHiddenLayers+1)*s.normBytes() + uint64(layer*roundUp(2*4*s.HeadDim, bindAlignment))
}

// normBytes is from one norm to the next.
func (s *shape) normBytes() uint64 { return uint64(roundUp(4*s.hiddenPad, bindAlignment)) }

// placeOf is where in the exchange, in words, a layer's numbers are that workgroups of layer_products hand on; behind the word that tells that
// a wait was given up and layer 0's q, k and v. Each number is unsetWord until it is there.
func (s *shape) placeOf(layer int) int {
	return s.projectionsOf(0) + roundUp(s.QDim()+2*s.KVDim(), bindAlignment/4) + layer*(s.handedQKV()+roundUp(s.QDim()+2*s.KVDim(), bindAlignment/4))
}

// runSplits is in how many splits layer_products attends with so many workgroups, of qTile query heads each: at most as many as come to a
// workgroup each.
func (s *shape) runSplits(groups, qTile int) int {
	n := 2
	for 2*n*s.NumKeyValueHeads*s.qTiles(qTile) <= min(groups, maxRunGroups) {
		n *= 2
	}
	return n
}

// runQTile is how many query heads a workgroup of those has.
func (s *shape) runQTile() int { return min(s.qTile, maxRunQTile) }

// wideQTile is how many it has in long contexts: all that share what is read, where its memory takes two tiles' scores of so many.
func (s *shape) wideQTile() int {
	if s.qTile > pipelinedQTile {
		return s.runQTile()
	}
	return s.qTile
}

// handedQKV is where in a layer's place the next one's q, k and v are, on a binding boundary, behind attention in as many splits as it may have.
func (s *shape) handedQKV() int {
	return roundUp(2*s.HiddenSize+s.IntermediateSize+s.QDim()+s.runSplits(maxRunGroups, s.wideQTile())*(s.QDim()+2*s.NumAttentionHeads), bindAlignment/4)
}

// projectionsOf is where in the exchange a layer's q, k and v are.
func (s *shape) projectionsOf(layer int) int {
	if layer == 0 {
		return bindAlignment / 4
	}
	return s.placeOf(layer-1) + s.handedQKV()
}

func (s *shape) pageTableOffset() uint64 {
	return stateBytes + uint64(roundUp(4*s.maxTokens, bindAlignment))
}

func (s *shape) stepBytes() uint64 {
	return s.pageTableOffset() + uint64(roundUp(4*s.maxPages, bindAlignment))
}
