package engine

// Measuring a model: prefill and decode rates as llama-bench reports them.

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
)

// BenchRow is one measurement; rates are medians over repetitions.
type BenchRow struct {
	Test            string    `json:"test"`                   // "pp512", "tg128", "tg128@4096"
	Tokens          int       `json:"tokens"`                 // per repetition
	Depth           int       `json:"depth"`                  // tokens cached before
	TokensPerSecond float64   `json:"tokens_per_second"`      // median
	Seconds         []float64 `json:"seconds"`                // of every repetition
	TimeToFirst     float64   `json:"seconds_to_first_token"` // median: prefill of Tokens, and one token drawn and read; 0 for decode
	BytesPerToken   int64     `json:"bytes_per_token"`        // weights and cached keys and values that a decode step reads; 0 for prefill
	BytesPerSecond  float64   `json:"bytes_per_second"`       // BytesPerToken at the median rate
	FLOPsPerSecond  float64   `json:"flops_per_second"`       // of a prefill: 2 * parameters * tokens in its median time; 0 for decode
	CPUSeconds      []float64 `json:"cpu_seconds_per_token"`  // processor time of the whole program, of every repetition
}

// BenchPrefill times the prefill of numTokens random tokens behind depth others. cpuTime tells the processor time that the
// program has used; nil: not measured.
func (e *Engine) BenchPrefill(ctx context.Context, numTokens, depth, repetitions int, cpuTime func() time.Duration) (BenchRow, error) {
	row := BenchRow{Test: benchName("pp", numTokens, depth), Tokens: numTokens, Depth: depth}
	err := e.benchSession(ctx, depth, depth+numTokens, func(s *Session, ids []int32) error {
		return row.repeat(s, repetitions, depth, cpuTime, func() (time.Duration, error) {
			ids[depth] = (ids[depth] + 1) % int32(e.Config().VocabSize) // or the prefix cache would answer
			res, err := s.benchGenerate(ctx, ids, 1)
			return res.Sync.Duration, err
		})
	})
	row.TimeToFirst = Median(row.Seconds)
	row.TokensPerSecond = float64(numTokens) / row.TimeToFirst
	row.FLOPsPerSecond = 2 * float64(e.Config().ParameterCount()) * row.TokensPerSecond
	return row, err
}

// benchGenerate generates maxTokens greedy tokens behind ids.
func (s *Session) benchGenerate(ctx context.Context, ids []int32, maxTokens int) (Result, error) {
	opt := GenerateOptions{Sampling: sampling.Greedy(), MaxTokens: maxTokens, IgnoreEOS: true}
	return s.Generate(ctx, ids, opt, func(sampling.Result) error { return nil })
}

// repeat notes what generate took in each of so many repetitions, behind one that is not counted, which compiles and touches everything.
// After each the session is back to the keep tokens it began with.
func (row *BenchRow) repeat(s *Session, repetitions, keep int, cpuTime func() time.Duration, generate func() (time.Duration, error)) error {
	for i := range repetitions + 1 {
		cpu := usedBy(cpuTime)
		d, err := generate()
		if err != nil {
			return err
		}
		if i > 0 {
			row.Seconds = append(row.Seconds, d.Seconds())
			row.CPUSeconds = append(row.CPUSeconds, (usedBy(cpuTime)-cpu).Seconds()/float64(row.Tokens))
		}
		if err := s.truncate(keep); err != nil {
			return err
		}
	}
	return nil
}

func usedBy(cpuTime func() time.Duration) time.Duration {
	if cpuTime == nil {
		return 0
	}
	return cpuTime()
}

// BenchDecode times numTokens greedy tokens behind depth others (at least one), from the call to the last of them: the first takes a decode
// step too, of the last token cached. Nothing of it is done before the clock starts, as it would be if that began with the first token:
// while the host reads that one, the device is many tokens further. cpuTime as for BenchPrefill.
func (e *Engine) BenchDecode(ctx context.Context, numTokens, depth, repetitions int, cpuTime func() time.Duration) (BenchRow, error) {
	row := BenchRow{Test: benchName("tg", numTokens, depth), Tokens: numTokens, Depth: depth}
	start := max(depth, 1)
	err := e.benchSession(ctx, start, start, func(s *Session, ids []int32) error {
		return row.repeat(s, repetitions, start, cpuTime, func() (time.Duration, error) {
			begin := time.Now()
			_, err := s.benchGenerate(ctx, ids, numTokens)
			return time.Since(begin), err
		})
	})
	row.TokensPerSecond = float64(numTokens) / Median(row.Seconds)
	c := e.Config()
	kvPerToken := int64(2 * c.KVDim() * c.NumHiddenLayers * e.opt.KVDType.Bytes())
	row.BytesPerToken = e.model.WeightBytes() + kvPerToken*int64(start+numTokens/2)
	if e.model.HasLMHead() {
		if m, err := e.model.Matrix("embed_tokens"); err == nil { // of an untied embedding one row is read
			for _, p := range m.Pieces {
				row.BytesPerToken -= p.Data.Size + p.Scales.Size
			}
		}
	}
	row.BytesPerSecond = float64(row.BytesPerToken) * row.TokensPerSecond
	return row, err
}

// DeviceMemory tells the bytes that the model has allocated on its device; ok is false on the CPU.
func (e *Engine) DeviceMemory() (m forward.Memory, ok bool) {
	e.acquire()
	defer e.release()
	f, ok := e.runner.(*forward.Runner)
	if ok {
		m = f.Memory()
	}
	return m, ok
}

// PassProfile is where the time of a pass goes.
type PassProfile struct {
	Tokens int                  `json:"tokens"`
	Depth  int                  `json:"depth"` // tokens cached before
	Rows   []forward.ProfileRow `json:"rows"`
}

// Profile times every kernel of a pass of numTokens tokens (at most as many as one pass takes) behind depth others (for one
// token at least one); on the CPU it has no rows.
func (e *Engine) Profile(ctx context.Context, numTokens, depth, rounds int) (PassProfile, error) {
	f, ok := e.runner.(*forward.Runner)
	if !ok {
		return PassProfile{}, nil
	}
	if numTokens == 1 {
		depth = max(depth, 1)
	}
	numTokens = min(numTokens, f.MaxTokensPerPass())
	profile := PassProfile{Tokens: numTokens, Depth: depth}
	err := e.benchSession(ctx, depth, depth+numTokens, func(s *Session, ids []int32) error {
		e.acquire()
		defer e.release()
		ic, err := s.begin(ids[depth:])
		if err != nil {
			return err
		}
		profile.Rows, err = f.Profile(ic, rounds)
		e.mu.Lock()
		ic.Abort()
		e.mu.Unlock()
		return err
	})
	return profile, err
}

func benchName(kind string, tokens, depth int) string {
	if depth == 0 {
		return fmt.Sprintf("%s%d", kind, tokens)
	}
	return fmt.Sprintf("%s%d@%d", kind, tokens, depth)
}

// benchSession runs fn in a session whose first numCached of numIDs random tokens are cached.
func (e *Engine) benchSession(ctx context.Context, numCached, numIDs int, fn func(*Session, []int32) error) error {
	s := e.NewSession()
	defer s.Close()
	rng := rand.New(rand.NewPCG(1, uint64(numIDs)))
	ids := make([]int32, numIDs)
	for i := range ids {
		ids[i] = int32(rng.IntN(e.Config().VocabSize))
	}
	if numCached > 0 {
		if _, _, err := s.Sync(ctx, ids[:numCached]); err != nil {
			return err
		}
	}
	return fn(s, ids)
}

// truncate forgets all tokens from n on.
func (s *Session) truncate(n int) error {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.seq.Truncate(n)
}

// Median of v, 0 if there is none.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Clone(v)
	slices.Sort(s)
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
