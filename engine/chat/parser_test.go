package chat

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// merged joins neighbouring deltas of one kind and flattens each event to a line.
func merged(events []Event) []string {
	var out []string
	last := EventToolCall
	for _, e := range events {
		line := e.Kind.String() + ":" + e.Text
		switch e.Kind {
		case EventToolCall:
			line = "call:" + e.ToolCall.ID + " " + e.ToolCall.Function.Name + " " + e.ToolCall.Function.Arguments
		case EventToolCallError:
			line = "error:" + e.Text
		default:
			if e.Kind == last {
				out[len(out)-1] += e.Text
				continue
			}
		}
		last = e.Kind
		out = append(out, line)
	}
	return out
}

func parseAll(opts ParserOptions, parts ...string) []string {
	p := NewParser(opts)
	var events []Event
	for _, part := range parts {
		events = append(events, p.Push(part)...)
	}
	return merged(append(events, p.Flush()...))
}

var parserCases = []struct {
	name        string
	inReasoning bool
	text        string
	want        []string
}{
	{"plain", false, "Hello\nworld\n", []string{"content:Hello\nworld\n"}},
	{"empty", false, "", nil},
	{"white space", false, " \n", []string{"content: \n"}},
	{"think", false, "<think>\nhm\nhm\n</think>\n\nanswer", []string{"reasoning:hm\nhm", "content:answer"}},
	{"white space before think", false, "\n <think>hm</think>answer", []string{"reasoning:hm", "content:answer"}},
	{"empty think", false, "<think>\n\n</think>\n\nanswer", []string{"content:answer"}},
	{"prompt opened think", true, "hm\n</think>\n\nanswer", []string{"reasoning:hm", "content:answer"}},
	{"prompt opened think, newline", true, "\nhm</think>answer", []string{"reasoning:hm", "content:answer"}},
	{"prompt opened think, tag again", true, "<think>hm</think>answer", []string{"reasoning:<think>hm", "content:answer"}},
	{"close without open at the start", false, "</think>\n\nanswer", []string{"content:answer"}},
	{"close without open later", false, "a</think>b", []string{"content:a</think>b"}},
	{"think in content", false, "use <think> and </think> so", []string{"content:use <think> and </think> so"}},
	{"second think", false, "<think>a</think>b<think>c</think>d", []string{"reasoning:a", "content:b<think>c</think>d"}},
	{"unfinished think", false, "<think>\nhm\n", []string{"reasoning:hm\n"}},
	{"unfinished tag", false, "<thi", []string{"content:<thi"}},
	{"unfinished close", true, "hm</thin", []string{"reasoning:hm</thin"}},
	{"unfinished call tag", false, "x\n<tool_cal", []string{"content:x\n<tool_cal"}},
	{"angle brackets", false, "a < b <<tool_call <b></b> </ <", []string{"content:a < b <<tool_call <b></b> </ <"}},
	{"call", false, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"z\": 1, \"a\": 2.0}}\n</tool_call>", []string{`call:call_0 f {"z": 1, "a": 2.0}`}},
	{"content and calls", false, "<think>\nt\n</think>\n\nLet me look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\"}\n</tool_call>\nDone.",
		[]string{"reasoning:t", "content:Let me look.", "call:call_0 f {}", "call:call_1 g {}", "content:Done."}},
	{"call in reasoning is text", false, "<think><tool_call>x</tool_call></think>y", []string{"reasoning:<tool_call>x</tool_call>", "content:y"}},
	{"arguments as text", false, `<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>`, []string{`call:call_0 f {"a": 1}`}},
	{"tag inside a string", false, `<tool_call>{"name": "f", "arguments": {"a": "x</tool_call>\"</tool_call>y"}}</tool_call>z`, []string{`call:call_0 f {"a": "x</tool_call>\"</tool_call>y"}`, "content:z"}},
	{"malformed", false, "a\n<tool_call>\n{\"name\": \"f\",}\n</tool_call>\nb", []string{"content:a", "error:<tool_call>\n{\"name\": \"f\",}\n</tool_call>", "content:b"}},
	{"no name", false, `<tool_call>{"arguments": {}}</tool_call>`, []string{`error:<tool_call>{"arguments": {}}</tool_call>`}},
	{"arguments of a wrong kind", false, `<tool_call>{"name": "f", "arguments": [1]}</tool_call>`, []string{`error:<tool_call>{"name": "f", "arguments": [1]}</tool_call>`}},
	{"not an object", false, `<tool_call>[]</tool_call>`, []string{`error:<tool_call>[]</tool_call>`}},
	{"empty call", false, `<tool_call></tool_call>`, []string{`error:<tool_call></tool_call>`}},
	{"unfinished call", false, `x<tool_call>{"name": "f", "argum`, []string{"content:x", `error:<tool_call>{"name": "f", "argum`}},
	{"call complete but for its tag", false, `<tool_call>{"name": "f", "arguments": {}}`, []string{"call:call_0 f {}"}},
	{"open string", false, `<tool_call>{"name": "f</tool_call>tail`, []string{`error:<tool_call>{"name": "f</tool_call>tail`}},
	{"unicode", false, "<think>denke…</think>Größe 👩‍👩‍👧 天气", []string{"reasoning:denke…", "content:Größe 👩‍👩‍👧 天气"}},
}

// TestParserSplits cuts every text at every byte, in two and into single bytes.
func TestParserSplits(t *testing.T) {
	for _, c := range parserCases {
		opts := ParserOptions{InReasoning: c.inReasoning}
		if got := parseAll(opts, c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		for i := range len(c.text) + 1 {
			if got := parseAll(opts, c.text[:i], c.text[i:]); !slices.Equal(got, c.want) {
				t.Errorf("%s cut at %d: %q, want %q", c.name, i, got, c.want)
			}
			for j := i; j <= len(c.text) && len(c.text) < 60; j++ {
				if got := parseAll(opts, c.text[:i], c.text[i:j], c.text[j:]); !slices.Equal(got, c.want) {
					t.Errorf("%s cut at %d and %d: %q, want %q", c.name, i, j, got, c.want)
				}
			}
		}
		if got := parseAll(opts, strings.Split(c.text, "")...); !slices.Equal(got, c.want) {
			t.Errorf("%s by characters: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestParserErrors(t *testing.T) {
	p := NewParser(ParserOptions{NewID: func(n int) string { return fmt.Sprint("id", n) }})
	events := append(p.Push(`<tool_call>{"name": 5}</tool_call><tool_call>{"name": "f"}</tool_call><tool_call>{"na`), p.Flush()...)
	if len(events) != 3 || events[0].Err == nil || !strings.Contains(events[0].Err.Error(), "chat: tool call") {
		t.Fatalf("%+v", events)
	}
	if events[1].ToolCall.ID != "id0" || events[1].Text != `{"name": "f"}` {
		t.Errorf("%+v", events[1])
	}
	if !errors.Is(events[2].Err, ErrUnfinished) || events[2].Text != `<tool_call>{"na` {
		t.Errorf("%+v", events[2])
	}
}

func TestParserInReasoning(t *testing.T) {
	p := NewParser(ParserOptions{})
	for _, step := range []struct {
		text string
		want bool
	}{{"<thi", false}, {"nk>", true}, {"hm</think", true}, {">", false}, {"x", false}} {
		if p.Push(step.text); p.InReasoning() != step.want {
			t.Errorf("behind %q: %v", step.text, p.InReasoning())
		}
	}
}

// TestParserIsPrompt: text that cannot be part of a tag does not wait.
func TestParserIsPrompt(t *testing.T) {
	p := NewParser(ParserOptions{})
	for _, text := range []string{"Hello", " wor", "ld", "! a<b"} {
		if got := merged(p.Push(text)); !slices.Equal(got, []string{"content:" + text}) {
			t.Errorf("%q gives %q", text, got)
		}
	}
	if got := p.Push("x\n\n<tool"); len(got) != 1 || got[0].Text != "x" {
		t.Errorf("%+v", got)
	}
}

// TestParserLosesNothing: over random texts of tags, any cutting gives the same events, and these account for every byte but
// newlines and the tags of well-formed parts.
func TestParserLosesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	parts := []string{"<think>", "</think>", "<tool_call>", "</tool_call>", "\n", "\n\n", "text", " ", "<", "</", "think>", `{"name": "f", "arguments": {}}`, `{"name": "f", "x": "`, `"`, `\`, "é", "<tool_", "call>"}
	for range 20000 {
		var b strings.Builder
		for range rng.IntN(12) {
			b.WriteString(parts[rng.IntN(len(parts))])
		}
		text := b.String()
		opts := ParserOptions{InReasoning: rng.IntN(4) == 0}
		whole := parseAll(opts, text)
		var cut []string
		for rest := text; rest != ""; {
			n := 1 + rng.IntN(min(len(rest), 9))
			cut, rest = append(cut, rest[:n]), rest[n:]
		}
		if got := parseAll(opts, cut...); !slices.Equal(got, whole) {
			t.Fatalf("%q cut as %q: %q, want %q", text, cut, got, whole)
		}
		p := NewParser(opts)
		var back strings.Builder
		for _, e := range append(p.Push(text), p.Flush()...) {
			back.WriteString(e.Text)
		}
		strip := func(s string) string {
			return strings.NewReplacer("\n", "", thinkOpen, "", thinkClose, "", callOpen, "", callClose, "").Replace(s)
		}
		// Tags that were text, or cut from their neighbours, may meet anew: compare with all of them taken out.
		a, c := strip(text), strip(back.String())
		for strip(a) != a || strip(c) != c {
			a, c = strip(a), strip(c)
		}
		if strings.TrimSpace(a) != strings.TrimSpace(c) {
			t.Fatalf("%q: left %q of it, want %q", text, c, a)
		}
	}
}

func FuzzParser(f *testing.F) {
	for _, c := range parserCases {
		f.Add(c.text, uint(3), c.inReasoning)
	}
	f.Fuzz(func(t *testing.T, text string, at uint, inReasoning bool) {
		opts := ParserOptions{InReasoning: inReasoning}
		cut := int(at % uint(len(text)+1))
		if whole, split := parseAll(opts, text), parseAll(opts, text[:cut], text[cut:]); !slices.Equal(whole, split) {
			t.Fatalf("%q cut at %d: %q, want %q", text, cut, split, whole)
		}
	})
}

func BenchmarkParser(b *testing.B) {
	text := "<think>\n" + strings.Repeat("Let me think about a < b. ", 400) + "\n</think>\n\n" + strings.Repeat("The answer. ", 400)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		p := NewParser(ParserOptions{})
		for i := 0; i < len(text); i += 4 {
			p.Push(text[i:min(i+4, len(text))])
		}
		p.Flush()
	}
}
