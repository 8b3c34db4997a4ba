// Added tokens: fixed strings that are cut out of a text before anything else happens to it.

package tokenizer

import (
	"sort"
	"strings"
)

type addedToken struct {
	content string
	id      int32
}

// addedTokens finds its tokens in a text, leftmost first and the longest where several start at one place.
type addedTokens struct {
	byFirst map[byte][]addedToken // longest first
	first   string                // the first bytes of all tokens
}

func newAddedTokens(tokens []addedToken) addedTokens {
	a := addedTokens{byFirst: map[byte][]addedToken{}}
	for _, tok := range tokens {
		c := tok.content[0]
		if len(a.byFirst[c]) == 0 {
			a.first += string([]byte{c})
		}
		a.byFirst[c] = append(a.byFirst[c], tok)
	}
	for _, list := range a.byFirst {
		sort.Slice(list, func(i, j int) bool { return len(list[i].content) > len(list[j].content) })
	}
	return a
}

func (a *addedTokens) empty() bool { return len(a.first) == 0 }

// index returns the position of the next byte at or after pos that starts some token, -1 if none does.
func (a *addedTokens) index(text string, pos int) int {
	i := -1
	if len(a.first) == 1 { // Qwen's: all start with '<'
		i = strings.IndexByte(text[pos:], a.first[0])
	} else {
		for j := pos; j < len(text); j++ {
			if strings.IndexByte(a.first, text[j]) >= 0 {
				i = j - pos
				break
			}
		}
	}
	if i < 0 {
		return -1
	}
	return pos + i
}

// split calls between for each stretch of text without added tokens and token for each added token, in order. A token that
// overlaps one of the literal spans is left in its stretch.
func (a *addedTokens) split(text string, literal []Span, between func(string), token func(int32)) {
	start := 0
	if !a.empty() {
		for pos := a.index(text, 0); pos >= 0; {
			end := pos + 1
			if tok, ok := a.at(text[pos:]); ok {
				for len(literal) > 0 && literal[0].End <= pos {
					literal = literal[1:]
				}
				if tokEnd := pos + len(tok.content); len(literal) == 0 || literal[0].Start >= tokEnd || literal[0].Start == literal[0].End {
					if pos > start {
						between(text[start:pos])
					}
					token(tok.id)
					start, end = tokEnd, tokEnd
				}
			}
			if end >= len(text) {
				break
			}
			pos = a.index(text, end)
		}
	}
	if start < len(text) {
		between(text[start:])
	}
}

// at returns the longest token that text starts with.
func (a *addedTokens) at(text string) (addedToken, bool) {
	for _, tok := range a.byFirst[text[0]] {
		if strings.HasPrefix(text, tok.content) {
			return tok, true
		}
	}
	return addedToken{}, false
}
