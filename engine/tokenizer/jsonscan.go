// A small pull scanner for JSON.
//
// tokenizer.json is 11 MB, nearly all of it 151,643 vocabulary entries and 151,387 merges. The browser loads it too, where
// encoding/json would take seconds; this scanner walks the bytes once and allocates nothing. Small parts of the file are
// cut out with rawValue and left to encoding/json.

package tokenizer

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds nesting in values that are skipped.
const maxJSONDepth = 64

type jsonScanner struct {
	data []byte
	pos  int
}

func (s *jsonScanner) errorf(format string, args ...any) error {
	return fmt.Errorf("json: byte %d: %s", s.pos, fmt.Sprintf(format, args...))
}

// next skips white space and returns the byte there without consuming it, 0 at the end.
func (s *jsonScanner) next() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

func (s *jsonScanner) expect(c byte) error {
	if got := s.next(); got != c {
		return s.unexpected(got, fmt.Sprintf("%q", c))
	}
	s.pos++
	return nil
}

func (s *jsonScanner) unexpected(got byte, want string) error {
	if s.pos >= len(s.data) {
		return s.errorf("the file ends where %s should be", want)
	}
	return s.errorf("found %q, want %s", got, want)
}

// more stands before an element of an array or object that ends with close: it consumes the comma (or close) and tells
// whether an element follows.
func (s *jsonScanner) more(close byte, first bool) (bool, error) {
	c := s.next()
	switch {
	case c == close:
		s.pos++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.pos++
		return true, nil
	}
	return false, s.unexpected(c, fmt.Sprintf("',' or %q", close))
}

// str reads a string and returns the bytes between its quotes; escaped tells whether they hold escapes.
func (s *jsonScanner) str() (raw []byte, escaped bool, err error) {
	if err := s.expect('"'); err != nil {
		return nil, false, err
	}
	start := s.pos
	for i := start; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.pos = i + 1
			return s.data[start:i], escaped, nil
		case c == '\\':
			escaped = true
			i++
		case c < 0x20:
			s.pos = i
			return nil, false, s.errorf("control character %#x in a string", c)
		}
	}
	return nil, false, s.errorf("a string without an end")
}

// integer reads a non-negative integer of at most nine digits.
func (s *jsonScanner) integer() (int, error) {
	c := s.next()
	start, n := s.pos, 0
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		if s.pos-start == 9 {
			return 0, s.errorf("a number of more than nine digits")
		}
		n = n*10 + int(s.data[s.pos]-'0')
		s.pos++
	}
	if s.pos == start {
		return 0, s.unexpected(c, "an id (an integer from 0)")
	}
	return n, nil
}

// rawValue skips one value and returns its text. It finds where the value ends and leaves its grammar to encoding/json.
func (s *jsonScanner) rawValue() ([]byte, error) {
	c := s.next()
	start, depth := s.pos, 0
	if c == 0 {
		return nil, s.unexpected(c, "a value")
	}
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case '"':
			if _, _, err := s.str(); err != nil {
				return nil, err
			}
			if depth == 0 {
				return s.data[start:s.pos], nil
			}
			continue
		case '{', '[':
			if depth++; depth > maxJSONDepth {
				return nil, s.errorf("nested deeper than %d", maxJSONDepth)
			}
		case '}', ']':
			if depth == 0 {
				return s.data[start:s.pos], nil
			}
			if depth--; depth == 0 {
				s.pos++
				return s.data[start:s.pos], nil
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return s.data[start:s.pos], nil
			}
		}
		s.pos++
	}
	if depth > 0 {
		return nil, s.errorf("a value without an end")
	}
	return s.data[start:s.pos], nil
}

// object calls field for each key of an object, with the scanner before the value, which field must consume.
func (s *jsonScanner) object(field func(key string) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		ok, err := s.more('}', first)
		if err != nil || !ok {
			return err
		}
		raw, escaped, err := s.str()
		if err != nil {
			return err
		}
		if escaped {
			if raw, err = unescape(nil, raw); err != nil {
				return s.errorf("key: %v", err)
			}
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := field(string(raw)); err != nil {
			return err
		}
	}
}

// unescape appends the text of a JSON string's raw bytes to dst. A surrogate without its other half becomes U+FFFD.
func unescape(dst, raw []byte) ([]byte, error) {
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(dst, raw...), nil
		}
		dst = append(dst, raw[:i]...)
		raw = raw[i+1:]
		if len(raw) == 0 {
			return nil, fmt.Errorf("escape without a character")
		}
		c := raw[0]
		raw = raw[1:]
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, ok := hex4(raw)
			if !ok {
				return nil, fmt.Errorf(`\u without four hexadecimal digits`)
			}
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
					if l, ok := hex4(raw[2:]); ok {
						low = l
					}
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					raw = raw[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			return nil, fmt.Errorf(`unknown escape \%c`, c)
		}
	}
	return dst, nil
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
