// Methods of strings, lists and dicts, and printf-style formatting.

package jinja

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// one returns the only argument.
func (a callArgs) one(name string) (any, error) {
	if len(a.pos) != 1 || len(a.named) != 0 {
		return nil, fmt.Errorf("%s takes one argument, not %d", name, len(a.pos)+len(a.named))
	}
	return a.pos[0], nil
}

// get returns argument i, by position or by name.
func (a callArgs) get(i int, name string) (any, bool) {
	if i < len(a.pos) {
		return a.pos[i], true
	}
	v, ok := a.named[name]
	return v, ok
}

func (a callArgs) str(i int, name, otherwise string) (string, error) {
	v, ok := a.get(i, name)
	if !ok {
		return otherwise, nil
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("argument '%s' must be a string, not %s", name, typeName(v))
	}
	return s, nil
}

func (a callArgs) integer(i int, name string, otherwise int64) (int64, error) {
	v, ok := a.get(i, name)
	if !ok {
		return otherwise, nil
	}
	n, _, isFloat, ok := asNumber(v)
	if !ok || isFloat {
		return 0, fmt.Errorf("argument '%s' must be an integer, not %s", name, typeName(v))
	}
	return n, nil
}

func (a callArgs) flag(i int, name string) bool {
	v, _ := a.get(i, name)
	return truthy(v)
}

// mutating are the methods that jinja2's immutable sandbox forbids.
var mutating = map[string]bool{"append": true, "clear": true, "pop": true, "reverse": true, "insert": true, "sort": true, "extend": true, "remove": true, "setdefault": true, "update": true, "popitem": true}

func dictMethod(d *Dict, name string) *function {
	switch name {
	case "items":
		return &function{"dict.items", func(r *renderer, _ callArgs) (any, error) { return d.items(), r.step(d.Len()) }}
	case "keys":
		return &function{"dict.keys", func(r *renderer, _ callArgs) (any, error) { return NewList(d.keys...), r.step(d.Len()) }}
	case "values":
		return &function{"dict.values", func(r *renderer, _ callArgs) (any, error) { return NewList(d.values...), r.step(d.Len()) }}
	case "copy":
		return &function{"dict.copy", func(*renderer, callArgs) (any, error) { return d, nil }}
	case "get":
		return &function{"dict.get", func(_ *renderer, a callArgs) (any, error) {
			key, ok := a.get(0, "key")
			if !ok {
				return nil, errors.New("dict.get needs a key")
			}
			if err := hashable(key); err != nil {
				return nil, err
			}
			if v, ok := d.Get(key); ok {
				return v, nil
			}
			v, _ := a.get(1, "default")
			return v, nil
		}}
	}
	return nil
}

// items returns a list of (key, value) tuples.
func (d *Dict) items() *List {
	items := make([]any, len(d.keys))
	for i := range d.keys {
		items[i] = &List{[]any{d.keys[i], d.values[i]}, true}
	}
	return &List{Items: items}
}

func listMethod(l *List, name string) *function {
	switch name {
	case "copy":
		return &function{"list.copy", func(*renderer, callArgs) (any, error) { return l, nil }}
	case "count", "index":
		return &function{"list." + name, func(r *renderer, a callArgs) (any, error) {
			want, err := a.one("list." + name)
			if err != nil {
				return nil, err
			}
			n := int64(0)
			for i, item := range l.Items {
				same, err := r.equal(item, want, 0)
				if err != nil {
					return nil, err
				}
				if same && name == "index" {
					return int64(i), nil
				}
				if same {
					n++
				}
			}
			if name == "index" {
				return nil, errors.New("list.index: the value is not in the list")
			}
			return n, nil
		}}
	}
	return nil
}

type stringMethod func(r *renderer, s string, a callArgs) (any, error)

var stringMethods map[string]stringMethod

func init() {
	stringMethods = map[string]stringMethod{
		"strip":      stripMethod(true, true),
		"lstrip":     stripMethod(true, false),
		"rstrip":     stripMethod(false, true),
		"split":      splitMethod(false),
		"rsplit":     splitMethod(true),
		"splitlines": splitLines,
		"startswith": affixMethod(strings.HasPrefix),
		"endswith":   affixMethod(strings.HasSuffix),
		"removeprefix": func(_ *renderer, s string, a callArgs) (any, error) {
			p, err := a.str(0, "prefix", "")
			return strings.TrimPrefix(s, p), err
		},
		"removesuffix": func(_ *renderer, s string, a callArgs) (any, error) {
			p, err := a.str(0, "suffix", "")
			return strings.TrimSuffix(s, p), err
		},
		"replace":    replaceMethod,
		"upper":      mapMethod(strings.ToUpper),
		"lower":      mapMethod(strings.ToLower),
		"casefold":   mapMethod(strings.ToLower),
		"title":      mapMethod(title),
		"capitalize": mapMethod(capitalize),
		"count":      countMethod,
		"find":       findMethod(strings.Index, false),
		"rfind":      findMethod(strings.LastIndex, false),
		"index":      findMethod(strings.Index, true),
		"rindex":     findMethod(strings.LastIndex, true),
		"join": func(r *renderer, s string, a callArgs) (any, error) {
			v, err := a.one("join")
			if err != nil {
				return nil, err
			}
			items, err := r.iterate(v)
			if err != nil {
				return nil, err
			}
			parts := make([]string, len(items))
			for i, item := range items {
				part, ok := item.(string)
				if !ok {
					return nil, fmt.Errorf("item %d is %s, not str", i, typeName(item))
				}
				parts[i] = part
			}
			return r.joined(parts, s)
		},
		"partition":  partitionMethod(strings.Index),
		"rpartition": partitionMethod(strings.LastIndex),
		"isdigit":    classMethod(unicode.IsDigit),
		"isdecimal":  classMethod(unicode.IsDigit),
		"isnumeric":  classMethod(unicode.IsNumber),
		"isalpha":    classMethod(unicode.IsLetter),
		"isalnum":    classMethod(func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) }),
		"isspace":    classMethod(isSpace),
		"isupper": func(_ *renderer, s string, _ callArgs) (any, error) {
			return isCased(s, unicode.IsUpper, unicode.IsLower), nil
		},
		"islower": func(_ *renderer, s string, _ callArgs) (any, error) {
			return isCased(s, unicode.IsLower, unicode.IsUpper), nil
		},
		"zfill": padMethod(func(s string, pad int, _ string) string {
			sign := ""
			if s != "" && (s[0] == '-' || s[0] == '+') {
				sign, s = s[:1], s[1:]
			}
			return sign + strings.Repeat("0", pad) + s
		}),
		"ljust": padMethod(func(s string, pad int, fill string) string { return s + strings.Repeat(fill, pad) }),
		"rjust": padMethod(func(s string, pad int, fill string) string { return strings.Repeat(fill, pad) + s }),
		"center": padMethod(func(s string, pad int, fill string) string {
			width := utf8.RuneCountInString(s) + pad
			left := pad/2 + pad&width&1
			return strings.Repeat(fill, left) + s + strings.Repeat(fill, pad-left)
		}),
		"format": formatMethod,
	}
}

func (r *renderer) joined(parts []string, sep string) (string, error) {
	n := 0
	for _, p := range parts {
		n += len(p) + len(sep)
	}
	if err := r.made(n); err != nil {
		return "", err
	}
	return strings.Join(parts, sep), nil
}

func mapMethod(f func(string) string) stringMethod {
	return func(r *renderer, s string, _ callArgs) (any, error) {
		out := f(s)
		return out, r.made(len(out))
	}
}

func classMethod(is func(rune) bool) stringMethod {
	return func(_ *renderer, s string, _ callArgs) (any, error) {
		return s != "" && strings.IndexFunc(s, func(c rune) bool { return !is(c) }) < 0, nil
	}
}

func isCased(s string, want, other func(rune) bool) bool {
	return strings.IndexFunc(s, want) >= 0 && strings.IndexFunc(s, other) < 0
}

func strip(s, chars string, isSet, left, right bool) string {
	cut := isSpace
	if isSet {
		cut = func(c rune) bool { return strings.ContainsRune(chars, c) }
	}
	if left {
		s = strings.TrimLeftFunc(s, cut)
	}
	if right {
		s = strings.TrimRightFunc(s, cut)
	}
	return s
}

func stripMethod(left, right bool) stringMethod {
	return func(_ *renderer, s string, a callArgs) (any, error) {
		v, ok := a.get(0, "chars")
		if !ok || v == nil {
			return strip(s, "", false, left, right), nil
		}
		chars, err := a.str(0, "chars", "")
		return strip(s, chars, true, left, right), err
	}
}

func stringList(parts []string) *List {
	items := make([]any, len(parts))
	for i, p := range parts {
		items[i] = p
	}
	return &List{Items: items}
}

func splitMethod(fromRight bool) stringMethod {
	return func(r *renderer, s string, a callArgs) (any, error) {
		limit, err := a.integer(1, "maxsplit", -1)
		if err != nil {
			return nil, err
		}
		if limit < 0 || limit > int64(len(s)) {
			limit = int64(len(s)) + 1
		}
		n := int(limit)
		if v, ok := a.get(0, "sep"); !ok || v == nil {
			return stringList(splitSpace(s, n, fromRight)), r.step(len(s))
		}
		sep, err := a.str(0, "sep", "")
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, errors.New("empty separator")
		}
		parts := strings.Split(s, sep)
		if err := r.step(len(parts)); err != nil {
			return nil, err
		}
		if len(parts) > n+1 {
			if fromRight {
				head := strings.Join(parts[:len(parts)-n], sep)
				parts = append([]string{head}, parts[len(parts)-n:]...)
			} else {
				parts = append(parts[:n:n], strings.Join(parts[n:], sep))
			}
		}
		return stringList(parts), nil
	}
}

// splitSpace splits at runs of white space, at most n times.
func splitSpace(s string, n int, fromRight bool) []string {
	parts := []string{}
	if fromRight {
		s = strings.TrimRightFunc(s, isSpace)
		for s != "" && len(parts) < n {
			i := strings.LastIndexFunc(s, isSpace)
			if i < 0 {
				break
			}
			_, size := utf8.DecodeRuneInString(s[i:])
			parts = append(parts, s[i+size:])
			s = strings.TrimRightFunc(s[:i], isSpace)
		}
		if s != "" {
			parts = append(parts, s)
		}
		slices.Reverse(parts)
		return parts
	}
	s = strings.TrimLeftFunc(s, isSpace)
	for s != "" && len(parts) < n {
		i := strings.IndexFunc(s, isSpace)
		if i < 0 {
			break
		}
		parts = append(parts, s[:i])
		s = strings.TrimLeftFunc(s[i:], isSpace)
	}
	if s != "" {
		parts = append(parts, s)
	}
	return parts
}

func splitLines(r *renderer, s string, a callArgs) (any, error) {
	keep := a.flag(0, "keepends")
	parts := []string{}
	for s != "" {
		i := strings.IndexFunc(s, func(c rune) bool {
			return (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029
		})
		if i < 0 {
			parts = append(parts, s)
			break
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		if strings.HasPrefix(s[i:], "\r\n") {
			size = 2
		}
		if keep {
			parts = append(parts, s[:i+size])
		} else {
			parts = append(parts, s[:i])
		}
		s = s[i+size:]
	}
	return stringList(parts), r.step(len(parts))
}

// runeRange cuts s to the characters [start, end) that arguments i and i+1 give.
func runeRange(r *renderer, s string, a callArgs, i int) (string, int, error) {
	if len(a.pos) <= i {
		return s, 0, nil
	}
	chars, err := r.iterate(s)
	if err != nil {
		return "", 0, err
	}
	start, err := a.integer(i, "start", 0)
	if err != nil {
		return "", 0, err
	}
	end, err := a.integer(i+1, "end", int64(len(chars)))
	if err != nil {
		return "", 0, err
	}
	at := func(i int64) int {
		if i < 0 {
			i += int64(len(chars))
		}
		return int(max(0, min(i, int64(len(chars)))))
	}
	from, to := at(start), max(at(start), at(end))
	skipped, n := 0, 0
	for j, c := range chars[:to] {
		if j < from {
			skipped += len(c.(string))
		} else {
			n += len(c.(string))
		}
	}
	return s[skipped : skipped+n], from, nil
}

func affixMethod(has func(s, affix string) bool) stringMethod {
	return func(r *renderer, s string, a callArgs) (any, error) {
		if len(a.pos) == 0 {
			return nil, errors.New("needs an argument")
		}
		s, _, err := runeRange(r, s, a, 1)
		if err != nil {
			return nil, err
		}
		options := []any{a.pos[0]}
		if t, ok := a.pos[0].(*List); ok && t.tuple {
			options = t.Items
		}
		for _, o := range options {
			affix, ok := o.(string)
			if !ok {
				return nil, fmt.Errorf("the argument must be str or a tuple of str, not %s", typeName(o))
			}
			if has(s, affix) {
				return true, nil
			}
		}
		return false, nil
	}
}

func replaceMethod(r *renderer, s string, a callArgs) (any, error) {
	if len(a.pos) < 2 {
		return nil, errors.New("needs two arguments")
	}
	old, err := a.str(0, "old", "")
	if err != nil {
		return nil, err
	}
	with, err := a.str(1, "new", "")
	if err != nil {
		return nil, err
	}
	n, err := a.integer(2, "count", -1)
	if err != nil {
		return nil, err
	}
	return r.replaced(s, old, with, n)
}

func (r *renderer) replaced(s, old, with string, n int64) (any, error) {
	count := int64(strings.Count(s, old))
	if n >= 0 {
		count = min(count, n)
	}
	if len(with) > 0 && count > int64(r.limits.Bytes/len(with)) {
		return nil, fmt.Errorf("more than %d bytes of text: %w", r.limits.Bytes, ErrLimit)
	}
	if err := r.made(len(s) + int(count)*len(with)); err != nil {
		return nil, err
	}
	return strings.Replace(s, old, with, int(count)), nil
}

func countMethod(r *renderer, s string, a callArgs) (any, error) {
	if len(a.pos) == 0 {
		return nil, errors.New("needs an argument")
	}
	sub, err := a.str(0, "sub", "")
	if err != nil {
		return nil, err
	}
	s, _, err = runeRange(r, s, a, 1)
	return int64(strings.Count(s, sub)), err
}

func findMethod(find func(s, sub string) int, must bool) stringMethod {
	return func(r *renderer, s string, a callArgs) (any, error) {
		if len(a.pos) == 0 {
			return nil, errors.New("needs an argument")
		}
		sub, err := a.str(0, "sub", "")
		if err != nil {
			return nil, err
		}
		part, from, err := runeRange(r, s, a, 1)
		if err != nil {
			return nil, err
		}
		i := find(part, sub)
		if i < 0 {
			if must {
				return nil, errors.New("substring not found")
			}
			return int64(-1), nil
		}
		return int64(from + utf8.RuneCountInString(part[:i])), nil
	}
}

func partitionMethod(find func(s, sub string) int) stringMethod {
	return func(_ *renderer, s string, a callArgs) (any, error) {
		sep, err := a.str(0, "sep", "")
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, errors.New("empty separator")
		}
		i := find(s, sep)
		switch {
		case i >= 0:
			return &List{[]any{s[:i], sep, s[i+len(sep):]}, true}, nil
		case find("aa", "a") == 1: // from the right
			return &List{[]any{"", "", s}, true}, nil
		}
		return &List{[]any{s, "", ""}, true}, nil
	}
}

func padMethod(pad func(s string, n int, fill string) string) stringMethod {
	return func(r *renderer, s string, a callArgs) (any, error) {
		width, err := a.integer(0, "width", 0)
		if err != nil {
			return nil, err
		}
		fill, err := a.str(1, "fillchar", " ")
		if err != nil {
			return nil, err
		}
		if utf8.RuneCountInString(fill) != 1 {
			return nil, errors.New("the fill character must be exactly one character long")
		}
		n := width - int64(utf8.RuneCountInString(s))
		if n <= 0 {
			return s, nil
		}
		if n > int64(r.limits.Bytes) {
			return nil, fmt.Errorf("more than %d bytes of text: %w", r.limits.Bytes, ErrLimit)
		}
		return pad(s, int(n), fill), r.made(len(s) + int(n)*len(fill))
	}
}

func capitalize(s string) string {
	_, size := utf8.DecodeRuneInString(s)
	return strings.ToTitle(s[:size]) + strings.ToLower(s[size:])
}

// title is str.title: every letter behind a non-letter is a capital.
func title(s string) string {
	inWord := false
	return strings.Map(func(c rune) rune {
		was := inWord
		inWord = unicode.IsLetter(c)
		if !inWord {
			return c
		}
		if was {
			return unicode.ToLower(c)
		}
		return unicode.ToTitle(c)
	}, s)
}

// formatMethod is str.format for {}, {0} and {name}, with no conversions or format specifications.
func formatMethod(r *renderer, s string, a callArgs) (any, error) {
	var b strings.Builder
	next := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c == '{' || c == '}') && i+1 < len(s) && s[i+1] == c {
			b.WriteByte(c)
			i++
			continue
		}
		if c == '}' {
			return nil, errors.New("single '}' in the format")
		}
		if c != '{' {
			b.WriteByte(c)
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return nil, errors.New("expected '}' in the format")
		}
		field := s[i+1 : i+end]
		i += end
		var v any
		var ok bool
		if n, err := strconv.Atoi(field); err == nil || field == "" {
			if field == "" {
				n = next
				next++
			}
			if ok = n >= 0 && n < len(a.pos); ok {
				v = a.pos[n]
			}
		} else {
			v, ok = a.named[field]
		}
		if !ok {
			return nil, fmt.Errorf("no argument for '{%s}' (conversions and format specifications are not supported)", field)
		}
		text, err := r.str(v)
		if err != nil {
			return nil, err
		}
		if err := r.made(len(text)); err != nil {
			return nil, err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// printf is Python's format % values for %s, %r, %d, %i, %f (with a precision) and %%.
func (r *renderer) printf(format string, values []any) (any, error) {
	var b strings.Builder
	used := 0
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		precision := 6
		if i+2 < len(format) && format[i] == '.' && format[i+1] >= '0' && format[i+1] <= '9' {
			precision = int(format[i+1] - '0')
			i += 2
		}
		if i >= len(format) {
			return nil, errors.New("incomplete format")
		}
		if format[i] == '%' {
			b.WriteByte('%')
			continue
		}
		if used >= len(values) {
			return nil, errors.New("not enough arguments for format string")
		}
		v := values[used]
		used++
		var text string
		var err error
		n, f, isFloat, ok := asNumber(v)
		switch c := format[i]; {
		case c == 's':
			text, err = r.str(v)
		case c == 'r':
			text, err = r.repr(v)
		case (c == 'd' || c == 'i') && ok:
			if isFloat {
				if math.IsNaN(f) || math.Abs(f) >= 1<<63 {
					return nil, errors64
				}
				n = int64(f)
			}
			text = strconv.FormatInt(n, 10)
		case c == 'f' && ok:
			text = strconv.FormatFloat(f, 'f', precision, 64)
		default:
			return nil, fmt.Errorf("format %%%c of %s is not supported", c, typeName(v))
		}
		if err != nil {
			return nil, err
		}
		if err := r.made(len(text)); err != nil {
			return nil, err
		}
		b.WriteString(text)
	}
	if used < len(values) {
		return nil, errors.New("not all arguments converted during string formatting")
	}
	return b.String(), nil
}
