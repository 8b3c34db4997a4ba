// The lexer: template text into tokens, with jinja2's rules for white space (trim_blocks and lstrip_blocks are on).

package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokData       tokenKind = iota // text between tags
	tokBlockBegin                  // {%
	tokBlockEnd                    // %}
	tokVarBegin                    // {{
	tokVarEnd                      // }}
	tokName
	tokString
	tokInt
	tokFloat
	tokOp
	tokEOF
)

type token struct {
	kind tokenKind
	text string // the name, operator or text; a string's value; a number's digits
	line int
}

func (t token) String() string {
	switch t.kind {
	case tokData:
		return "template text"
	case tokString:
		return strconv.Quote(t.text)
	case tokEOF:
		return "end of template"
	}
	return "'" + t.text + "'"
}

type lexer struct {
	src    string
	pos    int
	line   int
	tokens []token
}

func lex(src string) ([]token, error) {
	l := &lexer{src: src, line: 1}
	if err := l.run(); err != nil {
		return nil, err
	}
	l.emit(tokEOF, "")
	return l.tokens, nil
}

func (l *lexer) emit(kind tokenKind, text string) {
	l.tokens = append(l.tokens, token{kind, text, l.line})
}

func (l *lexer) errorf(format string, args ...any) error {
	return &Error{l.line, fmt.Errorf(format, args...)}
}

// advance moves past n bytes and counts their lines.
func (l *lexer) advance(n int) {
	l.line += strings.Count(l.src[l.pos:l.pos+n], "\n")
	l.pos += n
}

// isSpace is Python's str.isspace, which rstrip and the regex \s use.
func isSpace(r rune) bool { return unicode.IsSpace(r) || (r >= 0x1C && r <= 0x1F) }

func (l *lexer) skipSpace() {
	rest := l.src[l.pos:]
	l.advance(len(rest) - len(strings.TrimLeftFunc(rest, isSpace)))
}

func (l *lexer) run() error {
	lineStart := true // whether what came before ended a line
	for l.pos < len(l.src) {
		at := nextTag(l.src[l.pos:])
		if at < 0 {
			l.emit(tokData, l.src[l.pos:])
			return nil
		}
		text := l.src[l.pos : l.pos+at]
		open := l.src[l.pos+at : l.pos+at+2]
		sign := byte(0)
		if i := l.pos + at + 2; i < len(l.src) && (l.src[i] == '-' || l.src[i] == '+') {
			sign = l.src[i]
		}
		data := text
		if sign == '-' {
			data = strings.TrimRightFunc(text, isSpace)
		} else if sign != '+' && open != "{{" {
			start := strings.LastIndexByte(text, '\n') + 1
			if (start > 0 || lineStart) && strings.Trim(text[start:], " \t") == "" {
				data = text[:start]
			}
		}
		if data != "" {
			l.emit(tokData, data)
		}
		l.advance(len(text) + 2)
		if sign != 0 {
			l.advance(1)
		}
		var err error
		switch open {
		case "{#":
			err = l.comment()
		case "{{":
			err = l.tag(tokVarBegin, tokVarEnd, "}}")
		default:
			if ok, rawErr := l.raw(); ok || rawErr != nil {
				err = rawErr
			} else {
				err = l.tag(tokBlockBegin, tokBlockEnd, "%}")
			}
		}
		if err != nil {
			return err
		}
		lineStart = l.src[l.pos-1] == '\n'
	}
	return nil
}

func nextTag(s string) int {
	for from := 0; ; {
		i := strings.IndexByte(s[from:], '{')
		if i < 0 || from+i+1 >= len(s) {
			return -1
		}
		if i += from; s[i+1] == '{' || s[i+1] == '%' || s[i+1] == '#' {
			return i
		}
		from = i + 1
	}
}

// tagEnd consumes a closing delimiter with its sign at pos, and the white space that goes with it.
func (l *lexer) tagEnd(close string) bool {
	rest := l.src[l.pos:]
	switch {
	case strings.HasPrefix(rest, "-"+close):
		l.advance(1 + len(close))
		l.skipSpace()
	case close != "}}" && strings.HasPrefix(rest, "+"+close):
		l.advance(1 + len(close))
	case strings.HasPrefix(rest, close):
		l.advance(len(close))
		if close != "}}" && strings.HasPrefix(l.src[l.pos:], "\n") {
			l.advance(1)
		}
	default:
		return false
	}
	return true
}

func (l *lexer) comment() error {
	end := strings.Index(l.src[l.pos:], "#}")
	if end < 0 {
		return l.errorf("a comment without its end, '#}'")
	}
	if end > 0 && (l.src[l.pos+end-1] == '-' || l.src[l.pos+end-1] == '+') {
		end--
	}
	l.advance(end)
	l.tagEnd("#}")
	return nil
}

// raw handles {% raw %} … {% endraw %}; it stands behind the opening delimiter.
func (l *lexer) raw() (bool, error) {
	start := *l
	l.skipSpace()
	if !strings.HasPrefix(l.src[l.pos:], "raw") {
		*l = start
		return false, nil
	}
	l.advance(3)
	l.skipSpace()
	switch rest := l.src[l.pos:]; { // no newline is trimmed behind {% raw %}
	case strings.HasPrefix(rest, "-%}"):
		l.advance(3)
		l.skipSpace()
	case strings.HasPrefix(rest, "%}"):
		l.advance(2)
	default:
		*l = start
		return false, nil
	}
	for i := l.pos; ; {
		at := strings.Index(l.src[i:], "{%")
		if at < 0 {
			*l = start
			return false, l.errorf("raw without endraw")
		}
		i += at
		inner := strings.TrimLeftFunc(strings.TrimLeft(l.src[i+2:], "-+"), isSpace)
		if !strings.HasPrefix(inner, "endraw") {
			i += 2
			continue
		}
		text := l.src[l.pos:i]
		if l.src[i+2] == '-' {
			text = strings.TrimRightFunc(text, isSpace)
		} else if start := strings.LastIndexByte(text, '\n') + 1; l.src[i+2] != '+' && start > 0 && strings.Trim(text[start:], " \t") == "" {
			text = text[:start]
		}
		l.emit(tokData, text)
		l.advance(len(l.src) - len(inner) + len("endraw") - l.pos)
		l.skipSpace()
		if !l.tagEnd("%}") {
			return false, l.errorf("endraw without '%%}'")
		}
		return true, nil
	}
}

// tag lexes the inside of {{ … }} or {% … %}.
func (l *lexer) tag(begin, end tokenKind, close string) error {
	l.emit(begin, l.src[l.pos-2:l.pos])
	opened := l.line
	var brackets []byte
	for {
		l.skipSpace()
		if l.pos >= len(l.src) {
			return &Error{opened, fmt.Errorf("a tag without its end, '%s'", close)}
		}
		if len(brackets) == 0 {
			line := l.line
			if l.tagEnd(close) {
				l.tokens = append(l.tokens, token{end, close, line})
				return nil
			}
		}
		if err := l.expressionToken(&brackets); err != nil {
			return err
		}
	}
}

var operators = []string{"**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ".", ",", ":", "|", ";"}

func (l *lexer) expressionToken(brackets *[]byte) error {
	rest := l.src[l.pos:]
	c := rest[0]
	switch {
	case c == '\'' || c == '"':
		return l.stringToken(c)
	case c >= '0' && c <= '9':
		return l.number()
	}
	if r, _ := utf8.DecodeRuneInString(rest); r == '_' || unicode.IsLetter(r) {
		n := strings.IndexFunc(rest, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if n < 0 {
			n = len(rest)
		}
		l.emit(tokName, rest[:n])
		l.advance(n)
		return nil
	}
	for _, op := range operators {
		if !strings.HasPrefix(rest, op) {
			continue
		}
		switch op {
		case "(", "[", "{":
			*brackets = append(*brackets, op[0])
		case ")", "]", "}":
			n := len(*brackets)
			if n == 0 || !strings.Contains("()[]{}", string((*brackets)[n-1])+op) {
				return l.errorf("unexpected '%s'", op)
			}
			*brackets = (*brackets)[:n-1]
		}
		l.emit(tokOp, op)
		l.advance(len(op))
		return nil
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return l.errorf("unexpected character %q", r)
}

func (l *lexer) number() error {
	rest := l.src[l.pos:]
	digits := func(from int, set string) int {
		i := from
		for i < len(rest) && (strings.IndexByte(set, rest[i]) >= 0 || (rest[i] == '_' && i > from)) {
			i++
		}
		return i
	}
	const decimal = "0123456789"
	kind, n := tokInt, 0
	if len(rest) > 2 && rest[0] == '0' && strings.IndexByte("xXoObB", rest[1]) >= 0 {
		n = digits(2, "0123456789abcdefABCDEF")
	} else {
		n = digits(0, decimal)
		if n+1 < len(rest) && rest[n] == '.' && rest[n+1] >= '0' && rest[n+1] <= '9' {
			kind, n = tokFloat, digits(n+1, decimal)
		}
		if n < len(rest) && (rest[n] == 'e' || rest[n] == 'E') {
			i := n + 1
			if i < len(rest) && (rest[i] == '+' || rest[i] == '-') {
				i++
			}
			if end := digits(i, decimal); end > i {
				kind, n = tokFloat, end
			}
		}
	}
	l.emit(kind, strings.ReplaceAll(rest[:n], "_", ""))
	l.advance(n)
	return nil
}

// stringToken lexes a string literal with Python's escapes.
func (l *lexer) stringToken(quote byte) error {
	rest := l.src[l.pos:]
	var b strings.Builder
	for i := 1; i < len(rest); {
		c := rest[i]
		if c == quote {
			l.emit(tokString, b.String())
			l.advance(i + 1)
			return nil
		}
		if c != '\\' || i+1 >= len(rest) {
			b.WriteByte(c)
			i++
			continue
		}
		n, err := unescape(&b, rest[i+1:])
		if err != nil {
			return l.errorf("string: %v", err)
		}
		i += 1 + n
	}
	return l.errorf("a string without its end")
}

// unescape handles the escape whose text behind the backslash s begins with, and returns how many bytes of s it took.
func unescape(b *strings.Builder, s string) (int, error) {
	if i := strings.IndexByte("\n\\'\"abfnrtv", s[0]); i >= 0 {
		if s[0] != '\n' {
			b.WriteByte("\n\\'\"\a\b\f\n\r\t\v"[i])
		}
		return 1, nil
	}
	number := func(digits string, base int) (int, error) {
		v, err := strconv.ParseUint(digits, base, 32)
		if err != nil || v > unicode.MaxRune {
			return 0, fmt.Errorf("bad escape '\\%s'", s[:1])
		}
		b.WriteRune(rune(v))
		return len(digits), nil
	}
	if size := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[0]]; size > 0 {
		if len(s) < 1+size {
			return 0, fmt.Errorf("bad escape '\\%s'", s[:1])
		}
		n, err := number(s[1:1+size], 16)
		return 1 + n, err
	}
	if s[0] >= '0' && s[0] <= '7' {
		n := 1
		for n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7' {
			n++
		}
		return number(s[:n], 8)
	}
	b.WriteByte('\\')
	return 0, nil
}
