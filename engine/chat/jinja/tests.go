// Tests ("x is …") and the global functions.

package jinja

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

var tests map[string]filter // each returns a bool

func init() {
	is := func(holds func(v any) bool) filter {
		return func(_ *renderer, v any, _ callArgs) (any, error) { return holds(v), nil }
	}
	kind := func(names ...string) filter {
		return is(func(v any) bool {
			for _, name := range names {
				if typeName(v) == name {
					return true
				}
			}
			return false
		})
	}
	with := func(f func(r *renderer, v, arg any) (bool, error)) filter {
		return func(r *renderer, v any, a callArgs) (any, error) {
			arg, err := a.one("the test")
			if err != nil {
				return nil, err
			}
			return f(r, v, arg)
		}
	}
	order := func(op string, holds func(c int) bool) filter {
		return with(func(r *renderer, v, arg any) (bool, error) {
			c, err := r.compare(v, arg, op)
			return holds(c), err
		})
	}
	remainder := func(want int64) filter {
		return func(r *renderer, v any, _ callArgs) (any, error) {
			m, err := r.arithmetic("%", v, int64(2))
			if err != nil {
				return nil, err
			}
			return r.equal(m, want, 0)
		}
	}
	cased := func(want, other func(rune) bool) filter {
		return func(r *renderer, v any, _ callArgs) (any, error) {
			s, err := r.str(v)
			return isCased(s, want, other), err
		}
	}
	eq := with(func(r *renderer, v, arg any) (bool, error) { return r.equal(v, arg, 0) })
	ne := with(func(r *renderer, v, arg any) (bool, error) {
		same, err := r.equal(v, arg, 0)
		return !same, err
	})
	lt, le := order("<", func(c int) bool { return c < 0 }), order("<=", func(c int) bool { return c <= 0 })
	gt, ge := order(">", func(c int) bool { return c > 0 }), order(">=", func(c int) bool { return c >= 0 })
	sequence := kind("str", "list", "tuple", "dict")
	tests = map[string]filter{
		"boolean":   kind("bool"),
		"callable":  kind("function"),
		"defined":   is(func(v any) bool { _, undefined := v.(Undefined); return !undefined }),
		"undefined": kind("Undefined"),
		"divisibleby": with(func(r *renderer, v, arg any) (bool, error) {
			m, err := r.arithmetic("%", v, arg)
			if err != nil {
				return false, err
			}
			return r.equal(m, int64(0), 0)
		}),
		"==": eq, "eq": eq, "equalto": eq, "!=": ne, "ne": ne,
		"<": lt, "lt": lt, "lessthan": lt, "<=": le, "le": le, ">": gt, "gt": gt, "greaterthan": gt, ">=": ge, "ge": ge,
		"even":     remainder(0),
		"odd":      remainder(1),
		"false":    is(func(v any) bool { return v == false }),
		"true":     is(func(v any) bool { return v == true }),
		"float":    kind("float"),
		"integer":  kind("int"),
		"number":   kind("int", "float", "bool"),
		"in":       with(func(r *renderer, v, arg any) (bool, error) { return r.contains(arg, v) }),
		"iterable": kind("str", "list", "tuple", "dict", "Undefined"),
		"sequence": sequence,
		"mapping":  kind("dict"),
		"none":     is(func(v any) bool { return v == nil }),
		"string":   kind("str"),
		"lower":    cased(unicode.IsLower, unicode.IsUpper),
		"upper":    cased(unicode.IsUpper, unicode.IsLower),
		"sameas": with(func(r *renderer, v, arg any) (bool, error) {
			if typeName(v) != typeName(arg) {
				return false, nil
			}
			switch v.(type) {
			case *List, *Dict:
				return v == arg, nil
			}
			return r.equal(v, arg, 0)
		}),
	}
}

// maxRange is jinja2's own limit in its sandbox.
const maxRange = 100_000

func (r *renderer) defineGlobals(s *scope) {
	for name, fn := range map[string]func(*renderer, callArgs) (any, error){
		"range": rangeGlobal, "dict": dictGlobal, "namespace": namespaceGlobal, "joiner": joinerGlobal,
		"raise_exception": raiseGlobal, "strftime_now": strftimeGlobal,
	} {
		s.vars[name] = &function{name, fn}
	}
}

func rangeGlobal(r *renderer, a callArgs) (any, error) {
	bounds := [3]int64{0, 0, 1} // start, stop, step
	if len(a.pos) == 0 || len(a.pos) > 3 || len(a.named) > 0 {
		return nil, errors.New("range takes one to three arguments")
	}
	for i := range a.pos {
		n, err := a.integer(i, "range", 0)
		if err != nil {
			return nil, err
		}
		if n > 1<<40 || n < -1<<40 {
			return nil, fmt.Errorf("range to %d: the limit is %d numbers: %w", n, maxRange, ErrLimit)
		}
		if len(a.pos) == 1 {
			i = 1
		}
		bounds[i] = n
	}
	start, stop, step := bounds[0], bounds[1], bounds[2]
	if step == 0 {
		return nil, errors.New("range: the step must not be zero")
	}
	n := (stop - start + step - sign(step)) / step
	if n > maxRange {
		return nil, fmt.Errorf("range of %d numbers: the limit is %d: %w", n, maxRange, ErrLimit)
	}
	out := &List{}
	for i := range max(n, 0) {
		out.Items = append(out.Items, start+i*step)
	}
	return out, r.step(len(out.Items))
}

func sign(n int64) int64 {
	if n < 0 {
		return -1
	}
	return 1
}

func dictGlobal(_ *renderer, a callArgs) (any, error) {
	d := new(Dict)
	for _, v := range a.pos {
		from, ok := v.(*Dict)
		if !ok {
			return nil, fmt.Errorf("dict needs a mapping, not %s", typeName(v))
		}
		for i, key := range from.keys {
			d.Set(key, from.values[i])
		}
	}
	for _, name := range a.order {
		d.Set(name, a.named[name])
	}
	return d, nil
}

func namespaceGlobal(r *renderer, a callArgs) (any, error) {
	d, err := dictGlobal(r, a)
	if err != nil {
		return nil, err
	}
	return &namespace{*d.(*Dict)}, nil
}

func joinerGlobal(_ *renderer, a callArgs) (any, error) {
	sep, err := a.str(0, "sep", ", ")
	used := false
	return &function{"joiner", func(*renderer, callArgs) (any, error) {
		if !used {
			used = true
			return "", nil
		}
		return sep, nil
	}}, err
}

func raiseGlobal(r *renderer, a callArgs) (any, error) {
	message := ""
	if v, ok := a.get(0, "message"); ok {
		var err error
		if message, err = r.str(v); err != nil {
			return nil, err
		}
	}
	return nil, &RaisedError{message}
}

// strftimeLayouts are Go's layouts for the directives of Python's strftime.
var strftimeLayouts = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'B': "January", 'b': "Jan",
	'A': "Monday", 'a': "Mon", 'j': "002", 'Z': "MST", 'z': "-0700", 'e': "_2", 'F': "2006-01-02", 'T': "15:04:05",
}

func strftimeGlobal(r *renderer, a callArgs) (any, error) {
	format, err := a.str(0, "format", "")
	if err != nil {
		return nil, err
	}
	return strftime(r.now(), format)
}

func strftime(now time.Time, format string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		unpadded := i < len(format) && format[i] == '-'
		if unpadded {
			i++
		}
		if i < len(format) && format[i] == '%' {
			b.WriteByte('%')
			continue
		}
		if i >= len(format) || strftimeLayouts[format[i]] == "" {
			return "", fmt.Errorf("strftime_now: unknown directive in %q", format)
		}
		text := now.Format(strftimeLayouts[format[i]])
		if unpadded && len(text) > 1 {
			text = strings.TrimLeft(text[:len(text)-1], "0 ") + text[len(text)-1:]
		}
		b.WriteString(text)
	}
	return b.String(), nil
}
