package ref_test

import (
	"fmt"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/ref"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
)

// benchConfig has 7.3 million parameters, about what a browser demo takes.
var benchConfig = config.Config{
	HiddenSize: 256, NumHiddenLayers: 8, NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 64, IntermediateSize: 768,
	VocabSize: 4096, MaxPositionEmbeddings: 2048, RMSNormEps: 1e-6, RopeTheta: 1e6, TieWordEmbeddings: true, BosTokenID: -1,
}

// Tokens a second: go test -run xxx -bench Model ./engine/ref
func BenchmarkModel(b *testing.B) {
	for _, dtype := range []weights.DType{weights.BF16, weights.Q8, weights.Q4} {
		dir := goldentest.ModelOf(b, &benchConfig, 1, dtype)
		for _, threads := range []int{1, 2} {
			r := open(b, dir, ref.Options{NumPages: 64, Threads: threads})
			for _, pass := range []struct{ tokens, context int }{{1, 0}, {1, 512}, {128, 0}, {128, 512}} {
				b.Run(fmt.Sprintf("%s/threads=%d/tokens=%d/context=%d", dtype, threads, pass.tokens, pass.context), func(b *testing.B) {
					benchmarkPass(b, r, pass.tokens, pass.context)
				})
			}
		}
	}
}

func benchmarkPass(b *testing.B, r *ref.Runner, tokens, context int) {
	s := newTimeline(b, r, 64)
	for done := 0; done < context; done += r.MaxTokensPerPass() {
		s.Pass(make([]int32, min(context-done, r.MaxTokensPerPass())), runner.LogitsNone, nil)
	}
	ids := make([]int32, tokens)
	for b.Loop() {
		ic, err := s.Pages.Begin(s.Seq, ids)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Forward(runner.Request{Context: ic, Logits: runner.LogitsLast}); err != nil {
			b.Fatal(err)
		}
		ic.Abort()
	}
	b.ReportMetric(float64(tokens)*float64(b.N)/b.Elapsed().Seconds(), "tok/s")
}
