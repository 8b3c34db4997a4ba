package engine

// Conversation: messages in, a streamed answer out. It joins the model's chat template, tokenizer and parser around a
// Session, whose cache is reused from turn to turn.

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/chat"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// ReasonToolCalls is the Reason of an answer that calls tools.
const ReasonToolCalls Reason = "tool_calls"

// Overflow says what happens to a conversation that outgrows the context.
type Overflow string

const (
	OverflowError      Overflow = "error"       // an error with the numbers
	OverflowDropOldest Overflow = "drop-oldest" // the oldest whole turns are left out of the prompt; the answer says how many
)

// ParseOverflow accepts "error" and "drop-oldest".
func ParseOverflow(s string) (Overflow, error) {
	switch Overflow(s) {
	case OverflowError, OverflowDropOldest:
		return Overflow(s), nil
	}
	return "", fmt.Errorf("engine: overflow policy %q is unknown: use %s or %s", s, OverflowError, OverflowDropOldest)
}

// Conversation is a chat with one model. Its fields may be changed between answers. It is used by one goroutine at a time.
type Conversation struct {
	Messages  []chat.Message // the turns, a system message included
	Tools     []chat.Tool
	Thinking  *bool // nil: as the template does by default
	Sampling  sampling.Params
	MaxTokens int      // of one answer; 0: as many as fit
	Stop      []string // texts that end an answer; they are not part of it
	Overflow  Overflow
	// OnToken sees every token as it is sampled, before the events that it causes; may be nil.
	OnToken func(sampling.Result)

	e        *Engine
	session  *Session
	template *chat.Template
	tok      tokenizer.Interface
	added    []string // texts of the tokenizer's added tokens
	last     transcript
}

// NewConversation starts an empty conversation. It needs the model's tokenizer and chat template.
func (e *Engine) NewConversation() (*Conversation, error) {
	tok, err := e.Tokenizer()
	if err != nil {
		return nil, err
	}
	t, err := LoadTemplate(e.model)
	if err != nil {
		return nil, err
	}
	return &Conversation{e: e, session: e.NewSession(), template: t, tok: tok, added: tok.AddedTokens(), Sampling: DefaultSampling(e.model), Overflow: OverflowError}, nil
}

// LoadTemplate reads a model's chat template: chat_template.jinja, or the one in tokenizer_config.json.
func LoadTemplate(m *weights.Model) (*chat.Template, error) {
	if data, err := m.ReadFile("chat_template.jinja"); err == nil {
		return chat.Parse(string(data))
	}
	data, err := m.ReadFile("tokenizer_config.json")
	if err != nil {
		return nil, fmt.Errorf("engine: the model has no chat template (neither chat_template.jinja nor tokenizer_config.json): %w", err)
	}
	return chat.ParseConfig(data)
}

// Close gives the conversation's cache back.
func (c *Conversation) Close() { c.session.Close() }

// CachedTokens is the number of tokens whose keys and values the conversation holds.
func (c *Conversation) CachedTokens() int { return c.session.Len() }

// Answer is one turn of the assistant.
type Answer struct {
	Message chat.Message
	Result  Result
	Dropped Dropped
}

// Dropped counts what OverflowDropOldest left out of a prompt.
type Dropped struct{ Messages, Tokens int }

// Send adds a message and generates the answer to it, see Generate. When nothing could be generated the message is taken
// back, so that it can be sent again.
func (c *Conversation) Send(ctx context.Context, m chat.Message, emit func(chat.Event) error) (Answer, error) {
	c.Messages = append(c.Messages, m)
	a, err := c.Generate(ctx, emit)
	if err != nil && len(a.Result.Tokens) == 0 {
		c.Messages = c.Messages[:len(c.Messages)-1]
	}
	return a, err
}

// Generate answers the conversation as it stands and adds the answer to it. Events are handed to emit as they come; when
// ctx ends, or emit returns an error, what was generated so far is kept as the assistant's turn.
func (c *Conversation) Generate(ctx context.Context, emit func(chat.Event) error) (Answer, error) {
	var a Answer
	prompt, dropped, err := c.prompt()
	if err != nil {
		return a, err
	}
	a.Dropped = dropped
	out := &answerParser{
		stream: NewTextStream(c.tok, c.Stop), parser: chat.NewParser(chat.ParserOptions{InReasoning: chat.OpensThinking(prompt.text)}),
		emit: emit, onToken: c.OnToken, message: chat.Message{Role: chat.RoleAssistant}, stopIDs: c.e.StopIDs(),
	}
	opt := GenerateOptions{Sampling: c.Sampling, MaxTokens: c.MaxTokens, StopIDs: out.stopIDs}
	a.Result, err = c.session.Generate(ctx, prompt.ids, opt, out.token)
	if flushErr := out.flush(); err == nil {
		err = flushErr
	}
	c.last = prompt.answered(out.stream.Generated(), a.Result.Tokens, out.stopIDs)
	a.Message = out.message
	if len(a.Message.ToolCalls) > 0 && a.Result.Reason == ReasonStop {
		a.Result.Reason = ReasonToolCalls
	}
	if len(a.Result.Tokens) > 0 {
		c.Messages = append(c.Messages, a.Message)
	}
	return a, err
}

// prompt renders and encodes the conversation, leaving out the oldest turns where the policy says so and they do not fit.
func (c *Conversation) prompt() (p transcript, dropped Dropped, err error) {
	messages, whole := c.Messages, 0
	for {
		text, literal, err := c.template.RenderLiteral(chat.Context{Messages: messages, Tools: c.Tools, AddGenerationPrompt: true, EnableThinking: c.Thinking}, c.added)
		if err != nil {
			return p, dropped, err
		}
		spans := make([]tokenizer.Span, len(literal))
		for i, s := range literal {
			spans[i] = tokenizer.Span{Start: s.Start, End: s.End}
		}
		if p, err = c.last.extend(c.tok, c.added, text, spans); err != nil {
			return p, dropped, err
		}
		n := len(p.ids)
		if whole == 0 {
			whole = n
		}
		if c.e.opt.ContextTokens-n >= c.reserve() {
			return p, Dropped{len(c.Messages) - len(messages), whole - n}, nil
		}
		var ok bool
		if c.Overflow == OverflowDropOldest {
			messages, ok = dropOldestTurn(messages)
		}
		if !ok {
			return p, dropped, fmt.Errorf("engine: %w: the conversation has %d tokens and the context holds %d, of which %d are kept for the answer; clear the conversation, ask for a larger context (the model takes up to %d), or let the oldest turns be dropped",
				ErrContextFull, n, c.e.opt.ContextTokens, c.reserve(), c.e.Config().ContextLimit())
		}
	}
}

// reserve is how many tokens of the context are kept for an answer: what MaxTokens asks for, at most a quarter of it.
func (c *Conversation) reserve() int {
	quarter := max(1, c.e.opt.ContextTokens/4)
	if c.MaxTokens > 0 {
		return min(c.MaxTokens, quarter)
	}
	return min(256, quarter)
}

// dropOldestTurn leaves out the oldest user message with all that answers it. System messages at the beginning and the
// last user message stay; ok is false when nothing can be left out.
func dropOldestTurn(messages []chat.Message) (rest []chat.Message, ok bool) {
	isUser := func(m chat.Message) bool { return m.Role == chat.RoleUser }
	first := slices.IndexFunc(messages, isUser)
	if first < 0 {
		return messages, false
	}
	next := slices.IndexFunc(messages[first+1:], isUser)
	if next < 0 {
		return messages, false
	}
	return slices.Concat(messages[:first], messages[first+1+next:]), true
}

// answerParser turns sampled tokens into events and the assistant's message.
type answerParser struct {
	stream  *TextStream
	parser  *chat.Parser
	emit    func(chat.Event) error
	onToken func(sampling.Result)
	message chat.Message
	stopIDs []int32
	err     error // of emit
}

func (p *answerParser) token(r sampling.Result) error {
	if p.onToken != nil {
		p.onToken(r)
	}
	if slices.Contains(p.stopIDs, r.Token) {
		return nil
	}
	text, stopped := p.stream.Push(r.Token)
	if err := p.events(p.parser.Push(text)); err != nil {
		return err
	}
	if stopped {
		return ErrStop
	}
	return nil
}

func (p *answerParser) flush() error {
	return errors.Join(p.events(p.parser.Push(p.stream.Flush())), p.events(p.parser.Flush()))
}

func (p *answerParser) events(events []chat.Event) error {
	for _, ev := range events {
		switch ev.Kind {
		case chat.EventReasoning:
			p.message.ReasoningContent += ev.Text
		case chat.EventToolCall:
			p.message.ToolCalls = append(p.message.ToolCalls, *ev.ToolCall)
		default: // content, or a tool call that could not be read: nothing generated is lost
			p.message.Content += ev.Text
		}
		if p.err != nil {
			continue
		}
		if p.err = p.emit(ev); p.err != nil {
			return p.err
		}
	}
	return nil
}
