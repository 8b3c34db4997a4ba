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

	"github.com/qwen-wgpu/qwen-wgpu/engine/chat/jinja"
)

// Template is a model's chat template, safe for concurrent use.
type Template struct {
	jinja  *jinja.Template
	source string
	vars   *jinja.Dict // what every rendering sees: the tokenizer's bos_token, eos_token, …
}

// Parse reads a template (a chat_template.jinja).
func Parse(source string) (*Template, error) {
	t, err := jinja.Parse(source)
	if err != nil {
		return nil, fmt.Errorf("chat: template: %w", err)
	}
	return &Template{jinja: t, source: source, vars: new(jinja.Dict)}, nil
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
	v, err := jinja.ParseJSON(data)
	if err != nil {
		return nil, err
	}
	config, ok := v.(*jinja.Dict)
	if !ok {
		return nil, errors.New("not an object")
	}
	source := ""
	switch v, _ := config.Get("chat_template"); v := v.(type) {
	case string:
		source = v
	case *jinja.List:
		for _, item := range v.Items {
			if d, ok := item.(*jinja.Dict); ok {
				if name, _ := d.Get("name"); name == "default" {
					v, _ := d.Get("template")
					source, _ = v.(string)
				}
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
		token, _ := config.Get(name)
		if d, ok := token.(*jinja.Dict); ok { // an added token with its settings
			token, _ = d.Get("content")
		}
		if text, ok := token.(string); ok {
			t.vars.Set(name, text)
		}
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
	v, err := jinja.ParseJSON(contextJSON)
	if err != nil {
		return "", fmt.Errorf("chat: context: %w", err)
	}
	ctx, ok := v.(*jinja.Dict)
	if !ok {
		return "", errors.New("chat: context: not a JSON object")
	}
	vars := new(jinja.Dict)
	vars.Update(t.vars)
	vars.Update(ctx)
	text, err := t.jinja.Render(vars)
	if err != nil {
		return "", fmt.Errorf("chat: template: %w", err)
	}
	return text, nil
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
