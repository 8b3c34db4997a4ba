// The pretokenizer: Qwen's pattern as a hand-written scanner.
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N} | ?[^\s\p{L}\p{N}]+[\r\n]* | \s*[\r\n]+ | \s+(?!\S) | \s+
//
// (the fourth alternative starts with an optional space). Go's regexp has no lookahead, and this is an order of magnitude
// faster than a backtracking engine. Alternatives are tried in order, each as a backtracking regex would match it; every
// character starts some alternative, so the pieces tile the text.

package tokenizer

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// qwenPattern is the pattern that pieceEnd implements, as tokenizer.json writes it.
const qwenPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// class is what the pattern distinguishes.
type class uint8

const (
	classOther   class = iota // [^\s\p{L}\p{N}]
	classLetter               // \p{L}
	classNumber               // \p{N}
	classSpace                // \s but for CR and LF
	classNewline              // [\r\n]
)

// bmpClasses holds the classes of U+0000 to U+FFFF: one load instead of three binary searches a character.
var bmpClasses = sync.OnceValue(func() *[0x10000]class {
	table := new([0x10000]class)
	fill := func(ranges *unicode.RangeTable, c class) {
		for _, r := range ranges.R16 {
			for i := int(r.Lo); i <= int(r.Hi); i += int(r.Stride) {
				table[i] = c
			}
		}
	}
	fill(unicode.L, classLetter)
	fill(unicode.N, classNumber)
	fill(unicode.White_Space, classSpace)
	table['\r'], table['\n'] = classNewline, classNewline
	return table
})

func classOf(table *[0x10000]class, r rune) class {
	switch {
	case r < 0x10000:
		return table[r]
	case unicode.Is(unicode.L, r):
		return classLetter
	case unicode.Is(unicode.N, r):
		return classNumber
	}
	return classOther // no white space lies above the BMP
}

// runeAt returns the class and size of the character at pos. text is valid UTF-8.
func runeAt(table *[0x10000]class, text string, pos int) (class, int) {
	if c := text[pos]; c < utf8.RuneSelf {
		return table[c], 1
	}
	r, size := utf8.DecodeRuneInString(text[pos:])
	return classOf(table, r), size
}

// run returns the end of the run of class want that starts at pos.
func run(table *[0x10000]class, text string, pos int, want class) int {
	for pos < len(text) {
		c, size := runeAt(table, text, pos)
		if c != want {
			break
		}
		pos += size
	}
	return pos
}

// pieceEnd returns the end of the piece that starts at pos < len(text). text is valid UTF-8.
func pieceEnd(text string, pos int) int {
	table := bmpClasses()
	if text[pos] == '\'' {
		if n := contraction(text[pos+1:]); n > 0 {
			return pos + 1 + n
		}
	}
	first, size := runeAt(table, text, pos)
	second := pos + size

	// [^\r\n\p{L}\p{N}]?\p{L}+
	if first == classLetter {
		return run(table, text, second, classLetter)
	}
	if first == classNumber { // \p{N}
		return second
	}
	if first != classNewline && second < len(text) {
		next, n := runeAt(table, text, second)
		if next == classLetter {
			return run(table, text, second+n, classLetter)
		}
		// The optional space of ` ?[^\s\p{L}\p{N}]+[\r\n]*`.
		if next == classOther && text[pos] == ' ' {
			return punctuationEnd(table, text, second)
		}
	}
	if first == classOther {
		return punctuationEnd(table, text, pos)
	}
	return spacesEnd(table, text, pos)
}

// punctuationEnd matches [^\s\p{L}\p{N}]+[\r\n]*.
func punctuationEnd(table *[0x10000]class, text string, pos int) int {
	return run(table, text, run(table, text, pos, classOther), classNewline)
}

// spacesEnd matches \s*[\r\n]+ | \s+(?!\S) | \s+ at white space.
func spacesEnd(table *[0x10000]class, text string, pos int) int {
	afterNewline := -1 // end of the last newline in the run
	last := pos        // start of the run's last character
	end := pos
	for end < len(text) {
		c, size := runeAt(table, text, end)
		if c != classSpace && c != classNewline {
			break
		}
		last = end
		end += size
		if c == classNewline {
			afterNewline = end
		}
	}
	switch {
	case afterNewline >= 0:
		return afterNewline
	case end == len(text) || last == pos:
		return end
	}
	return last // the last space belongs to what follows
}

// contraction returns the length of s, t, re, ve, m, ll or d at the start of text, whatever its case. U+017F (ſ) folds to s.
func contraction(text string) int {
	if text == "" {
		return 0
	}
	var second byte
	switch text[0] | 0x20 {
	case 's', 't', 'm', 'd':
		return 1
	case 'r', 'v':
		second = 'e'
	case 'l':
		second = 'l'
	case 0xC5 | 0x20:
		if len(text) >= 2 && text[:2] == "ſ" {
			return 2
		}
		return 0
	default:
		return 0
	}
	if len(text) >= 2 && text[1]|0x20 == second {
		return 2
	}
	return 0
}
