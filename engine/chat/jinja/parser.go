// The syntax tree and the recursive-descent parser, with jinja2's grammar and precedence.

package jinja

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Statements.
type (
	stmt interface{}

	dataStmt   struct{ text string }
	outputStmt struct {
		line  int
		value expr
	}
	ifStmt struct {
		line      int
		cond      expr
		body      []stmt
		otherwise []stmt
	}
	forStmt struct {
		line      int
		target    target
		iter      expr
		filter    expr // nil without "if"
		recursive bool
		body      []stmt
		otherwise []stmt
	}
	setStmt struct {
		line   int
		target target
		value  expr
	}
	setBlockStmt struct {
		line    int
		target  target
		filters []filterExpr // applied in order; their inputs are nil
		body    []stmt
	}
	macroStmt struct {
		line int
		name string
		macroDef
	}
	callStmt struct {
		line   int
		call   callExpr
		caller macroDef
	}
	filterStmt struct {
		line    int
		filters []filterExpr
		body    []stmt
	}
	withStmt struct {
		line    int
		targets []target
		values  []expr
		body    []stmt
	}
	scopeStmt   struct{ body []stmt } // {% generation %}
	controlStmt struct {
		line int
		err  error // errBreak or errContinue
	}
)

type macroDef struct {
	params   []string
	defaults []expr // of the last parameters
	body     []stmt
}

// target is what an assignment or a loop assigns to: a name, an attribute of a namespace, or a tuple.
type target struct {
	name  string
	attr  string // with name: namespace.attr
	tuple []target
}

// Expressions.
type (
	expr interface{}

	constExpr struct{ value any }
	nameExpr  struct {
		line int
		name string
	}
	listExpr struct {
		items []expr
		tuple bool
	}
	dictExpr struct{ keys, values []expr }
	attrExpr struct {
		line int
		of   expr
		name string
	}
	itemExpr struct {
		line    int
		of, key expr
	}
	sliceExpr struct {
		line                  int
		of, start, stop, step expr // nil where absent
	}
	callExpr struct {
		line int
		fn   expr
		args
	}
	filterExpr struct {
		line int
		of   expr
		name string
		args
	}
	testExpr struct {
		line int
		of   expr
		name string
		args
	}
	unaryExpr struct {
		line int
		op   string // "not", "-", "+"
		of   expr
	}
	binaryExpr struct {
		line        int
		op          string
		left, right expr
	}
	logicExpr struct {
		isAnd       bool
		left, right expr
	}
	compareExpr struct {
		line  int
		first expr
		ops   []string
		rest  []expr
	}
	concatExpr struct {
		line  int
		parts []expr
	}
	condExpr struct{ cond, yes, no expr } // no is nil without else
)

type args struct {
	pos      []expr
	names    []string
	named    []expr
	star     expr // *args
	starStar expr // **kwargs
}

// maxParseDepth bounds recursion: Go's stack is large, and a template that needs more is no template.
const maxParseDepth = 200

type parser struct {
	tokens []token
	pos    int
	depth  int
}

func parse(tokens []token) ([]stmt, error) {
	p := &parser{tokens: tokens}
	body, err := p.statements()
	if err == nil && p.peek().kind != tokEOF {
		err = p.errorf("unexpected %s", p.peek())
	}
	return body, err
}

func (p *parser) peek() token { return p.tokens[p.pos] }

func (p *parser) next() token {
	t := p.tokens[p.pos]
	if t.kind != tokEOF {
		p.pos++
	}
	return t
}

func (p *parser) errorf(format string, args ...any) error {
	return &Error{p.peek().line, fmt.Errorf(format, args...)}
}

func (p *parser) is(kind tokenKind, text string) bool {
	t := p.peek()
	return t.kind == kind && t.text == text
}

func (p *parser) op(text string) bool   { return p.is(tokOp, text) }
func (p *parser) word(text string) bool { return p.is(tokName, text) }

func (p *parser) skip(kind tokenKind, text string) bool {
	if p.is(kind, text) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) skipOp(text string) bool   { return p.skip(tokOp, text) }
func (p *parser) skipWord(text string) bool { return p.skip(tokName, text) }

func (p *parser) expectOp(text string) error {
	if !p.skipOp(text) {
		return p.errorf("expected '%s', found %s", text, p.peek())
	}
	return nil
}

func (p *parser) name() (string, error) {
	if p.peek().kind != tokName {
		return "", p.errorf("expected a name, found %s", p.peek())
	}
	return p.next().text, nil
}

func (p *parser) blockEnd() error {
	if p.peek().kind != tokBlockEnd {
		return p.errorf("expected the end of the statement, found %s", p.peek())
	}
	p.pos++
	return nil
}

// enter bounds the depth of recursion; each call is paired with leave.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxParseDepth {
		return p.errorf("nested deeper than %d: %w", maxParseDepth, ErrLimit)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// statements parses until a statement named one of ends, whose name it leaves as the next token ({% is consumed).
func (p *parser) statements(ends ...string) ([]stmt, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	var out []stmt
	opened := p.peek().line
	for {
		t := p.next()
		switch t.kind {
		case tokEOF:
			if len(ends) > 0 {
				return nil, &Error{opened, fmt.Errorf("no {%% %s %%} before the end of the template", ends[len(ends)-1])}
			}
			return out, nil
		case tokData:
			out = append(out, dataStmt{t.text})
		case tokVarBegin:
			value, err := p.tuple()
			if err != nil {
				return nil, err
			}
			if p.peek().kind != tokVarEnd {
				return nil, p.errorf("expected '}}', found %s", p.peek())
			}
			p.pos++
			out = append(out, outputStmt{t.line, value})
		case tokBlockBegin:
			if p.peek().kind == tokName && slices.Contains(ends, p.peek().text) {
				return out, nil
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		default:
			p.pos--
			return nil, p.errorf("unexpected %s", t)
		}
	}
}

// closed parses statements up to the end tag and consumes that.
func (p *parser) closed(end string) ([]stmt, error) {
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	body, err := p.statements(end)
	if err != nil {
		return nil, err
	}
	p.pos++
	return body, p.blockEnd()
}

func (p *parser) statement() (stmt, error) {
	t := p.peek()
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	switch name {
	case "if":
		return p.ifStatement(t.line)
	case "for":
		return p.forStatement(t.line)
	case "set":
		return p.setStatement(t.line)
	case "macro":
		s := macroStmt{line: t.line}
		if s.name, err = p.name(); err == nil {
			s.macroDef, err = p.macroRest("endmacro", true)
		}
		return s, err
	case "call":
		return p.callStatement(t.line)
	case "filter":
		s := filterStmt{line: t.line}
		if s.filters, err = p.filterChain(); err == nil {
			s.body, err = p.closed("endfilter")
		}
		return s, err
	case "with":
		return p.withStatement(t.line)
	case "generation": // marks the assistant's tokens for training
		body, err := p.closed("endgeneration")
		return scopeStmt{body}, err
	case "break":
		return controlStmt{t.line, errBreak}, p.blockEnd()
	case "continue":
		return controlStmt{t.line, errContinue}, p.blockEnd()
	case "block", "extends", "include", "import", "from", "do", "autoescape", "trans":
		return nil, &Error{t.line, fmt.Errorf("{%% %s %%} is not supported in chat templates", name)}
	}
	return nil, &Error{t.line, fmt.Errorf("unknown statement '%s'", name)}
}

// ifStatement parses the condition and body of if or elif, and what follows.
func (p *parser) ifStatement(line int) (stmt, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	cond, err := p.tuple()
	if err != nil {
		return nil, err
	}
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	s := ifStmt{line: line, cond: cond}
	if s.body, err = p.statements("elif", "else", "endif"); err != nil {
		return nil, err
	}
	switch end := p.next(); end.text {
	case "elif":
		inner, err := p.ifStatement(end.line)
		s.otherwise = []stmt{inner}
		return s, err
	case "else":
		s.otherwise, err = p.closed("endif")
		return s, err
	}
	return s, p.blockEnd()
}

func (p *parser) forStatement(line int) (stmt, error) {
	s := forStmt{line: line}
	var err error
	if s.target, err = p.targets(false); err != nil {
		return nil, err
	}
	if !p.skipWord("in") {
		return nil, p.errorf("expected 'in', found %s", p.peek())
	}
	if s.iter, err = p.tupleOf(p.or); err != nil { // a following "if" filters the loop
		return nil, err
	}
	if p.skipWord("if") {
		if s.filter, err = p.expression(); err != nil {
			return nil, err
		}
	}
	s.recursive = p.skipWord("recursive")
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	if s.body, err = p.statements("else", "endfor"); err != nil {
		return nil, err
	}
	if p.next().text == "else" {
		s.otherwise, err = p.closed("endfor")
		return s, err
	}
	return s, p.blockEnd()
}

// targets parses what is assigned to; attributes of namespaces only where attrs is set.
func (p *parser) targets(attrs bool) (target, error) {
	if err := p.enter(); err != nil {
		return target{}, err
	}
	defer p.leave()
	var list []target
	isTuple := false
	for {
		var t target
		if p.skipOp("(") {
			inner, err := p.targets(attrs)
			if err != nil {
				return t, err
			}
			if err := p.expectOp(")"); err != nil {
				return t, err
			}
			t = inner
		} else {
			name, err := p.name()
			if err != nil {
				return t, err
			}
			if reservedNames[name] {
				return t, p.errorf("cannot assign to '%s'", name)
			}
			t.name = name
			if attrs && p.skipOp(".") {
				if t.attr, err = p.name(); err != nil {
					return t, err
				}
			}
		}
		list = append(list, t)
		if !p.skipOp(",") {
			break
		}
		isTuple = true
		if p.peek().kind != tokName && !p.op("(") {
			break
		}
	}
	if isTuple {
		return target{tuple: list}, nil
	}
	return list[0], nil
}

var reservedNames = map[string]bool{"true": true, "false": true, "none": true, "True": true, "False": true, "None": true, "not": true, "and": true, "or": true, "in": true, "is": true, "if": true, "else": true}

func (p *parser) setStatement(line int) (stmt, error) {
	t, err := p.targets(true)
	if err != nil {
		return nil, err
	}
	if p.skipOp("=") {
		value, err := p.tuple()
		if err != nil {
			return nil, err
		}
		return setStmt{line, t, value}, p.blockEnd()
	}
	s := setBlockStmt{line: line, target: t}
	if p.op("|") {
		p.pos++
		if s.filters, err = p.filterChain(); err != nil {
			return nil, err
		}
	}
	s.body, err = p.closed("endset")
	return s, err
}

func (p *parser) macroRest(end string, withParams bool) (m macroDef, err error) {
	if withParams || p.op("(") {
		if err := p.expectOp("("); err != nil {
			return m, err
		}
		for !p.op(")") {
			if len(m.params) > 0 {
				if err := p.expectOp(","); err != nil {
					return m, err
				}
				if p.op(")") {
					break
				}
			}
			name, err := p.name()
			if err != nil {
				return m, err
			}
			m.params = append(m.params, name)
			if p.skipOp("=") {
				value, err := p.expression()
				if err != nil {
					return m, err
				}
				m.defaults = append(m.defaults, value)
			} else if len(m.defaults) > 0 {
				return m, p.errorf("parameter '%s' without a default behind one with a default", name)
			}
		}
		p.pos++
	}
	if end != "" {
		m.body, err = p.closed(end)
	}
	return m, err
}

func (p *parser) callStatement(line int) (stmt, error) {
	caller, err := p.macroRest("", false)
	if err != nil {
		return nil, err
	}
	value, err := p.expression()
	if err != nil {
		return nil, err
	}
	call, ok := value.(callExpr)
	if !ok {
		return nil, &Error{line, fmt.Errorf("{%% call %%} needs a call")}
	}
	if caller.body, err = p.closed("endcall"); err != nil {
		return nil, err
	}
	return callStmt{line, call, caller}, nil
}

func (p *parser) withStatement(line int) (stmt, error) {
	s := withStmt{line: line}
	for p.peek().kind != tokBlockEnd {
		if len(s.targets) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		t, err := p.name()
		if err != nil {
			return nil, err
		}
		if err := p.expectOp("="); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		s.targets, s.values = append(s.targets, target{name: t}), append(s.values, value)
	}
	body, err := p.closed("endwith")
	s.body = body
	return s, err
}

// filterChain parses name(args)|name(args)… with no input.
func (p *parser) filterChain() ([]filterExpr, error) {
	var out []filterExpr
	for {
		f, err := p.filter(nil)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
		if !p.skipOp("|") {
			return out, nil
		}
	}
}

// tuple parses an expression, or several with commas between as a tuple.
func (p *parser) tuple() (expr, error) { return p.tupleOf(p.expression) }

func (p *parser) tupleOf(parse func() (expr, error)) (expr, error) {
	first, err := parse()
	if err != nil || !p.op(",") {
		return first, err
	}
	items := []expr{first}
	for p.skipOp(",") {
		if p.tupleEnd() {
			break
		}
		item, err := parse()
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return listExpr{items, true}, nil
}

func (p *parser) tupleEnd() bool {
	t := p.peek()
	return t.kind == tokVarEnd || t.kind == tokBlockEnd || p.op(")")
}

func (p *parser) expression() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	e, err := p.or()
	for err == nil && p.skipWord("if") {
		c := condExpr{yes: e}
		if c.cond, err = p.or(); err != nil {
			return nil, err
		}
		if p.skipWord("else") {
			if c.no, err = p.expression(); err != nil {
				return nil, err
			}
		}
		e = c
	}
	return e, err
}

func (p *parser) or() (expr, error) {
	left, err := p.and()
	for n := 0; err == nil && p.skipWord("or"); n++ {
		var right expr
		if right, err = p.and(); err == nil {
			left = logicExpr{false, left, right}
		}
		if n > maxParseDepth {
			return nil, p.errorf("more than %d operators in a row: %w", maxParseDepth, ErrLimit)
		}
	}
	return left, err
}

func (p *parser) and() (expr, error) {
	left, err := p.not()
	for n := 0; err == nil && p.skipWord("and"); n++ {
		var right expr
		if right, err = p.not(); err == nil {
			left = logicExpr{true, left, right}
		}
		if n > maxParseDepth {
			return nil, p.errorf("more than %d operators in a row: %w", maxParseDepth, ErrLimit)
		}
	}
	return left, err
}

func (p *parser) not() (expr, error) {
	if t := p.peek(); p.skipWord("not") {
		if err := p.enter(); err != nil {
			return nil, err
		}
		defer p.leave()
		of, err := p.not()
		return unaryExpr{t.line, "not", of}, err
	}
	return p.compare()
}

func (p *parser) compare() (expr, error) {
	line := p.peek().line
	first, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	c := compareExpr{line: line, first: first}
	for {
		t := p.peek()
		op := ""
		switch {
		case t.kind == tokOp && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, t.text):
			op = t.text
			p.pos++
		case p.skipWord("in"):
			op = "in"
		case p.word("not") && p.tokens[p.pos+1].kind == tokName && p.tokens[p.pos+1].text == "in":
			op = "not in"
			p.pos += 2
		}
		if op == "" {
			break
		}
		right, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		c.ops, c.rest = append(c.ops, op), append(c.rest, right)
	}
	if len(c.ops) == 0 {
		return first, nil
	}
	return c, nil
}

// binaryLevels are the left-associative operators from the loosest to the tightest.
var binaryLevels = [][]string{{"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}}

func (p *parser) binary(level int) (expr, error) {
	if level == len(binaryLevels) {
		return p.unary(true)
	}
	left, err := p.binary(level + 1)
	for n := 0; err == nil; n++ {
		t := p.peek()
		if t.kind != tokOp || !slices.Contains(binaryLevels[level], t.text) {
			break
		}
		if n > maxParseDepth {
			return nil, p.errorf("more than %d operators in a row: %w", maxParseDepth, ErrLimit)
		}
		p.pos++
		var right expr
		if right, err = p.binary(level + 1); err != nil {
			break
		}
		if t.text == "~" {
			if c, ok := left.(concatExpr); ok {
				c.parts = append(c.parts, right)
				left = c
			} else {
				left = concatExpr{t.line, []expr{left, right}}
			}
			continue
		}
		left = binaryExpr{t.line, t.text, left, right}
	}
	return left, err
}

func (p *parser) unary(withFilter bool) (e expr, err error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	t := p.peek()
	if p.skipOp("-") || p.skipOp("+") {
		of, err := p.unary(false)
		if err != nil {
			return nil, err
		}
		e = unaryExpr{t.line, t.text, of}
	} else if e, err = p.primary(); err != nil {
		return nil, err
	}
	if e, err = p.postfix(e); err == nil && withFilter {
		e, err = p.filters(e)
	}
	return e, err
}

func (p *parser) primary() (expr, error) {
	t := p.next()
	switch t.kind {
	case tokName:
		switch t.text {
		case "true", "True":
			return constExpr{true}, nil
		case "false", "False":
			return constExpr{false}, nil
		case "none", "None":
			return constExpr{nil}, nil
		}
		if reservedNames[t.text] {
			p.pos--
			return nil, p.errorf("unexpected '%s'", t.text)
		}
		return nameExpr{t.line, t.text}, nil
	case tokString:
		var b strings.Builder
		b.WriteString(t.text)
		for p.peek().kind == tokString {
			b.WriteString(p.next().text)
		}
		return constExpr{b.String()}, nil
	case tokInt:
		n, err := strconv.ParseInt(t.text, 0, 64)
		if err != nil { // Python allows leading zeros only in 0
			n, err = strconv.ParseInt(t.text, 10, 64)
		}
		if err != nil {
			return nil, &Error{t.line, fmt.Errorf("integer %s: %w", t.text, errors64)}
		}
		return constExpr{n}, nil
	case tokFloat:
		f, _ := strconv.ParseFloat(t.text, 64)
		return constExpr{f}, nil
	case tokOp:
		switch t.text {
		case "(":
			if p.skipOp(")") {
				return listExpr{nil, true}, nil
			}
			e, err := p.tuple()
			if err != nil {
				return nil, err
			}
			return e, p.expectOp(")")
		case "[":
			items, err := p.list("]")
			return listExpr{items, false}, err
		case "{":
			return p.dict()
		}
	}
	if t.kind != tokEOF {
		p.pos--
	}
	return nil, p.errorf("unexpected %s", t)
}

func (p *parser) list(end string) ([]expr, error) {
	var items []expr
	for !p.op(end) {
		if len(items) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.op(end) {
				break
			}
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, e)
	}
	p.pos++
	return items, nil
}

func (p *parser) dict() (expr, error) {
	var d dictExpr
	for !p.op("}") {
		if len(d.keys) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.op("}") {
				break
			}
		}
		key, err := p.expression()
		if err != nil {
			return nil, err
		}
		if err := p.expectOp(":"); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, key), append(d.values, value)
	}
	p.pos++
	return d, nil
}

// postfix parses .name, [key] and (args) behind e.
func (p *parser) postfix(e expr) (expr, error) {
	for n := 0; ; n++ {
		if n > maxParseDepth {
			return nil, p.errorf("more than %d accesses in a row: %w", maxParseDepth, ErrLimit)
		}
		t := p.peek()
		var err error
		switch {
		case p.skipOp("."):
			attr := p.next()
			switch attr.kind {
			case tokName:
				e = attrExpr{t.line, e, attr.text}
			case tokInt:
				i, convErr := strconv.ParseInt(attr.text, 10, 64)
				e, err = itemExpr{t.line, e, constExpr{i}}, convErr
			default:
				p.pos--
				return nil, p.errorf("expected a name behind '.', found %s", attr)
			}
		case p.skipOp("["):
			e, err = p.subscript(t.line, e)
		case p.op("("):
			e, err = p.call(e)
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) subscript(line int, of expr) (expr, error) {
	var parts [3]expr
	isSlice := false
	for i := 0; ; {
		if p.skipOp(":") {
			isSlice = true
			if i++; i == 3 {
				return nil, p.errorf("a slice has at most three parts")
			}
			continue
		}
		if p.skipOp("]") {
			break
		}
		if parts[i] != nil {
			return nil, p.errorf("expected ']', found %s", p.peek())
		}
		var err error
		if parts[i], err = p.expression(); err != nil {
			return nil, err
		}
	}
	if isSlice {
		return sliceExpr{line, of, parts[0], parts[1], parts[2]}, nil
	}
	if parts[0] == nil {
		return nil, p.errorf("an empty subscript")
	}
	return itemExpr{line, of, parts[0]}, nil
}

func (p *parser) call(fn expr) (expr, error) {
	line := p.peek().line
	a, err := p.arguments()
	return callExpr{line, fn, a}, err
}

func (p *parser) arguments() (a args, err error) {
	p.pos++ // (
	for first := true; !p.op(")"); first = false {
		if !first {
			if err := p.expectOp(","); err != nil {
				return a, err
			}
			if p.op(")") {
				break
			}
		}
		switch {
		case p.skipOp("*"):
			a.star, err = p.expression()
		case p.skipOp("**"):
			a.starStar, err = p.expression()
		case p.peek().kind == tokName && p.tokens[p.pos+1].kind == tokOp && p.tokens[p.pos+1].text == "=":
			a.names = append(a.names, p.next().text)
			p.pos++
			var value expr
			value, err = p.expression()
			a.named = append(a.named, value)
		default:
			if len(a.names) > 0 {
				return a, p.errorf("a positional argument behind a named one")
			}
			var value expr
			value, err = p.expression()
			a.pos = append(a.pos, value)
		}
		if err != nil {
			return a, err
		}
	}
	p.pos++
	return a, nil
}

// filters parses |filter, is test and calls behind e.
func (p *parser) filters(e expr) (expr, error) {
	for n := 0; ; n++ {
		if n > maxParseDepth {
			return nil, p.errorf("more than %d filters in a row: %w", maxParseDepth, ErrLimit)
		}
		var err error
		switch {
		case p.skipOp("|"):
			e, err = p.filter(e)
		case p.skipWord("is"):
			e, err = p.test(e)
		case p.op("("):
			e, err = p.call(e)
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) filter(of expr) (filterExpr, error) {
	f := filterExpr{line: p.peek().line, of: of}
	var err error
	if f.name, err = p.name(); err != nil {
		return f, err
	}
	if filters[f.name] == nil {
		return f, &Error{f.line, fmt.Errorf("unknown filter '%s'", f.name)}
	}
	if p.op("(") {
		f.args, err = p.arguments()
	}
	return f, err
}

func (p *parser) test(of expr) (expr, error) {
	line := p.peek().line
	negated := p.skipWord("not")
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	t := testExpr{line: line, of: of, name: name}
	if tests[name] == nil {
		return nil, &Error{line, fmt.Errorf("unknown test '%s'", name)}
	}
	switch next := p.peek(); {
	case p.op("("):
		t.args, err = p.arguments()
	case next.kind == tokString || next.kind == tokInt || next.kind == tokFloat || p.op("[") || p.op("{") ||
		next.kind == tokName && !slices.Contains([]string{"else", "or", "and", "is", "if", "in", "not", "recursive"}, next.text):
		var arg expr
		if arg, err = p.primary(); err == nil {
			arg, err = p.postfix(arg)
		}
		t.pos = []expr{arg}
	case p.word("is"):
		return nil, p.errorf("tests cannot be chained with 'is'")
	}
	if err != nil {
		return nil, err
	}
	if negated {
		return unaryExpr{line, "not", t}, nil
	}
	return t, nil
}
