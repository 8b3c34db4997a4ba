package eval

import (
	"context"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
	"github.com/qwen-wgpu/qwen-wgpu/models/tiny"
)

// The failure that this project began with, replayed: attention over pages that are not the text's, or at positions that do
// not advance, and the answers collapse. (engine's TestFaults and `trace --compare` name the layer and the token.)
func TestBrokenPageTable(t *testing.T) {
	var questions []Question
	for _, q := range Subset(readQuestions(t)) {
		if q.Kind != "recall-long" {
			questions = append(questions, q)
		}
	}
	right := func(fault *kvcache.Fault) int {
		m, err := weights.Open(weights.FS(tiny.FS()))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		e, err := engine.Open(m, engine.Options{Fault: fault})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		answers, err := Run(context.Background(), e, questions, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, all := Tally(answers)
		return all.Right
	}
	if n := right(nil); n < len(questions)-1 {
		t.Fatalf("%d of %d right with nothing broken", n, len(questions))
	}
	for _, c := range []struct {
		name  string
		fault kvcache.Fault
		most  int // right answers
	}{
		// Answers that do not need what stands in those 16 tokens survive.
		{"the first entry of the page table is shifted", kvcache.Fault{ShiftPageTable: true, Entry: 0}, len(questions) / 2},
		{"the commit of a length is skipped", kvcache.Fault{SkipCommit: true}, len(questions) / 20},
	} {
		n := right(&c.fault)
		t.Logf("%s: %d of %d right", c.name, n, len(questions))
		if n > c.most {
			t.Errorf("%s: %d of %d are still right, at most %d were expected", c.name, n, len(questions), c.most)
		}
	}
}
