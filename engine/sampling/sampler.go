// Sampler: the state of one text (what has been said, how far it is) and the steps of a draw.

package sampling

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Result is one sampled token.
type Result struct {
	Token   int32
	LogProb float32        // log_softmax of the raw logits at Token
	Top     []TokenLogProb // the Params.LogProbs most likely tokens, most likely first
}

// TokenLogProb is a token with its log_softmax of the raw logits.
type TokenLogProb struct {
	Token   int32
	LogProb float32
}

// Sampler draws the tokens of one text. It is not safe for concurrent use.
type Sampler struct {
	p       Params
	vocab   int
	allowed int // ids below it can be sampled

	position uint64           // tokens accepted: the position of the token to be sampled
	seen     map[int32]uint32 // distinct tokens accepted -> how often generated (0: in the prompt only)

	scores []float32 // [allowed] scratch, when penalties or a bias change the logits
	heap   []candidate
	full   fullDistribution
}

// New checks p and returns a sampler at position 0 for rows of vocab logits.
func New(p Params, vocab int) (*Sampler, error) {
	if err := p.Validate(vocab); err != nil {
		return nil, err
	}
	p.LogitBias = maps.Clone(p.LogitBias)
	s := &Sampler{p: p, vocab: vocab, allowed: vocab, seen: make(map[int32]uint32)}
	if p.AllowedVocab > 0 {
		s.allowed = p.AllowedVocab
	}
	return s, nil
}

// Params returns the parameters that the sampler was made with.
func (s *Sampler) Params() Params { return s.p }

// Position is the number of tokens accepted, which is the position of the token that Sample chooses.
func (s *Sampler) Position() uint64 { return s.position }

// AcceptPrompt appends tokens that were given, not sampled: they count for the repetition penalty and the position.
func (s *Sampler) AcceptPrompt(tokens []int32) error {
	for i, t := range tokens {
		if err := s.checkToken(t); err != nil {
			return fmt.Errorf("sampling: accept prompt token %d of %d: %w", i, len(tokens), err)
		}
	}
	for _, t := range tokens {
		s.seen[t] += 0
	}
	s.position += uint64(len(tokens))
	return nil
}

// Accept appends a generated token, which need not be the one that Sample returned.
func (s *Sampler) Accept(token int32) error {
	if err := s.checkToken(token); err != nil {
		return fmt.Errorf("sampling: accept: %w", err)
	}
	s.seen[token]++
	s.position++
	return nil
}

func (s *Sampler) checkToken(t int32) error {
	if t < 0 || int(t) >= s.vocab {
		return fmt.Errorf("token %d is outside the vocabulary of %d", t, s.vocab)
	}
	return nil
}

// Sample chooses the token at Position from logits, [vocab], which it does not change. It does not advance: call Accept.
func (s *Sampler) Sample(logits []float32) (Result, error) {
	if len(logits) != s.vocab {
		return Result{}, fmt.Errorf("sampling: %d logits for a vocabulary of %d", len(logits), s.vocab)
	}
	if i := firstNotFinite(logits); i >= 0 {
		return Result{}, fmt.Errorf("sampling: logit %d of %d is %v at position %d: the forward pass went wrong", i, len(logits), logits[i], s.position)
	}
	token, err := s.choose(s.applyPenalties(logits))
	if err != nil {
		return Result{}, err
	}
	logSum := logSumExp(logits)
	r := Result{Token: token, LogProb: float32(float64(logits[token]) - logSum)}
	if n := min(s.p.LogProbs, s.allowed); n > 0 {
		r.Top = make([]TokenLogProb, 0, n)
		for _, c := range s.topK(logits[:s.allowed], n) {
			r.Top = append(r.Top, TokenLogProb{c.id, float32(float64(c.score) - logSum)})
		}
	}
	return r, nil
}

// applyPenalties returns the scores, [allowed]: logits itself when there is nothing to change.
func (s *Sampler) applyPenalties(logits []float32) []float32 {
	p := &s.p
	penalize := len(s.seen) > 0 && (p.RepetitionPenalty != 1 || p.PresencePenalty != 0 || p.FrequencyPenalty != 0)
	if !penalize && len(p.LogitBias) == 0 {
		return logits[:s.allowed]
	}
	s.scores = append(s.scores[:0], logits[:s.allowed]...)
	// Every entry is changed on its own, so the maps' order does not matter.
	if penalize {
		for id, count := range s.seen {
			if int(id) >= s.allowed {
				continue
			}
			v := s.scores[id]
			if v > 0 {
				v /= p.RepetitionPenalty
			} else {
				v = float32(v * p.RepetitionPenalty)
			}
			if count > 0 {
				v -= float32(float32(count)*p.FrequencyPenalty) + p.PresencePenalty
			}
			s.scores[id] = v
		}
	}
	for id, b := range p.LogitBias {
		if int(id) < s.allowed {
			s.scores[id] += b
		}
	}
	return s.scores
}

// choose does steps 4 to 8 of the package documentation.
func (s *Sampler) choose(scores []float32) (int32, error) {
	top := maximum(scores)
	best := slices.Index(scores, top)
	switch {
	case math.IsInf(float64(top), -1):
		return 0, fmt.Errorf("sampling: all %d allowed tokens are forbidden by logit_bias at position %d", len(scores), s.position)
	case !isFinite(top):
		return 0, fmt.Errorf("sampling: penalties or logit_bias make the score of token %d %v at position %d", best, top, s.position)
	}
	if s.p.Temperature == 0 {
		return int32(best), nil
	}
	if s.p.DrawsFew(s.vocab) {
		return s.drawFew(s.topK(scores, s.p.TopK), float64(Uniform(s.p.Seed, s.position))), nil
	}
	return s.full.draw(scores, top, &s.p, UniformBits(s.p.Seed, s.position)), nil
}

// drawFew draws from candidates in descending order.
func (s *Sampler) drawFew(candidates []candidate, u float64) int32 {
	invTemperature := 1 / float64(s.p.Temperature)
	top := float64(candidates[0].score)
	sum := 0.0
	for i := range candidates {
		candidates[i].weight = exp(float64((float64(candidates[i].score) - top) * invTemperature))
		sum += candidates[i].weight
	}
	kept, keep := 0.0, 0
	for keep < len(candidates) {
		w := candidates[keep].weight
		if s.p.TopP < 1 && kept >= float64(s.p.TopP)*sum || w < float64(s.p.MinP) {
			break
		}
		kept += w
		keep++
	}
	running := 0.0
	for _, c := range candidates[:keep] {
		if running += c.weight; running > u*kept {
			return c.id
		}
	}
	return candidates[keep-1].id
}

// candidate is a token that passed top-k.
type candidate struct {
	id     int32
	score  float32
	weight float64
}

// before is the order of everything: descending score, then ascending id.
func (c candidate) before(d candidate) bool {
	return c.score > d.score || c.score == d.score && c.id < d.id
}

func compareCandidates(a, b candidate) int {
	switch {
	case a.before(b):
		return -1
	case b.before(a):
		return 1
	}
	return 0
}

// topK returns the k largest finite scores in order (fewer if others are forbidden). One pass with a heap whose root is
// the last of the best so far: most scores cost one comparison. The result is valid until the next call.
func (s *Sampler) topK(scores []float32, k int) []candidate {
	h := s.heap[:0]
	worst := float32(math.Inf(-1))
	for id, v := range scores {
		if v <= worst { // equal scores: the lower id is already in
			continue
		}
		c := candidate{id: int32(id), score: v}
		if len(h) < k {
			h = append(h, c)
			if len(h) < k {
				continue
			}
			for i := k/2 - 1; i >= 0; i-- {
				siftDown(h, i)
			}
		} else {
			h[0] = c
			siftDown(h, 0)
		}
		worst = h[0].score
	}
	s.heap = h
	slices.SortFunc(h, compareCandidates)
	return h
}

// siftDown restores the heap below i: no parent is before its children.
func siftDown(h []candidate, i int) {
	for {
		last := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[last].before(h[child]) {
				last = child
			}
		}
		if last == i {
			return
		}
		h[i], h[last] = h[last], h[i]
		i = last
	}
}
