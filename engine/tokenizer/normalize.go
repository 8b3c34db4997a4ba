// NFC: the plain algorithm of Unicode Standard Annex #15 on the tables of golang.org/x/text/unicode/norm.
//
// x/text's own composition is not used because its results differ: it follows the Stream-Safe Text Format and inserts U+034F
// after 30 combining marks in a row, and v0.30.0 composes across some starters ("o\uff9e\u0335\u0307") and confuses characters
// above U+FFFF with others (U+E01AF U+0300 becomes U+1EEA).

package tokenizer

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// nfc returns the NFC of valid UTF-8. Nearly all text is NFC already, which x/text's quick check sees.
func nfc(text string) string {
	if norm.NFC.IsNormalString(text) {
		return text
	}
	marks := decompose(text)
	reorder(marks)
	return compose(marks)
}

// mark is a character and its canonical combining class.
type mark struct {
	r   rune
	ccc uint8
}

// reorder is the canonical ordering: stable by class within each run of non-starters.
func reorder(marks []mark) {
	for i := 0; i < len(marks); {
		if marks[i].ccc == 0 {
			i++
			continue
		}
		j := i + 1
		for j < len(marks) && marks[j].ccc != 0 {
			j++
		}
		slices.SortStableFunc(marks[i:j], func(a, b mark) int { return int(a.ccc) - int(b.ccc) })
		i = j
	}
}

// decompose is the full canonical decomposition of text.
func decompose(text string) []mark {
	marks := make([]mark, 0, len(text))
	add := func(r rune, ccc uint8) { marks = append(marks, mark{r, ccc}) }
	for i := 0; i < len(text); {
		if text[i] < utf8.RuneSelf {
			add(rune(text[i]), 0)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if s := r - hangulBase; s >= 0 && s < hangulCount {
			add(jamoL+s/(jamoVCount*jamoTCount), 0)
			add(jamoV+s%(jamoVCount*jamoTCount)/jamoTCount, 0)
			if t := s % jamoTCount; t != 0 {
				add(jamoT+t, 0)
			}
			i += size
			continue
		}
		p := norm.NFD.PropertiesString(text[i:])
		if d := p.Decomposition(); d != nil {
			for len(d) > 0 {
				dr, n := utf8.DecodeRune(d)
				add(dr, norm.NFD.Properties(d).CCC())
				d = d[n:]
			}
		} else {
			add(r, p.CCC())
		}
		i += size
	}
	return marks
}

// compose joins each starter with the marks behind it that are not blocked.
func compose(marks []mark) string {
	composed := map[[2]rune]rune{}
	starter := -1 // index in out of the last starter
	out := marks[:0]
	for _, m := range marks {
		if starter >= 0 {
			// m is blocked where something of class 0, or of its own class or higher, lies between.
			last := out[len(out)-1]
			if adjacent := len(out)-1 == starter; adjacent || (last.ccc != 0 && last.ccc < m.ccc) {
				if c := composePair(composed, out[starter].r, m.r); c != 0 {
					out[starter].r = c
					continue
				}
			}
		}
		if m.ccc == 0 {
			starter = len(out)
		}
		out = append(out, m)
	}
	var b strings.Builder
	for _, m := range out {
		b.WriteRune(m.r)
	}
	return b.String()
}

// composePair returns the primary composite of a and b, 0 if there is none.
func composePair(memo map[[2]rune]rune, a, b rune) rune {
	if l, v := a-jamoL, b-jamoV; l >= 0 && l < jamoLCount && v >= 0 && v < jamoVCount {
		return hangulBase + (l*jamoVCount+v)*jamoTCount
	}
	if s, t := a-hangulBase, b-jamoT; s >= 0 && s < hangulCount && s%jamoTCount == 0 && t > 0 && t < jamoTCount {
		return a + t
	}
	pair := [2]rune{a, b}
	c, ok := memo[pair]
	if !ok {
		joined := norm.NFC.String(string(pair[:]))
		if r, size := utf8.DecodeRuneInString(joined); size == len(joined) && norm.NFD.String(joined) == norm.NFD.String(string(pair[:])) {
			c = r
		}
		memo[pair] = c
	}
	return c
}

// The arithmetic of Hangul syllables (Unicode Standard, section 3.12).
const (
	hangulBase  = 0xAC00
	jamoL       = 0x1100
	jamoV       = 0x1161
	jamoT       = 0x11A7
	jamoLCount  = 19
	jamoVCount  = 21
	jamoTCount  = 28
	hangulCount = jamoLCount * jamoVCount * jamoTCount
)
