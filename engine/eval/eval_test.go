package eval

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/native"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/models/tiny"
)

const questionsFile = "../../testdata/tiny-eval/questions.jsonl"

func readQuestions(t *testing.T) []Question {
	t.Helper()
	data, err := os.ReadFile(questionsFile)
	if err != nil {
		t.Fatal(err)
	}
	questions, err := ReadQuestions(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return questions
}

func TestQuestionsFile(t *testing.T) {
	questions := readQuestions(t)
	ids, kinds, subset := map[string]bool{}, map[string]int{}, map[string]int{}
	for _, q := range questions {
		if ids[q.ID] {
			t.Errorf("question %s appears twice", q.ID)
		}
		ids[q.ID] = true
		kinds[q.Kind]++
		if q.Subset {
			subset[q.Kind]++
		}
	}
	if len(questions) < 500 || len(Subset(questions)) != 40 {
		t.Errorf("%d questions, %d in the subset: at least 500 and exactly 40 are wanted", len(questions), len(Subset(questions)))
	}
	for kind, n := range kinds {
		if n < 20 || subset[kind] == 0 {
			t.Errorf("%s: %d questions, %d in the subset", kind, n, subset[kind])
		}
	}
}

// The model in the box answers the subset on both paths, above the bars and alike.
func TestSubset(t *testing.T) {
	questions := Subset(readQuestions(t))
	ask := func(t *testing.T, dev gpu.Device) []Answer {
		m, err := weights.Open(weights.FS(tiny.FS()))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		e, err := engine.Open(m, engine.Options{Device: dev})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		answers, err := Run(context.Background(), e, questions, nil)
		if err != nil {
			t.Fatal(err)
		}
		kinds, all := Tally(answers)
		if all.Share() < BarOverall {
			for _, a := range answers {
				if !a.Right {
					t.Logf("%s: %q %q %s", a.ID, a.Reasoning, a.Content, a.ToolCalls)
				}
			}
			t.Errorf("%d of %d right, at least %.0f%% are needed: %v", all.Right, all.All, 100*BarOverall, kinds)
		}
		return answers
	}
	var cpu []Answer
	t.Run("cpu", func(t *testing.T) { cpu = ask(t, nil) })
	t.Run("gpu", func(t *testing.T) {
		if os.Getenv("QWEN_WGPU_NO_GPU") == "1" {
			t.Skip("QWEN_WGPU_NO_GPU=1")
		}
		dev, err := native.Open(native.Options{Adapter: os.Getenv("QWEN_WGPU_ADAPTER")})
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		same, err := CountSame(ask(t, dev), cpu)
		if err != nil {
			t.Fatal(err)
		}
		if float64(same) < BarSame*float64(len(cpu)) {
			t.Errorf("%d of %d answers equal those of the CPU path, at least %.0f%% are needed", same, len(cpu), 100*BarSame)
		}
	})
}

func TestExpectations(t *testing.T) {
	calls := func(s ...string) (c []Call) {
		for i := 0; i < len(s); i += 2 {
			c = append(c, Call{s[i], []byte(s[i+1])})
		}
		return c
	}
	text := Expect{Content: []string{"two", "2"}}
	tool := Expect{ToolCalls: calls("add", `{"a": 1, "b": "x"}`)}
	for _, c := range []struct {
		name   string
		expect Expect
		answer Answer
		want   bool
	}{
		{"equal", text, Answer{Content: "2"}, true},
		{"more text", text, Answer{Content: "2."}, false},
		{"call instead of text", text, Answer{Content: "2", ToolCalls: calls("add", `{}`)}, false},
		{"call", tool, Answer{ToolCalls: calls("add", `{"b":"x","a":1}`)}, true},
		{"other argument", tool, Answer{ToolCalls: calls("add", `{"a": 1, "b": 2}`)}, false},
		{"text for a number", tool, Answer{ToolCalls: calls("add", `{"a": "1", "b": "x"}`)}, false},
		{"other function", tool, Answer{ToolCalls: calls("sub", `{"a": 1, "b": "x"}`)}, false},
		{"two calls", tool, Answer{ToolCalls: calls("add", `{"a": 1, "b": "x"}`, "add", `{}`)}, false},
		{"call and text", tool, Answer{Content: "I call", ToolCalls: calls("add", `{"a": 1, "b": "x"}`)}, false},
		{"arguments that are no JSON", tool, Answer{ToolCalls: calls("add", `{"a"`)}, false},
	} {
		if got := c.expect.met(c.answer); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestBars(t *testing.T) {
	answers := func(kind string, right, wrong int) (a []Answer) {
		for i := range right + wrong {
			a = append(a, Answer{Kind: kind, Right: i < right})
		}
		return a
	}
	for _, c := range []struct {
		name    string
		answers []Answer
		want    []string // parts of the error; none: no error
	}{
		{"none", nil, []string{"0 of 0"}},
		{"on the bars", append(answers("a", 9, 1), answers("b", 10, 0)...), nil},
		{"one kind below", append(answers("a", 8, 2), answers("b", 100, 0)...), []string{"8 of 10 right in a"}},
		{"all below", append(answers("a", 9, 1), answers("b", 9, 1)...), []string{"18 of 20"}},
	} {
		err := CheckBars(c.answers)
		if (err == nil) != (len(c.want) == 0) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, part := range c.want {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v does not say %q", c.name, err, part)
			}
		}
	}
}

func TestAnswersSurviveAFile(t *testing.T) {
	in := []Answer{{ID: "a", Kind: "k", Right: true, Reasoning: "r\n", Content: "<c> & \"d\""}, {ID: "b", Kind: "k", ToolCalls: []Call{{"f", compact(`{"x": "<1>"}`)}, {"g", compact(`{"x"`)}}}}
	var file bytes.Buffer
	if err := WriteAnswers(&file, in); err != nil {
		t.Fatal(err)
	}
	out, err := ReadAnswers(&file)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := CountSame(in, out); err != nil || same != 2 {
		t.Errorf("%d same, %v", same, err)
	}
	out[0].Reasoning = ""
	if same, _ := CountSame(in, out); same != 1 {
		t.Errorf("%d same after a change", same)
	}
	if _, err := CountSame(in, out[:1]); err == nil {
		t.Error("answers to fewer questions were compared")
	}
	for _, bad := range []string{"{", `{"id":"x","messages":[{"role":"user","content":"a"}],"expect":{}}`} {
		if _, err := ReadQuestions(strings.NewReader(bad)); err == nil {
			t.Errorf("%s was read as a question", bad)
		}
	}
}
