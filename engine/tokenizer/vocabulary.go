// The vocabulary of a tokenizer.json as other packages see it.

package tokenizer

import (
	"fmt"
	"slices"
)

// FileVocabulary is the vocabulary of a tokenizer.json: the model's tokens and the added ones.
type FileVocabulary struct {
	vocab  vocabulary
	added  addedTokens // matched in the text as given
	normed addedTokens // "normalized" ones, matched after NFC
}

// LoadVocabulary reads only the tokens of a tokenizer.json, also where Load refuses how the file splits or merges text.
func LoadVocabulary(tokenizerJSON []byte) (*FileVocabulary, error) {
	l, err := scanFile(tokenizerJSON)
	if err == nil && l.t.vocab.spans == nil {
		err = fmt.Errorf("the file has no model.vocab")
	}
	if err == nil {
		err = l.addedTokens()
	}
	if err != nil {
		return nil, fmt.Errorf("tokenizer: tokenizer.json: %w", err)
	}
	return &l.t.FileVocabulary, nil
}

// VocabSize is the highest defined id plus one.
func (f *FileVocabulary) VocabSize() int { return len(f.vocab.spans) }

// TokenToID finds a token as tokenizer.json writes it.
func (f *FileVocabulary) TokenToID(token string) (int32, bool) { return f.vocab.tokenToID(token) }

// IDToToken returns a token as tokenizer.json writes it.
func (f *FileVocabulary) IDToToken(id int32) (string, bool) { return f.vocab.idToToken(id) }

// TokenBytes returns the bytes of text that id stands for; the caller must not change them.
func (f *FileVocabulary) TokenBytes(id int32) ([]byte, bool) { return f.vocab.tokenBytes(id) }

// IsSpecial tells whether id is an added token that the file marks special.
func (f *FileVocabulary) IsSpecial(id int32) bool { return f.vocab.isSpecial(id) }

// AddedTokens returns the texts of all added tokens, sorted.
func (f *FileVocabulary) AddedTokens() []string {
	var out []string
	for id, s := range f.vocab.spans {
		if s.flags&flagAdded != 0 {
			token, _ := f.vocab.idToToken(int32(id))
			out = append(out, token)
		}
	}
	slices.Sort(out)
	return out
}

// SplitAdded cuts text at its added tokens (those matched before normalization), leftmost and longest first, but for those
// that overlap a literal span. It calls between for each stretch without one and token for each token, in order.
func (f *FileVocabulary) SplitAdded(text string, literal []Span, between func(string), token func(int32)) {
	f.added.split(text, literal, between, token)
}
