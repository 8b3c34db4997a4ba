package gpu

// How much workgroup memory a kernel declares. wgpu, native and in Firefox, does not check this limit, and a driver that is
// asked for too much may do anything, so it is counted from the source. What this reader does not understand it does not
// judge.

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	wgslComment   = regexp.MustCompile(`(?s)//[^\n]*|/\*.*?\*/`)
	wgslConst     = regexp.MustCompile(`\bconst\s+(\w+)\s*(?::\s*\w+\s*)?=\s*([^;]+);`)
	wgslStruct    = regexp.MustCompile(`(?s)\bstruct\s+(\w+)\s*\{(.*?)\}`)
	wgslWorkgroup = regexp.MustCompile(`\bvar\s*<\s*workgroup\s*>\s*(\w+)\s*:\s*([^;]+);`)
)

var errUnread = errors.New("not understood")

// WorkgroupBytes returns the bytes of all workgroup variables; ok is false when a type or a length is not understood.
func (r *WGSLReader) WorkgroupBytes() (total uint64, ok bool) {
	for _, m := range wgslWorkgroup.FindAllStringSubmatch(r.source, -1) {
		size, _, err := r.layout(m[2], 0)
		if err != nil || size > 1<<40 {
			return 0, false
		}
		total += roundUp(size, 16)
	}
	return total, true
}

func roundUp(n, align uint64) uint64 { return (n + align - 1) / align * align }

// WGSLReader knows the constants and structs of a source by name.
type WGSLReader struct {
	source          string // without comments
	consts, structs map[string]string
}

// ReadWGSL finds a source's constants and structs.
func ReadWGSL(source string) *WGSLReader {
	source = wgslComment.ReplaceAllString(source, " ")
	r := &WGSLReader{source: source, consts: map[string]string{}, structs: map[string]string{}}
	for _, m := range wgslConst.FindAllStringSubmatch(source, -1) {
		r.consts[m[1]] = m[2]
	}
	for _, m := range wgslStruct.FindAllStringSubmatch(source, -1) {
		r.structs[m[1]] = m[2]
	}
	return r
}

var wgslSizes = map[string][2]uint64{ // size, alignment in bytes
	"u32": {4, 4}, "i32": {4, 4}, "f32": {4, 4}, "bool": {4, 4}, "f16": {2, 2},
}

// layout returns size and alignment of a type, by the rules of WGSL's section "Alignment and Size".
func (r *WGSLReader) layout(typ string, depth int) (size, align uint64, err error) {
	typ = strings.TrimSpace(typ)
	if depth > 16 {
		return 0, 0, errUnread
	}
	if s, ok := wgslSizes[typ]; ok {
		return s[0], s[1], nil
	}
	if body, ok := r.structs[typ]; ok {
		return r.structLayout(body, depth)
	}
	name, args, found := strings.Cut(typ, "<")
	name = strings.TrimSpace(name)
	if found {
		if !strings.HasSuffix(args, ">") {
			return 0, 0, errUnread
		}
		args = strings.TrimSpace(strings.TrimSuffix(args, ">"))
	}
	switch {
	case name == "atomic" && found:
		return 4, 4, nil
	case name == "array" && found:
		comma := topLevelComma(args)
		if comma < 0 {
			return 0, 0, errUnread
		}
		size, align, err = r.layout(args[:comma], depth+1)
		if err != nil {
			return 0, 0, err
		}
		n, err := r.Number(strings.TrimSuffix(strings.TrimSpace(args[comma+1:]), ","))
		return n * roundUp(size, align), align, err
	case strings.HasPrefix(name, "vec"):
		return vectorLayout(name, args)
	}
	return 0, 0, errUnread
}

// vectorLayout reads vec3<f32> and the short form vec3f.
func vectorLayout(name, args string) (size, align uint64, err error) {
	if len(name) == 5 {
		args = map[byte]string{'f': "f32", 'u': "u32", 'i': "i32", 'h': "f16"}[name[4]]
		name = name[:4]
	}
	element, ok := wgslSizes[args]
	if !ok || len(name) != 4 || name[3] < '2' || name[3] > '4' {
		return 0, 0, errUnread
	}
	n := uint64(name[3] - '0')
	return n * element[0], (n + n%2) * element[0], nil
}

func (r *WGSLReader) structLayout(body string, depth int) (size, align uint64, err error) {
	align = 1
	for rest := body; strings.TrimSpace(rest) != ""; {
		member := rest
		if comma := topLevelComma(rest); comma >= 0 {
			member, rest = rest[:comma], rest[comma+1:]
		} else {
			rest = ""
		}
		_, typ, found := strings.Cut(member, ":")
		if !found || strings.Contains(member, "@") {
			return 0, 0, errUnread
		}
		s, a, err := r.layout(typ, depth+1)
		if err != nil {
			return 0, 0, err
		}
		size, align = roundUp(size, a)+s, max(align, a)
	}
	return roundUp(size, align), align, nil
}

func topLevelComma(s string) int {
	depth := 0
	for i, c := range s {
		switch c {
		case '<', '(':
			depth++
		case '>', ')':
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

// Number evaluates a constant integer expression.
func (r *WGSLReader) Number(expression string) (uint64, error) {
	e := wgslExpression{r: r, rest: expression}
	n, err := e.sum(0)
	if err == nil && strings.TrimSpace(e.rest) != "" {
		err = errUnread
	}
	return n, err
}

type wgslExpression struct {
	r    *WGSLReader
	rest string
}

func (e *wgslExpression) next() byte {
	e.rest = strings.TrimLeft(e.rest, " \t\r\n")
	if e.rest == "" {
		return 0
	}
	return e.rest[0]
}

func (e *wgslExpression) sum(depth int) (uint64, error) {
	n, err := e.product(depth)
	for err == nil && (e.next() == '+' || e.next() == '-') {
		op := e.rest[0]
		e.rest = e.rest[1:]
		var m uint64
		m, err = e.product(depth)
		switch {
		case op == '+':
			n += m
		case m > n:
			err = errUnread
		default:
			n -= m
		}
	}
	return n, err
}

func (e *wgslExpression) product(depth int) (uint64, error) {
	n, err := e.atom(depth)
	for err == nil && (e.next() == '*' || e.next() == '/' || e.next() == '%') {
		op := e.rest[0]
		e.rest = e.rest[1:]
		var m uint64
		m, err = e.atom(depth)
		switch {
		case err != nil:
		case op == '*' && n < 1<<31 && m < 1<<31:
			n *= m
		case op == '/' && m != 0:
			n /= m
		case op == '%' && m != 0:
			n %= m
		default:
			err = errUnread
		}
	}
	return n, err
}

func (e *wgslExpression) atom(depth int) (uint64, error) {
	if depth > 16 {
		return 0, errUnread
	}
	if e.next() == '(' {
		e.rest = e.rest[1:]
		n, err := e.sum(depth + 1)
		if err != nil || e.next() != ')' {
			return 0, errUnread
		}
		e.rest = e.rest[1:]
		return n, nil
	}
	end := 0
	for end < len(e.rest) && (e.rest[end] == '_' || e.rest[end] >= '0' && e.rest[end] <= '9' ||
		e.rest[end]|0x20 >= 'a' && e.rest[end]|0x20 <= 'z') {
		end++
	}
	word := e.rest[:end]
	e.rest = e.rest[end:]
	if definition, ok := e.r.consts[word]; ok {
		inner := wgslExpression{r: e.r, rest: definition}
		n, err := inner.sum(depth + 1)
		if err == nil && inner.next() != 0 {
			err = errUnread
		}
		return n, err
	}
	if word == "u32" && e.next() == '(' || word == "i32" && e.next() == '(' {
		return e.atom(depth + 1)
	}
	n, err := strconv.ParseUint(strings.TrimRight(word, "ui"), 0, 32)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", word, errUnread)
	}
	return n, nil
}
