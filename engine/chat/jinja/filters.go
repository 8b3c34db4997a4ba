// Filters: jinja2's, but for those that make HTML or random numbers.

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

type filter func(r *renderer, v any, a callArgs) (any, error)

var filters map[string]filter

func init() { // not a literal: map and select look filters and tests up
	filters = map[string]filter{
		"abs":        absFilter,
		"batch":      batchFilter,
		"capitalize": textFilter(capitalize),
		"count":      lengthFilter,
		"d":          defaultFilter,
		"default":    defaultFilter,
		"dictsort":   dictSortFilter,
		"e":          textFilter(escapeHTML),
		"escape":     textFilter(escapeHTML),
		"first":      endFilter("first", func(items []any) any { return items[0] }),
		"float":      floatFilter,
		"format":     formatFilter,
		"indent":     indentFilter,
		"int":        intFilter,
		"items":      itemsFilter,
		"join":       joinFilter,
		"last":       endFilter("last", func(items []any) any { return items[len(items)-1] }),
		"length":     lengthFilter,
		"list":       listFilter,
		"lower":      textFilter(strings.ToLower),
		"map":        mapFilter,
		"max":        extremeFilter(1),
		"min":        extremeFilter(-1),
		"reject":     selectFilter(false, false),
		"rejectattr": selectFilter(true, false),
		"replace":    replaceFilter,
		"reverse":    reverseFilter,
		"round":      roundFilter,
		"safe":       textFilter(func(s string) string { return s }),
		"select":     selectFilter(false, true),
		"selectattr": selectFilter(true, true),
		"sort":       sortFilter,
		"string":     textFilter(func(s string) string { return s }),
		"sum":        sumFilter,
		"title":      textFilter(titleWords),
		"tojson":     toJSONFilter,
		"trim":       trimFilter,
		"unique":     uniqueFilter,
		"upper":      textFilter(strings.ToUpper),
		"wordcount":  wordCountFilter,
	}
}

// textFilter applies f to str(v).
func textFilter(f func(string) string) filter {
	return func(r *renderer, v any, _ callArgs) (any, error) {
		s, err := r.str(v)
		if err != nil {
			return nil, err
		}
		out := f(s)
		return out, r.made(len(out))
	}
}

var htmlEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

func escapeHTML(s string) string { return htmlEscapes.Replace(s) }

// titleWords is jinja2's title: words begin at the start and behind white space, - ( { [ and <.
func titleWords(s string) string {
	atStart := true
	return strings.Map(func(c rune) rune {
		if isSpace(c) || strings.ContainsRune("-({[<", c) {
			atStart = true
			return c
		}
		if atStart {
			atStart = false
			return unicode.ToUpper(c)
		}
		return unicode.ToLower(c)
	}, s)
}

func absFilter(_ *renderer, v any, _ callArgs) (any, error) {
	i, f, isFloat, ok := asNumber(v)
	switch {
	case !ok:
		return nil, fmt.Errorf("bad operand type for abs(): '%s'", typeName(v))
	case isFloat:
		return math.Abs(f), nil
	case i == math.MinInt64:
		return nil, errors64
	}
	return max(i, -i), nil
}

func batchFilter(r *renderer, v any, a callArgs) (any, error) {
	n, err := a.integer(0, "linecount", 0)
	if err != nil {
		return nil, err
	}
	if n < 1 || n > 1<<20 {
		return nil, fmt.Errorf("linecount %d is not between 1 and 2^20", n)
	}
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	out := &List{}
	for chunk := range slices.Chunk(items, int(n)) {
		chunk = slices.Clone(chunk)
		if fill, ok := a.get(1, "fill_with"); ok && fill != nil {
			if err := r.step(int(n)); err != nil {
				return nil, err
			}
			for len(chunk) < int(n) {
				chunk = append(chunk, fill)
			}
		}
		out.Items = append(out.Items, &List{Items: chunk})
	}
	return out, nil
}

func defaultFilter(_ *renderer, v any, a callArgs) (any, error) {
	if _, undefined := v.(Undefined); undefined || (a.flag(1, "boolean") && !truthy(v)) {
		if otherwise, ok := a.get(0, "default_value"); ok {
			return otherwise, nil
		}
		return "", nil
	}
	return v, nil
}

// sortKey makes strings compare without case unless case_sensitive is set.
func sortKey(v any, caseSensitive bool) any {
	if s, ok := v.(string); ok && !caseSensitive {
		return strings.ToLower(s)
	}
	return v
}

// sortBy sorts items stably by their keys.
func (r *renderer) sortBy(items, keys []any, reverse bool) ([]any, error) {
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	var firstErr error
	slices.SortStableFunc(order, func(x, y int) int {
		if firstErr != nil {
			return 0
		}
		c, err := r.compare(keys[x], keys[y], "<")
		if err == nil {
			err = r.step(1)
		}
		firstErr = err
		if reverse {
			return -c
		}
		return c
	})
	out := make([]any, len(items))
	for i, at := range order {
		out[i] = items[at]
	}
	return out, firstErr
}

func dictSortFilter(r *renderer, v any, a callArgs) (any, error) {
	d, ok := v.(*Dict)
	if !ok {
		return nil, fmt.Errorf("needs a mapping, not %s", typeName(v))
	}
	by, err := a.str(1, "by", "key")
	if err != nil {
		return nil, err
	}
	keys := make([]any, d.Len())
	for i := range keys {
		keys[i] = d.keys[i]
		if by == "value" {
			keys[i] = d.values[i]
		}
		keys[i] = sortKey(keys[i], a.flag(0, "case_sensitive"))
	}
	items, err := r.sortBy(d.items().Items, keys, a.flag(2, "reverse"))
	return &List{Items: items}, err
}

func endFilter(name string, pick func([]any) any) filter {
	return func(r *renderer, v any, _ callArgs) (any, error) {
		items, err := r.iterate(v)
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return Undefined{fmt.Sprintf("no %s item, the sequence was empty", name)}, nil
		}
		return pick(items), nil
	}
}

func floatFilter(_ *renderer, v any, a callArgs) (any, error) {
	if _, f, _, ok := asNumber(v); ok {
		return f, nil
	}
	if s, ok := v.(string); ok {
		if f, err := strconv.ParseFloat(strings.TrimFunc(s, isSpace), 64); err == nil {
			return f, nil
		}
	}
	if otherwise, ok := a.get(0, "default"); ok {
		return otherwise, nil
	}
	return 0.0, nil
}

func intFilter(_ *renderer, v any, a callArgs) (any, error) {
	base, err := a.integer(1, "base", 10)
	if err != nil {
		return nil, err
	}
	i, f, isFloat, ok := asNumber(v)
	if s, isString := v.(string); isString {
		s = strings.TrimFunc(s, isSpace)
		if n, err := strconv.ParseInt(s, int(base), 64); err == nil {
			return n, nil
		}
		if f, err = strconv.ParseFloat(s, 64); err == nil {
			isFloat, ok = true, true
		}
	}
	switch {
	case ok && !isFloat:
		return i, nil
	case ok && math.Abs(f) < 1<<63:
		return int64(f), nil
	}
	if otherwise, ok := a.get(0, "default"); ok {
		return otherwise, nil
	}
	return int64(0), nil
}

func formatFilter(r *renderer, v any, a callArgs) (any, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	if len(a.named) > 0 {
		return nil, errors.New("named arguments are not supported")
	}
	return r.printf(s, a.pos)
}

func indentFilter(r *renderer, v any, a callArgs) (any, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	pad := ""
	if w, ok := a.get(0, "width"); ok {
		pad, ok = w.(string)
		if !ok {
			n, err := a.integer(0, "width", 4)
			if err != nil {
				return nil, err
			}
			if n > 1<<16 {
				return nil, fmt.Errorf("width %d is more than 65536", n)
			}
			pad = strings.Repeat(" ", int(max(n, 0)))
		}
	} else {
		pad = "    "
	}
	list, err := splitLines(r, s+"\n", callArgs{})
	if err != nil {
		return nil, err
	}
	lines := list.(*List).Items
	if err := r.made(len(s) + len(pad)*len(lines)); err != nil {
		return nil, err
	}
	var b strings.Builder
	for i, line := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		if (i == 0 && a.flag(1, "first")) || (i > 0 && (line != "" || a.flag(2, "blank"))) {
			b.WriteString(pad)
		}
		b.WriteString(line.(string))
	}
	return b.String(), nil
}

func itemsFilter(r *renderer, v any, _ callArgs) (any, error) {
	switch v := v.(type) {
	case Undefined:
		return &List{}, nil
	case *Dict:
		return v.items(), r.step(v.Len())
	}
	return nil, errors.New("can only get item pairs from a mapping")
}

func joinFilter(r *renderer, v any, a callArgs) (any, error) {
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	sep := ""
	if d, ok := a.get(0, "d"); ok {
		if sep, err = r.str(d); err != nil {
			return nil, err
		}
	}
	attr, hasAttr := a.get(1, "attribute")
	parts := make([]string, len(items))
	for i, item := range items {
		if hasAttr && attr != nil {
			if item, err = r.path(item, attr); err != nil {
				return nil, err
			}
		}
		if parts[i], err = r.str(item); err != nil {
			return nil, err
		}
	}
	return r.joined(parts, sep)
}

// path follows an attribute such as "function.name" or 0.
func (r *renderer) path(v any, attr any) (any, error) {
	name, ok := attr.(string)
	if !ok {
		return r.item(v, attr)
	}
	for _, part := range strings.Split(name, ".") {
		var key any = part
		if i, err := strconv.ParseInt(part, 10, 64); err == nil {
			key = i
		}
		var err error
		if v, err = r.item(v, key); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func lengthFilter(r *renderer, v any, _ callArgs) (any, error) {
	n, err := r.length(v)
	return int64(n), err
}

func listFilter(r *renderer, v any, _ callArgs) (any, error) {
	items, err := r.iterate(v)
	return &List{Items: items}, err
}

func mapFilter(r *renderer, v any, a callArgs) (any, error) {
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(items))
	if attr, ok := a.named["attribute"]; ok && len(a.pos) == 0 {
		otherwise, hasDefault := a.named["default"]
		for i, item := range items {
			if out[i], err = r.path(item, attr); err != nil {
				return nil, err
			}
			if _, undefined := out[i].(Undefined); undefined && hasDefault {
				out[i] = otherwise
			}
		}
		return &List{Items: out}, nil
	}
	name, err := a.str(0, "filter", "")
	if err != nil {
		return nil, err
	}
	f := filters[name]
	if f == nil {
		return nil, fmt.Errorf("unknown filter '%s'", name)
	}
	rest := callArgs{pos: a.pos[1:], named: a.named, order: a.order}
	for i, item := range items {
		if err := r.step(1); err != nil {
			return nil, err
		}
		if out[i], err = f(r, item, rest); err != nil {
			return nil, err
		}
	}
	return &List{Items: out}, nil
}

// keysOf returns what items are compared by: themselves or an attribute of theirs.
func (r *renderer) keysOf(items []any, a callArgs, caseAt, attrAt int) ([]any, error) {
	attr, ok := a.get(attrAt, "attribute")
	keys := make([]any, len(items))
	for i, item := range items {
		if ok && attr != nil {
			var err error
			if item, err = r.path(item, attr); err != nil {
				return nil, err
			}
		}
		keys[i] = sortKey(item, a.flag(caseAt, "case_sensitive"))
	}
	return keys, nil
}

func extremeFilter(sign int) filter {
	return func(r *renderer, v any, a callArgs) (any, error) {
		items, err := r.iterate(v)
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return Undefined{"no aggregated item, the sequence was empty"}, nil
		}
		keys, err := r.keysOf(items, a, 0, 1)
		if err != nil {
			return nil, err
		}
		best := 0
		for i := range keys {
			c, err := r.compare(keys[i], keys[best], map[int]string{1: ">", -1: "<"}[sign])
			if err != nil {
				return nil, err
			}
			if c*sign > 0 {
				best = i
			}
		}
		return items[best], nil
	}
}

// selectFilter makes select, selectattr, reject and rejectattr.
func selectFilter(byAttr, keep bool) filter {
	return func(r *renderer, v any, a callArgs) (any, error) {
		items, err := r.iterate(v)
		if err != nil {
			return nil, err
		}
		var attr any
		pos := a.pos
		if byAttr {
			if len(pos) == 0 {
				return nil, errors.New("needs the name of an attribute")
			}
			attr, pos = pos[0], pos[1:]
		}
		holds := func(_ *renderer, v any, _ callArgs) (any, error) { return truthy(v), nil }
		if len(pos) > 0 {
			name, _ := pos[0].(string)
			if holds = tests[name]; holds == nil {
				return nil, fmt.Errorf("unknown test '%v'", pos[0])
			}
			pos = pos[1:]
		}
		out := &List{}
		for _, item := range items {
			if err := r.step(1); err != nil {
				return nil, err
			}
			of := item
			if byAttr {
				if of, err = r.path(item, attr); err != nil {
					return nil, err
				}
			}
			ok, err := holds(r, of, callArgs{pos: pos, named: a.named})
			if err != nil {
				return nil, err
			}
			if truthy(ok) == keep {
				out.Items = append(out.Items, item)
			}
		}
		return out, nil
	}
}

func replaceFilter(r *renderer, v any, a callArgs) (any, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	var text [2]string
	for i, name := range []string{"old", "new"} {
		arg, ok := a.get(i, name)
		if !ok {
			return nil, errors.New("needs two arguments")
		}
		if text[i], err = r.str(arg); err != nil {
			return nil, err
		}
	}
	n := int64(-1)
	if c, ok := a.get(2, "count"); ok && c != nil {
		if n, err = a.integer(2, "count", -1); err != nil {
			return nil, err
		}
	}
	return r.replaced(s, text[0], text[1], n)
}

func reverseFilter(r *renderer, v any, _ callArgs) (any, error) {
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	items = slices.Clone(items)
	slices.Reverse(items)
	if _, ok := v.(string); !ok {
		return &List{Items: items}, nil
	}
	var b strings.Builder
	for _, c := range items {
		b.WriteString(c.(string))
	}
	return b.String(), r.made(b.Len())
}

func roundFilter(_ *renderer, v any, a callArgs) (any, error) {
	i, f, isFloat, ok := asNumber(v)
	if !ok {
		return nil, fmt.Errorf("needs a number, not %s", typeName(v))
	}
	precision, err := a.integer(0, "precision", 0)
	if err != nil {
		return nil, err
	}
	if precision < 0 || precision > 300 {
		return nil, fmt.Errorf("precision %d is not between 0 and 300", precision)
	}
	method, err := a.str(1, "method", "common")
	if err != nil {
		return nil, err
	}
	scale := math.Pow(10, float64(precision))
	switch method {
	case "common":
		if !isFloat {
			return i, nil
		}
		if math.IsInf(f, 0) || math.IsNaN(f) {
			return f, nil
		}
		// The decimal digits of the exact value, halves to even, as Python's round does it.
		return strconv.ParseFloat(strconv.FormatFloat(f, 'f', int(precision), 64), 64)
	case "ceil":
		return math.Ceil(f*scale) / scale, nil
	case "floor":
		return math.Floor(f*scale) / scale, nil
	}
	return nil, errors.New("method must be common, ceil or floor")
}

func sortFilter(r *renderer, v any, a callArgs) (any, error) {
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	keys, err := r.keysOf(items, a, 1, 2)
	if err != nil {
		return nil, err
	}
	items, err = r.sortBy(items, keys, a.flag(0, "reverse"))
	return &List{Items: items}, err
}

func sumFilter(r *renderer, v any, a callArgs) (any, error) {
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	sum, ok := a.get(1, "start")
	if !ok {
		sum = int64(0)
	}
	attr, hasAttr := a.get(0, "attribute")
	for _, item := range items {
		if hasAttr && attr != nil {
			if item, err = r.path(item, attr); err != nil {
				return nil, err
			}
		}
		if sum, err = r.arithmetic("+", sum, item); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

func trimFilter(r *renderer, v any, a callArgs) (any, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	return stripMethod(true, true)(r, s, a)
}

func uniqueFilter(r *renderer, v any, a callArgs) (any, error) {
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	keys, err := r.keysOf(items, a, 0, 1)
	if err != nil {
		return nil, err
	}
	seen := map[any]bool{}
	out := &List{}
	for i, key := range keys {
		if err := hashable(key); err != nil {
			return nil, err
		}
		if h := hashKey(key); !seen[h] {
			seen[h] = true
			out.Items = append(out.Items, items[i])
		}
	}
	return out, nil
}

func wordCountFilter(r *renderer, v any, _ callArgs) (any, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	words := strings.FieldsFunc(s, func(c rune) bool { return c != '_' && !unicode.IsLetter(c) && !unicode.IsNumber(c) })
	return int64(len(words)), r.step(utf8.RuneCountInString(s))
}
