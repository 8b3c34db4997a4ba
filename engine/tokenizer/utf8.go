// Repair of ill-formed UTF-8: one U+FFFD for each maximal ill-formed part (Unicode, "U+FFFD substitution of maximal
// subparts"; what the web's TextDecoder, Python's errors="replace" and Rust's from_utf8_lossy do).

package tokenizer

import (
	"unicode/utf8"
)

const replacement = "\uFFFD"

// illFormed returns the length of the maximal ill-formed part that b starts with. b must not start with a whole character.
// incomplete is true where more bytes might make it a character.
func illFormed(b []byte) (n int, incomplete bool) {
	c := b[0]
	var size int
	low, high := byte(0x80), byte(0xBF) // the range of the second byte
	switch {
	case c >= 0xC2 && c <= 0xDF:
		size = 2
	case c >= 0xE0 && c <= 0xEF:
		size = 3
		if c == 0xE0 {
			low = 0xA0
		} else if c == 0xED {
			high = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		size = 4
		if c == 0xF0 {
			low = 0x90
		} else if c == 0xF4 {
			high = 0x8F
		}
	default:
		return 1, false
	}
	for n = 1; n < size; n++ {
		if n == len(b) {
			return n, true
		}
		if b[n] < low || b[n] > high {
			return n, false
		}
		low, high = 0x80, 0xBF
	}
	return n, false
}

// appendRepaired appends b to dst with each maximal ill-formed part replaced by U+FFFD.
func appendRepaired(dst, b []byte) []byte {
	for len(b) > 0 {
		if c := b[0]; c < utf8.RuneSelf {
			dst = append(dst, c)
			b = b[1:]
			continue
		}
		if r, size := utf8.DecodeRune(b); r != utf8.RuneError || size > 1 {
			dst = append(dst, b[:size]...)
			b = b[size:]
			continue
		}
		n, _ := illFormed(b)
		dst = append(dst, replacement...)
		b = b[n:]
	}
	return dst
}

// repairUTF8 returns text as valid UTF-8, and spans moved to where they are in it.
func repairUTF8(text string, spans []Span) (string, []Span) {
	if utf8.ValidString(text) {
		return text, spans
	}
	moved := make([]Span, len(spans))
	out := make([]byte, 0, len(text)+8)
	copied := 0
	// A range's ends move with the bytes before them; a cut through an ill-formed part falls before or after its U+FFFD.
	until := func(end int) int {
		if end > copied {
			out = appendRepaired(out, []byte(text[copied:end]))
			copied = end
		}
		return len(out)
	}
	for i, s := range spans {
		moved[i] = Span{until(s.Start), until(s.End)}
	}
	until(len(text))
	return string(out), moved
}
