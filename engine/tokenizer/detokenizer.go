// Streaming decoding: ids in, whole characters out.

package tokenizer

import (
	"unicode/utf8"
)

// Detokenizer turns ids into text as they are sampled. A token may end in the middle of a character: the Detokenizer holds
// those bytes (at most three) until the character is whole or cannot become one, so every piece it returns is valid UTF-8,
// and the pieces together are what Decode returns for the same ids. Its zero value is not usable, and it serves one stream.
type Detokenizer struct {
	// SkipSpecial leaves out the tokens that the vocabulary marks special.
	SkipSpecial bool

	vocab   Vocabulary
	held    [utf8.UTFMax]byte
	numHeld int
	buf     []byte // held bytes and the next token's, reused
}

// NewDetokenizer returns a Detokenizer for one stream of ids.
func NewDetokenizer(vocab Vocabulary) *Detokenizer {
	return &Detokenizer{vocab: vocab}
}

// Push adds one id and returns the text that it completes, often "". An id that the vocabulary does not have shows as U+FFFD.
func (d *Detokenizer) Push(id int32) string {
	if d.SkipSpecial && d.vocab.IsSpecial(id) {
		return ""
	}
	token, ok := d.vocab.TokenBytes(id)
	if !ok {
		token = []byte(replacement)
	}
	d.buf = append(append(d.buf[:0], d.held[:d.numHeld]...), token...)
	whole := len(d.buf) - unfinished(d.buf)
	d.numHeld = copy(d.held[:], d.buf[whole:])
	return repaired(d.buf[:whole])
}

// Flush ends the stream: bytes still held become one U+FFFD. The Detokenizer may then be used for another stream.
func (d *Detokenizer) Flush() string {
	if d.numHeld == 0 {
		return ""
	}
	d.numHeld = 0
	return replacement
}

// unfinished returns how many bytes at the end of b begin a character that more bytes might complete.
func unfinished(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		tail := b[len(b)-n:]
		if !utf8.RuneStart(tail[0]) {
			continue
		}
		if tail[0] < utf8.RuneSelf {
			return 0
		}
		if size, incomplete := illFormed(tail); incomplete && size == n {
			return n
		}
		return 0
	}
	return 0
}

func repaired(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string(appendRepaired(make([]byte, 0, len(b)+8), b))
}
