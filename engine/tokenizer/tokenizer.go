// Package tokenizer turns text into Qwen3's token ids and back: byte-level BPE in pure Go, read from a model's
// tokenizer.json.
//
// In a token's trip it stands between the rendered chat template and the session (Encode), and between the sampled ids and
// the reader (Detokenizer, which emits whole characters only). It owns no chat format and no sampling. The package hf beside
// it offers the same Interface over Hugging Face's Rust library and is the oracle that the tests compare with.
//
// Encoding follows Hugging Face's order: added tokens ("<|im_start|>", "<think>", …) are cut out first, leftmost and longest;
// the text between them is brought to NFC, split by the pretokenizer's pattern, and each piece is merged by rank.
//
// Invalid UTF-8 in a text is read as every decoder for the web and Python's errors="replace" read it: each maximal
// ill-formed part becomes one U+FFFD, which is then encoded like any other character. Decoding does the same to byte
// sequences that are not UTF-8.
package tokenizer

import (
	"errors"
	"fmt"
)

// ErrUnknownToken is wrapped by the errors about an id that the tokenizer does not define.
var ErrUnknownToken = errors.New("id is not in the vocabulary")

// Interface is what the engine asks of a tokenizer. It is safe for concurrent use.
type Interface interface {
	// Encode returns the ids of text; the text of added tokens becomes their ids.
	Encode(text string) ([]int32, error)
	// EncodeWith is Encode with options.
	EncodeWith(text string, opts EncodeOptions) ([]int32, error)
	// Decode returns the text of ids, added tokens included. Bytes that are not UTF-8 become U+FFFD; an id that the
	// vocabulary does not have is an error.
	Decode(ids []int32) (string, error)
	// AddedTokens lists the texts that Encode does not split ("<|im_start|>", "<think>", …), sorted.
	AddedTokens() []string
	Vocabulary
}

// Vocabulary maps ids to tokens. Ids are not always dense: IDToToken tells whether one is defined.
type Vocabulary interface {
	// VocabSize is the highest defined id plus one. A model's logits may have more rows: those are padding.
	VocabSize() int
	// TokenToID finds a token as tokenizer.json writes it ("Ġthe", "<|im_end|>").
	TokenToID(token string) (int32, bool)
	// IDToToken is the inverse of TokenToID.
	IDToToken(id int32) (string, bool)
	// TokenBytes returns the bytes of text that id stands for. They need not be whole characters and must not be changed.
	TokenBytes(id int32) ([]byte, bool)
	// IsSpecial tells whether id is an added token that the file marks special (control tokens such as <|im_end|>).
	IsSpecial(id int32) bool
}

// EncodeOptions change how one text is encoded. The zero value is Encode.
type EncodeOptions struct {
	// NoSpecial treats the text of added tokens as plain text everywhere.
	NoSpecial bool
	// Literal treats the text of added tokens as plain text where it overlaps one of these byte ranges: what a user typed
	// inside a rendered chat template (chat.Template.RenderLiteral returns them). Ascending and without overlap. When text is
	// not valid UTF-8, the ranges are read as offsets into it before its repair.
	Literal []Span
	// PostProcess adds the ids that the file's post_processor puts around a text (Qwen3-Embedding appends <|endoftext|>).
	PostProcess bool
}

// Span is a range of bytes [Start, End).
type Span struct{ Start, End int }

// Tokenizer is a loaded tokenizer.json. It is immutable but for its cache, and safe for concurrent use.
type Tokenizer struct {
	FileVocabulary
	merges mergeTable
	nfc    bool // whether the file asks for NFC
	// ignoreMerges takes a whole piece from the vocabulary before it tries to merge.
	ignoreMerges   bool
	prefix, suffix []int32 // what PostProcess adds
	cache          pieceCache
}

var _ Interface = (*Tokenizer)(nil)

// Encode returns the ids of text; the text of added tokens becomes their ids.
func (t *Tokenizer) Encode(text string) ([]int32, error) {
	return t.EncodeWith(text, EncodeOptions{})
}

// EncodeWith is Encode with options.
func (t *Tokenizer) EncodeWith(text string, opts EncodeOptions) ([]int32, error) {
	if len(text) > maxTextBytes {
		return nil, fmt.Errorf("tokenizer: text has %d bytes, more than %d: split it", len(text), maxTextBytes)
	}
	literal, err := checkSpans(opts.Literal, len(text))
	if err != nil {
		return nil, err
	}
	text, literal = repairUTF8(text, literal)

	e := encoder{t: t, dst: make([]int32, 0, len(text)/3+8)}
	if opts.PostProcess {
		e.dst = append(e.dst, t.prefix...)
	}
	if opts.NoSpecial {
		e.plain(text)
	} else {
		e.withAdded(text, literal)
	}
	e.release()
	if opts.PostProcess {
		e.dst = append(e.dst, t.suffix...)
	}
	return e.dst, nil
}

// maxTextBytes keeps byte positions within int32.
const maxTextBytes = 1 << 30

func checkSpans(spans []Span, textBytes int) ([]Span, error) {
	end := 0
	for i, s := range spans {
		if s.Start < end || s.End < s.Start || s.End > textBytes {
			return nil, fmt.Errorf("tokenizer: literal span %d is [%d, %d): spans must ascend without overlap within the text's %d bytes", i, s.Start, s.End, textBytes)
		}
		end = s.End
	}
	return spans, nil
}

// encoder is one call of EncodeWith.
type encoder struct {
	t       *Tokenizer
	dst     []int32
	scratch *mergeScratch // nil until a piece needs merging
}

// withAdded cuts the added tokens out of text and encodes what lies between.
func (e *encoder) withAdded(text string, literal []Span) {
	if e.t.normed.empty() {
		e.t.added.split(text, literal, e.plain, e.emit)
		return
	}
	// Added tokens marked "normalized" match the text after NFC, where offsets have moved: a literal range that NFC might
	// change is encoded on its own, without them.
	e.t.added.split(text, literal, func(part string) {
		norm := e.normalize(part)
		if len(literal) > 0 {
			e.pieces(norm)
			return
		}
		e.t.normed.split(norm, nil, e.pieces, e.emit)
	}, e.emit)
}

func (e *encoder) emit(id int32)     { e.dst = append(e.dst, id) }
func (e *encoder) plain(text string) { e.pieces(e.normalize(text)) }

func (e *encoder) normalize(text string) string {
	if !e.t.nfc {
		return text
	}
	return nfc(text)
}

// pieces splits normalized text by the pretokenizer's pattern and merges each piece.
func (e *encoder) pieces(text string) {
	for pos := 0; pos < len(text); {
		end := pieceEnd(text, pos)
		e.piece(text[pos:end])
		pos = end
	}
}

// Decode returns the text of ids, added tokens included.
func (t *Tokenizer) Decode(ids []int32) (string, error) {
	return t.vocab.decode(ids)
}
