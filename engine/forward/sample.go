package forward

// Sampling on the device, and running ahead: SampleAhead submits decode passes whose tokens the device draws itself, several
// as one submission and several submissions before the first is read. The host only learns the ids; positions, lengths and
// the random numbers follow from the pass state, which sample_token or sample_full moves on.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

const (
	maxTopK        = 128 // sample_token's MAX_TOP_K
	maxSlices      = 1024
	sampleRing     = 64 // tokens of one submission
	minSlice       = 16 // at most 512 ids stand in fewer than maxTopK slices, as many as sample_token lists
	seenBit        = 1 << 31
	samplingBytes  = 64
	notFiniteToken = math.MaxUint32
	maxFullVocab   = 1 << 20 // sample_full takes an id in two parts of ten bits
	sumsBytes      = 8 * (2048 + 1)
)

// sampleSlice is how many neighbouring ids sample_slices looks at together.
func (s *shape) sampleSlice() int {
	slice := minSlice
	for s.VocabSize > slice*maxSlices {
		slice *= 2
	}
	return slice
}

func (s *shape) numSlices() int { return (s.VocabSize + s.sampleSlice() - 1) / s.sampleSlice() }

// recordSampling records what draws a token and moves the pass on to it.
func (r *Runner) recordSampling() (err error) {
	if r.sampleSteps, err = r.samplingSteps(r.whole(bufStep)); err != nil {
		return err
	}
	r.sampleFullSteps, err = r.samplingFullSteps(r.whole(bufStep))
	return err
}

// samplingSteps are the two dispatches that draw a token from the logits buffer, greedily or with top-k, and move passState,
// the step buffer or one like it, on.
func (r *Runner) samplingSteps(passState gpu.Binding) ([]dispatch, error) {
	stats, err := r.sampleSlices()
	if err != nil {
		return nil, err
	}
	token, err := r.dispatch("sample_token", r.drawOptions(), func(passSize) [3]uint32 { return [3]uint32{1, 1, 1} },
		r.whole(bufSampling), r.whole(bufLogits), r.whole(bufSlices), r.whole(bufVocabState), passState, r.whole(bufSampled))
	return []dispatch{stats, token}, err
}

// samplingFullSteps are the three that draw from the whole vocabulary.
func (r *Runner) samplingFullSteps(passState gpu.Binding) ([]dispatch, error) {
	stats, err := r.sampleSlices()
	if err != nil {
		return nil, err
	}
	s, opt := &r.shape, r.sliceOptions()
	opt.Consts["NUM_SLICES"], opt.Consts["THREADS"] = uint32(s.numSlices()), uint32(min(s.sampleSlice(), 128))
	weights, err := r.dispatch("sample_weights", opt, func(passSize) [3]uint32 { return [3]uint32{uint32(s.numSlices()), 1, 1} },
		r.whole(bufSampling), r.whole(bufLogits), r.whole(bufVocabState), r.whole(bufSlices), r.whole(bufSampleIDs), r.whole(bufSampleSums))
	if err != nil {
		return nil, err
	}
	token, err := r.dispatch("sample_full", r.drawOptions(), func(passSize) [3]uint32 { return [3]uint32{1, 1, 1} },
		r.whole(bufSampling), r.whole(bufLogits), r.whole(bufSlices), r.whole(bufSampleIDs), r.whole(bufSampleSums), r.whole(bufVocabState), passState, r.whole(bufSampled))
	return []dispatch{stats, weights, token}, err
}

func (r *Runner) sampleSlices() (dispatch, error) {
	s := &r.shape
	return r.dispatch("sample_slices", r.sliceOptions(), func(passSize) [3]uint32 { return [3]uint32{uint32(s.numSlices()), 1, 1} },
		r.whole(bufSampling), r.whole(bufLogits), r.whole(bufVocabState), r.whole(bufSlices))
}

// sliceOptions are those of kernels with a workgroup a slice.
func (r *Runner) sliceOptions() shaders.Options {
	return shaders.Options{Consts: map[string]uint32{"VOCAB": uint32(r.shape.VocabSize), "SLICE": uint32(r.shape.sampleSlice())}}
}

// drawOptions are those of kernels that draw.
func (r *Runner) drawOptions() shaders.Options {
	s := &r.shape
	return shaders.Options{Consts: map[string]uint32{
		"VOCAB": uint32(s.VocabSize), "SLICE": uint32(s.sampleSlice()), "NUM_SLICES": uint32(s.numSlices()),
		"SHORT_SPLIT": uint32(splitting.short), "FUSED_SPLITS": fusedSplits, "FUSED_LENGTH": uint32(splitting.fusedLength),
		"LONG_SPLIT": uint32(splitting.long), "LONG_SPLITS": uint32(s.longSplits()), "RING": sampleRing, "TOKENS": uint32(s.tokensOffset() / 4),
	}}
}

// CanSample implements runner.Ahead: greedy, top-k up to 128, or the whole vocabulary, with everything that can stand behind it.
func (r *Runner) CanSample(p sampling.Params) bool {
	switch {
	case p.LogProbs > 0:
		return false
	case p.Temperature > 0 && !p.DrawsFew(r.shape.VocabSize):
		return r.shape.VocabSize <= maxFullVocab
	}
	return p.Temperature == 0 || p.TopK <= maxTopK
}

// StartSampling implements runner.Ahead.
func (r *Runner) StartSampling(p sampling.Params, prompt, generated []int32) error {
	if err := p.Validate(r.shape.VocabSize); err != nil {
		return err
	}
	if !r.CanSample(p) {
		return errors.New("forward: the device does not sample with these parameters")
	}
	allowed, topK, invTemperature := r.shape.VocabSize, 1, float32(1)
	if p.AllowedVocab > 0 {
		allowed = p.AllowedVocab
	}
	var full sampling.FullDraw
	r.sampleFull = p.Temperature > 0 && !p.DrawsFew(r.shape.VocabSize)
	switch {
	case r.sampleFull:
		full = p.FullDraw(r.shape.VocabSize)
		if err := r.dev.Write(r.act[bufSampleSums], 0, make([]byte, sumsBytes)); err != nil {
			return err
		}
	case p.Temperature > 0:
		topK, invTemperature = p.TopK, 1/p.Temperature
	}
	penalize := p.RepetitionPenalty != 1 || p.PresencePenalty != 0 || p.FrequencyPenalty != 0
	adjust := uint32(0)
	if penalize || len(p.LogitBias) > 0 {
		adjust = 1
		if err := r.writeVocabState(p.LogitBias, prompt, generated); err != nil {
			return err
		}
	}
	raw := make([]byte, samplingBytes)
	f := math.Float32bits
	putUint32s(raw, []uint32{uint32(p.Seed), uint32(p.Seed >> 32), uint32(topK), uint32(allowed), f(invTemperature), f(p.TopP), f(p.MinP),
		f(p.RepetitionPenalty), f(p.PresencePenalty), f(p.FrequencyPenalty), adjust,
		f(full.Scale), full.TopP, uint32(full.MinWeight), uint32(full.MinWeight >> 32), full.Shift})
	return r.dev.Write(r.act[bufSampling], 0, raw)
}

// writeVocabState writes [vocab] pairs of (count, bias).
func (r *Runner) writeVocabState(bias map[int32]float32, prompt, generated []int32) error {
	state := make([]uint32, 2*r.shape.VocabSize)
	for _, id := range prompt {
		state[2*id] |= seenBit
	}
	for _, id := range generated {
		state[2*id] = (state[2*id] | seenBit) + 1
	}
	for id, b := range bias {
		state[2*id+1] = math.Float32bits(b)
	}
	raw := make([]byte, 4*len(state))
	putUint32s(raw, state)
	return r.dev.Write(r.act[bufVocabState], 0, raw)
}

// ahead is the pass that sampling on the device continues.
type ahead struct {
	ic    *kvcache.InferenceContext
	kvLen int  // positions whose passes were submitted
	drawn bool // the token behind those positions too
}

// MaxAhead implements runner.Ahead.
func (r *Runner) MaxAhead() int { return sampleRing }

// SampleAhead implements runner.Ahead.
func (r *Runner) SampleAhead(ic *kvcache.InferenceContext) (runner.Sampled, error) {
	if err := ic.Valid(); err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	if r.ahead.ic != ic {
		return nil, errors.New("forward: sampling ahead needs the context of the last pass")
	}
	passes, n := r.aheadPasses[:0], ic.KVLen()-r.ahead.kvLen
	switch {
	case n == 0 && !r.ahead.drawn:
		passes = append(passes, r.samplePass())
		n = 1
	case n == 0:
		return nil, fmt.Errorf("forward: the token behind position %d was drawn already", ic.KVLen()-1)
	case !r.ahead.drawn || n < 0 || n > sampleRing:
		return nil, fmt.Errorf("forward: sampling ahead goes position by position, at most %d at once: passes were run up to %d, the context ends at %d", sampleRing, r.ahead.kvLen, ic.KVLen())
	default:
		table := ic.PageTable()
		if err := r.checkTable(table, ic.KVLen()); err != nil {
			return nil, err
		}
		if err := r.writePageTable(table); err != nil {
			return nil, err
		}
		for pos := r.ahead.kvLen; pos < ic.KVLen(); pos++ {
			passes = append(passes, r.aheadPass(r.decodeSize(pos)))
		}
	}
	r.aheadPasses = passes
	// The copy of the ring is behind these passes and before all later ones: what it holds of older tokens is not looked at.
	rb, err := r.dev.Download(r.act[bufSampled], 0, 8*sampleRing, passes...)
	if err != nil {
		return nil, err
	}
	t := sampledTokens{r: r, Readback: rb, first: r.numSampled, n: n}
	r.ahead.kvLen, r.ahead.drawn = ic.KVLen(), true
	r.numSampled += uint32(n)
	return t, nil
}

// drawSteps are the dispatches that draw as StartSampling was told.
func (r *Runner) drawSteps() []dispatch {
	if r.sampleFull {
		return r.sampleFullSteps
	}
	return r.sampleSteps
}

// samplePass is lm_head and sampling behind a pass that ran on its own.
func (r *Runner) samplePass() *gpu.Pass {
	key := aheadKey{passSize{}, r.sampleFull}
	pass := r.decodeAhead[key]
	if pass == nil {
		pass = joinSegments([]segment{{dispatches: r.lmHeadSteps}, {dispatches: r.drawSteps()}}, passSize{}, "sample")
		r.decodeAhead[key] = pass
	}
	return pass
}

// aheadKey tells apart the decode steps with sampling behind them.
type aheadKey struct {
	size passSize // of no tokens: lm_head and sampling alone
	full bool
}

// aheadPass is one decode step with sampling behind it, recorded once for every size.
func (r *Runner) aheadPass(n passSize) *gpu.Pass {
	key := aheadKey{n, r.sampleFull}
	pass := r.decodeAhead[key]
	if pass == nil {
		pass = joinSegments(append(r.decodeSegments(n, r.products), segment{dispatches: r.lmHeadSteps}, segment{dispatches: r.drawSteps()}), n, "decode")
		r.decodeAhead[key] = pass
	}
	return pass
}

// sampledTokens are the n entries of the ring from the token number first on.
type sampledTokens struct {
	gpu.Readback
	r     *Runner
	first uint32
	n     int
}

// Expect implements gpu.Expecter.
func (t sampledTokens) Expect(at time.Time) {
	if e, ok := t.Readback.(gpu.Expecter); ok {
		e.Expect(at)
	}
}

// Wait implements runner.Sampled.
func (t sampledTokens) Wait() ([]sampling.Result, error) {
	var ring [8 * sampleRing]byte
	if err := t.Readback.Wait(ring[:]); err != nil {
		return nil, err
	}
	drawn := make([]sampling.Result, 0, t.n)
	for i := range uint32(t.n) {
		entry := ring[8*((t.first+i)%sampleRing):]
		id := binary.LittleEndian.Uint32(entry)
		if id == notFiniteToken {
			repeat, err := t.r.gaveUp()
			switch {
			case err != nil:
				return drawn, err
			case repeat:
				return drawn, runner.ErrRepeat
			}
			return drawn, runner.ErrNotFinite
		}
		drawn = append(drawn, sampling.Result{Token: int32(id), LogProb: math.Float32frombits(binary.LittleEndian.Uint32(entry[4:]))})
	}
	return drawn, nil
}
