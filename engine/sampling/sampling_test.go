// Tests of the sampler: random numbers, distributions, tie-breaks, log-probabilities, refusals.

package sampling

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The vectors are those of Random123's kat_vectors for philox4x32, 10 rounds.
func TestPhiloxKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, [2]uint32{0xffffffff, 0xffffffff},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		},
		{
			[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		if got := Philox4x32(c.counter, c.key); got != c.want {
			t.Errorf("Philox4x32(%x, %x) = %x, want %x", c.counter, c.key, got, c.want)
		}
	}
}

func TestUniformTakesUpper24Bits(t *testing.T) {
	if got, want := Uniform(0, 0), float32(0x6627e8)/(1<<24); got != want {
		t.Errorf("Uniform(0, 0) = %v, want %v", got, want)
	}
	if got, want := Uniform(math.MaxUint64, 0x85a308d3_243f6a88), float32(Philox4x32([4]uint32{0x243f6a88, 0x85a308d3}, [2]uint32{0xffffffff, 0xffffffff})[0]>>8)/(1<<24); got != want {
		t.Errorf("64-bit seed and position: %v, want %v", got, want)
	}
	// 0xffffff is the largest 24-bit number.
	if top := float32(0xffffff) * (1.0 / (1 << 24)); top >= 1 {
		t.Errorf("the largest number is %v, want less than 1", top)
	}
}

// mulHi is the WGSL function of Philox4x32's documentation.
func mulHi(a, b uint32) uint32 {
	al, ah, bl, bh := a&0xffff, a>>16, b&0xffff, b>>16
	mid := ah*bl + (al*bl)>>16
	low := al*bh + mid&0xffff
	return ah*bh + mid>>16 + low>>16
}

func TestMulHiWithoutWideProduct(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	values := []uint32{0, 1, 0xffff, 0x10000, 0xffffffff, philoxM0, philoxM1}
	for range 1000 {
		values = append(values, rng.Uint32())
	}
	for _, a := range values {
		for _, b := range values[:40] {
			if got, want := mulHi(a, b), uint32(uint64(a)*uint64(b)>>32); got != want {
				t.Fatalf("mul_hi(%#x, %#x) = %#x, want %#x", a, b, got, want)
			}
		}
	}
}

func TestUniformIsUniform(t *testing.T) {
	const cells, draws = 256, 100_000
	ids, probs := make([]int32, cells), make([]float64, cells)
	for i := range ids {
		ids[i], probs[i] = int32(i), 1.0/cells
	}
	for name, number := range map[string]func(i uint64) float32{
		"over positions": func(i uint64) float32 { return Uniform(42, i) },
		"over seeds":     func(i uint64) float32 { return Uniform(i, 42) },
		"over both":      func(i uint64) float32 { return Uniform(i<<32, i<<32) },
	} {
		seen := make(map[int32]int)
		for i := range uint64(draws) {
			seen[int32(number(i)*cells)]++
		}
		if p := chiSquared(ids, probs, seen); p < 1e-6 || p > 1-1e-6 {
			t.Errorf("%s: p = %g", name, p)
		}
	}
}

// Quantiles from tables of the chi-squared distribution.
func TestChiSquaredDistribution(t *testing.T) {
	for _, c := range []struct{ degrees, x, want float64 }{
		{1, 3.841458820694124, 0.05}, {1, 6.634896601021213, 0.01}, {2, 5.991464547107979, 0.05},
		{10, 18.307038053275146, 0.05}, {10, 3.940299136119843, 0.95}, {100, 124.34211340400407, 0.05}, {30, 59.70306429, 0.001},
	} {
		if got := upperGamma(c.degrees/2, c.x/2); math.Abs(got-c.want) > 1e-8 {
			t.Errorf("P(chi2_%v > %v) = %v, want %v", c.degrees, c.x, got, c.want)
		}
	}
}

// testLogits has ties, negative numbers and a spread that leaves work for every filter.
func testLogits(n int) []float32 {
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	logits := make([]float32, n)
	for i := range logits {
		logits[i] = float32(rng.Float64()*4 - 1.5)
	}
	for i := 0; i+5 < n; i += 5 {
		logits[i+5] = logits[i]
	}
	return logits
}

type distributionCase struct {
	name    string
	p       Params
	prompt  []int32
	history []int32 // generated
}

func distributionCases() []distributionCase {
	with := func(f func(*Params)) Params {
		p := Default()
		f(&p)
		return p
	}
	prompt, history := []int32{3, 4, 5, 5, 5, 17, 40}, []int32{3, 8, 8, 8, 20, 21, 39}
	bias := map[int32]float32{2: 1.5, 8: 3, 12: float32(math.Inf(-1)), 30: -2, 45: 100}
	return []distributionCase{
		{"plain", Default(), nil, nil},
		{"cold", with(func(p *Params) { p.Temperature = 0.3 }), nil, nil},
		{"hot", with(func(p *Params) { p.Temperature = 3 }), nil, nil},
		{"top_k", with(func(p *Params) { p.TopK = 7 }), nil, nil},
		{"top_k beyond the vocabulary", with(func(p *Params) { p.TopK = 1000 }), nil, nil},
		{"top_p", with(func(p *Params) { p.TopP = 0.7 }), nil, nil},
		{"min_p", with(func(p *Params) { p.MinP = 0.2 }), nil, nil},
		{"top_k and top_p", with(func(p *Params) { p.TopK, p.TopP = 12, 0.8 }), nil, nil},
		{"top_k and min_p", with(func(p *Params) { p.TopK, p.MinP = 30, 0.3 }), nil, nil},
		{"top_p and min_p", with(func(p *Params) { p.TopP, p.MinP = 0.9, 0.15 }), nil, nil},
		{"top_p below min_p", with(func(p *Params) { p.TopP, p.MinP = 0.5, 0.05 }), nil, nil},
		{"all filters", with(func(p *Params) { p.Temperature, p.TopK, p.TopP, p.MinP = 0.8, 15, 0.9, 0.1 }), nil, nil},
		{"Qwen3 thinking", with(func(p *Params) { p.Temperature, p.TopK, p.TopP = 0.6, 20, 0.95 }), prompt, history},
		{"repetition penalty", with(func(p *Params) { p.RepetitionPenalty = 1.5 }), prompt, history},
		{"repetition reward", with(func(p *Params) { p.RepetitionPenalty = 0.7 }), prompt, history},
		{"presence penalty", with(func(p *Params) { p.PresencePenalty = 1.2 }), prompt, history},
		{"frequency penalty", with(func(p *Params) { p.FrequencyPenalty = 0.6 }), prompt, history},
		{"bias", with(func(p *Params) { p.LogitBias, p.AllowedVocab = bias, 44 }), nil, nil},
		{"allowed vocabulary", with(func(p *Params) { p.AllowedVocab = 31 }), nil, nil},
		{"allowed vocabulary and top_k", with(func(p *Params) { p.AllowedVocab, p.TopK = 31, 10 }), nil, nil},
		{"everything", with(func(p *Params) {
			*p = Params{Temperature: 0.9, TopK: 18, TopP: 0.93, MinP: 0.04, RepetitionPenalty: 1.2, PresencePenalty: 0.4,
				FrequencyPenalty: -0.2, LogitBias: bias, AllowedVocab: 44}
		}), prompt, history},
		{"everything without top_k", with(func(p *Params) {
			*p = Params{Temperature: 0.9, TopP: 0.93, MinP: 0.04, RepetitionPenalty: 1.2, PresencePenalty: 0.4,
				FrequencyPenalty: -0.2, LogitBias: bias, AllowedVocab: 44}
		}), prompt, history},
	}
}

// newSampler makes a sampler that has accepted a history.
func newSampler(t testing.TB, p Params, vocab int, prompt, history []int32) *Sampler {
	t.Helper()
	s, err := New(p, vocab)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AcceptPrompt(prompt); err != nil {
		t.Fatal(err)
	}
	for _, id := range history {
		if err := s.Accept(id); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// drawMany draws at the same history with n seeds.
func drawMany(t testing.TB, c distributionCase, logits []float32, n int) map[int32]int {
	t.Helper()
	s := newSampler(t, c.p, len(logits), c.prompt, c.history)
	draws := make(map[int32]int)
	for i := range n {
		s.p.Seed = uint64(i)
		r, err := s.Sample(logits)
		if err != nil {
			t.Fatal(err)
		}
		draws[r.Token]++
	}
	return draws
}

func TestDistributions(t *testing.T) {
	logits := testLogits(50)
	for _, c := range distributionCases() {
		ids, probs := reference(c.p, logits, slices.Concat(c.prompt, c.history), len(c.prompt))
		if len(ids) < 5 {
			t.Errorf("%s: only %v can be drawn, which tests little", c.name, ids)
		}
		draws := drawMany(t, c, logits, 20_000)
		if p := chiSquared(ids, probs, draws); p < 1e-6 {
			t.Errorf("%s: p = %g, drawn %v, expected of %v %.4f", c.name, p, draws, ids, probs)
		}
		for i, id := range ids {
			if probs[i] > 0.005 && draws[id] == 0 {
				t.Errorf("%s: token %d has probability %.4f and was never drawn", c.name, id, probs[i])
			}
		}
	}
}

// Draws at successive positions of one text, with one seed.
func TestDistributionOverPositions(t *testing.T) {
	logits := testLogits(50)
	p := Default()
	p.Temperature, p.TopK, p.Seed = 0.8, 20, 99
	ids, probs := reference(p, logits, nil, 0)
	s, draws := newSampler(t, p, len(logits), nil, nil), make(map[int32]int)
	for range 20_000 {
		r, err := s.Sample(logits)
		if err != nil {
			t.Fatal(err)
		}
		draws[r.Token]++
		if err := s.Accept(r.Token); err != nil {
			t.Fatal(err)
		}
	}
	if p := chiSquared(ids, probs, draws); p < 1e-6 {
		t.Errorf("p = %g, drawn %v, expected of %v %.4f", p, draws, ids, probs)
	}
}

// The statistical test must reject a sampler that is slightly wrong: draws with one set of parameters against the
// probabilities of another.
func TestWrongDistributionsAreRejected(t *testing.T) {
	logits := testLogits(50)
	cases := distributionCases()
	byName := func(name string) distributionCase {
		return cases[slices.IndexFunc(cases, func(c distributionCase) bool { return c.name == name })]
	}
	for _, c := range []struct {
		name  string
		wrong func(*distributionCase)
	}{
		{"plain", func(c *distributionCase) { c.p.Temperature = 1.12 }},
		{"cold", func(c *distributionCase) { c.p.Temperature = 0.33 }},
		{"top_k", func(c *distributionCase) { c.p.TopK = 8 }},
		{"top_k", func(c *distributionCase) { c.p.TopK = 6 }},
		{"top_p", func(c *distributionCase) { c.p.TopP = 0.74 }},
		{"min_p", func(c *distributionCase) { c.p.MinP = 0.35 }},
		{"top_k and top_p", func(c *distributionCase) { c.p.TopK = 0 }},
		{"repetition penalty", func(c *distributionCase) { c.prompt = nil }},
		{"presence penalty", func(c *distributionCase) { c.p.PresencePenalty = 0.6 }},
		{"presence penalty", func(c *distributionCase) { c.history = append(c.history, c.prompt...) }},
		{"frequency penalty", func(c *distributionCase) { c.p.FrequencyPenalty = 0.1 }},
		{"bias", func(c *distributionCase) { c.p.LogitBias = map[int32]float32{2: 1.4, 8: 3, 30: -2} }},
		{"allowed vocabulary", func(c *distributionCase) { c.p.AllowedVocab = 32 }},
	} {
		right := byName(c.name)
		ids, probs := reference(right.p, logits, slices.Concat(right.prompt, right.history), len(right.prompt))
		wrong := right
		wrong.prompt, wrong.history = slices.Clone(right.prompt), slices.Clone(right.history)
		c.wrong(&wrong)
		if p := chiSquared(ids, probs, drawMany(t, wrong, logits, 20_000)); p >= 1e-6 {
			t.Errorf("%s: draws from %+v pass for %+v (p = %g)", c.name, wrong.p, right.p, p)
		}
	}
}

// The reference is not the sampler's twin: probabilities worked out by hand.
func TestReferenceByHand(t *testing.T) {
	// Weights 4, 2, 1, 1.
	logits := []float32{0, float32(math.Log(2)), float32(math.Log(4)), 0}
	for _, c := range []struct {
		change func(*Params)
		ids    []int32
		probs  []float64
	}{
		{func(*Params) {}, []int32{2, 1, 0, 3}, []float64{0.5, 0.25, 0.125, 0.125}},
		{func(p *Params) { p.Temperature = 0.5 }, []int32{2, 1, 0, 3}, []float64{16. / 22, 4. / 22, 1. / 22, 1. / 22}},
		{func(p *Params) { p.TopK = 3 }, []int32{2, 1, 0}, []float64{4. / 7, 2. / 7, 1. / 7}},
		{func(p *Params) { p.TopP = 0.6 }, []int32{2, 1}, []float64{2. / 3, 1. / 3}},
		{func(p *Params) { p.TopK, p.TopP = 2, 0.6 }, []int32{2}, []float64{1}},
		{func(p *Params) { p.MinP = 0.4 }, []int32{2, 1}, []float64{2. / 3, 1. / 3}},
	} {
		p := Default()
		c.change(&p)
		ids, probs := reference(p, logits, nil, 0)
		if !slices.Equal(ids, c.ids) {
			t.Errorf("%+v: ids %v, want %v", p, ids, c.ids)
			continue
		}
		for i := range probs {
			if math.Abs(probs[i]-c.probs[i]) > 1e-6 {
				t.Errorf("%+v: probabilities %v, want %v", p, probs, c.probs)
			}
		}
	}
}

// Draw by draw: the token is the one in whose share of the reference's cumulative distribution the random number falls.
// Rows of many sizes and shapes reach every level of the search in full.go.
func TestEveryDrawAgainstReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	shapes := []struct {
		name  string
		logit func(i int) float32
	}{
		{"bell", func(int) float32 { return float32(rng.NormFloat64() * 3) }},
		{"flat", func(int) float32 { return 10 + float32(rng.NormFloat64()*1e-4) }},
		{"equal", func(int) float32 { return -2.5 }},
		{"few values", func(int) float32 { return float32(rng.IntN(4)) }},
		{"both zeros", func(i int) float32 { return float32(math.Copysign(0, float64(i%2)-0.5)) }},
		{"huge spread", func(int) float32 { return float32(rng.NormFloat64() * 1e30) }},
		{"one far up", func(i int) float32 { return float32(rng.NormFloat64()) + 1e4*float32(1/(1+i)) }},
	}
	for _, shape := range shapes {
		for _, vocab := range []int{1, 2, 7, 1000, 5000} {
			logits := make([]float32, vocab)
			for i := range logits {
				logits[i] = shape.logit(i)
			}
			for trial := range 12 {
				p := Default()
				p.Temperature = []float32{1, 0.7, 2, 0.01}[trial%4]
				p.TopP = []float32{1, 0.9, 0.31}[trial%3]
				p.MinP = []float32{0, 0.1}[trial/2%2]
				p.TopK = []int{0, 0, 40}[trial/4]
				ids, probs := reference(p, logits, nil, 0)
				for range 10 {
					p.Seed = rng.Uint64()
					r, err := newSampler(t, p, vocab, nil, nil).Sample(logits)
					if err != nil {
						t.Fatal(err)
					}
					if err := checkShare(ids, probs, r.Token, float64(Uniform(p.Seed, 0))); err != nil {
						t.Errorf("%s of %d, %+v: %v", shape.name, vocab, p, err)
					}
				}
			}
		}
	}
}

// checkShare allows for rounding where the random number falls on the border of two tokens.
func checkShare(ids []int32, probs []float64, token int32, u float64) error {
	const rounding = 1e-8
	at := slices.Index(ids, token)
	if at < 0 {
		return fmt.Errorf("token %d cannot be drawn (%d can)", token, len(ids))
	}
	before := 0.0
	for _, p := range probs[:at] {
		before += p
	}
	if u < before-rounding || u > before+probs[at]+rounding {
		return fmt.Errorf("token %d drawn with %v, its share is [%v, %v)", token, u, before, before+probs[at])
	}
	return nil
}

// With a random number close to 1 the last token that the filters keep is drawn, which shows exactly where they cut.
func TestWhereFiltersCut(t *testing.T) {
	best := uint64(0)
	for seed := range uint64(300_000) {
		if Uniform(seed, 0) > Uniform(best, 0) {
			best = seed
		}
	}
	logits := make([]float32, 500)
	for i := range logits {
		logits[i] = float32(len(logits)-i) * 0.02
	}
	for i := 1; i < 100; i++ {
		for _, topK := range []int{0, 300} {
			for _, p := range []Params{{TopP: float32(i) / 100}, {TopP: 1, MinP: float32(i) / 100}, {TopP: float32(i) / 100, MinP: 0.3}} {
				p.Temperature, p.RepetitionPenalty, p.TopK, p.Seed = 1, 1, topK, best
				ids, _ := reference(p, logits, nil, 0)
				want := ids[len(ids)-1]
				if r, err := newSampler(t, p, len(logits), nil, nil).Sample(logits); err != nil || r.Token != want {
					t.Errorf("%+v: token %d is the last, want %d (%v)", p, r.Token, want, err)
				}
			}
		}
	}
}

// A random number on the border of two shares belongs to the second, so that every share is half open like [0, 1).
func TestBordersOfShares(t *testing.T) {
	const n = 4096
	equal := make([]float32, n+1)
	equal[n] = -1e9 // no share
	found := 0
	for seed := range uint64(100_000) {
		share := Uniform(seed, 0) * n
		if share != float32(int(share)) {
			continue
		}
		found++
		for _, topK := range []int{0, n} {
			p := Default()
			p.Seed, p.TopK = seed, topK
			if r, err := newSampler(t, p, n+1, nil, nil).Sample(equal); err != nil || r.Token != int32(share) {
				t.Errorf("seed %d, top_k %d: %v, %v, want token %v", seed, topK, r, err, share)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d seeds lie on a border", found)
	}
}

func TestFullVocabulary(t *testing.T) {
	const vocab, allowed = 151936, 151669
	logits := realisticLogits(vocab)
	logits[151700] = 60 // padding, never sampled
	for _, p := range []Params{
		{Temperature: 0.6, TopK: 20, TopP: 0.95, RepetitionPenalty: 1, AllowedVocab: allowed},
		{Temperature: 1.5, TopP: 0.95, RepetitionPenalty: 1, AllowedVocab: allowed},
		{Temperature: 4, TopP: 1, RepetitionPenalty: 1, AllowedVocab: allowed},
	} {
		ids, probs := reference(p, logits, nil, 0)
		for seed := range uint64(20) {
			p.Seed = seed
			r, err := newSampler(t, p, vocab, nil, nil).Sample(logits)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkShare(ids, probs, r.Token, float64(Uniform(seed, 0))); err != nil {
				t.Errorf("%+v: %v", p, err)
			}
		}
	}
	if r, err := newSampler(t, Params{TopP: 1, RepetitionPenalty: 1, AllowedVocab: allowed}, vocab, nil, nil).Sample(logits); err != nil || r.Token >= allowed {
		t.Errorf("greedy: %v, %v", r, err)
	}
}

func TestGreedyAndTieBreaks(t *testing.T) {
	logits := []float32{1, 5, 3, 5, 5, -1}
	if r, err := newSampler(t, Greedy(), 6, nil, nil).Sample(logits); err != nil || r.Token != 1 {
		t.Errorf("greedy: %v, %v; want token 1, the lowest of the best", r, err)
	}
	p := Default()
	p.TopK, p.LogProbs = 2, 4
	c := distributionCase{p: p}
	draws := drawMany(t, c, logits, 500)
	if len(draws) != 2 || draws[1] == 0 || draws[3] == 0 {
		t.Errorf("top_k 2 of three equal tokens drew %v, want 1 and 3", draws)
	}
	r, err := newSampler(t, p, 6, nil, nil).Sample(logits)
	if err != nil {
		t.Fatal(err)
	}
	var top []int32
	for _, a := range r.Top {
		top = append(top, a.Token)
	}
	if !slices.Equal(top, []int32{1, 3, 4, 2}) {
		t.Errorf("alternatives %v, want 1, 3, 4, 2", top)
	}
	// The best token wins after penalties, not before.
	p = Greedy()
	p.PresencePenalty = 3
	if r, err := newSampler(t, p, 6, nil, []int32{1, 3, 4}).Sample(logits); err != nil || r.Token != 2 {
		t.Errorf("greedy with penalties: %v, %v; want token 2", r, err)
	}
}

func TestLogProbs(t *testing.T) {
	logits := []float32{0, float32(math.Log(2)), float32(math.Log(4)), 0, float32(math.Log(8))}
	// Neither temperature, filters, penalties, bias nor the mask change what is reported; 4 is not listed.
	p := Params{Temperature: 0.1, TopK: 1, TopP: 0.5, RepetitionPenalty: 2, PresencePenalty: 1, LogitBias: map[int32]float32{0: 9}, LogProbs: 5, AllowedVocab: 4}
	r, err := newSampler(t, p, 5, []int32{1}, []int32{2}).Sample(logits)
	if err != nil {
		t.Fatal(err)
	}
	if r.Token != 0 || math.Abs(float64(r.LogProb)-math.Log(1./16)) > 1e-6 {
		t.Errorf("token %d with %v, want 0 with log 1/16", r.Token, r.LogProb)
	}
	want := []TokenLogProb{{2, float32(math.Log(4. / 16))}, {1, float32(math.Log(2. / 16))}, {0, float32(math.Log(1. / 16))}, {3, float32(math.Log(1. / 16))}}
	if len(r.Top) != len(want) {
		t.Fatalf("alternatives %v, want %v", r.Top, want)
	}
	for i, w := range want {
		if r.Top[i].Token != w.Token || math.Abs(float64(r.Top[i].LogProb-w.LogProb)) > 1e-6 {
			t.Errorf("alternative %d is %v, want %v", i, r.Top[i], w)
		}
	}
}

func TestLogProbsAgainstFloat64(t *testing.T) {
	logits := realisticLogits(151936)
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v))
	}
	r, err := newSampler(t, Greedy(), len(logits), nil, nil).Sample(logits)
	if err != nil {
		t.Fatal(err)
	}
	if want := float64(logits[r.Token]) - math.Log(sum); math.Abs(float64(r.LogProb)-want) > 1e-7*(1+math.Abs(want)) {
		t.Errorf("log-probability %v, want %v", r.LogProb, want)
	}
}

func TestExp(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	worst := 0.0
	for i := range 200_000 {
		x := -rng.Float64() * math.Pow(10, float64(i%5)-1.2)
		if x < -690 {
			continue
		}
		worst = max(worst, math.Abs(exp(x)/math.Exp(x)-1))
	}
	if worst > 1e-10 {
		t.Errorf("relative error %g, documented is 1e-10", worst)
	}
	if exp(0) != 1 || exp(-690.1) != 0 || exp(math.Inf(-1)) != 0 || exp(-1e300) != 0 {
		t.Errorf("exp(0) = %v, exp(-690.1) = %v, exp(-Inf) = %v", exp(0), exp(-690.1), exp(math.Inf(-1)))
	}
}

func TestSameSeedSameTokens(t *testing.T) {
	logits := testLogits(200)
	p := Default()
	p.Seed = 1
	text := func(s *Sampler, n int) []int32 {
		var out []int32
		for range n {
			r, err := s.Sample(logits)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, r.Token)
			if err := s.Accept(r.Token); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	a := text(newSampler(t, p, 200, []int32{1, 2}, nil), 50)
	if b := text(newSampler(t, p, 200, []int32{1, 2}, nil), 50); !slices.Equal(a, b) {
		t.Errorf("the same seed gives %v and %v", a, b)
	}
	// Continuing a text draws what one run would have drawn.
	if b := text(newSampler(t, p, 200, []int32{1, 2}, a[:20]), 30); !slices.Equal(a[20:], b) {
		t.Errorf("continued after 20 tokens: %v, want %v", b, a[20:])
	}
	p.Seed = 2
	if b := text(newSampler(t, p, 200, []int32{1, 2}, nil), 50); slices.Equal(a, b) {
		t.Error("another seed gives the same text")
	}
}

func TestSampleDoesNotChangeLogits(t *testing.T) {
	for _, c := range distributionCases() {
		logits := testLogits(50)
		if _, err := newSampler(t, c.p, 50, c.prompt, c.history).Sample(logits); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(logits, testLogits(50)) {
			t.Errorf("%s: logits were changed", c.name)
		}
	}
}

func TestRefusedParams(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		change func(*Params)
		want   string
	}{
		{func(p *Params) { p.Temperature = -0.5 }, "temperature is -0.5"},
		{func(p *Params) { p.Temperature = nan }, "temperature is NaN"},
		{func(p *Params) { p.Temperature = inf }, "temperature is +Inf"},
		{func(p *Params) { p.TopP = 0 }, "top_p is 0"},
		{func(p *Params) { p.TopP = 1.5 }, "top_p is 1.5"},
		{func(p *Params) { p.TopP = -1 }, "top_p is -1"},
		{func(p *Params) { p.MinP = 1.25 }, "min_p is 1.25"},
		{func(p *Params) { p.MinP = -0.25 }, "min_p is -0.25"},
		{func(p *Params) { p.TopK = -3 }, "top_k is -3"},
		{func(p *Params) { p.RepetitionPenalty = 0 }, "repetition_penalty is 0"},
		{func(p *Params) { p.RepetitionPenalty = -2 }, "repetition_penalty is -2"},
		{func(p *Params) { p.PresencePenalty = nan }, "presence_penalty is NaN"},
		{func(p *Params) { p.FrequencyPenalty = inf }, "frequency_penalty is +Inf"},
		{func(p *Params) { p.LogProbs = -1 }, "logprobs is -1"},
		{func(p *Params) { p.LogProbs = 101 }, "logprobs is 101: it must be in [0, 100]"},
		{func(p *Params) { p.AllowedVocab = 101 }, "101 ids are allowed of a vocabulary of 100"},
		{func(p *Params) { p.AllowedVocab = -1 }, "-1 ids are allowed"},
		{func(p *Params) { p.LogitBias = map[int32]float32{100: 1} }, "token 100: ids are in [0, 100)"},
		{func(p *Params) { p.LogitBias = map[int32]float32{-1: 1} }, "token -1"},
		{func(p *Params) { p.LogitBias = map[int32]float32{5: nan} }, "token 5 is NaN"},
		{func(p *Params) { p.LogitBias = map[int32]float32{5: inf} }, "token 5 is +Inf"},
	} {
		p := Default()
		c.change(&p)
		if _, err := New(p, 100); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	for _, vocab := range []int{0, -1} {
		if _, err := New(Default(), vocab); err == nil {
			t.Errorf("a vocabulary of %d was accepted", vocab)
		}
	}
	if _, err := New(Params{}, 100); err == nil {
		t.Error("zero Params were accepted")
	}
}

func TestRefusedRows(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, n := range []int{1, 2, 3, 4, 5, 9, 1000} {
		for _, at := range []int{0, n / 2, n - 1} {
			for _, bad := range []float32{nan, inf, -inf} {
				logits := testLogits(n)
				logits[at] = bad
				_, err := newSampler(t, Default(), n, nil, nil).Sample(logits)
				if want := fmt.Sprintf("logit %d of %d is %v at position 0", at, n, bad); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
		}
	}
	s := newSampler(t, Default(), 10, nil, nil)
	if _, err := s.Sample(make([]float32, 9)); err == nil || !strings.Contains(err.Error(), "9 logits for a vocabulary of 10") {
		t.Errorf("a short row: %v", err)
	}
	if s.Accept(10) == nil || s.Accept(-1) == nil || s.AcceptPrompt([]int32{1, 99}) == nil || s.Position() != 0 {
		t.Errorf("tokens outside the vocabulary were accepted, position %d", s.Position())
	}
}

func TestRefusedScores(t *testing.T) {
	forbid := make(map[int32]float32)
	for id := range int32(4) {
		forbid[id] = float32(math.Inf(-1))
	}
	p := Default()
	p.LogitBias = forbid
	if _, err := newSampler(t, p, 4, nil, nil).Sample(make([]float32, 4)); err == nil || !strings.Contains(err.Error(), "all 4 allowed tokens are forbidden") {
		t.Errorf("everything forbidden: %v", err)
	}
	delete(forbid, 2)
	for _, topK := range []int{0, 3} {
		p.TopK = topK
		if r, err := newSampler(t, p, 4, nil, nil).Sample(make([]float32, 4)); err != nil || r.Token != 2 {
			t.Errorf("one token left, top_k %d: %v, %v", topK, r, err)
		}
	}
	p = Default()
	p.RepetitionPenalty = 1e-38
	if _, err := newSampler(t, p, 2, []int32{1}, nil).Sample([]float32{0, 100}); err == nil || !strings.Contains(err.Error(), "score of token 1 +Inf") {
		t.Errorf("overflowing penalty: %v", err)
	}
	// Extremes that are allowed.
	for _, temperature := range []float32{math.SmallestNonzeroFloat32, math.MaxFloat32} {
		p = Default()
		p.Temperature = temperature
		if r, err := newSampler(t, p, 3, nil, nil).Sample([]float32{-math.MaxFloat32, math.MaxFloat32, 0}); err != nil || temperature < 1 && r.Token != 1 {
			t.Errorf("temperature %v: %v, %v", temperature, r, err)
		}
	}
}

func TestParamsJSON(t *testing.T) {
	p := Default()
	if err := json.Unmarshal([]byte(`{"temperature": 0.6, "top_k": 20, "top_p": 0.95, "logit_bias": {"17": -3}, "seed": 18446744073709551615}`), &p); err != nil {
		t.Fatal(err)
	}
	if p.Temperature != 0.6 || p.TopK != 20 || p.TopP != 0.95 || p.RepetitionPenalty != 1 || p.LogitBias[17] != -3 || p.Seed != math.MaxUint64 {
		t.Errorf("%+v", p)
	}
}

// Integer weights are 2^-distance to the last of their 32 bits but a few, never rise with the distance by more than that, and
// the sum of a whole vocabulary's fits; so do fractions of it.
func TestIntegerWeights(t *testing.T) {
	for _, vocab := range []int{1, 5, 1000, 151936, math.MaxInt32} {
		d := Default().FullDraw(vocab)
		largest := d.weight(0)
		if sum := float64(largest) * float64(vocab); sum >= math.Ldexp(1, 63) || sum < math.Ldexp(1, 61) {
			t.Errorf("%d ids: the sum of weights may be %g", vocab, sum)
		}
		if got := fraction(largest, math.MaxUint32); got >= largest || got < largest-largest>>31 {
			t.Errorf("%d ids: nearly all of %d is %d", vocab, largest, got)
		}
		rng := rand.New(rand.NewPCG(8, uint64(vocab)))
		for i := range 20_000 {
			x := uint32(i) * (1 << 31 / 20_000)
			if i%2 == 1 {
				x = rng.Uint32() >> 1
			}
			want := math.Ldexp(math.Exp2(-math.Ldexp(float64(x), -distanceBits)), 32+int(d.Shift))
			if got := float64(d.weight(x)); math.Abs(got-want) > want*2e-8+1 {
				t.Fatalf("%d ids: the weight of distance %d is %g, want %g", vocab, x, got, want)
			}
		}
	}
	d := Params{Temperature: 0.5, TopP: 0.25, MinP: 1}.FullDraw(100)
	if d.TopP != 1<<30 || d.MinWeight != d.weight(0) || d.weight(tooFar) != 0 {
		t.Errorf("%+v", d)
	}
	for _, c := range []struct {
		score float32
		want  uint32
	}{{3, 0}, {float32(3 - math.Ln2), 2 << distanceBits}, {-1000, tooFar}, {float32(math.Inf(-1)), tooFar}} {
		if got := d.distance(3, c.score); math.Abs(float64(got)-float64(c.want)) > 8 {
			t.Errorf("the distance of %g from 3 is %d, want %d", c.score, got, c.want)
		}
	}
}
