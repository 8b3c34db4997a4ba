// The sampler's contract written again, by sorting and with math.Exp, and the statistics that compare draws with it.

package sampling

import (
	"math"
	"slices"
)

// reference returns the probability of every token that can be drawn, in draw order: ids and probs. history is the
// prompt followed by the generated tokens, the first numPrompt of it.
func reference(p Params, logits []float32, history []int32, numPrompt int) (ids []int32, probs []float64) {
	allowed := len(logits)
	if p.AllowedVocab > 0 {
		allowed = p.AllowedVocab
	}
	score := make([]float64, allowed)
	for id := range score {
		v := float64(logits[id])
		if slices.Contains(history, int32(id)) {
			if v > 0 {
				v /= float64(p.RepetitionPenalty)
			} else {
				v *= float64(p.RepetitionPenalty)
			}
		}
		count := 0
		for _, t := range history[numPrompt:] {
			if t == int32(id) {
				count++
			}
		}
		v -= float64(count) * float64(p.FrequencyPenalty)
		if count > 0 {
			v -= float64(p.PresencePenalty)
		}
		score[id] = v + float64(p.LogitBias[int32(id)])
		if !math.IsInf(score[id], -1) {
			ids = append(ids, int32(id))
		}
	}
	slices.SortStableFunc(ids, func(a, b int32) int {
		switch {
		case score[a] > score[b]:
			return -1
		case score[a] < score[b]:
			return 1
		}
		return 0
	})
	if p.Temperature == 0 {
		return ids[:1], []float64{1}
	}
	softmax := func(ids []int32) []float64 {
		out, sum := make([]float64, len(ids)), 0.0
		for i, id := range ids {
			out[i] = math.Exp((score[id] - score[ids[0]]) / float64(p.Temperature))
			sum += out[i]
		}
		for i := range out {
			out[i] /= sum
		}
		return out
	}
	if p.TopK > 0 {
		ids = ids[:min(p.TopK, len(ids))]
	}
	probs = softmax(ids)
	if p.TopP < 1 {
		before, n := 0.0, 0
		for n < len(ids) && before < float64(p.TopP) {
			before += probs[n]
			n++
		}
		ids = ids[:n]
		probs = softmax(ids)
	}
	n := 1
	for n < len(ids) && probs[n] >= float64(p.MinP)*probs[0] {
		n++
	}
	ids = ids[:n]
	return ids, softmax(ids)
}

// chiSquared compares how often each token was drawn with its probability and returns the probability of so large a
// difference if the draws are fair. Tokens that are expected less than 5 times are counted together. A token that cannot
// be drawn makes it 0.
func chiSquared(ids []int32, probs []float64, draws map[int32]int) (pValue float64) {
	total := 0
	for id, n := range draws {
		if n > 0 && !slices.Contains(ids, id) {
			return 0
		}
		total += n
	}
	statistic, cells := 0.0, 0
	rareExpected, rareSeen := 0.0, 0
	add := func(expected float64, seen int) {
		statistic += (float64(seen) - expected) * (float64(seen) - expected) / expected
		cells++
	}
	for i, id := range ids {
		expected := probs[i] * float64(total)
		if expected < 5 {
			rareExpected += expected
			rareSeen += draws[id]
			continue
		}
		add(expected, draws[id])
	}
	if rareExpected >= 5 {
		add(rareExpected, rareSeen)
	} else if rareExpected > 0 && float64(rareSeen) > rareExpected+30 {
		return 0
	}
	if cells < 2 {
		return 1
	}
	return upperGamma(float64(cells-1)/2, statistic/2)
}

// upperGamma is the regularized upper incomplete gamma function Q(a, x); Q(k/2, x/2) is the probability that a
// chi-squared variable of k degrees of freedom exceeds x. Series and continued fraction as in Abramowitz and Stegun
// 6.5.29 and 6.5.31.
func upperGamma(a, x float64) float64 {
	if x <= 0 {
		return 1
	}
	lg, _ := math.Lgamma(a)
	front := math.Exp(a*math.Log(x) - x - lg)
	if x < a+1 {
		term := 1 / a
		sum := term
		for n := 1; n < 10000 && term > sum*1e-16; n++ {
			term *= x / (a + float64(n))
			sum += term
		}
		return 1 - front*sum
	}
	// Lentz's method for 1/(x+1-a- 1(1-a)/(x+3-a- ...)).
	b := x + 1 - a
	c, d := math.Inf(1), 1/b
	f := d
	for n := 1.0; n < 10000; n++ {
		an := -n * (n - a)
		b += 2
		d = 1 / (an*d + b)
		c = b + an/c
		f *= c * d
		if math.Abs(c*d-1) < 1e-15 {
			break
		}
	}
	return front * f
}
