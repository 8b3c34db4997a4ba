// The streaming parser of generated text.
//
//	<think>\nreasoning\n</think>\n\ncontent\n<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>
//
// Text may be cut anywhere between two pushes; what might be the beginning of a tag waits for more. The newlines that the
// chat template puts around the parts are not the parts': they are dropped, and nothing else is.

package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

const (
	thinkOpen  = "<think>"
	thinkClose = "</think>"
	callOpen   = "<tool_call>"
	callClose  = "</tool_call>"
)

// EventKind says what an Event carries.
type EventKind uint8

const (
	EventReasoning     EventKind = iota // Text: a piece of the reasoning
	EventContent                        // Text: a piece of the answer
	EventToolCall                       // ToolCall; Text: the JSON as generated
	EventToolCallError                  // Err; Text: what was generated, tags included
)

func (k EventKind) String() string {
	names := [...]string{"reasoning", "content", "tool_call", "tool_call_error"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("EventKind(%d)", uint8(k))
}

// Event is one piece of parsed output.
type Event struct {
	Kind     EventKind
	Text     string
	ToolCall *ToolCall
	Err      error
}

// ErrUnfinished is wrapped by the error event of a tool call whose end was not generated.
var ErrUnfinished = errors.New("the text ends inside a tool call")

// ParserOptions configure a Parser.
type ParserOptions struct {
	// InReasoning says that the prompt has opened the <think> block already (OpensThinking).
	InReasoning bool
	// NewID makes the id of tool call n, counted from 0; nil makes "call_0", "call_1", ….
	NewID func(n int) string
}

type parserState uint8

const (
	stateStart          parserState = iota // nothing but white space so far
	stateReasoningStart                    // behind <think>: newlines are dropped
	stateReasoning
	stateContentStart // behind </think> or </tool_call>: newlines are dropped
	stateContent
	stateToolCall // behind <tool_call>
)

// Parser splits one generated text. A <think> block counts only at the start: later, and inside reasoning, the tags are
// text like any other, as is a </think> that no block needs. Use one Parser for each generation.
type Parser struct {
	opts     ParserOptions
	state    parserState
	buf      string // not yet decided
	searched int    // how much of buf is known to hold no </tool_call> that ends the call
	numCalls int
	events   []Event
}

// NewParser returns a Parser at the start of a generation.
func NewParser(opts ParserOptions) *Parser {
	p := &Parser{opts: opts}
	if opts.InReasoning {
		p.state = stateReasoningStart
	}
	return p
}

// InReasoning tells whether the text so far ends inside a <think> block.
func (p *Parser) InReasoning() bool {
	return p.state == stateReasoningStart || p.state == stateReasoning
}

// Push adds generated text and returns what it settles.
func (p *Parser) Push(text string) []Event {
	p.buf += text
	for p.advance() {
	}
	return p.take()
}

// Flush ends the text: what was waiting for the rest of a tag is text after all, and an open tool call is an error unless
// its JSON is complete.
func (p *Parser) Flush() []Event {
	rest := p.buf
	p.buf = ""
	switch p.state {
	case stateStart, stateContent:
		p.emit(EventContent, rest)
	case stateReasoning:
		p.emit(EventReasoning, rest)
	case stateToolCall:
		if call, err := parseToolCall(rest); err == nil {
			p.emitCall(call, rest)
		} else {
			p.events = append(p.events, Event{Kind: EventToolCallError, Text: callOpen + rest, Err: fmt.Errorf("chat: %w (%w)", ErrUnfinished, err)})
		}
	}
	p.state = stateContent
	return p.take()
}

func (p *Parser) take() []Event {
	events := p.events
	p.events = nil
	return events
}

func (p *Parser) emit(kind EventKind, text string) {
	if text == "" {
		return
	}
	if n := len(p.events); n > 0 && p.events[n-1].Kind == kind && kind <= EventContent {
		p.events[n-1].Text += text
		return
	}
	p.events = append(p.events, Event{Kind: kind, Text: text})
}

// advance makes one step; false when it needs more text.
func (p *Parser) advance() bool {
	switch p.state {
	case stateStart:
		return p.start()
	case stateReasoningStart, stateContentStart:
		if p.buf = strings.TrimLeft(p.buf, "\n"); p.buf == "" {
			return false
		}
		p.state++ // to the part itself
		return true
	case stateReasoning:
		if p.until(EventReasoning, thinkClose) {
			p.state = stateContentStart
			return true
		}
	case stateContent:
		if p.until(EventContent, callOpen) {
			p.state, p.searched = stateToolCall, 0
			return true
		}
	case stateToolCall:
		return p.toolCall()
	}
	return false
}

// start decides whether the text begins with a <think> block.
func (p *Parser) start() bool {
	text := strings.TrimLeft(p.buf, " \t\r\n")
	switch {
	case strings.HasPrefix(text, thinkOpen):
		p.buf, p.state = text[len(thinkOpen):], stateReasoningStart
	case strings.HasPrefix(text, thinkClose): // an empty block whose opening the prompt had
		p.buf, p.state = text[len(thinkClose):], stateContentStart
	case strings.HasPrefix(thinkOpen, text) || strings.HasPrefix(thinkClose, text):
		return false
	default:
		p.state = stateContent
	}
	return true
}

// until emits the text before tag, without the newlines that stand before it, and consumes the tag. Where the tag has not
// come yet, it emits what cannot belong to it.
func (p *Parser) until(kind EventKind, tag string) bool {
	if i := strings.Index(p.buf, tag); i >= 0 {
		p.emit(kind, strings.TrimRight(p.buf[:i], "\n"))
		p.buf = p.buf[i+len(tag):]
		return true
	}
	end := len(p.buf)
	for n := min(len(tag)-1, len(p.buf)); n > 0; n-- {
		if strings.HasSuffix(p.buf, tag[:n]) {
			end -= n
			break
		}
	}
	end = len(strings.TrimRight(p.buf[:end], "\n"))
	p.emit(kind, p.buf[:end])
	p.buf = p.buf[end:]
	return false
}

// toolCall looks for the end of a call. A </tool_call> inside a JSON string is part of the string.
func (p *Parser) toolCall() bool {
	i := strings.Index(p.buf[p.searched:], callClose)
	if i < 0 {
		p.searched = max(p.searched, len(p.buf)-len(callClose)+1)
		return false
	}
	i += p.searched
	raw := p.buf[:i]
	call, err := parseToolCall(raw)
	if err != nil && endsInString(raw) {
		p.searched = i + len(callClose)
		return true
	}
	if err == nil {
		p.emitCall(call, raw)
	} else {
		p.events = append(p.events, Event{Kind: EventToolCallError, Text: callOpen + raw + callClose, Err: fmt.Errorf("chat: %w", err)})
	}
	p.buf, p.state = p.buf[i+len(callClose):], stateContentStart
	return true
}

func (p *Parser) emitCall(call *ToolCall, raw string) {
	if p.opts.NewID != nil {
		call.ID = p.opts.NewID(p.numCalls)
	} else {
		call.ID = fmt.Sprintf("call_%d", p.numCalls)
	}
	p.numCalls++
	p.events = append(p.events, Event{Kind: EventToolCall, Text: raw, ToolCall: call})
}

// parseToolCall reads {"name": …, "arguments": {…}}. Arguments may be missing, or an object's text.
func parseToolCall(raw string) (*ToolCall, error) {
	var call struct {
		Name      string
		Arguments json.RawMessage
	}
	if err := json.Unmarshal([]byte(raw), &call); err != nil {
		return nil, fmt.Errorf("tool call: not valid JSON: %w", err)
	}
	if call.Name == "" {
		return nil, errors.New("tool call: no name")
	}
	arguments := string(call.Arguments)
	if arguments == "" || arguments == "null" {
		arguments = "{}"
	}
	if arguments[0] == '"' {
		if err := json.Unmarshal(call.Arguments, &arguments); err != nil {
			return nil, fmt.Errorf("tool call %q: arguments: %w", call.Name, err)
		}
	}
	if !isObject(arguments) {
		return nil, fmt.Errorf("tool call %q: arguments are no JSON object: %.100s", call.Name, arguments)
	}
	return &ToolCall{Type: "function", Function: FunctionCall{Name: call.Name, Arguments: arguments}}, nil
}

// endsInString tells whether JSON text breaks off inside a string.
func endsInString(raw string) bool {
	in := false
	for i := 0; i < len(raw); i++ {
		switch {
		case in && raw[i] == '\\':
			i++
		case raw[i] == '"':
			in = !in
		}
	}
	return in
}
