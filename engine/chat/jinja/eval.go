// The interpreter: statements and expressions, each step counted.

package jinja

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
	errors64    = errors.New("does not fit 64 bits")
)

func isLoopControl(err error) bool { return err == errBreak || err == errContinue }

// scope is one frame of variables.
type scope struct {
	vars   map[string]any
	parent *scope
}

func newScope(parent *scope) *scope { return &scope{vars: map[string]any{}, parent: parent} }

func (s *scope) lookup(name string) (any, bool) {
	for ; s != nil; s = s.parent {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

// renderer is one rendering.
type renderer struct {
	limits Limits
	now    func() time.Time
	out    *strings.Builder
	line   int
	steps  int
	bytes  int
	calls  int // macro calls and recursive loops under way
	depth  int // nested evaluations under way
}

// maxEvalDepth bounds Go's stack: nested expressions and statements, through all calls under way.
const maxEvalDepth = 20_000

func (r *renderer) step(n int) error {
	if r.steps += n; r.steps > r.limits.Steps {
		return fmt.Errorf("more than %d steps: %w", r.limits.Steps, ErrLimit)
	}
	return nil
}

// made counts n bytes of new text.
func (r *renderer) made(n int) error {
	if r.bytes += n; r.bytes > r.limits.Bytes {
		return fmt.Errorf("more than %d bytes of text: %w", r.limits.Bytes, ErrLimit)
	}
	return r.step(n / 16)
}

func (r *renderer) enter() error {
	if r.depth++; r.depth > maxEvalDepth {
		return fmt.Errorf("nested deeper than %d: %w", maxEvalDepth, ErrLimit)
	}
	return nil
}

func (r *renderer) enterCall() error {
	if r.calls++; r.calls > r.limits.Depth {
		return fmt.Errorf("calls nested deeper than %d: %w", r.limits.Depth, ErrLimit)
	}
	return nil
}

func (r *renderer) write(s string) error {
	r.out.WriteString(s)
	return r.made(len(s))
}

// capture renders body to a string.
func (r *renderer) capture(body []stmt, s *scope) (string, error) {
	outer := r.out
	var out strings.Builder
	r.out = &out
	err := r.block(body, s)
	r.out = outer
	return out.String(), err
}

// block runs statements. An error without a line gets that of its statement.
func (r *renderer) block(body []stmt, s *scope) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer func() { r.depth-- }()
	for _, st := range body {
		if err := r.step(1); err != nil {
			return err
		}
		if err := r.statement(st, s); err != nil {
			if isLoopControl(err) {
				return err
			}
			return r.located(err)
		}
	}
	return nil
}

func (r *renderer) statement(st stmt, s *scope) error {
	switch st := st.(type) {
	case dataStmt:
		return r.write(st.text)
	case outputStmt:
		r.line = st.line
		v, err := r.eval(st.value, s)
		if err != nil {
			return err
		}
		text, err := r.str(v)
		if err != nil {
			return err
		}
		return r.write(text)
	case ifStmt:
		r.line = st.line
		v, err := r.eval(st.cond, s)
		if err != nil {
			return err
		}
		if truthy(v) {
			return r.block(st.body, s)
		}
		return r.block(st.otherwise, s)
	case forStmt:
		r.line = st.line
		v, err := r.eval(st.iter, s)
		if err != nil {
			return err
		}
		return r.loop(&st, v, s, 0)
	case setStmt:
		r.line = st.line
		v, err := r.eval(st.value, s)
		if err != nil {
			return err
		}
		return r.assign(st.target, v, s)
	case setBlockStmt:
		r.line = st.line
		text, err := r.capture(st.body, newScope(s))
		if err != nil {
			return err
		}
		v, err := r.applyFilters(st.filters, text, s)
		if err != nil {
			return err
		}
		return r.assign(st.target, v, s)
	case macroStmt:
		s.vars[st.name] = r.macro(st.name, st.macroDef, s)
		return nil
	case callStmt:
		r.line = st.line
		a, fn, err := r.callee(st.call, s)
		if err != nil {
			return err
		}
		if a.named == nil {
			a.named = map[string]any{}
		}
		a.named["caller"] = r.macro("caller", st.caller, s)
		v, err := fn.call(r, a)
		if err != nil {
			return err
		}
		text, err := r.str(v)
		if err != nil {
			return err
		}
		return r.write(text)
	case filterStmt:
		r.line = st.line
		text, err := r.capture(st.body, newScope(s))
		if err != nil {
			return err
		}
		v, err := r.applyFilters(st.filters, text, s)
		if err != nil {
			return err
		}
		if text, err = r.str(v); err != nil {
			return err
		}
		return r.write(text)
	case withStmt:
		r.line = st.line
		inner := newScope(s)
		for i, t := range st.targets {
			v, err := r.eval(st.values[i], s)
			if err != nil {
				return err
			}
			inner.vars[t.name] = v
		}
		return r.block(st.body, inner)
	case scopeStmt:
		return r.block(st.body, s)
	case controlStmt:
		r.line = st.line
		return st.err
	}
	return fmt.Errorf("statement of Go type %T", st)
}

func (r *renderer) assign(t target, v any, s *scope) error {
	switch {
	case t.tuple != nil:
		items, err := r.iterate(v)
		if err != nil {
			return err
		}
		if len(items) != len(t.tuple) {
			return fmt.Errorf("cannot unpack %d values into %d names", len(items), len(t.tuple))
		}
		for i, part := range t.tuple {
			if err := r.assign(part, items[i], s); err != nil {
				return err
			}
		}
	case t.attr != "":
		of, _ := s.lookup(t.name)
		ns, ok := of.(*namespace)
		if !ok {
			return fmt.Errorf("cannot assign attribute '%s' of '%s': it is no namespace", t.attr, t.name)
		}
		ns.Set(t.attr, v)
	default:
		s.vars[t.name] = v
	}
	return nil
}

// loop runs a for statement over v; depth counts the recursive loops around it.
func (r *renderer) loop(st *forStmt, v any, s *scope, depth int) error {
	items, err := r.iterate(v)
	if err != nil {
		return err
	}
	if st.filter != nil {
		var kept []any
		for _, item := range items {
			inner := newScope(s)
			if err := r.assign(st.target, item, inner); err != nil {
				return err
			}
			ok, err := r.eval(st.filter, inner)
			if err != nil {
				return err
			}
			if truthy(ok) {
				kept = append(kept, item)
			}
		}
		items = kept
	}
	if len(items) == 0 {
		return r.block(st.otherwise, newScope(s))
	}
	info := &loopInfo{items: items, depth: depth}
	if st.recursive {
		info.recurse = func(r *renderer, a callArgs) (any, error) {
			v, err := a.one("loop")
			if err != nil {
				return nil, err
			}
			if err := r.enterCall(); err != nil {
				return nil, err
			}
			defer func() { r.calls-- }()
			outer := r.out
			var out strings.Builder
			r.out = &out
			err = r.loop(st, v, s, depth+1)
			r.out = outer
			return out.String(), err
		}
	}
	for i, item := range items {
		if err := r.step(1); err != nil {
			return err
		}
		info.i = i
		inner := newScope(s)
		inner.vars["loop"] = info
		if err := r.assign(st.target, item, inner); err != nil {
			return err
		}
		if err := r.block(st.body, inner); err == errBreak {
			break
		} else if err != nil && err != errContinue {
			return err
		}
	}
	return nil
}

// loopInfo is the variable "loop".
type loopInfo struct {
	items   []any
	i       int
	depth   int
	recurse func(r *renderer, a callArgs) (any, error)
	last    []any // what changed() saw, nil at first
}

func (l *loopInfo) attr(r *renderer, name string) any {
	n := len(l.items)
	switch name {
	case "index":
		return int64(l.i + 1)
	case "index0":
		return int64(l.i)
	case "revindex":
		return int64(n - l.i)
	case "revindex0":
		return int64(n - l.i - 1)
	case "first":
		return l.i == 0
	case "last":
		return l.i == n-1
	case "length":
		return int64(n)
	case "depth":
		return int64(l.depth + 1)
	case "depth0":
		return int64(l.depth)
	case "previtem":
		if l.i > 0 {
			return l.items[l.i-1]
		}
		return Undefined{"there is no previous item"}
	case "nextitem":
		if l.i < n-1 {
			return l.items[l.i+1]
		}
		return Undefined{"there is no next item"}
	case "cycle":
		return &function{"loop.cycle", func(_ *renderer, a callArgs) (any, error) {
			if len(a.pos) == 0 {
				return nil, errors.New("no items for cycling given")
			}
			return a.pos[l.i%len(a.pos)], nil
		}}
	case "changed":
		return &function{"loop.changed", func(r *renderer, a callArgs) (any, error) {
			if l.last != nil {
				same, err := r.equal(NewList(l.last...), NewList(a.pos...), 0)
				if err != nil || same {
					return false, err
				}
			}
			l.last = append([]any{}, a.pos...)
			return true, nil
		}}
	}
	return Undefined{fmt.Sprintf("'loop' has no attribute '%s'", name)}
}

func (r *renderer) macro(name string, m macroDef, s *scope) *function {
	return &function{name, func(r *renderer, a callArgs) (any, error) {
		if err := r.enterCall(); err != nil {
			return nil, err
		}
		defer func() { r.calls-- }()
		inner := newScope(s)
		if len(a.pos) > len(m.params) {
			return nil, fmt.Errorf("macro '%s' takes not more than %d arguments", name, len(m.params))
		}
		used := 0
		for i, param := range m.params {
			v, given := a.named[param]
			switch {
			case i < len(a.pos):
				if given {
					return nil, fmt.Errorf("macro '%s' got two values for '%s'", name, param)
				}
				v = a.pos[i]
			case given:
				used++
			case i >= len(m.params)-len(m.defaults):
				var err error
				if v, err = r.eval(m.defaults[i-len(m.params)+len(m.defaults)], inner); err != nil {
					return nil, err
				}
			default:
				v = Undefined{fmt.Sprintf("parameter '%s' was not provided", param)}
			}
			inner.vars[param] = v
		}
		if caller, ok := a.named["caller"]; ok {
			inner.vars["caller"] = caller
			used++
		}
		if used < len(a.named) {
			for key := range a.named {
				if _, ok := inner.vars[key]; !ok {
					return nil, fmt.Errorf("macro '%s' takes no argument '%s'", name, key)
				}
			}
		}
		line := r.line
		text, err := r.capture(m.body, inner)
		if isLoopControl(err) {
			err = fmt.Errorf("'%w' outside a loop", err)
		}
		r.line = line
		return text, err
	}}
}

// eval returns the value of an expression.
func (r *renderer) eval(e expr, s *scope) (any, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer func() { r.depth-- }()
	switch e := e.(type) {
	case constExpr:
		return e.value, nil
	case nameExpr:
		if v, ok := s.lookup(e.name); ok {
			return v, nil
		}
		return Undefined{fmt.Sprintf("'%s' is undefined", e.name)}, nil
	case listExpr:
		items, err := r.evalAll(e.items, s)
		return &List{items, e.tuple}, err
	case dictExpr:
		d := new(Dict)
		for i := range e.keys {
			key, err := r.eval(e.keys[i], s)
			if err != nil {
				return nil, err
			}
			if err := hashable(key); err != nil {
				return nil, err
			}
			v, err := r.eval(e.values[i], s)
			if err != nil {
				return nil, err
			}
			d.Set(key, v)
		}
		return d, nil
	case attrExpr:
		of, err := r.eval(e.of, s)
		if err != nil {
			return nil, err
		}
		r.line = e.line
		return r.attr(of, e.name)
	case itemExpr:
		of, err := r.eval(e.of, s)
		if err != nil {
			return nil, err
		}
		key, err := r.eval(e.key, s)
		if err != nil {
			return nil, err
		}
		r.line = e.line
		return r.item(of, key)
	case sliceExpr:
		return r.slice(e, s)
	case callExpr:
		a, fn, err := r.callee(e, s)
		if err != nil {
			return nil, err
		}
		return fn.call(r, a)
	case filterExpr:
		of, err := r.eval(e.of, s)
		if err != nil {
			return nil, err
		}
		return r.applyFilters([]filterExpr{e}, of, s)
	case testExpr:
		of, err := r.eval(e.of, s)
		if err != nil {
			return nil, err
		}
		a, err := r.evalArgs(e.args, s)
		if err != nil {
			return nil, err
		}
		r.line = e.line
		return tests[e.name](r, of, a)
	case unaryExpr:
		return r.unary(e, s)
	case binaryExpr:
		left, err := r.eval(e.left, s)
		if err != nil {
			return nil, err
		}
		right, err := r.eval(e.right, s)
		if err != nil {
			return nil, err
		}
		r.line = e.line
		return r.arithmetic(e.op, left, right)
	case logicExpr:
		left, err := r.eval(e.left, s)
		if err != nil || truthy(left) != e.isAnd {
			return left, err
		}
		return r.eval(e.right, s)
	case compareExpr:
		return r.comparison(e, s)
	case concatExpr:
		var b strings.Builder
		for _, part := range e.parts {
			v, err := r.eval(part, s)
			if err != nil {
				return nil, err
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
	case condExpr:
		cond, err := r.eval(e.cond, s)
		if err != nil {
			return nil, err
		}
		if truthy(cond) {
			return r.eval(e.yes, s)
		}
		if e.no == nil {
			return Undefined{"the inline if-expression evaluated to false and no else section was defined"}, nil
		}
		return r.eval(e.no, s)
	}
	return nil, fmt.Errorf("expression of Go type %T", e)
}

func (r *renderer) evalAll(list []expr, s *scope) ([]any, error) {
	out := make([]any, len(list))
	for i, e := range list {
		var err error
		if out[i], err = r.eval(e, s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *renderer) evalArgs(a args, s *scope) (out callArgs, err error) {
	if out.pos, err = r.evalAll(a.pos, s); err != nil {
		return out, err
	}
	if a.star != nil {
		v, err := r.eval(a.star, s)
		if err != nil {
			return out, err
		}
		more, err := r.iterate(v)
		if err != nil {
			return out, err
		}
		out.pos = append(out.pos, more...)
	}
	if len(a.names) == 0 && a.starStar == nil {
		return out, nil
	}
	out.named = map[string]any{}
	for i, name := range a.names {
		if out.named[name], err = r.eval(a.named[i], s); err != nil {
			return out, err
		}
		out.order = append(out.order, name)
	}
	if a.starStar != nil {
		v, err := r.eval(a.starStar, s)
		if err != nil {
			return out, err
		}
		d, ok := v.(*Dict)
		if !ok {
			return out, fmt.Errorf("argument after ** must be a mapping, not %s", typeName(v))
		}
		for i, key := range d.keys {
			name, ok := key.(string)
			if !ok {
				return out, errors.New("keywords must be strings")
			}
			out.named[name] = d.values[i]
			out.order = append(out.order, name)
		}
	}
	return out, nil
}

// callee evaluates what is called, then the arguments.
func (r *renderer) callee(e callExpr, s *scope) (callArgs, *function, error) {
	v, err := r.eval(e.fn, s)
	if err != nil {
		return callArgs{}, nil, err
	}
	a, err := r.evalArgs(e.args, s)
	if err != nil {
		return a, nil, err
	}
	r.line = e.line
	switch fn := v.(type) {
	case *function:
		return a, fn, nil
	case *loopInfo:
		if fn.recurse != nil {
			return a, &function{"loop", fn.recurse}, nil
		}
		return a, nil, errors.New("the loop must have the 'recursive' marker to be called recursively")
	case Undefined:
		return a, nil, fn.err()
	}
	return a, nil, fmt.Errorf("'%s' object is not callable", typeName(v))
}

func (r *renderer) applyFilters(list []filterExpr, v any, s *scope) (any, error) {
	for _, f := range list {
		a, err := r.evalArgs(f.args, s)
		if err != nil {
			return nil, err
		}
		r.line = f.line
		if v, err = filters[f.name](r, v, a); err != nil {
			return nil, fmt.Errorf("filter '%s': %w", f.name, err)
		}
	}
	return v, nil
}

// attr is v.name: attributes and methods first, then keys.
func (r *renderer) attr(of any, name string) (any, error) {
	switch of := of.(type) {
	case Undefined:
		return nil, of.err()
	case *namespace:
		if v, ok := of.Get(name); ok {
			return v, nil
		}
	case *loopInfo:
		return of.attr(r, name), nil
	case *Dict:
		if m := dictMethod(of, name); m != nil {
			return m, nil
		}
		if v, ok := of.Get(name); ok {
			return v, nil
		}
		if mutating[name] {
			return nil, fmt.Errorf("dict.%s is not allowed: a template cannot change values", name)
		}
		return Undefined{fmt.Sprintf("'dict object' has no attribute '%s'", name)}, nil
	case *List:
		if m := listMethod(of, name); m != nil {
			return m, nil
		}
		if mutating[name] {
			return nil, fmt.Errorf("list.%s is not allowed: a template cannot change values", name)
		}
	case string:
		if m := stringMethods[name]; m != nil {
			return &function{"str." + name, func(r *renderer, a callArgs) (any, error) {
				if err := r.step(1 + len(of)/16); err != nil {
					return nil, err
				}
				v, err := m(r, of, a)
				if err != nil {
					return nil, fmt.Errorf("str.%s: %w", name, err)
				}
				return v, nil
			}}, nil
		}
	}
	return Undefined{fmt.Sprintf("'%s object' has no attribute '%s'", typeName(of), name)}, nil
}

// item is v[key]: keys first, then attributes.
func (r *renderer) item(of, key any) (any, error) {
	switch of := of.(type) {
	case Undefined:
		return nil, of.err()
	case *Dict:
		if err := hashable(key); err != nil {
			return nil, err
		}
		if v, ok := of.Get(key); ok {
			return v, nil
		}
		if name, ok := key.(string); ok {
			if m := dictMethod(of, name); m != nil {
				return m, nil
			}
		}
		text, err := r.str(key)
		return Undefined{fmt.Sprintf("'dict object' has no attribute '%s'", text)}, err
	case *List:
		if i, _, isFloat, ok := asNumber(key); ok && !isFloat {
			if i < 0 {
				i += int64(len(of.Items))
			}
			if i >= 0 && i < int64(len(of.Items)) {
				return of.Items[i], nil
			}
			return Undefined{fmt.Sprintf("list object has no element %v", key)}, nil
		}
	case string:
		if i, _, isFloat, ok := asNumber(key); ok && !isFloat {
			if err := r.step(1 + len(of)/16); err != nil {
				return nil, err
			}
			if c, ok := runeAt(of, i); ok {
				return c, nil
			}
			return Undefined{fmt.Sprintf("str object has no element %v", key)}, nil
		}
	}
	if name, ok := key.(string); ok {
		return r.attr(of, name)
	}
	return Undefined{fmt.Sprintf("'%s object' has no such element", typeName(of))}, nil
}

// runeAt returns character i of s, from the end where i is negative.
func runeAt(s string, i int64) (string, bool) {
	if i < 0 {
		i += int64(utf8.RuneCountInString(s))
	}
	if i < 0 || i >= int64(len(s)) {
		return "", false
	}
	for at, c := range s {
		if i == 0 {
			return s[at : at+utf8.RuneLen(c)], true
		}
		i--
	}
	return "", false
}

func (r *renderer) slice(e sliceExpr, s *scope) (any, error) {
	of, err := r.eval(e.of, s)
	if err != nil {
		return nil, err
	}
	var bounds [3]*int64
	for i, part := range []expr{e.start, e.stop, e.step} {
		if part == nil {
			continue
		}
		v, err := r.eval(part, s)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		n, _, isFloat, ok := asNumber(v)
		if !ok || isFloat {
			return nil, fmt.Errorf("slice indices must be integers or None, not %s", typeName(v))
		}
		bounds[i] = &n
	}
	r.line = e.line
	if bounds[2] != nil && *bounds[2] == 0 {
		return nil, errors.New("slice step cannot be zero")
	}
	switch of := of.(type) {
	case *List:
		items, err := r.pick(of.Items, bounds)
		return &List{items, of.tuple}, err
	case string:
		chars, err := r.iterate(of)
		if err != nil {
			return nil, err
		}
		if chars, err = r.pick(chars, bounds); err != nil {
			return nil, err
		}
		var b strings.Builder
		for _, c := range chars {
			b.WriteString(c.(string))
		}
		return b.String(), r.made(b.Len())
	case Undefined:
		return nil, of.err()
	}
	return nil, fmt.Errorf("'%s' object is not subscriptable", typeName(of))
}

// pick is items[start:stop:step].
func (r *renderer) pick(items []any, bounds [3]*int64) ([]any, error) {
	n := int64(len(items))
	step := int64(1)
	if bounds[2] != nil {
		step = max(min(*bounds[2], n+1), -n-1)
	}
	low, high := int64(0), n // where start and stop may lie
	if step < 0 {
		low, high = -1, n-1
	}
	at := func(b *int64, otherwise int64) int64 {
		if b == nil {
			return otherwise
		}
		i := *b
		if i < 0 {
			i += n
		}
		return max(low, min(i, high))
	}
	start, stop := at(bounds[0], low), at(bounds[1], high)
	if step < 0 {
		start, stop = at(bounds[0], high), at(bounds[1], low)
	}
	var out []any
	for i := start; (step > 0 && i < stop) || (step < 0 && i > stop); i += step {
		out = append(out, items[i])
	}
	return out, r.step(1 + len(out)/16)
}

func (r *renderer) unary(e unaryExpr, s *scope) (any, error) {
	v, err := r.eval(e.of, s)
	if err != nil {
		return nil, err
	}
	if e.op == "not" {
		return !truthy(v), nil
	}
	r.line = e.line
	i, f, isFloat, ok := asNumber(v)
	switch {
	case !ok:
		if u, isUndefined := v.(Undefined); isUndefined {
			return nil, u.err()
		}
		return nil, fmt.Errorf("bad operand type for unary %s: '%s'", e.op, typeName(v))
	case e.op == "+" && isFloat:
		return f, nil
	case e.op == "+":
		return i, nil
	case isFloat:
		return -f, nil
	case i == math.MinInt64:
		return nil, errors64
	}
	return -i, nil
}

func (r *renderer) comparison(e compareExpr, s *scope) (any, error) {
	left, err := r.eval(e.first, s)
	if err != nil {
		return nil, err
	}
	for i, op := range e.ops {
		right, err := r.eval(e.rest[i], s)
		if err != nil {
			return nil, err
		}
		r.line = e.line
		var ok bool
		switch op {
		case "==", "!=":
			ok, err = r.equal(left, right, 0)
			ok = ok == (op == "==")
		case "in", "not in":
			ok, err = r.contains(right, left)
			ok = ok == (op == "in")
		default:
			var c int
			c, err = r.compare(left, right, op)
			ok = map[string]bool{"<": c < 0, "<=": c <= 0, ">": c > 0, ">=": c >= 0}[op]
			if lf, isFloat := left.(float64); isFloat && math.IsNaN(lf) {
				ok = false
			}
			if rf, isFloat := right.(float64); isFloat && math.IsNaN(rf) {
				ok = false
			}
		}
		if err != nil || !ok {
			return false, err
		}
		left = right
	}
	return true, nil
}

func (r *renderer) arithmetic(op string, a, b any) (any, error) {
	for _, v := range []any{a, b} {
		if u, ok := v.(Undefined); ok {
			return nil, u.err()
		}
	}
	ai, af, aIsFloat, aOK := asNumber(a)
	bi, bf, bIsFloat, bOK := asNumber(b)
	if aOK && bOK {
		if aIsFloat || bIsFloat || op == "/" {
			return floatArithmetic(op, af, bf)
		}
		return intArithmetic(op, ai, bi)
	}
	switch op {
	case "+":
		switch a := a.(type) {
		case string:
			if b, ok := b.(string); ok {
				return a + b, r.made(len(a) + len(b))
			}
			return nil, fmt.Errorf(`can only concatenate str (not "%s") to str`, typeName(b))
		case *List:
			if b, ok := b.(*List); ok && a.tuple == b.tuple {
				items := make([]any, 0, len(a.Items)+len(b.Items))
				return &List{append(append(items, a.Items...), b.Items...), a.tuple}, r.made(16 * cap(items))
			}
		}
	case "*":
		if aOK && !aIsFloat {
			a, b, bi, bOK, bIsFloat = b, a, ai, true, false
		}
		if bOK && !bIsFloat {
			return r.repeat(a, bi)
		}
	case "%":
		if format, ok := a.(string); ok {
			values := []any{b}
			if t, ok := b.(*List); ok && t.tuple {
				values = t.Items
			}
			return r.printf(format, values)
		}
	}
	return nil, fmt.Errorf("unsupported operand types for %s: '%s' and '%s'", op, typeName(a), typeName(b))
}

// repeat is v * n for a string or list.
func (r *renderer) repeat(v any, n int64) (any, error) {
	size := 0
	switch v := v.(type) {
	case string:
		size = len(v)
	case *List:
		size = 16 * len(v.Items)
	default:
		return nil, fmt.Errorf("can't multiply '%s' by an integer", typeName(v))
	}
	if n = max(n, 0); size > 0 && n > int64(r.limits.Bytes/size) {
		return nil, fmt.Errorf("more than %d bytes of text: %w", r.limits.Bytes, ErrLimit)
	}
	if err := r.made(size * int(n)); err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		return strings.Repeat(s, int(n)), nil
	}
	l := v.(*List)
	items := make([]any, 0, len(l.Items)*int(n))
	if len(l.Items) > 0 {
		for range n {
			items = append(items, l.Items...)
		}
	}
	return &List{items, l.tuple}, nil
}

func floatArithmetic(op string, a, b float64) (any, error) {
	switch op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "**":
		return math.Pow(a, b), nil
	}
	if b == 0 {
		return nil, errors.New("division by zero")
	}
	switch op {
	case "/":
		return a / b, nil
	case "//":
		return math.Floor(a / b), nil
	case "%":
		m := math.Mod(a, b)
		if m != 0 && (m < 0) != (b < 0) {
			m += b
		}
		return m, nil
	}
	return nil, fmt.Errorf("unknown operator %s", op)
}

// intArithmetic is exact or an error: Python's integers have no bound, these have 64 bits.
func intArithmetic(op string, a, b int64) (any, error) {
	switch op {
	case "+":
		if c := a + b; (c > a) == (b > 0) {
			return c, nil
		}
		return nil, errors64
	case "-":
		if c := a - b; (c < a) == (b > 0) {
			return c, nil
		}
		return nil, errors64
	case "*":
		c := a * b
		if a != 0 && (c/a != b || (a == -1 && b == math.MinInt64)) {
			return nil, errors64
		}
		return c, nil
	case "**":
		if b < 0 {
			return floatArithmetic(op, float64(a), float64(b))
		}
		var c any = int64(1)
		for range min(b, 64) {
			var err error
			if c, err = intArithmetic("*", c.(int64), a); err != nil {
				return nil, err
			}
		}
		if b > 64 { // only -1, 0 and 1 come this far
			if a == -1 && b%2 == 1 {
				return int64(-1), nil
			}
			return a * a, nil
		}
		return c, nil
	}
	if b == 0 {
		return nil, errors.New("integer division or modulo by zero")
	}
	if a == math.MinInt64 && b == -1 {
		return nil, errors64
	}
	quotient, rest := a/b, a%b
	if rest != 0 && (rest < 0) != (b < 0) {
		quotient, rest = quotient-1, rest+b
	}
	switch op {
	case "//":
		return quotient, nil
	case "%":
		return rest, nil
	}
	return nil, fmt.Errorf("unknown operator %s", op)
}
