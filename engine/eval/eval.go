// Package eval asks a model questions whose answers are known, and counts.
//
// It owns the questions' format, the comparison and the bars. A question goes through engine.Conversation as a user's
// does: template, tokenizer, KV cache, greedy decoding, parser. cmd/qwen-wgpu's eval prints the outcome.
package eval

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/chat"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
)

// The bars that the model in the box must reach.
const (
	BarOverall = 0.95 // of all questions
	BarKind    = 0.90 // of each kind
	BarSame    = 0.99 // equal answers of two paths
)

// maxTokens ends an answer that does not end by itself; the longest right one has about 230.
const maxTokens = 320

// Question is one line of a questions file. Messages end with what is to be answered.
type Question struct {
	ID       string         `json:"id"`
	Kind     string         `json:"kind"`
	Messages []chat.Message `json:"messages"`
	Tools    []chat.Tool    `json:"tools,omitempty"`
	Thinking bool           `json:"thinking"`
	Expect   Expect         `json:"expect"`
	Subset   bool           `json:"subset,omitempty"` // one of the few that tests ask
}

// Expect is what the answer must be: exactly one of the texts (without reasoning), or exactly these calls in this order.
type Expect struct {
	Content   []string `json:"content,omitempty"`
	ToolCalls []Call   `json:"tool_calls,omitempty"`
}

// Call is a tool call; Arguments are compared as JSON values.
type Call struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

// Answer is what the model said to one question.
type Answer struct {
	ID        string `json:"id"`
	Kind      string `json:"kind"`
	Right     bool   `json:"right"`
	Reasoning string `json:"reasoning,omitempty"`
	Content   string `json:"content,omitempty"`
	ToolCalls []Call `json:"tool_calls,omitempty"`
}

// Same tells whether two answers are equal to the letter, reasoning and all.
func (a Answer) Same(b Answer) bool {
	return a.ID == b.ID && a.Reasoning == b.Reasoning && a.Content == b.Content &&
		slices.EqualFunc(a.ToolCalls, b.ToolCalls, func(x, y Call) bool {
			return x.Name == y.Name && bytes.Equal(x.Arguments, y.Arguments)
		})
}

// ReadQuestions reads a questions file: one JSON object a line.
func ReadQuestions(r io.Reader) ([]Question, error) {
	questions, err := readLines[Question](r)
	if err != nil {
		return nil, fmt.Errorf("eval: questions: %w", err)
	}
	for _, q := range questions {
		if len(q.Messages) == 0 || (len(q.Expect.Content) == 0) == (len(q.Expect.ToolCalls) == 0) {
			return nil, fmt.Errorf("eval: question %q needs messages and either expect.content or expect.tool_calls", q.ID)
		}
	}
	return questions, nil
}

// ReadAnswers reads what WriteAnswers wrote.
func ReadAnswers(r io.Reader) ([]Answer, error) {
	answers, err := readLines[Answer](r)
	if err != nil {
		return nil, fmt.Errorf("eval: answers: %w", err)
	}
	return answers, nil
}

// WriteAnswers writes one JSON object a line.
func WriteAnswers(w io.Writer, answers []Answer) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	for _, a := range answers {
		if err := out.Encode(a); err != nil {
			return fmt.Errorf("eval: answers: %w", err)
		}
	}
	return nil
}

func readLines[T any](r io.Reader) ([]T, error) {
	var all []T
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<24)
	for n := 1; in.Scan(); n++ {
		if len(bytes.TrimSpace(in.Bytes())) == 0 {
			continue
		}
		var v T
		if err := json.Unmarshal(in.Bytes(), &v); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, v)
	}
	return all, in.Err()
}

// Subset is the part of the questions that tests ask.
func Subset(questions []Question) []Question {
	var part []Question
	for _, q := range questions {
		if q.Subset {
			part = append(part, q)
		}
	}
	return part
}

// Run asks all questions, greedily. done, which may be nil, is told each answer as it comes.
func Run(ctx context.Context, e *engine.Engine, questions []Question, done func(Answer)) ([]Answer, error) {
	c, err := e.NewConversation()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.Sampling, c.MaxTokens = sampling.Greedy(), maxTokens
	answers := make([]Answer, 0, len(questions))
	for _, q := range questions {
		c.Messages, c.Tools, c.Thinking = slices.Clone(q.Messages), q.Tools, &q.Thinking
		got, err := c.Generate(ctx, func(chat.Event) error { return nil })
		if err != nil {
			return nil, fmt.Errorf("eval: question %s: %w", q.ID, err)
		}
		a := Answer{ID: q.ID, Kind: q.Kind, Reasoning: got.Message.ReasoningContent, Content: got.Message.Content}
		for _, call := range got.Message.ToolCalls {
			a.ToolCalls = append(a.ToolCalls, Call{call.Function.Name, compact(call.Function.Arguments)})
		}
		a.Right = q.Expect.met(a)
		answers = append(answers, a)
		if done != nil {
			done(a)
		}
	}
	return answers, nil
}

// compact is JSON as encoding/json writes it, so that an answer equals itself after a file; what is no JSON becomes a string.
func compact(arguments string) json.RawMessage {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(arguments)); err != nil {
		quoted, _ := json.Marshal(arguments)
		return quoted
	}
	return b.Bytes()
}

func (x Expect) met(a Answer) bool {
	if len(x.Content) > 0 {
		return len(a.ToolCalls) == 0 && slices.Contains(x.Content, a.Content)
	}
	return a.Content == "" && slices.EqualFunc(x.ToolCalls, a.ToolCalls, func(want, got Call) bool {
		return want.Name == got.Name && sameJSON(want.Arguments, got.Arguments)
	})
}

func sameJSON(a, b []byte) bool {
	decode := func(data []byte) (v any, err error) {
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		err = d.Decode(&v)
		return v, err
	}
	x, err := decode(a)
	if err != nil {
		return false
	}
	y, err := decode(b)
	return err == nil && reflect.DeepEqual(x, y)
}

// Count is a number of right answers among all of a kind.
type Count struct {
	Kind       string
	Right, All int
}

// Share is the part that is right.
func (c Count) Share() float64 { return float64(c.Right) / float64(max(1, c.All)) }

// Tally counts the answers by kind, in the order in which kinds appear, and all together.
func Tally(answers []Answer) (kinds []Count, all Count) {
	all.Kind = "all"
	for _, a := range answers {
		i := slices.IndexFunc(kinds, func(c Count) bool { return c.Kind == a.Kind })
		if i < 0 {
			i = len(kinds)
			kinds = append(kinds, Count{Kind: a.Kind})
		}
		for _, c := range []*Count{&kinds[i], &all} {
			c.All++
			if a.Right {
				c.Right++
			}
		}
	}
	return kinds, all
}

// CheckBars is an error that names every bar the answers miss.
func CheckBars(answers []Answer) error {
	kinds, all := Tally(answers)
	var missed []string
	if all.All == 0 || all.Share() < BarOverall {
		missed = append(missed, fmt.Sprintf("%d of %d right in all (at least %.0f%% are needed)", all.Right, all.All, 100*BarOverall))
	}
	for _, c := range kinds {
		if c.Share() < BarKind {
			missed = append(missed, fmt.Sprintf("%d of %d right in %s (%.0f%%)", c.Right, c.All, c.Kind, 100*BarKind))
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("eval: below the bar: %v", missed)
	}
	return nil
}

// CountSame counts the answers that both runs gave alike. Both must answer the same questions in the same order.
func CountSame(a, b []Answer) (same int, err error) {
	if len(a) != len(b) {
		return 0, fmt.Errorf("eval: %d answers are to be compared with %d", len(a), len(b))
	}
	for i := range a {
		if a[i].ID != b[i].ID {
			return 0, fmt.Errorf("eval: answer %d is to question %s here and to %s there", i+1, a[i].ID, b[i].ID)
		}
		if a[i].Same(b[i]) {
			same++
		}
	}
	return same, nil
}
