// Package chat stands at both ends of a conversation: it renders messages to the prompt that a model expects, by the model's
// own Jinja template, and splits the generated text into reasoning, content and tool calls as it arrives.
//
// In a token's trip Template comes before the tokenizer and Parser after the detokenizer. It knows no ids and no model state.
// Messages and tools read and write OpenAI's JSON.
package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ardanlabs/jinja"
)

// Template is a model's chat template, safe for concurrent use.
type Template struct {
	jinja  *jinja.Template
	source string
	vars   jinja.Value // what every rendering sees: the tokenizer's bos_token, eos_token, …
}

// Parse reads a template (a chat_template.jinja).
func Parse(source string) (*Template, error) {
	t, err := compile(source)
	if err != nil {
		return nil, fmt.Errorf("chat: template: %w", err)
	}
	return &Template{jinja: t, source: source, vars: jinja.NewDict()}, nil
}

// ErrNoTemplate is wrapped by the error about a tokenizer_config.json without a template.
var ErrNoTemplate = errors.New("no chat_template")

// ParseConfig reads the template in a tokenizer_config.json, where it is text or a list of named texts of which "default"
// counts. As in transformers, the template also sees the special tokens that the file names.
func ParseConfig(tokenizerConfigJSON []byte) (*Template, error) {
	t, err := parseConfig(tokenizerConfigJSON)
	if err != nil {
		return nil, fmt.Errorf("chat: tokenizer_config.json: %w", err)
	}
	return t, nil
}

func parseConfig(data []byte) (*Template, error) {
	var config struct {
		ChatTemplate json.RawMessage `json:"chat_template"`
	}
	var tokens map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(data, &config), json.Unmarshal(data, &tokens)); err != nil {
		return nil, err
	}
	var source string
	var named []struct{ Name, Template string }
	if json.Unmarshal(config.ChatTemplate, &source) != nil && json.Unmarshal(config.ChatTemplate, &named) == nil {
		for _, n := range named {
			if n.Name == "default" {
				source = n.Template
			}
		}
	}
	if source == "" {
		return nil, ErrNoTemplate
	}
	t, err := Parse(source)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"} {
		var text string
		var added struct{ Content *string } // an added token with its settings
		if json.Unmarshal(tokens[name], &added) == nil && added.Content != nil {
			text = *added.Content
		} else if json.Unmarshal(tokens[name], &text) != nil || text == "" {
			continue
		}
		t.vars.AsDict().Set(name, jinja.NewString(text))
	}
	return t, nil
}

// Source is the template's text.
func (t *Template) Source() string { return t.source }

// Context is what one rendering shows the template.
type Context struct {
	Messages            []Message
	Tools               []Tool
	AddGenerationPrompt bool  // end with the beginning of the assistant's turn
	EnableThinking      *bool // nil leaves it to the template
	// Extra are further variables, by name; their values must be marshalable to JSON.
	Extra map[string]any
}

// Render returns the prompt for a conversation.
func (t *Template) Render(ctx Context) (string, error) {
	data, err := ctx.marshal()
	if err != nil {
		return "", err
	}
	return t.RenderJSON(data)
}

// RenderJSON returns the prompt for a context in JSON: the template's variables in one object, as transformers passes them
// ("messages", "tools", "add_generation_prompt", "enable_thinking", …). The order of keys and the kind of numbers are kept.
func (t *Template) RenderJSON(contextJSON []byte) (string, error) {
	ctx, err := parseObject(contextJSON)
	if err != nil {
		return "", fmt.Errorf("chat: context: %w", err)
	}
	if err := t.checkMessages(ctx); err != nil {
		return "", fmt.Errorf("chat: context: %w", err)
	}
	vars := jinja.NewDict().AsDict()
	for _, from := range []*jinja.Dict{t.vars.AsDict(), ctx} {
		for _, name := range from.Keys {
			vars.Set(name, from.Data[name])
		}
	}
	text, err := execute(t.jinja, vars)
	if err != nil {
		return "", fmt.Errorf("chat: template: %w", err)
	}
	return text, nil
}

// checkMessages refuses what templates are not written for; the library would render half a prompt from it.
func (t *Template) checkMessages(ctx *jinja.Dict) error {
	if !strings.Contains(t.source, "messages") {
		return nil
	}
	messages, ok := ctx.Get("messages")
	if !ok || !messages.IsList() || messages.AsList().Len() == 0 {
		return errors.New(`"messages" is not a list of at least one message`)
	}
	for i, m := range messages.AsList().Items {
		if !m.IsDict() {
			return fmt.Errorf("message %d is not an object", i)
		}
		if role, _ := m.AsDict().Get("role"); !role.IsString() {
			return fmt.Errorf("message %d has no role", i)
		}
	}
	return nil
}

// marshal writes the context's JSON. Arguments of tool calls become objects, as templates are written for; those that are no
// JSON object stay text.
func (ctx Context) marshal() ([]byte, error) {
	vars := map[string]any{}
	for name, v := range ctx.Extra {
		vars[name] = v
	}
	messages := make([]templateMessage, len(ctx.Messages))
	for i, m := range ctx.Messages {
		messages[i] = m.forTemplate()
	}
	vars["messages"] = messages
	vars["add_generation_prompt"] = ctx.AddGenerationPrompt
	if len(ctx.Tools) > 0 {
		vars["tools"] = ctx.Tools
	}
	if ctx.EnableThinking != nil {
		vars["enable_thinking"] = *ctx.EnableThinking
	}
	data, err := json.Marshal(vars)
	if err != nil {
		return nil, fmt.Errorf("chat: context: %w", err)
	}
	return data, nil
}

// Span is a range of bytes [Start, End).
type Span struct{ Start, End int }

// RenderLiteral is Render for a conversation with people who are not to steer the template: where a user's or a tool's
// message contains the text of an added token ("<|im_end|>", "</think>"), literal tells where the prompt has it, so that the
// tokenizer can encode it as plain text (tokenizer.EncodeOptions.Literal). added are the texts to guard, as a rule all of
// the tokenizer's added tokens. Such text is also kept from the template itself: a user's message that begins with
// "<tool_response>" is a user's message.
func (t *Template) RenderLiteral(ctx Context, added []string) (prompt string, literal []Span, err error) {
	mark, err := unusedMark(ctx)
	if err != nil {
		return "", nil, err
	}
	// The mark goes behind the first byte of each guarded text and is taken out of the prompt again.
	added = slices.Clone(added)
	slices.SortFunc(added, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, text := range added {
		if len(text) > 1 && text[0] < 0x80 {
			pairs = append(pairs, text, text[:1]+mark+text[1:])
		}
	}
	guard := strings.NewReplacer(pairs...)
	ctx.Messages = slices.Clone(ctx.Messages)
	for i, m := range ctx.Messages {
		if m.Role == RoleUser || m.Role == RoleTool {
			ctx.Messages[i].Content = guard.Replace(m.Content)
		}
	}
	marked, err := t.Render(ctx)
	if err != nil {
		return "", nil, err
	}
	var b strings.Builder
	for i, part := range strings.Split(marked, mark) {
		if i > 0 {
			literal = append(literal, Span{b.Len() - 1, b.Len()})
		}
		b.WriteString(part)
	}
	return b.String(), literal, nil
}

// unusedMark returns a character that the conversation does not contain, one of Unicode's noncharacters.
func unusedMark(ctx Context) (string, error) {
	data, err := ctx.marshal()
	if err != nil {
		return "", err
	}
	for c := rune(0xFDD0); c <= 0xFDEF; c++ {
		if !strings.Contains(string(data), string(c)) {
			return string(c), nil
		}
	}
	return "", errors.New("chat: the conversation contains all of Unicode's noncharacters U+FDD0 to U+FDEF; none is left to mark literal text with")
}

// OpensThinking tells whether a prompt ends inside a <think> block, as the thinking-only models' templates leave it: the
// generated text then begins with reasoning (ParserOptions.InReasoning).
func OpensThinking(prompt string) bool {
	return strings.HasSuffix(strings.TrimRight(prompt, " \t\r\n"), thinkOpen)
}
