package kerneltest

// Cases of sampling on the device: the token must be the one that engine/sampling draws from the same logits, and the pass
// state must stand where the next decode pass needs it.

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

func init() { registered = append(registered, SampleCases) }

// sampleCase is one draw.
type sampleCase struct {
	name   string
	vocab  int
	params sampling.Params
	logits func(rng *rand.Rand, i int) float32 // default: normal, with some far above
	text   bool                                // penalties and bias see a text
	failed bool
	pos    int // of the next token; default: random
}

func sampled(temperature float32, topK int, topP, minP float32) sampling.Params {
	p := sampling.Default()
	p.Temperature, p.TopK, p.TopP, p.MinP = temperature, topK, topP, minP
	return p
}

// SampleCases lists the cases of sample_slices and sample_token, and of sample_slices, sample_weights and sample_full.
func SampleCases() []Case {
	const vocab = 5003
	penalties := sampled(0.8, 40, 0.95, 0)
	penalties.RepetitionPenalty, penalties.PresencePenalty, penalties.FrequencyPenalty = 1.3, 0.7, 0.2
	penalties.LogitBias = map[int32]float32{7: 4, 4999: -3, 100: float32(math.Inf(-1)), 101: 9}
	allowed := sampled(1, 20, 1, 0)
	allowed.AllowedVocab = 4000
	greedyPenalties := penalties
	greedyPenalties.Temperature = 0
	equal := func(*rand.Rand, int) float32 { return 1.5 }
	rising := func(_ *rand.Rand, i int) float32 { return float32(i) * 1e-3 }
	everything := penalties
	everything.TopK, everything.MinP = 0, 0.001
	allowedFull := allowed
	allowedFull.TopK = 0
	spread := func(rng *rand.Rand, _ int) float32 { return float32(rng.NormFloat64() * 1e30) }
	flat := func(rng *rand.Rand, _ int) float32 { return 10 + float32(rng.NormFloat64()*1e-4) }
	infinite := func(_ *rand.Rand, i int) float32 {
		if i == 3 {
			return float32(math.Inf(-1))
		}
		return 1
	}
	blocks := func(_ *rand.Rand, i int) float32 { return float32(i / 700) } // more than LIST equal ones on top
	var all []Case
	for _, c := range []sampleCase{
		{name: "greedy", vocab: vocab, params: sampling.Greedy()},
		{name: "greedy, all equal", vocab: vocab, params: sampling.Greedy(), logits: equal},
		{name: "greedy, penalties", vocab: vocab, params: greedyPenalties, text: true},
		{name: "greedy of 151936", vocab: 151936, params: sampling.Greedy()},
		{name: "greedy of 300001, equal", vocab: 300001, params: sampling.Greedy(), logits: equal}, // slices of more than 256
		{name: "greedy of 300001, penalties", vocab: 300001, params: greedyPenalties, text: true},
		{name: "top-k 20 of 151936", vocab: 151936, params: sampled(0.6, 20, 0.95, 0)},
		{name: "top-k 128 of 151936, flat", vocab: 151936, params: sampled(1.5, 128, 1, 0), logits: flat},
		{name: "top-k 128 of 300001, slope", vocab: 300001, params: sampled(1, 128, 1, 0), logits: rising},
		{name: "top-k 20, top-p 0.95", vocab: vocab, params: sampled(0.6, 20, 0.95, 0)},
		{name: "last position of a split", vocab: 50, params: sampling.Greedy(), pos: 63},
		{name: "two splits", vocab: 50, params: sampling.Greedy(), pos: 64},
		{name: "four splits", vocab: 50, params: sampling.Greedy(), pos: 128},
		{name: "last position of four splits", vocab: 50, params: sampling.Greedy(), pos: 1023},
		{name: "many splits", vocab: 50, params: sampling.Greedy(), pos: 1024},
		{name: "top-k 128", vocab: vocab, params: sampled(1.5, 128, 1, 0)},
		{name: "top-k 128 of equal ones", vocab: vocab, params: sampled(1, 128, 1, 0), logits: equal},
		{name: "top-k 100 of blocks", vocab: vocab, params: sampled(1, 100, 1, 0), logits: blocks},
		{name: "top-k 64 of a slope", vocab: vocab, params: sampled(1, 64, 0.9, 0), logits: rising},
		{name: "min-p", vocab: vocab, params: sampled(1.2, 50, 1, 0.1)},
		{name: "top-p only the first", vocab: vocab, params: sampled(0.7, 20, 0.01, 0)},
		{name: "penalties and bias", vocab: vocab, params: penalties, text: true},
		{name: "ids that the tokenizer does not define", vocab: vocab, params: allowed, logits: rising},
		{name: "a vocabulary smaller than top-k", vocab: 50, params: sampled(1, 100, 1, 0)},
		{name: "NaN", vocab: vocab, params: sampling.Greedy(), failed: true, logits: func(_ *rand.Rand, i int) float32 {
			if i == 4777 {
				return float32(math.NaN())
			}
			return 1
		}},
		{name: "infinity", vocab: vocab, params: sampled(1, 5, 1, 0), failed: true, logits: infinite},
		{name: "whole vocabulary", vocab: vocab, params: sampling.Default()},
		{name: "whole vocabulary, equal", vocab: vocab, params: sampled(1, 0, 1, 0), logits: equal},
		{name: "whole vocabulary, equal, top-p", vocab: vocab, params: sampled(1, 0, 0.3, 0), logits: equal},
		{name: "whole vocabulary, flat", vocab: vocab, params: sampled(1.3, 0, 0.8, 0), logits: flat},
		{name: "whole vocabulary, slope", vocab: vocab, params: sampled(1, 0, 0.9, 0.1), logits: rising},
		{name: "whole vocabulary, blocks", vocab: vocab, params: sampled(0.5, 0, 0.99, 0), logits: blocks},
		{name: "whole vocabulary, cold", vocab: vocab, params: sampled(0.01, 0, 1, 0)},
		{name: "whole vocabulary, wide", vocab: vocab, params: sampled(1, 0, 0.9, 0), logits: spread},
		{name: "whole vocabulary, min-p", vocab: vocab, params: sampled(1.2, 0, 1, 0.02)},
		{name: "whole vocabulary, top-p only the first", vocab: vocab, params: sampled(0.7, 0, 1e-7, 0)},
		{name: "whole vocabulary, penalties and bias", vocab: vocab, params: everything, text: true},
		{name: "whole vocabulary, ids that the tokenizer does not define", vocab: vocab, params: allowedFull, logits: rising},
		{name: "whole vocabulary of 151936", vocab: 151936, params: sampled(1.1, 0, 0.97, 0)},
		{name: "whole vocabulary of 151936, flat", vocab: 151936, params: sampled(1, 0, 0.9, 0), logits: flat},
		{name: "whole vocabulary of one", vocab: 1, params: sampled(1, 0, 0.5, 0.5)},
		{name: "whole vocabulary, infinity", vocab: vocab, params: sampling.Default(), failed: true, logits: infinite},
	} {
		for seed := range uint64(3) {
			all = append(all, Case{fmt.Sprintf("%s/%s/%d", c.kernels(), c.name, seed), func() *Setup { return c.setup(seed) }})
		}
	}
	return all
}

// full tells whether all ids may be drawn.
func (c sampleCase) full() bool { return c.params.Temperature > 0 && !c.params.DrawsFew(c.vocab) }

func (c sampleCase) kernels() string {
	if c.full() {
		return "sample_slices+sample_weights+sample_full"
	}
	return "sample_slices+sample_token"
}

// RandomSampleCase is a draw with random parameters, from a vocabulary that all of them share; of every second the whole.
func RandomSampleCase(seed uint64) Case {
	rng := NewRand(seed + 1000)
	p := sampled(float32(0.2+2*rng.Float64()), 1+rng.IntN(128), float32(1-0.6*rng.Float64()*rng.Float64()), float32(0.3*rng.Float64()*rng.Float64()))
	p.RepetitionPenalty, p.PresencePenalty, p.FrequencyPenalty = float32(0.8+rng.Float64()/2), float32(rng.Float64()-0.3), float32(rng.Float64()/3)
	p.LogitBias = map[int32]float32{int32(rng.IntN(3001)): 5}
	if seed%2 == 1 {
		p.TopK = 0
	}
	c := sampleCase{name: "random", vocab: 3001, params: p, text: true}
	return Case{fmt.Sprintf("%s/random/%d", c.kernels(), seed), func() *Setup { return c.setup(seed + 100) }}
}

const (
	sampleRing   = 4
	sampleTokens = 64
)

func (c sampleCase) setup(seed uint64) *Setup {
	rng := NewRand(seed + 77)
	p := c.params
	p.Seed = rng.Uint64()
	position := rng.IntN(3000)
	logits := make([]float32, c.vocab)
	for i := range logits {
		if c.logits != nil {
			logits[i] = c.logits(rng, i)
			continue
		}
		logits[i] = float32(rng.NormFloat64() * 2)
		if rng.IntN(100) == 0 {
			logits[i] += 8
		}
	}
	var prompt, generated []int32
	if c.pos > 0 {
		position = c.pos
	}
	if c.text {
		for range 200 {
			prompt, generated = append(prompt, int32(rng.IntN(c.vocab))), append(generated, int32(rng.IntN(c.vocab/10)))
		}
		position = len(prompt) + len(generated)
	}
	want := sampling.Result{Token: -1}
	if !c.failed {
		want = hostSample(p, logits, prompt, generated, position)
	}
	state, wantState := vocabState(p, c.vocab, prompt, generated), Untouched(2*c.vocab)
	for i := range wantState {
		wantState[i] = float64(state[i])
	}
	slice := 16
	for c.vocab > slice*1024 {
		slice *= 2
	}
	numSlices := int(CeilDiv(c.vocab, slice))
	drawn := uint32(rng.IntN(1000))
	passState := make([]uint32, sampleTokens+4)
	copy(passState, []uint32{5, uint32(position - 5), uint32(position), 1, 4, drawn})
	wantPass := Untouched(len(passState))
	for i, v := range []int{1, position, position + 1, sampleSplits(position), 0, int(drawn) + 1} {
		wantPass[i] = float64(v)
	}
	wantID, wantLogProb := Untouched(2*sampleRing), Untouched(2*sampleRing)
	at := 2 * int(drawn%sampleRing)
	wantID[at], wantID[at+1], wantLogProb[at], wantLogProb[at+1] = math.MaxUint32, Any, Any, Any
	logProbTolerance := 0.0
	if c.failed { // what is drawn does not matter, only that nothing lies outside
		wantPass[sampleTokens] = Any
		for i := range wantState {
			wantState[i] = Any
		}
	} else {
		wantPass[sampleTokens] = float64(want.Token)
		if c.text {
			wantState[2*want.Token] = float64((state[2*want.Token] | seenBit) + 1)
		}
		wantID[at], wantLogProb[at+1] = float64(want.Token), float64(want.LogProb)
		// It is a difference of numbers of the logits' size, however small it is itself.
		logProb := math.Abs(float64(want.LogProb))
		logProbTolerance = 4e-7 * max(logProb, float64(slices.Max(logits))) / max(logProb, 1e-9)
	}
	topK, allowed, inv := 1, c.vocab, float32(1)
	if p.AllowedVocab > 0 {
		allowed = p.AllowedVocab
	}
	var full sampling.FullDraw
	if c.full() {
		full = p.FullDraw(c.vocab)
	} else if p.Temperature > 0 {
		topK, inv = p.TopK, 1/p.Temperature
	}
	adjust := uint32(0)
	if c.text {
		adjust = 1
	}
	f := math.Float32bits
	vocab, slices := uint32(c.vocab), uint32(numSlices)
	perSlice := func() map[string]uint32 {
		return map[string]uint32{"VOCAB": vocab, "SLICE": uint32(slice)}
	}
	draw := shaders.Options{Consts: map[string]uint32{"VOCAB": vocab, "SLICE": uint32(slice), "NUM_SLICES": slices, "RING": sampleRing, "TOKENS": sampleTokens}}
	setup := &Setup{
		Buffers: map[string][]byte{
			"params": U32Bytes(uint32(p.Seed), uint32(p.Seed>>32), uint32(topK), uint32(allowed), f(inv), f(p.TopP), f(p.MinP),
				f(p.RepetitionPenalty), f(p.PresencePenalty), f(p.FrequencyPenalty), adjust,
				f(full.Scale), full.TopP, uint32(full.MinWeight), uint32(full.MinWeight>>32), full.Shift),
			"logits": F32Bytes(logits), "vocab_state": U32Bytes(state...), "slices": make([]byte, 16*numSlices), "pass_state": U32Bytes(passState...),
			"sampled": Poison(2 * sampleRing),
		},
		Steps: []Step{{Kernel: "sample_slices", Options: shaders.Options{Consts: perSlice()},
			Bindings: Bind("params", "logits", "vocab_state", "slices"), Grid: [3]uint32{slices, 1, 1}}},
		Checks: []Check{{"sampled", U32, wantID, 0}, {"sampled", F32, wantLogProb, logProbTolerance}, {"pass_state", U32, wantPass, 0}, {"vocab_state", U32, wantState, 0}},
	}
	if !c.full() {
		setup.Steps = append(setup.Steps, Step{Kernel: "sample_token", Options: draw,
			Bindings: Bind("params", "logits", "slices", "vocab_state", "pass_state", "sampled"), Grid: [3]uint32{1, 1, 1}})
		return setup
	}
	const sums = 2 * (2048 + 1)
	setup.Buffers["ids"], setup.Buffers["sums"] = Poison(2*c.vocab), make([]byte, 4*sums)
	weights := perSlice()
	weights["NUM_SLICES"], weights["THREADS"] = slices, uint32(min(slice, 128))
	setup.Steps = append(setup.Steps,
		Step{Kernel: "sample_weights", Options: shaders.Options{Consts: weights}, Bindings: Bind("params", "logits", "vocab_state", "slices", "ids", "sums"), Grid: [3]uint32{slices, 1, 1}},
		Step{Kernel: "sample_full", Options: draw, Bindings: Bind("params", "logits", "slices", "ids", "sums", "vocab_state", "pass_state", "sampled"), Grid: [3]uint32{1, 1, 1}})
	setup.Checks = append(setup.Checks, Check{"sums", U32, make([]float64, sums), 0}) // left as the next draw needs it
	return setup
}

const seenBit = 1 << 31

// vocabState is what the host writes for the penalties and the bias: pairs of count and bits of the bias.
func vocabState(p sampling.Params, vocab int, prompt, generated []int32) []uint32 {
	state := make([]uint32, 2*vocab)
	for _, id := range prompt {
		state[2*id] |= seenBit
	}
	for _, id := range generated {
		state[2*id] = (state[2*id] | seenBit) + 1
	}
	for id, b := range p.LogitBias {
		state[2*id+1] = math.Float32bits(b)
	}
	return state
}

// hostSample draws the token at a position; those before it that are not given do not matter.
func hostSample(p sampling.Params, logits []float32, prompt, generated []int32, position int) sampling.Result {
	s, err := sampling.New(p, len(logits))
	if err != nil {
		panic(err)
	}
	filler := make([]int32, position-len(prompt)-len(generated))
	if err := s.AcceptPrompt(append(filler, prompt...)); err != nil {
		panic(err)
	}
	for _, id := range generated {
		if err := s.Accept(id); err != nil {
			panic(err)
		}
	}
	r, err := s.Sample(logits)
	if err != nil {
		panic(err)
	}
	return r
}

// sampleSplits is the number of splits of the next decode pass with sample_token's default constants.
func sampleSplits(position int) int {
	switch length := position + 1; {
	case length <= 64:
		return 1
	case length <= 128:
		return 2
	case length <= 1024:
		return 4
	}
	return 33
}
