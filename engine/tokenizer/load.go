// Loading tokenizer.json: the two big tables with the scanner, the rest with encoding/json, and every setting that would
// change ids and is not implemented refused by name.

package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Load reads a tokenizer.json. It keeps nothing of the slice. The file's truncation and padding are not applied: lengths
// are the caller's business.
func Load(tokenizerJSON []byte) (*Tokenizer, error) {
	t, err := load(tokenizerJSON)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: tokenizer.json: %w", err)
	}
	return t, nil
}

// loader collects the parts of the file that can only be read once others are known.
type loader struct {
	t      *Tokenizer
	merges jsonScanner // at the value of model.merges where it came before the vocabulary
	fields map[string]json.RawMessage
}

// scanFile reads the vocabulary, and the merges behind it, and collects all other fields.
func scanFile(data []byte) (*loader, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	l := &loader{t: &Tokenizer{cache: newPieceCache()}, fields: map[string]json.RawMessage{}}
	s := jsonScanner{data: data}
	err := s.object(func(key string) (err error) {
		if key == "model" {
			return l.model(&s)
		}
		l.fields[key], err = s.rawValue()
		return err
	})
	if err != nil {
		return nil, err
	}
	if c := s.next(); c != 0 || s.pos < len(data) {
		return nil, s.errorf("%q behind the end of the object", c)
	}
	return l, nil
}

func load(data []byte) (*Tokenizer, error) {
	l, err := scanFile(data)
	if err != nil {
		return nil, err
	}
	steps := []struct {
		name string
		run  func() error
	}{
		{"model", l.modelSettings},
		{"model.merges", l.lateMerges},
		{"normalizer", l.normalizer},
		{"pre_tokenizer", l.preTokenizer},
		{"decoder", l.decoder},
		{"added_tokens", l.addedTokens},
		{"post_processor", l.postProcessor},
	}
	for _, step := range steps {
		if err := step.run(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return l.t, nil
}

// model reads the vocabulary as it passes, and the merges too if they come behind it: they need all ids.
func (l *loader) model(s *jsonScanner) error {
	if l.t.vocab.spans != nil {
		return s.errorf("a second model")
	}
	return s.object(func(key string) (err error) {
		switch key {
		case "vocab":
			if l.t.vocab.spans != nil {
				return s.errorf("a second model.vocab")
			}
			return l.readVocab(s)
		case "merges":
			if l.t.vocab.spans != nil {
				return l.readMerges(s)
			}
			l.merges = *s
			_, err = s.rawValue()
			return err
		}
		l.fields["model."+key], err = s.rawValue()
		return err
	})
}

// readVocab reads {"token": id, …}.
func (l *loader) readVocab(s *jsonScanner) error {
	v := &l.t.vocab
	v.spans = make([]tokenSpan, 0, len(s.data)/64)
	v.arena = make([]byte, 0, len(s.data)/10)
	if err := s.expect('{'); err != nil {
		return err
	}
	var scratch []byte
	for first := true; ; first = false {
		ok, err := s.more('}', first)
		if err != nil {
			return fmt.Errorf("model.vocab: %w", err)
		}
		if !ok {
			break
		}
		at := s.pos
		raw, escaped, err := s.str()
		if err == nil && escaped {
			scratch, err = unescape(scratch[:0], raw)
			raw = scratch
		}
		if err == nil {
			err = s.expect(':')
		}
		id := 0
		if err == nil {
			id, err = s.integer()
		}
		if err != nil {
			return fmt.Errorf("model.vocab: entry at byte %d: %w", at, err)
		}
		start, flags := len(v.arena), tokenFlags(0)
		if v.arena, ok = appendByteLevel(v.arena, raw); !ok {
			v.arena = append(v.arena, raw...)
			flags = flagVerbatim
		}
		if err := v.add(id, start, flags); err != nil {
			return fmt.Errorf("model.vocab: %w", err)
		}
	}
	if err := v.index(); err != nil {
		return fmt.Errorf("model.vocab: %w", err)
	}
	return nil
}

// lateMerges reads merges that came before the vocabulary.
func (l *loader) lateMerges() error {
	if l.t.vocab.spans == nil {
		return errors.New("the file has no model.vocab")
	}
	if l.merges.data != nil {
		return l.readMerges(&l.merges)
	}
	if l.t.merges.slots == nil {
		return errors.New("the file has none")
	}
	return nil
}

// readMerges reads [["a", "b"], …] or ["a b", …].
func (l *loader) readMerges(s *jsonScanner) error {
	t := l.t
	if t.merges.slots != nil {
		return s.errorf("a second model.merges")
	}
	t.merges = newMergeTable(max(len(t.vocab.spans), 16))
	used := 0
	if err := s.expect('['); err != nil {
		return err
	}
	var joined []byte // the bytes of left and right, one behind the other
	for rank, first := 0, true; ; rank, first = rank+1, false {
		ok, err := s.more(']', first)
		if err != nil || !ok {
			return err
		}
		var cut int
		if s.next() == '[' {
			joined, cut, err = s.mergePair(joined[:0])
		} else {
			joined, cut, err = s.mergeString(joined[:0])
		}
		if err != nil {
			return fmt.Errorf("merge %d: %w", rank, err)
		}
		left, okLeft := t.vocab.lookup(joined[:cut])
		right, okRight := t.vocab.lookup(joined[cut:])
		id, okJoined := t.vocab.lookup(joined)
		if !okLeft || !okRight || !okJoined {
			return fmt.Errorf("merge %d (%q + %q): not all of the two and what they make are in model.vocab", rank, joined[:cut], joined[cut:])
		}
		if used++; used*5 > len(t.merges.slots)*3 {
			t.merges = t.merges.grown()
		}
		t.merges.set(left, right, int32(rank), id)
	}
}

// mergePair reads ["left", "right"] and appends both tokens' bytes to dst; cut is where right begins.
func (s *jsonScanner) mergePair(dst []byte) (joined []byte, cut int, err error) {
	s.pos++
	var scratch [256]byte
	for i := range 2 {
		if i == 1 {
			if err := s.expect(','); err != nil {
				return dst, 0, err
			}
		}
		raw, escaped, err := s.str()
		if err != nil {
			return dst, 0, err
		}
		if escaped {
			if raw, err = unescape(scratch[:0], raw); err != nil {
				return dst, 0, err
			}
		}
		var ok bool
		if dst, ok = appendByteLevel(dst, raw); !ok {
			return dst, 0, fmt.Errorf("%q is not in the byte-level alphabet", raw)
		}
		if i == 0 {
			cut = len(dst)
		}
	}
	return dst, cut, s.expect(']')
}

// mergeString reads "left right".
func (s *jsonScanner) mergeString(dst []byte) (joined []byte, cut int, err error) {
	raw, escaped, err := s.str()
	if err != nil {
		return dst, 0, err
	}
	if escaped {
		if raw, err = unescape(nil, raw); err != nil {
			return dst, 0, err
		}
	}
	space := slices.Index(raw, ' ')
	if space < 0 {
		return dst, 0, fmt.Errorf("%q has no space between two tokens", raw)
	}
	var okLeft, okRight bool
	dst, okLeft = appendByteLevel(dst, raw[:space])
	cut = len(dst)
	dst, okRight = appendByteLevel(dst, raw[space+1:])
	if !okLeft || !okRight {
		return dst, 0, fmt.Errorf("%q: not two tokens of the byte-level alphabet", raw)
	}
	return dst, cut, nil
}

// field decodes one of the file's fields into v; false where it is absent or null.
func (l *loader) field(name string, v any) (bool, error) {
	raw, ok := l.fields[name]
	if !ok || string(raw) == "null" {
		return false, nil
	}
	return true, json.Unmarshal(raw, v)
}

// modelSettings refuses what would make merging differ.
func (l *loader) modelSettings() error {
	var m struct {
		kind, prefix, suffix                string
		dropout                             float64
		byteFallback, ignoreMerges, fuseUnk bool
	}
	m.kind = "BPE"
	for name, v := range map[string]any{
		"type": &m.kind, "dropout": &m.dropout, "continuing_subword_prefix": &m.prefix, "end_of_word_suffix": &m.suffix,
		"byte_fallback": &m.byteFallback, "ignore_merges": &m.ignoreMerges, "fuse_unk": &m.fuseUnk,
	} {
		if _, err := l.field("model."+name, v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	switch {
	case m.kind != "BPE":
		return fmt.Errorf("type %q is not supported: this tokenizer does byte-level BPE", m.kind)
	case m.dropout != 0:
		return fmt.Errorf("dropout %v is not supported: it makes ids random", m.dropout)
	case m.prefix != "" || m.suffix != "":
		return fmt.Errorf("continuing_subword_prefix %q and end_of_word_suffix %q are not supported", m.prefix, m.suffix)
	case m.byteFallback:
		return errors.New("byte_fallback is not supported: this is not a byte-level vocabulary")
	}
	l.t.ignoreMerges = m.ignoreMerges
	return nil
}

// component is a normalizer, pretokenizer, decoder or post-processor.
type component struct {
	Type          string      `json:"type"`
	Normalizers   []component `json:"normalizers"`
	Pretokenizers []component `json:"pretokenizers"`
	Processors    []component `json:"processors"`
	Pattern       struct {
		Regex, String *string
	} `json:"pattern"`
	Behavior       string         `json:"behavior"`
	Invert         bool           `json:"invert"`
	AddPrefixSpace *bool          `json:"add_prefix_space"`
	UseRegex       *bool          `json:"use_regex"`
	Single         []templatePart `json:"single"`
	SpecialTokens  map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
}

// templatePart is one element of a TemplateProcessing: {"Sequence": …} or {"SpecialToken": {"id": …}}.
type templatePart struct {
	Sequence     *struct{ ID string }
	SpecialToken *struct{ ID string }
}

// flat returns the leaves of a tree of Sequences.
func (c component) flat() []component {
	if c.Type != "Sequence" {
		return []component{c}
	}
	var out []component
	for _, child := range slices.Concat(c.Normalizers, c.Pretokenizers, c.Processors) {
		out = append(out, child.flat()...)
	}
	return out
}

func (l *loader) component(name string) ([]component, error) {
	var c component
	ok, err := l.field(name, &c)
	if err != nil || !ok {
		return nil, err
	}
	return c.flat(), nil
}

func (l *loader) normalizer() error {
	parts, err := l.component("normalizer")
	for _, c := range parts {
		if c.Type != "NFC" {
			return fmt.Errorf("type %q is not supported (only NFC, or none)", c.Type)
		}
		l.t.nfc = true
	}
	return err
}

// gpt2Pattern is what ByteLevel splits by where use_regex is set.
const gpt2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

func (l *loader) preTokenizer() error {
	parts, err := l.component("pre_tokenizer")
	if err != nil {
		return err
	}
	isSplit, isByteLevel := false, false
	for _, c := range parts {
		switch {
		case c.Type == "Split" && !isSplit && !isByteLevel:
			pattern := ""
			if c.Pattern.Regex != nil {
				pattern = *c.Pattern.Regex
			} else if c.Pattern.String != nil {
				pattern = *c.Pattern.String
			}
			if c.Pattern.Regex == nil || pattern != qwenPattern {
				return fmt.Errorf("splits by the pattern %q, which is not supported: only Qwen's is, %q", pattern, qwenPattern)
			}
			if c.Behavior != "Isolated" || c.Invert {
				return fmt.Errorf("Split with behavior %q, invert %v is not supported (only Isolated, false)", c.Behavior, c.Invert)
			}
			isSplit = true
		case c.Type == "ByteLevel" && isSplit && !isByteLevel:
			if c.AddPrefixSpace == nil || *c.AddPrefixSpace {
				return errors.New("ByteLevel with add_prefix_space is not supported")
			}
			if c.UseRegex == nil || *c.UseRegex {
				return fmt.Errorf("ByteLevel with use_regex splits by a second pattern, %q, which is not supported", gpt2Pattern)
			}
			isByteLevel = true
		case c.Type == "ByteLevel" && (c.UseRegex == nil || *c.UseRegex):
			return fmt.Errorf("ByteLevel with use_regex splits by the pattern %q, which is not supported: only Qwen's is, %q", gpt2Pattern, qwenPattern)
		default:
			return fmt.Errorf("type %q is not supported here: the file must have Split by Qwen's pattern, %q, then ByteLevel", c.Type, qwenPattern)
		}
	}
	if !isSplit || !isByteLevel {
		return fmt.Errorf("the file must have Split by Qwen's pattern, %q, then ByteLevel", qwenPattern)
	}
	return nil
}

func (l *loader) decoder() error {
	parts, err := l.component("decoder")
	if err != nil {
		return err
	}
	if len(parts) != 1 || parts[0].Type != "ByteLevel" {
		return errors.New("only a ByteLevel decoder is supported")
	}
	return nil
}

func (l *loader) addedTokens() error {
	var list []struct {
		ID         int    `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized bool   `json:"normalized"`
		Special    bool   `json:"special"`
	}
	if _, err := l.field("added_tokens", &list); err != nil {
		return err
	}
	v := &l.t.vocab
	v.added = make(map[string]int32, len(list))
	var plain, normed []addedToken
	for _, a := range list {
		if a.Content == "" {
			return fmt.Errorf("id %d has no content", a.ID)
		}
		if a.SingleWord || a.LStrip || a.RStrip {
			return fmt.Errorf("%q: single_word, lstrip and rstrip are not supported", a.Content)
		}
		if other, ok := v.added[a.Content]; ok {
			return fmt.Errorf("%q has two ids, %d and %d", a.Content, other, a.ID)
		}
		if id, ok := v.tokenToID(a.Content); ok {
			if int(id) != a.ID {
				return fmt.Errorf("%q has id %d here and %d in model.vocab", a.Content, a.ID, id)
			}
		} else {
			start := len(v.arena)
			v.arena = append(v.arena, a.Content...)
			if err := v.add(a.ID, start, flagVerbatim); err != nil {
				return err
			}
		}
		v.spans[a.ID].flags |= flagAdded
		if a.Special {
			v.spans[a.ID].flags |= flagSpecial
		}
		v.added[a.Content] = int32(a.ID)
		if a.Normalized && l.t.nfc {
			normed = append(normed, addedToken{norm.NFC.String(a.Content), int32(a.ID)})
		} else {
			plain = append(plain, addedToken{a.Content, int32(a.ID)})
		}
	}
	l.t.added, l.t.normed = newAddedTokens(plain), newAddedTokens(normed)
	return nil
}

// postProcessor reads what stands around a single text. ByteLevel only moves offsets, which are not computed here.
func (l *loader) postProcessor() error {
	parts, err := l.component("post_processor")
	if err != nil {
		return err
	}
	for _, c := range parts {
		switch c.Type {
		case "ByteLevel":
		case "TemplateProcessing":
			behind := false
			for _, p := range c.Single {
				if p.SpecialToken == nil {
					behind = true
					continue
				}
				ids := c.SpecialTokens[p.SpecialToken.ID].IDs
				if len(ids) == 0 {
					return fmt.Errorf("TemplateProcessing: special token %q has no ids", p.SpecialToken.ID)
				}
				for _, id := range ids {
					if _, ok := l.t.vocab.tokenBytes(id); !ok {
						return fmt.Errorf("TemplateProcessing: special token %q: id %d: %w", p.SpecialToken.ID, id, ErrUnknownToken)
					}
				}
				if behind {
					l.t.suffix = append(l.t.suffix, ids...)
				} else {
					l.t.prefix = append(l.t.prefix, ids...)
				}
			}
		default:
			return fmt.Errorf("type %q is not supported (only ByteLevel and TemplateProcessing)", c.Type)
		}
	}
	return nil
}
