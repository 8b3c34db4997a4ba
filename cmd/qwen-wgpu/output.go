package main

// Printing an answer as it is generated, and the line of figures behind it.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
)

// output prints tokens to stdout as text where the model has a tokenizer, else (or when asked) as ids.
type output struct {
	w        *bufio.Writer
	tok      tokenizer.Interface // nil: ids
	detok    *tokenizer.Detokenizer
	logProbs bool
	stop     map[int32]bool
	n        int
	endsLine bool
}

func newOutput(e *opened, ids, logProbs bool) (*output, error) {
	o := &output{w: bufio.NewWriter(os.Stdout), logProbs: logProbs, stop: map[int32]bool{}}
	for _, id := range e.StopIDs() {
		o.stop[id] = true
	}
	if ids {
		return o, nil
	}
	tok, err := e.Tokenizer()
	if errors.Is(err, engine.ErrNoTokenizer) {
		return o, nil
	}
	if err != nil {
		return nil, err
	}
	o.tok, o.detok = tok, tokenizer.NewDetokenizer(tok)
	return o, nil
}

func (o *output) emit(r sampling.Result) error {
	switch {
	case o.logProbs:
		o.printLogProbs(r)
	case o.detok == nil:
		if o.n > 0 {
			fmt.Fprint(o.w, ",")
		}
		fmt.Fprint(o.w, r.Token)
	case !o.stop[r.Token]:
		o.text(o.detok.Push(r.Token))
	}
	o.n++
	return o.w.Flush()
}

func (o *output) text(s string) {
	if s != "" {
		io.WriteString(o.w, s)
		o.endsLine = strings.HasSuffix(s, "\n")
	}
}

func (o *output) printLogProbs(r sampling.Result) {
	fmt.Fprintf(o.w, "%s\t%.4f", o.name(r.Token), r.LogProb)
	for _, t := range r.Top {
		fmt.Fprintf(o.w, "\t%s %.4f", o.name(t.Token), t.LogProb)
	}
	fmt.Fprintln(o.w)
	o.endsLine = true
}

func (o *output) name(id int32) string {
	if o.tok == nil {
		return fmt.Sprint(id)
	}
	b, _ := o.tok.TokenBytes(id)
	return fmt.Sprintf("%d %q", id, b)
}

func (o *output) end() {
	if o.detok != nil {
		o.text(o.detok.Flush())
	}
	if o.n > 0 && !o.endsLine {
		fmt.Fprintln(o.w)
	}
	o.w.Flush()
}

// reportRun says what ran and how fast.
func reportRun(w io.Writer, e *opened, res engine.Result) {
	fmt.Fprintf(w, "%s\n", e.Describe())
	s := res.Sync
	fmt.Fprintf(w, "prompt %d tokens (%d from cache), %s; generated %d, %s; ended by %s\n",
		s.Prompt, s.Reused, rate(s.Prefilled, s.Duration.Seconds()), len(res.Tokens), rate(max(len(res.Tokens)-1, 0), res.Duration.Seconds()), res.Reason)
}

func rate(n int, seconds float64) string {
	if n == 0 || seconds <= 0 {
		return "no time measured"
	}
	return fmt.Sprintf("%.1f tokens/s", float64(n)/seconds)
}

// promptIDs are --ids, or the text's ids in the model's chat template.
func promptIDs(cmd *cobra.Command, e *opened, ids, text string) ([]int32, error) {
	if ids != "" {
		list, err := parseIDs(ids)
		if err != nil {
			return nil, &usageError{cmd.CommandPath(), err}
		}
		return list, nil
	}
	tok, err := e.Tokenizer()
	if err != nil {
		return nil, err
	}
	return tok.Encode(text)
}
