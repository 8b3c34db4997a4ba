// The template language: github.com/ardanlabs/jinja, and what it needs around it to render as Hugging Face's jinja2 does and
// to stay bounded.
//
//   - JSON goes in with its order of keys and its kinds of numbers, and comes out of tojson as Python's json.dumps with
//     ensure_ascii=False writes it. The library looks its own filters up first, so templates call ours by another name.
//   - The library runs a template to its end, whatever it takes. Each pass through a loop and each call of a macro
//     therefore reports to a guard that counts them and watches the clock, the stack and the heap. What a single expression
//     does, such as 'x' * 1000000000 or a macro that calls itself in a parameter's default, is not bounded.
//
// What the library does other than jinja2 outside tojson: it prints none as nothing and 2.0 as 2, takes undefined values for
// empty ones, lets a variable set in a loop's body live on into the next iteration, strips the indentation before an
// expression that a block tag follows directly, and knows fewer string methods. The published Qwen3 templates depend on
// none of it.

package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ardanlabs/jinja"
)

// ErrTemplateLimit is wrapped by the error about a template that takes too much.
var ErrTemplateLimit = errors.New("template limit")

// Limits of one rendering. Published templates take two or three steps for each message.
const (
	maxTemplateBytes = 256 << 10
	maxTemplateSteps = 300_000 // iterations and macro calls
	maxTemplateTime  = 10 * time.Second
	maxTemplateStack = 2_000     // Go frames, some ten for each macro call inside another
	maxTemplateHeap  = 256 << 20 // growth of the process's heap, in bytes
	maxTemplateRange = 100_000   // numbers of one range(), as in jinja2's sandbox
	maxJSONDepth     = 200
	maxJSONBytes     = 64 << 20 // of one tojson
)

// Names that the rewritten template calls.
const (
	tojsonName = "__tojson"
	guardName  = "__guard"
)

var (
	// A tag: comment, raw block, or {{ … }} and {% … %} with quoted text inside.
	tagPattern    = regexp.MustCompile(`(?s)\{#.*?#\}|\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\}|\{[{%](?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^"'])*?[-+]?[}%]\}`)
	rawPattern    = regexp.MustCompile(`^\{%[-+]?\s*raw\b`)
	tojsonPattern = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\|\s*tojson\b`)
	bodyPattern   = regexp.MustCompile(`(?s)^\{%[-+]?\s*(?:for|macro)\b.*?([-+]?%\})$`)
)

// compile parses a template. Errors name the line.
func compile(source string) (t *jinja.Template, err error) {
	if len(source) > maxTemplateBytes {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrTemplateLimit, len(source), maxTemplateBytes)
	}
	defer recovered(&err)
	source = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(source)
	source = strings.TrimSuffix(source, "\n") // jinja2's keep_trailing_newline is off
	return jinja.Compile(tagPattern.ReplaceAllStringFunc(source, rewriteTag))
}

// rewriteTag makes tojson ours and lets bodies of loops and macros begin with a call of the guard. The call closes as the
// tag before it does, so white space behind it is treated the same.
func rewriteTag(tag string) string {
	if tag[1] == '#' || rawPattern.MatchString(tag) {
		return tag
	}
	tag = tojsonPattern.ReplaceAllStringFunc(tag, func(s string) string {
		if s[0] == '|' {
			return "|" + tojsonName
		}
		return s
	})
	if m := bodyPattern.FindStringSubmatch(tag); m != nil {
		tag += "{% set __ = " + guardName + "() " + m[1]
	}
	return tag
}

// execute renders a compiled template.
func execute(t *jinja.Template, vars *jinja.Dict) (text string, err error) {
	values := map[string]jinja.Value{
		tojsonName:        jinja.NewCallable("tojson", tojson),
		guardName:         jinja.NewCallable("guard", newGuard()),
		"range":           jinja.NewCallable("range", templateRange),
		"raise_exception": jinja.NewCallable("raise_exception", raiseException),
	}
	for _, name := range vars.Keys {
		values[name] = vars.Data[name]
	}
	defer recovered(&err)
	return t.RenderValues(values)
}

// recovered turns a panic in the library into an error: one template must not take down a server or a browser tab.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the template fails: %v", p)
	}
}

type templateFunc = func(args []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error)

// newGuard returns the function that loops and macros call, for one rendering.
func newGuard() templateFunc {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	steps, begin, before := 0, time.Now(), heap[0].Value.Uint64()
	var frame [1]uintptr
	return func([]jinja.Value, map[string]jinja.Value) (jinja.Value, error) {
		if steps++; steps > maxTemplateSteps {
			return jinja.None(), fmt.Errorf("%w: more than %d iterations and macro calls", ErrTemplateLimit, maxTemplateSteps)
		}
		if runtime.Callers(maxTemplateStack, frame[:]) > 0 {
			return jinja.None(), fmt.Errorf("%w: macros call one another too deeply", ErrTemplateLimit)
		}
		if d := time.Since(begin); d > maxTemplateTime {
			return jinja.None(), fmt.Errorf("%w: it has not ended after %v", ErrTemplateLimit, d.Round(time.Millisecond))
		}
		if metrics.Read(heap); heap[0].Value.Uint64() > before+maxTemplateHeap {
			return jinja.None(), fmt.Errorf("%w: it takes more than %d MiB of memory", ErrTemplateLimit, maxTemplateHeap>>20)
		}
		return jinja.None(), nil
	}
}

// RaisedError is the error of a template that called raise_exception.
type RaisedError struct{ Message string }

func (e *RaisedError) Error() string { return "the template refuses: " + e.Message }

func raiseException(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	message := "no reason given"
	if len(args) > 0 && args[0].IsString() {
		message = args[0].AsString()
	}
	return jinja.None(), &RaisedError{message}
}

// templateRange is Python's range.
func templateRange(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	from, to, step := int64(0), int64(0), int64(1)
	for _, a := range args {
		if !a.IsInt() {
			return jinja.None(), fmt.Errorf("range takes whole numbers, not %v", a)
		}
	}
	switch len(args) {
	case 1:
		to = args[0].AsInt()
	case 2:
		from, to = args[0].AsInt(), args[1].AsInt()
	case 3:
		from, to, step = args[0].AsInt(), args[1].AsInt(), args[2].AsInt()
	default:
		return jinja.None(), fmt.Errorf("range takes 1 to 3 numbers, not %d", len(args))
	}
	if step == 0 {
		return jinja.None(), errors.New("range with a step of 0")
	}
	var items []jinja.Value
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		if len(items) == maxTemplateRange {
			return jinja.None(), fmt.Errorf("%w: range of more than %d numbers", ErrTemplateLimit, maxTemplateRange)
		}
		items = append(items, jinja.NewInt(i))
	}
	return jinja.NewList(items), nil
}

// parseObject reads one JSON object.
func parseObject(data []byte) (*jinja.Dict, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := parseValue(dec, 0)
	switch {
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	case !v.IsDict():
		return nil, errors.New("not a JSON object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("text behind the JSON object")
	}
	return v.AsDict(), nil
}

// parseValue reads the next JSON value, keys in their order.
func parseValue(dec *json.Decoder, depth int) (jinja.Value, error) {
	token, err := dec.Token()
	if err != nil {
		return jinja.None(), err
	}
	if depth > maxJSONDepth {
		return jinja.None(), fmt.Errorf("JSON nested more than %d deep", maxJSONDepth)
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '[' {
			var items []jinja.Value
			for dec.More() {
				item, err := parseValue(dec, depth+1)
				if err != nil {
					return jinja.None(), err
				}
				items = append(items, item)
			}
			_, err := dec.Token() // ]
			return jinja.NewList(items), err
		}
		object := jinja.NewDict()
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return jinja.None(), err
			}
			value, err := parseValue(dec, depth+1)
			if err != nil {
				return jinja.None(), err
			}
			object.AsDict().Set(key.(string), value)
		}
		_, err := dec.Token() // }
		return object, err
	case json.Number:
		return parseNumber(token.String()), nil
	}
	return jinja.FromGoValue(token), nil // string, bool, nil
}

func parseNumber(s string) jinja.Value {
	if !strings.ContainsAny(s, ".eE") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return jinja.NewInt(n)
		}
		// Python's integers have no limit, the library's have 64 bits: this one travels under its name to tojson.
		return jinja.NewCallable(s, func([]jinja.Value, map[string]jinja.Value) (jinja.Value, error) {
			return jinja.None(), fmt.Errorf("%s is not callable", s)
		})
	}
	f, _ := strconv.ParseFloat(s, 64) // what overflows is infinite, as in Python
	return jinja.NewFloat(f)
}

// tojson is the filter: json.dumps(value, ensure_ascii=False, indent=indent).
func tojson(args []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error) {
	indent := -1
	if len(args) > 2 {
		return jinja.None(), errors.New("tojson: only indent is supported as argument")
	}
	if len(args) == 2 {
		kwargs = map[string]jinja.Value{"indent": args[1]}
	}
	for name, v := range kwargs {
		switch {
		case name == "indent" && v.IsInt() && v.AsInt() >= 0 && v.AsInt() <= 16:
			indent = int(v.AsInt())
		case name == "indent" && v.IsNone(), name == "ensure_ascii" && v.IsBool() && !v.IsTruthy():
		default:
			return jinja.None(), fmt.Errorf("tojson: %s=%v is not supported", name, v)
		}
	}
	w := jsonWriter{indent: indent}
	if err := w.value(args[0], 0); err != nil {
		return jinja.None(), err
	}
	return jinja.NewString(w.String()), nil
}

// jsonWriter writes values as Python does.
type jsonWriter struct {
	strings.Builder
	indent int // of one level; -1: all on one line
}

func (w *jsonWriter) value(v jinja.Value, depth int) error {
	switch {
	case depth > maxJSONDepth || w.Len() > maxJSONBytes:
		return fmt.Errorf("%w: tojson of a value nested more than %d deep or of more than %d MiB", ErrTemplateLimit, maxJSONDepth, maxJSONBytes>>20)
	case v.IsUndefined():
		return errors.New("tojson: the value is undefined")
	case v.IsNone():
		w.WriteString("null")
	case v.IsBool():
		w.WriteString(strconv.FormatBool(v.AsBool()))
	case v.IsInt():
		w.WriteString(strconv.FormatInt(v.AsInt(), 10))
	case v.IsFloat():
		w.WriteString(pythonFloat(v.AsFloat()))
	case v.IsString():
		w.text(v.AsString())
	case v.IsList():
		items := v.AsList().Items
		return w.elements("[]", len(items), depth, func(i int) error { return w.value(items[i], depth+1) })
	case v.IsDict():
		d := v.AsDict()
		return w.elements("{}", len(d.Keys), depth, func(i int) error {
			w.text(d.Keys[i])
			w.WriteString(": ")
			return w.value(d.Data[d.Keys[i]], depth+1)
		})
	default:
		name := v.AsCallable().Name
		if !slices.Contains([]byte("-0123456789"), name[0]) {
			return fmt.Errorf("tojson: %s is a function", name)
		}
		w.WriteString(name) // see parseNumber
	}
	return nil
}

func (w *jsonWriter) elements(brackets string, n, depth int, element func(i int) error) error {
	newline := func(depth int) {
		if w.indent >= 0 && n > 0 {
			w.WriteString("\n" + strings.Repeat(" ", w.indent*depth))
		}
	}
	w.WriteByte(brackets[0])
	for i := range n {
		if i > 0 && w.indent >= 0 {
			w.WriteString(",")
		} else if i > 0 {
			w.WriteString(", ")
		}
		newline(depth + 1)
		if err := element(i); err != nil {
			return err
		}
	}
	newline(depth)
	w.WriteByte(brackets[1])
	return nil
}

func (w *jsonWriter) text(s string) {
	w.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			w.WriteByte('\\')
			w.WriteByte(c)
		case c >= ' ':
			w.WriteByte(c)
		case strings.IndexByte("\b\t\n\f\r", c) >= 0:
			w.WriteByte('\\')
			w.WriteByte("btn fr"[c-'\b'])
		default:
			fmt.Fprintf(w, `\u%04x`, c)
		}
	}
	w.WriteByte('"')
}

// pythonFloat is Python's repr.
func pythonFloat(f float64) string {
	switch a := math.Abs(f); {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case a != 0 && (a < 1e-4 || a >= 1e16):
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
