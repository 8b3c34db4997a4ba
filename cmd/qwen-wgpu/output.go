package main

// Printing an answer as it is generated, and the line of figures behind it.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/chat"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
)

// isTerminal tells whether w is a terminal that takes escape codes.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// paint is what dims text on w, and what ends it: nothing where escape codes are not wanted.
func paint(w io.Writer) (dim, plain string) {
	if !isTerminal(w) || os.Getenv("NO_COLOR") != "" {
		return "", ""
	}
	return "\x1b[2m", "\x1b[0m"
}

// answerPrinter shows an answer as it comes: on a terminal the reasoning dimmed, elsewhere between the model's own tags.
type answerPrinter struct {
	w            *bufio.Writer
	terminal     bool
	hideThinking bool
	dim, plain   string
	kind         chat.EventKind
	lineBegun    bool // what was printed does not end a line
}

func newAnswerPrinter(w io.Writer, hideThinking bool) *answerPrinter {
	dim, plain := paint(w)
	return &answerPrinter{w: bufio.NewWriter(w), terminal: isTerminal(w), hideThinking: hideThinking, dim: dim, plain: plain, kind: chat.EventContent}
}

func (p *answerPrinter) event(ev chat.Event) error {
	if ev.Kind == chat.EventReasoning && p.hideThinking {
		return nil
	}
	p.turnTo(ev.Kind)
	switch {
	case ev.Kind != chat.EventToolCall:
		p.write(ev.Text)
	case p.terminal:
		p.write(fmt.Sprintf("→ %s(%s)\n", ev.ToolCall.Function.Name, ev.ToolCall.Function.Arguments))
	default:
		p.write("<tool_call>" + ev.Text + "</tool_call>\n")
	}
	return p.w.Flush()
}

func (p *answerPrinter) text(s string) error {
	p.write(s)
	return p.w.Flush()
}

// turnTo prints what stands between two kinds of text.
func (p *answerPrinter) turnTo(kind chat.EventKind) {
	if kind == p.kind {
		return
	}
	if p.kind == chat.EventReasoning {
		p.endThinking()
		p.write("\n")
	} else if p.lineBegun {
		p.write("\n")
	}
	if p.kind = kind; kind == chat.EventReasoning {
		p.w.WriteString(p.dim)
		if !p.terminal {
			p.write("<think>\n")
		}
	}
}

func (p *answerPrinter) endThinking() {
	if p.lineBegun {
		p.write("\n")
	}
	if !p.terminal {
		p.write("</think>\n")
	}
	p.w.WriteString(p.plain)
}

// write prints text; a terminal gets no control characters from a model.
func (p *answerPrinter) write(s string) {
	if s == "" {
		return
	}
	if p.terminal {
		s = strings.Map(printable, s)
	}
	p.w.WriteString(s)
	p.lineBegun = !strings.HasSuffix(s, "\n")
}

func printable(r rune) rune {
	if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
		return '\uFFFD'
	}
	return r
}

// end closes the answer, finished or not.
func (p *answerPrinter) end() {
	if p.kind == chat.EventReasoning {
		p.endThinking()
	}
	if p.lineBegun {
		p.write("\n")
	}
	p.w.Flush()
}

// tokenPrinter prints tokens instead of text: their ids, or a line with log-probabilities each.
type tokenPrinter struct {
	w        *bufio.Writer
	tok      tokenizer.Interface // nil: ids
	logProbs bool
	n        int
	err      error
}

func newTokenPrinter(w io.Writer, e *opened, ids, logProbs bool) (*tokenPrinter, error) {
	p := &tokenPrinter{w: bufio.NewWriter(w), logProbs: logProbs}
	if ids {
		return p, nil
	}
	tok, err := e.Tokenizer()
	if err != nil && !errors.Is(err, engine.ErrNoTokenizer) {
		return nil, err
	}
	p.tok = tok
	return p, nil
}

func (p *tokenPrinter) print(r sampling.Result) {
	switch {
	case p.logProbs:
		fmt.Fprintf(p.w, "%s\t%.4f", p.name(r.Token), r.LogProb)
		for _, t := range r.Top {
			fmt.Fprintf(p.w, "\t%s %.4f", p.name(t.Token), t.LogProb)
		}
		fmt.Fprintln(p.w)
	case p.n > 0:
		fmt.Fprintf(p.w, ",%d", r.Token)
	default:
		fmt.Fprint(p.w, r.Token)
	}
	p.n++
	if err := p.w.Flush(); p.err == nil {
		p.err = err
	}
}

func (p *tokenPrinter) name(id int32) string {
	if p.tok == nil {
		return fmt.Sprint(id)
	}
	b, _ := p.tok.TokenBytes(id)
	return fmt.Sprintf("%d %q", id, b)
}

func (p *tokenPrinter) end() {
	if p.n > 0 && !p.logProbs {
		fmt.Fprintln(p.w)
	}
	p.w.Flush()
}

// reportRun says what ran and how fast.
func reportRun(w io.Writer, e *opened, res engine.Result) {
	fmt.Fprintf(w, "%s\n", e.Describe())
	s := res.Sync
	fmt.Fprintf(w, "prompt %d tokens (%d from cache), %s; generated %d, %s; ended by %s\n",
		s.Prompt, s.Reused, rate(s.Prefilled, s.Duration.Seconds()), len(res.Tokens), rate(len(res.Tokens)-1, res.Duration.Seconds()), res.Reason)
}

func rate(n int, seconds float64) string {
	if n <= 0 || seconds <= 0 {
		return "no time measured"
	}
	return fmt.Sprintf("%.1f tokens/s", float64(n)/seconds)
}
