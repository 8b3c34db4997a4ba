package engine

// transcript: the text of a conversation beside the ids that the model was given and gave for it.
//
// A model does not always spell a text as the tokenizer would. Where the next prompt goes on from an answer as it was
// generated, its ids are kept, so that the cache is kept too; where the template has rewritten it (reasoning removed), the
// text from there on is encoded anew.

import (
	"slices"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
)

type transcript struct {
	text    string
	literal []tokenizer.Span // of text: added tokens' texts that somebody typed
	ids     []int32
	answers []position // ends of generated answers, without their stop token
}

// position is a place in the text and in the ids.
type position struct{ text, ids int }

// answered is the transcript behind an answer of generated tokens, which stand for text (a stop token for none).
func (t transcript) answered(text string, tokens, stopIDs []int32) transcript {
	if n := len(tokens); n > 0 && slices.Contains(stopIDs, tokens[n-1]) {
		tokens = tokens[:n-1]
	}
	t.text += text
	t.ids = slices.Concat(t.ids, tokens)
	t.answers = append(slices.Clone(t.answers), position{len(t.text), len(t.ids)})
	return t
}

// extend encodes a prompt: behind the last answer up to which it is t's text, only what follows.
func (t transcript) extend(tok tokenizer.Interface, added []string, text string, literal []tokenizer.Span) (transcript, error) {
	next := transcript{text: text, literal: literal}
	var cut position
	for i := len(t.answers) - 1; i >= 0 && cut.text == 0; i-- {
		if at := t.answers[i]; t.agrees(next, at.text, added) {
			cut, next.answers = at, t.answers[:i+1]
		}
	}
	var rest []tokenizer.Span
	for _, s := range literal {
		if s.Start >= cut.text {
			rest = append(rest, tokenizer.Span{Start: s.Start - cut.text, End: s.End - cut.text})
		}
	}
	ids, err := tok.EncodeWith(text[cut.text:], tokenizer.EncodeOptions{Literal: rest})
	next.ids = slices.Concat(t.ids[:cut.ids], ids)
	return next, err
}

// agrees tells whether next begins with the first n bytes of t, typed and not typed alike, and goes on with an added
// token, before which no token reaches across.
func (t transcript) agrees(next transcript, n int, added []string) bool {
	before := func(spans []tokenizer.Span) []tokenizer.Span {
		i, _ := slices.BinarySearchFunc(spans, n, func(s tokenizer.Span, n int) int { return s.Start - n })
		return spans[:i]
	}
	if !strings.HasPrefix(next.text, t.text[:n]) || !slices.Equal(before(t.literal), before(next.literal)) {
		return false
	}
	rest := next.text[n:]
	typed := len(before(next.literal)) < len(next.literal) && next.literal[len(before(next.literal))].Start == n
	return !typed && slices.ContainsFunc(added, func(a string) bool { return strings.HasPrefix(rest, a) })
}
