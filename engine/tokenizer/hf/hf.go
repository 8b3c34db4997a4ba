//go:build hftokenizers

// The wrapper: ids and texts go through the Rust library; the tables of tokens are read by package tokenizer.

package hf

// #cgo LDFLAGS: -L${SRCDIR}/../../../build/lib
import "C"

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	daulet "github.com/daulet/tokenizers"

	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
)

// Tokenizer is a loaded tokenizer.json. It is safe for concurrent use until Close.
type Tokenizer struct {
	*tokenizer.FileVocabulary
	lib *daulet.Tokenizer
	// inGo stands in where a text has a NUL: the library's C interface ends a text there. It is loaded when first needed.
	inGo func() (*tokenizer.Tokenizer, error)
	// plain knows no added tokens: it encodes their text literally. It is loaded when first needed.
	plain  func() (*daulet.Tokenizer, error)
	loaded []*daulet.Tokenizer // to close
}

var _ tokenizer.Interface = (*Tokenizer)(nil)

// Load reads a tokenizer.json. The file may be any that the library reads and whose tokens are in the byte-level alphabet.
func Load(tokenizerJSON []byte) (*Tokenizer, error) {
	vocab, err := tokenizer.LoadVocabulary(tokenizerJSON)
	if err != nil {
		return nil, err
	}
	lib, err := daulet.FromBytes(tokenizerJSON)
	if err != nil {
		return nil, fmt.Errorf("hf: %w", err)
	}
	file := bytes.Clone(tokenizerJSON)
	t := &Tokenizer{FileVocabulary: vocab, lib: lib, loaded: []*daulet.Tokenizer{lib}}
	t.inGo = sync.OnceValues(func() (*tokenizer.Tokenizer, error) { return tokenizer.Load(file) })
	t.plain = sync.OnceValues(func() (*daulet.Tokenizer, error) {
		plain, err := loadPlain(file)
		if err == nil {
			t.loaded = append(t.loaded, plain)
		}
		return plain, err
	})
	return t, nil
}

// loadPlain loads the file without its added tokens.
func loadPlain(tokenizerJSON []byte) (*daulet.Tokenizer, error) {
	var file map[string]json.RawMessage
	if err := json.Unmarshal(tokenizerJSON, &file); err != nil {
		return nil, fmt.Errorf("hf: %w", err)
	}
	file["added_tokens"] = json.RawMessage("[]")
	file["post_processor"] = json.RawMessage("null") // it may name them
	data, err := json.Marshal(file)
	if err != nil {
		return nil, fmt.Errorf("hf: %w", err)
	}
	lib, err := daulet.FromBytes(data)
	if err != nil {
		return nil, fmt.Errorf("hf: without added tokens: %w", err)
	}
	return lib, nil
}

// Close frees the library's memory.
func (t *Tokenizer) Close() error {
	var errs []error
	for _, lib := range t.loaded {
		errs = append(errs, lib.Close())
	}
	t.loaded = nil
	return errors.Join(errs...)
}

// Encode returns the ids of text; the text of added tokens becomes their ids.
func (t *Tokenizer) Encode(text string) ([]int32, error) {
	return t.EncodeWith(text, tokenizer.EncodeOptions{})
}

// EncodeWith is Encode with options.
func (t *Tokenizer) EncodeWith(text string, opts tokenizer.EncodeOptions) ([]int32, error) {
	if i := strings.IndexByte(text, 0); i >= 0 {
		inGo, err := t.inGo()
		if err != nil {
			return nil, fmt.Errorf("hf: text has a NUL at byte %d, which the library's C interface cannot take: %w", i, err)
		}
		return inGo.EncodeWith(text, opts)
	}
	if !opts.NoSpecial && len(opts.Literal) == 0 {
		return encode(nil, t.lib, text, opts.PostProcess), nil
	}
	if opts.PostProcess {
		return nil, fmt.Errorf("hf: PostProcess together with NoSpecial or Literal is not supported")
	}
	plain, err := t.plain()
	if err != nil {
		return nil, err
	}
	if opts.NoSpecial {
		return encode(nil, plain, text, false), nil
	}
	var ids []int32
	t.SplitAdded(text, opts.Literal, func(part string) { ids = encode(ids, plain, part, false) }, func(id int32) { ids = append(ids, id) })
	return ids, nil
}

func encode(dst []int32, lib *daulet.Tokenizer, text string, postProcess bool) []int32 {
	for _, id := range lib.EncodeWithOptions(text, postProcess).IDs {
		dst = append(dst, int32(id))
	}
	return dst
}

// Decode returns the text of ids, added tokens included.
func (t *Tokenizer) Decode(ids []int32) (string, error) {
	list := make([]uint32, len(ids))
	for i, id := range ids {
		b, ok := t.TokenBytes(id)
		if !ok {
			return "", fmt.Errorf("hf: decode: token %d: id %d: %w", i, id, tokenizer.ErrUnknownToken)
		}
		if bytes.IndexByte(b, 0) >= 0 {
			inGo, err := t.inGo()
			if err != nil {
				return "", fmt.Errorf("hf: decode: token %d: id %d stands for a NUL, which the library's C interface cannot return: %w", i, id, err)
			}
			return inGo.Decode(ids)
		}
		list[i] = uint32(id)
	}
	return t.lib.Decode(list, false), nil
}
