// The byte-level alphabet and the table of tokens.
//
// tokenizer.json writes each byte of a token as one printable character (GPT-2's map: "Ġ" is a space). Here tokens are kept
// as the bytes they stand for, in one arena.

package tokenizer

import (
	"fmt"
	"hash/maphash"
	"unicode/utf8"
)

// byteToRune is GPT-2's bytes_to_unicode: printable Latin-1 stands for itself, the other bytes for U+0100 up, in order.
var byteToRune = func() (table [256]rune) {
	next := rune(0x100)
	for b := range table {
		if (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF) {
			table[b] = rune(b)
			continue
		}
		table[b] = next
		next++
	}
	return table
}()

// runeToByte is the inverse, -1 for characters outside the alphabet.
var runeToByte = func() (table [0x144]int16) {
	for i := range table {
		table[i] = -1
	}
	for b, r := range byteToRune {
		table[r] = int16(b)
	}
	return table
}()

// appendByteLevel appends the bytes that token (UTF-8 in the byte-level alphabet) stands for. ok is false where it holds
// any other character; dst is then returned unchanged.
func appendByteLevel(dst, token []byte) (out []byte, ok bool) {
	n := len(dst)
	for i := 0; i < len(token); {
		if c := token[i]; c < utf8.RuneSelf {
			if runeToByte[c] < 0 {
				return dst[:n], false
			}
			dst = append(dst, c) // printable ASCII stands for itself
			i++
			continue
		}
		r, size := utf8.DecodeRune(token[i:])
		if int(r) >= len(runeToByte) || runeToByte[r] < 0 {
			return dst[:n], false
		}
		dst = append(dst, byte(runeToByte[r]))
		i += size
	}
	return dst, true
}

// tokenFlags say what an id is.
type tokenFlags uint8

const (
	flagDefined  tokenFlags = 1 << iota
	flagVerbatim            // not in the byte-level alphabet: the file's text is the token's text
	flagAdded               // one of added_tokens
	flagSpecial             // … and marked special
)

type tokenSpan struct {
	start, end uint32 // in the arena
	flags      tokenFlags
}

// vocabulary holds every token's bytes, by id, and finds ids by bytes.
type vocabulary struct {
	arena []byte
	spans []tokenSpan // [highest id + 1]
	// slots is an open-addressing hash table of ids by token bytes, -1 where empty. It holds the byte-level tokens of the
	// model's vocabulary: those that merging can produce.
	slots []int32
	seed  maphash.Seed
	added map[string]int32 // added tokens by content
	bytes [256]int32       // the id of each single byte
}

// maxTokenID bounds the tables that a hostile file can ask for.
const maxTokenID = 1<<21 - 1

// add gives id the bytes appended to the arena since start.
func (v *vocabulary) add(id int, start int, flags tokenFlags) error {
	if id < 0 || id > maxTokenID {
		return fmt.Errorf("id %d is not between 0 and %d", id, maxTokenID)
	}
	for id >= len(v.spans) {
		v.spans = append(v.spans, tokenSpan{})
	}
	if v.spans[id].flags&flagDefined != 0 {
		return fmt.Errorf("id %d belongs to both %q and %q", id, v.text(int32(id)), v.arena[start:])
	}
	v.spans[id] = tokenSpan{start: uint32(start), end: uint32(len(v.arena)), flags: flags | flagDefined}
	return nil
}

func (v *vocabulary) text(id int32) []byte {
	s := v.spans[id]
	return v.arena[s.start:s.end:s.end]
}

// index builds the hash table once all of the model's tokens are added.
func (v *vocabulary) index() error {
	size := 1
	for size < 2*len(v.spans) {
		size *= 2
	}
	v.seed = maphash.MakeSeed()
	v.slots = make([]int32, size)
	for i := range v.slots {
		v.slots[i] = -1
	}
	for id, s := range v.spans {
		if s.flags&flagDefined == 0 || s.flags&flagVerbatim != 0 {
			continue
		}
		i, found := v.find(v.text(int32(id)))
		if found {
			return fmt.Errorf("token %q has two ids, %d and %d", v.text(int32(id)), v.slots[i], id)
		}
		v.slots[i] = int32(id)
	}
	for b := range v.bytes {
		id, ok := v.lookup([]byte{byte(b)})
		if !ok {
			return fmt.Errorf("no token for byte %#02x (%q): byte-level BPE needs all 256", b, byteToRune[b])
		}
		v.bytes[b] = id
	}
	return nil
}

// find returns the slot of token, or the empty slot where it belongs.
func (v *vocabulary) find(token []byte) (slot uint64, found bool) {
	mask := uint64(len(v.slots) - 1)
	for i := maphash.Bytes(v.seed, token) & mask; ; i = (i + 1) & mask {
		id := v.slots[i]
		if id < 0 {
			return i, false
		}
		if string(v.text(id)) == string(token) {
			return i, true
		}
	}
}

// lookup finds the id of a byte-level token of the model by its bytes.
func (v *vocabulary) lookup(token []byte) (int32, bool) {
	if i, ok := v.find(token); ok {
		return v.slots[i], true
	}
	return -1, false
}

func (v *vocabulary) flags(id int32) tokenFlags {
	if id < 0 || int(id) >= len(v.spans) {
		return 0
	}
	return v.spans[id].flags
}

func (v *vocabulary) tokenBytes(id int32) ([]byte, bool) {
	if v.flags(id)&flagDefined == 0 {
		return nil, false
	}
	return v.text(id), true
}

func (v *vocabulary) isSpecial(id int32) bool { return v.flags(id)&flagSpecial != 0 }

func (v *vocabulary) idToToken(id int32) (string, bool) {
	b, ok := v.tokenBytes(id)
	if !ok {
		return "", false
	}
	if v.flags(id)&flagVerbatim != 0 {
		return string(b), true
	}
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = utf8.AppendRune(out, byteToRune[c])
	}
	return string(out), true
}

func (v *vocabulary) tokenToID(token string) (int32, bool) {
	if id, ok := v.added[token]; ok {
		return id, true
	}
	if b, ok := appendByteLevel(nil, []byte(token)); ok {
		return v.lookup(b)
	}
	for id, s := range v.spans { // tokens outside the alphabet are few and never asked for in a hurry
		if s.flags&flagVerbatim != 0 && string(v.text(int32(id))) == token {
			return int32(id), true
		}
	}
	return -1, false
}

func (v *vocabulary) decode(ids []int32) (string, error) {
	n := 0
	for i, id := range ids {
		b, ok := v.tokenBytes(id)
		if !ok {
			return "", fmt.Errorf("tokenizer: decode: token %d: id %d (the highest is %d): %w", i, id, len(v.spans)-1, ErrUnknownToken)
		}
		n += len(b)
	}
	out := make([]byte, 0, n)
	for _, id := range ids {
		out = append(out, v.text(id)...)
	}
	if utf8.Valid(out) {
		return string(out), nil
	}
	return string(appendRepaired(make([]byte, 0, n+8), out)), nil
}
