// Package jinja runs chat templates: the part of the Jinja language that they use, with the results of Python's jinja2 3.1
// in the environment that Hugging Face gives it (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls,
// raise_exception, strftime_now, and tojson as json.dumps(ensure_ascii=False)).
//
// A template is a program that comes with somebody's model. Here it can neither crash nor hang the process: a parse is
// limited in depth, a rendering in steps, in depth and in the bytes it makes, values are immutable, and everything that goes
// wrong is an error with the template's line. What jinja2 raises (an undefined value used, a wrong type, an unknown filter)
// is an error here too, not an empty string. Inheritance, inclusion and import are refused by name.
package jinja

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrLimit is wrapped by the error of a template that goes past its Limits.
var ErrLimit = errors.New("template limit")

// Limits bound one rendering.
type Limits struct {
	Steps int // expressions, statements and iterations, plus one for each 16 bytes or elements that a step handles
	Bytes int // text made in all, intermediate strings included
	Depth int // macro calls and recursive loops inside one another
}

// DefaultLimits let a conversation of several megabytes through and stop a runaway template within seconds.
var DefaultLimits = Limits{Steps: 20_000_000, Bytes: 256 << 20, Depth: 100}

// maxTemplateBytes bounds the source. Published templates have up to some 20 kB.
const maxTemplateBytes = 1 << 20

// Error is an error in a template or while it runs.
type Error struct {
	Line int // 1-based line of the template
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// RaisedError is the error of a template that called raise_exception.
type RaisedError struct{ Message string }

func (e *RaisedError) Error() string { return "the template refuses: " + e.Message }

// Template is a parsed template, safe for concurrent use.
type Template struct {
	body   []stmt
	Limits Limits           // of each rendering
	Now    func() time.Time // what strftime_now tells
}

// Parse reads a template.
func Parse(source string) (*Template, error) {
	if len(source) > maxTemplateBytes {
		return nil, &Error{1, fmt.Errorf("the template has %d bytes, more than %d: %w", len(source), maxTemplateBytes, ErrLimit)}
	}
	source = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(source)
	source = strings.TrimSuffix(source, "\n") // jinja2's keep_trailing_newline is off
	tokens, err := lex(source)
	if err != nil {
		return nil, err
	}
	body, err := parse(tokens)
	if err != nil {
		return nil, err
	}
	return &Template{body: body, Limits: DefaultLimits, Now: time.Now}, nil
}

// Render runs the template. vars must not be changed meanwhile; the template cannot change them.
func (t *Template) Render(vars *Dict) (text string, err error) {
	r := &renderer{limits: t.Limits, now: t.Now}
	globals := newScope(nil)
	r.defineGlobals(globals)
	for i, key := range vars.keys {
		if name, ok := key.(string); ok {
			globals.vars[name] = vars.values[i]
		}
	}
	var out strings.Builder
	r.out = &out
	// A panic here is a fault of this package. It must not take down a server or a browser tab for one template.
	defer func() {
		if p := recover(); p != nil {
			text, err = "", &Error{r.line, fmt.Errorf("internal error: %v", p)}
		}
	}()
	if err := r.block(t.body, newScope(globals)); err != nil {
		if isLoopControl(err) {
			err = errors.New("break or continue outside a loop")
		}
		return "", r.located(err)
	}
	return out.String(), nil
}

// located adds the line under way to an error that has none yet.
func (r *renderer) located(err error) error {
	var at *Error
	if errors.As(err, &at) {
		return err
	}
	return &Error{r.line, err}
}
