// Values: Python's, as far as chat templates see them.
//
//	None nil | bool | int64 | bigInt | float64 | string | *List (lists and tuples) | *Dict | *namespace | *function | Undefined
//
// All but namespaces are immutable once a template can reach them.

package jinja

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Undefined is the value of a name, key or index that does not exist. Most uses of it are errors that Reason explains.
type Undefined struct{ Reason string }

func (u Undefined) err() error { return errors.New(u.Reason) }

// bigInt is an integer beyond 64 bits, as JSON wrote it. It can be printed, not computed with.
type bigInt string

// List is a list or a tuple.
type List struct {
	Items []any
	tuple bool
}

// NewList returns a list of items.
func NewList(items ...any) *List { return &List{Items: items} }

// Dict is a mapping that keeps the order of its keys. Its zero value is empty and ready for use.
type Dict struct {
	keys   []any // as given
	values []any
	index  map[any]int // by hashKey
}

// Set gives key, a string, number, bool or nil, a value. A key that is there keeps its place.
func (d *Dict) Set(key, value any) { d.set(key, hashKey(key), value) }

func (d *Dict) set(key, hash, value any) {
	if i, ok := d.index[hash]; ok {
		d.values[i] = value
		return
	}
	if d.index == nil {
		d.index = map[any]int{}
	}
	d.index[hash] = len(d.keys)
	d.keys, d.values = append(d.keys, key), append(d.values, value)
}

// Get returns the value of key.
func (d *Dict) Get(key any) (any, bool) {
	i, ok := d.index[hashKey(key)]
	if !ok {
		return nil, false
	}
	return d.values[i], true
}

// Update sets all keys of other.
func (d *Dict) Update(other *Dict) {
	for i, key := range other.keys {
		d.Set(key, other.values[i])
	}
}

// Len is the number of keys.
func (d *Dict) Len() int { return len(d.keys) }

// hashKey makes equal keys identical (1, 1.0 and true are one key in Python); nil for what cannot be one, but for None itself.
func hashKey(v any) any {
	switch v := v.(type) {
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case float64:
		if i := int64(v); float64(i) == v {
			return i
		}
	case *List, *Dict, *namespace:
		return v // by identity: found under no other key
	}
	return v
}

func hashable(v any) error {
	switch v := v.(type) {
	case *List:
		if !v.tuple {
			return errors.New("unhashable type: 'list'")
		}
		return errors.New("tuples as keys are not supported")
	case *Dict, *namespace:
		return fmt.Errorf("unhashable type: '%s'", typeName(v))
	case Undefined:
		return v.err()
	}
	return nil
}

// namespace is what namespace() returns: the one thing whose attributes a template may assign.
type namespace struct{ Dict }

// function is a global, a method, a macro or a caller.
type function struct {
	name string
	call func(r *renderer, a callArgs) (any, error)
}

// callArgs are the evaluated arguments of a call.
type callArgs struct {
	pos   []any
	named map[string]any
	order []string // the names, as written
}

// typeName is Python's name of v's type, for messages.
func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, bigInt:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case *List:
		if v.tuple {
			return "tuple"
		}
		return "list"
	case *Dict:
		return "dict"
	case *namespace:
		return "Namespace"
	case *function:
		return "function"
	case *loopInfo:
		return "LoopContext"
	case Undefined:
		return "Undefined"
	}
	return fmt.Sprintf("%T", v)
}

func truthy(v any) bool {
	switch v := v.(type) {
	case nil, Undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case *List:
		return len(v.Items) > 0
	case *Dict:
		return v.Len() > 0
	}
	return true
}

// str is Python's str(v), what {{ v }} prints.
func (r *renderer) str(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case Undefined:
		return "", nil
	}
	return r.repr(v)
}

// repr is Python's repr(v).
func (r *renderer) repr(v any) (string, error) {
	var b strings.Builder
	err := r.writeRepr(&b, v, 0)
	return b.String(), err
}

// maxValueDepth bounds recursion into values. JSON is limited on its way in; a template can nest deeper only step by step.
const maxValueDepth = 1000

func (r *renderer) writeRepr(b *strings.Builder, v any, depth int) error {
	if depth > maxValueDepth {
		return fmt.Errorf("a value nested deeper than %d: %w", maxValueDepth, ErrLimit)
	}
	if err := r.step(1); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case bigInt:
		b.WriteString(string(v))
	case float64:
		b.WriteString(formatFloat(v))
	case string:
		if err := r.made(len(v)); err != nil {
			return err
		}
		writeStringRepr(b, v)
	case *List:
		open, end := "[", "]"
		if v.tuple {
			open, end = "(", ")"
			if len(v.Items) == 1 {
				end = ",)"
			}
		}
		b.WriteString(open)
		for i, item := range v.Items {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := r.writeRepr(b, item, depth+1); err != nil {
				return err
			}
		}
		b.WriteString(end)
	case *Dict:
		b.WriteByte('{')
		for i, key := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := r.writeRepr(b, key, depth+1); err != nil {
				return err
			}
			b.WriteString(": ")
			if err := r.writeRepr(b, v.values[i], depth+1); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case *namespace:
		b.WriteString("<Namespace ")
		if err := r.writeRepr(b, &v.Dict, depth+1); err != nil {
			return err
		}
		b.WriteByte('>')
	case *function:
		b.WriteString("<function " + v.name + ">")
	case *loopInfo:
		fmt.Fprintf(b, "<LoopContext %d/%d>", v.i+1, len(v.items))
	case Undefined:
		b.WriteString("Undefined")
	default:
		return fmt.Errorf("a value of Go type %T", v)
	}
	return nil
}

// formatFloat is Python's repr of a float: the shortest digits that read back the same, with an exponent below 1e-4 and from
// 1e16, and always a point or an exponent.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64) // Go, too, writes at least two digits of exponent
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func writeStringRepr(b *strings.Builder, s string) {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteByte(quote)
	for _, c := range s {
		switch {
		case c == rune(quote) || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == ' ' || unicode.IsPrint(c):
			b.WriteRune(c)
		case c <= 0xFF:
			fmt.Fprintf(b, `\x%02x`, c)
		case c <= 0xFFFF:
			fmt.Fprintf(b, `\u%04x`, c)
		default:
			fmt.Fprintf(b, `\U%08x`, c)
		}
	}
	b.WriteByte(quote)
}

// asNumber reads bools as integers, as Python does.
func asNumber(v any) (i int64, f float64, isFloat, ok bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, 1, false, true
		}
		return 0, 0, false, true
	case int64:
		return v, float64(v), false, true
	case float64:
		return 0, v, true, true
	}
	return 0, 0, false, false
}

// equal is Python's ==.
func (r *renderer) equal(a, b any, depth int) (bool, error) {
	if depth > maxValueDepth {
		return false, fmt.Errorf("values nested deeper than %d: %w", maxValueDepth, ErrLimit)
	}
	if err := r.step(1); err != nil {
		return false, err
	}
	ai, af, aIsFloat, aOK := asNumber(a)
	bi, bf, bIsFloat, bOK := asNumber(b)
	if aOK && bOK {
		if aIsFloat || bIsFloat {
			return af == bf, nil
		}
		return ai == bi, nil
	}
	switch a := a.(type) {
	case nil:
		return b == nil, nil
	case Undefined:
		_, ok := b.(Undefined)
		return ok, nil
	case string:
		b, ok := b.(string)
		return ok && a == b, r.step(len(a) / 16)
	case bigInt:
		b, ok := b.(bigInt)
		return ok && a == b, nil
	case *List:
		b, ok := b.(*List)
		if !ok || a.tuple != b.tuple || len(a.Items) != len(b.Items) {
			return false, nil
		}
		for i := range a.Items {
			if eq, err := r.equal(a.Items[i], b.Items[i], depth+1); err != nil || !eq {
				return false, err
			}
		}
		return true, nil
	case *Dict:
		b, ok := b.(*Dict)
		if !ok || a.Len() != b.Len() {
			return false, nil
		}
		for i, key := range a.keys {
			other, ok := b.Get(key)
			if !ok {
				return false, nil
			}
			if eq, err := r.equal(a.values[i], other, depth+1); err != nil || !eq {
				return false, err
			}
		}
		return true, nil
	case *namespace:
		b, ok := b.(*namespace)
		return ok && a == b, nil
	case *function:
		b, ok := b.(*function)
		return ok && a == b, nil
	}
	return false, nil
}

// compare is Python's ordering: negative, 0 or positive.
func (r *renderer) compare(a, b any, op string) (int, error) {
	ai, af, aIsFloat, aOK := asNumber(a)
	bi, bf, bIsFloat, bOK := asNumber(b)
	if aOK && bOK {
		if aIsFloat || bIsFloat {
			return compareOrdered(af, bf), nil
		}
		return compareOrdered(ai, bi), nil
	}
	for _, v := range []any{a, b} {
		if u, ok := v.(Undefined); ok {
			return 0, u.err()
		}
	}
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b), r.step(1 + len(a)/16)
		}
	case *List:
		if b, ok := b.(*List); ok && a.tuple == b.tuple {
			for i := range min(len(a.Items), len(b.Items)) {
				eq, err := r.equal(a.Items[i], b.Items[i], 0)
				if err != nil {
					return 0, err
				}
				if !eq {
					return r.compare(a.Items[i], b.Items[i], op)
				}
			}
			return len(a.Items) - len(b.Items), nil
		}
	}
	return 0, fmt.Errorf("'%s' not supported between instances of '%s' and '%s'", op, typeName(a), typeName(b))
}

func compareOrdered[T int64 | float64](a, b T) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// contains is Python's "item in container".
func (r *renderer) contains(container, item any) (bool, error) {
	switch c := container.(type) {
	case string:
		s, ok := item.(string)
		if !ok {
			if u, ok := item.(Undefined); ok {
				return false, u.err()
			}
			return false, fmt.Errorf("'in <string>' requires string as left operand, not %s", typeName(item))
		}
		return strings.Contains(c, s), r.step(1 + len(c)/16)
	case *List:
		for _, v := range c.Items {
			if eq, err := r.equal(v, item, 0); err != nil || eq {
				return eq, err
			}
		}
		return false, nil
	case *Dict:
		if err := hashable(item); err != nil {
			return false, err
		}
		_, ok := c.Get(item)
		return ok, nil
	case Undefined:
		return false, nil
	}
	return false, fmt.Errorf("argument of type '%s' is not iterable", typeName(container))
}

// iterate returns the elements of v; a string's are its characters, a dict's its keys.
func (r *renderer) iterate(v any) ([]any, error) {
	switch v := v.(type) {
	case *List:
		return v.Items, r.step(1)
	case *Dict:
		return v.keys, r.step(1)
	case Undefined:
		return nil, nil
	case string:
		if err := r.step(1 + len(v)); err != nil {
			return nil, err
		}
		items := make([]any, 0, utf8.RuneCountInString(v))
		for len(v) > 0 {
			_, size := utf8.DecodeRuneInString(v)
			items = append(items, v[:size])
			v = v[size:]
		}
		return items, nil
	}
	return nil, fmt.Errorf("'%s' object is not iterable", typeName(v))
}

func (r *renderer) length(v any) (int, error) {
	switch v := v.(type) {
	case string:
		return utf8.RuneCountInString(v), r.step(1 + len(v)/16)
	case *List:
		return len(v.Items), nil
	case *Dict:
		return v.Len(), nil
	case Undefined:
		return 0, nil
	}
	return 0, fmt.Errorf("object of type '%s' has no len()", typeName(v))
}
