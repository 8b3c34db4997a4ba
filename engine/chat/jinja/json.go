// JSON in, with the order of keys and the kind of numbers kept; JSON out, as Python's json.dumps writes it.

package jinja

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// maxJSONDepth bounds nesting in what is read.
const maxJSONDepth = 200

// ParseJSON reads one JSON value as Python's json.loads does: objects keep their order (of equal keys the last value counts),
// integers stay integers, and 2.0 stays a float.
func ParseJSON(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := parseJSON(dec, 0)
	if err != nil {
		return nil, fmt.Errorf("json: byte %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("json: byte %d: more behind the value", dec.InputOffset())
	}
	return v, nil
}

func parseJSON(dec *json.Decoder, depth int) (any, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxJSONDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch tok := tok.(type) {
	case json.Number:
		return number(string(tok))
	case json.Delim:
		if tok == '[' {
			l := &List{}
			for dec.More() {
				v, err := parseJSON(dec, depth+1)
				if err != nil {
					return nil, err
				}
				l.Items = append(l.Items, v)
			}
			_, err = dec.Token()
			return l, err
		}
		d := new(Dict)
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := parseJSON(dec, depth+1)
			if err != nil {
				return nil, err
			}
			d.Set(key, v)
		}
		_, err = dec.Token()
		return d, err
	}
	return tok, nil // nil, bool or string
}

func number(text string) (any, error) {
	if strings.ContainsAny(text, ".eE") {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range is infinite, as in Python
			return nil, err
		}
		return f, nil
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i, nil
	}
	return bigInt(text), nil
}

// jsonWriter is one json.dumps.
type jsonWriter struct {
	r               *renderer
	b               strings.Builder
	indent          string // of one level
	isIndented      bool
	itemSep, keySep string
	isASCII         bool
	sortKeys        bool
}

func toJSONFilter(r *renderer, v any, a callArgs) (any, error) {
	w := &jsonWriter{r: r, itemSep: ", ", keySep: ": ", isASCII: a.flag(0, "ensure_ascii"), sortKeys: a.flag(3, "sort_keys")}
	if indent, ok := a.get(1, "indent"); ok && indent != nil {
		w.isIndented, w.itemSep = true, ","
		if w.indent, ok = indent.(string); !ok {
			n, err := a.integer(1, "indent", 0)
			if err != nil {
				return nil, err
			}
			if n > 256 {
				return nil, fmt.Errorf("indent %d is more than 256", n)
			}
			w.indent = strings.Repeat(" ", int(max(n, 0)))
		}
	}
	if seps, ok := a.get(2, "separators"); ok && seps != nil {
		l, ok := seps.(*List)
		if !ok || len(l.Items) != 2 || typeName(l.Items[0]) != "str" || typeName(l.Items[1]) != "str" {
			return nil, errors.New("separators must be two strings")
		}
		w.itemSep, w.keySep = l.Items[0].(string), l.Items[1].(string)
	}
	if err := w.value(v, 0); err != nil {
		return nil, err
	}
	return w.b.String(), r.made(w.b.Len())
}

func (w *jsonWriter) value(v any, depth int) error {
	if depth > maxValueDepth {
		return fmt.Errorf("a value nested deeper than %d: %w", maxValueDepth, ErrLimit)
	}
	if err := w.r.step(1); err != nil {
		return err
	}
	if w.b.Len() > w.r.limits.Bytes-w.r.bytes {
		return fmt.Errorf("more than %d bytes of text: %w", w.r.limits.Bytes, ErrLimit)
	}
	switch v := v.(type) {
	case string:
		w.str(v)
	case *List:
		return w.list("[", "]", len(v.Items), depth, func(i int) error { return w.value(v.Items[i], depth+1) })
	case *Dict:
		order := make([]int, v.Len())
		for i := range order {
			order[i] = i
		}
		if w.sortKeys {
			slices.SortStableFunc(order, func(x, y int) int {
				a, _ := v.keys[x].(string)
				b, _ := v.keys[y].(string)
				return strings.Compare(a, b)
			})
		}
		return w.list("{", "}", len(order), depth, func(i int) error {
			key := v.keys[order[i]]
			s, ok := key.(string)
			if !ok {
				var err error
				if s, err = jsonScalar(key); err != nil {
					return fmt.Errorf("keys must be str, int, float, bool or None, not %s", typeName(key))
				}
			}
			w.str(s)
			w.b.WriteString(w.keySep)
			return w.value(v.values[order[i]], depth+1)
		})
	default:
		s, err := jsonScalar(v)
		if err != nil {
			return err
		}
		w.b.WriteString(s)
	}
	return nil
}

func (w *jsonWriter) list(open, end string, n, depth int, item func(i int) error) error {
	newline := func(level int) {
		if w.isIndented && n > 0 {
			w.b.WriteByte('\n')
			w.b.WriteString(strings.Repeat(w.indent, level))
		}
	}
	w.b.WriteString(open)
	for i := range n {
		if i > 0 {
			w.b.WriteString(w.itemSep)
		}
		newline(depth + 1)
		if err := item(i); err != nil {
			return err
		}
	}
	newline(depth)
	w.b.WriteString(end)
	return nil
}

func jsonScalar(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "null", nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case bigInt:
		return string(v), nil
	case float64:
		s := formatFloat(v)
		switch s {
		case "nan":
			s = "NaN"
		case "inf":
			s = "Infinity"
		case "-inf":
			s = "-Infinity"
		}
		return s, nil
	case Undefined:
		return "", fmt.Errorf("Object of type Undefined is not JSON serializable (%s)", v.Reason)
	}
	return "", fmt.Errorf("Object of type %s is not JSON serializable", typeName(v))
}

func (w *jsonWriter) str(s string) {
	const hex = "0123456789abcdef"
	unit := func(c uint16) {
		w.b.WriteString(`\u`)
		for shift := 12; shift >= 0; shift -= 4 {
			w.b.WriteByte(hex[c>>shift&15])
		}
	}
	w.b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			w.b.WriteByte('\\')
			w.b.WriteByte(byte(c))
		case c == '\n':
			w.b.WriteString(`\n`)
		case c == '\r':
			w.b.WriteString(`\r`)
		case c == '\t':
			w.b.WriteString(`\t`)
		case c == '\b':
			w.b.WriteString(`\b`)
		case c == '\f':
			w.b.WriteString(`\f`)
		case c < 0x20 || (w.isASCII && c >= 0x7F && c <= 0xFFFF && c != 0x7F):
			unit(uint16(c))
		case w.isASCII && c > 0xFFFF:
			hi, lo := utf16.EncodeRune(c)
			unit(uint16(hi))
			unit(uint16(lo))
		default:
			w.b.WriteRune(c)
		}
	}
	w.b.WriteByte('"')
}
