// Time of a draw at the size of Qwen3's vocabulary.

package sampling

import (
	"math/rand/v2"
	"testing"
)

// realisticLogits looks like a language model's row: a wide bell and a few candidates far above it.
func realisticLogits(vocab int) []float32 {
	rng := rand.New(rand.NewPCG(1, 2))
	logits := make([]float32, vocab)
	for i := range logits {
		logits[i] = float32(rng.NormFloat64() * 3)
	}
	for i := range 50 {
		logits[rng.IntN(vocab)] = 20 - float32(i)*0.2
	}
	return logits
}

func BenchmarkSample(b *testing.B) {
	const vocab = 151936
	thinking := Params{Temperature: 0.6, TopK: 20, TopP: 0.95, RepetitionPenalty: 1, AllowedVocab: 151669}
	penalties := thinking
	penalties.RepetitionPenalty, penalties.PresencePenalty = 1.1, 1.5
	logProbs := thinking
	logProbs.LogProbs = 20
	nucleus := thinking
	nucleus.TopK = 0
	for _, c := range []struct {
		name string
		p    Params
		flat bool
	}{
		{"greedy", Greedy(), false},
		{"top_k=20,top_p=0.95", thinking, false},
		{"top_k=20,penalties", penalties, false},
		{"top_k=20,logprobs=20", logProbs, false},
		{"top_p=0.95", nucleus, false},
		{"top_p=0.95,flat", nucleus, true},
		{"temperature=1", Default(), false},
	} {
		b.Run(c.name, func(b *testing.B) {
			logits := realisticLogits(vocab)
			if c.flat {
				for i := range logits {
					logits[i] *= 0.01
				}
			}
			s, err := New(c.p, vocab)
			if err != nil {
				b.Fatal(err)
			}
			for t := range int32(2000) {
				if err := s.Accept(t * 7); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Sample(logits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
