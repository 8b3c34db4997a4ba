// Messages, tool calls and tools, in OpenAI's JSON.

package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// The roles that Qwen3's templates know.
const (
	RoleSystem    = "system"
	RoleUser      = "user"
	RoleAssistant = "assistant"
	RoleTool      = "tool"
)

// Message is one turn of a conversation.
type Message struct {
	Role             string     `json:"role"`
	Content          string     `json:"content"`
	ReasoningContent string     `json:"reasoning_content,omitempty"` // what the assistant thought, without the tags
	ToolCalls        []ToolCall `json:"tool_calls,omitempty"`        // of the assistant
	ToolCallID       string     `json:"tool_call_id,omitempty"`      // which call a tool's message answers
	Name             string     `json:"name,omitempty"`
}

// ToolCall is the assistant's call of a function.
type ToolCall struct {
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"` // "function"
	Function FunctionCall `json:"function"`
}

// FunctionCall names a function and its arguments, the text of a JSON object.
type FunctionCall struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// Tool is a function that the model may call. A Tool read from JSON shows the template that JSON, its own order and all.
type Tool struct {
	Type     string   `json:"type"` // "function"
	Function Function `json:"function"`

	raw json.RawMessage
}

// Function describes a function; Parameters is a JSON schema.
type Function struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
}

// UnmarshalJSON keeps the JSON beside the fields.
func (t *Tool) UnmarshalJSON(data []byte) error {
	type plain Tool
	if err := json.Unmarshal(data, (*plain)(t)); err != nil {
		return err
	}
	if t.Function.Name == "" {
		return fmt.Errorf("chat: tool without function.name: %.200s", data)
	}
	t.raw = bytes.Clone(data)
	return nil
}

// MarshalJSON writes what UnmarshalJSON read, or the fields.
func (t Tool) MarshalJSON() ([]byte, error) {
	if t.raw != nil {
		return t.raw, nil
	}
	type plain Tool
	return json.Marshal(plain(t))
}

// UnmarshalJSON reads a message whose content is text, null, or a list of text parts, which are joined.
func (m *Message) UnmarshalJSON(data []byte) error {
	type plain Message
	aux := struct {
		*plain
		Content json.RawMessage `json:"content"`
	}{plain: (*plain)(m)}
	if err := json.Unmarshal(data, &aux); err != nil {
		return err
	}
	m.Content = ""
	switch c := bytes.TrimSpace(aux.Content); {
	case len(c) == 0 || string(c) == "null":
		return nil
	case c[0] == '[':
		var parts []struct{ Type, Text string }
		if err := json.Unmarshal(c, &parts); err != nil {
			return fmt.Errorf("chat: content of a %q message: %w", m.Role, err)
		}
		var b strings.Builder
		for i, p := range parts {
			if p.Type != "text" {
				return fmt.Errorf("chat: content of a %q message: part %d is %q: only text is supported", m.Role, i, p.Type)
			}
			b.WriteString(p.Text)
		}
		m.Content = b.String()
		return nil
	}
	if err := json.Unmarshal(aux.Content, &m.Content); err != nil {
		return fmt.Errorf("chat: content of a %q message: %w", m.Role, err)
	}
	return nil
}

// UnmarshalJSON reads a call, or the function alone, as templates allow it too.
func (c *ToolCall) UnmarshalJSON(data []byte) error {
	type plain ToolCall
	if err := json.Unmarshal(data, (*plain)(c)); err != nil || c.Function.Name != "" {
		return err
	}
	if err := json.Unmarshal(data, &c.Function); err != nil {
		return err
	}
	if c.Function.Name == "" {
		return fmt.Errorf("chat: tool call without function.name: %.200s", data)
	}
	return nil
}

// UnmarshalJSON reads arguments that are text, as OpenAI has them, or the object itself.
func (f *FunctionCall) UnmarshalJSON(data []byte) error {
	var aux struct {
		Name      string
		Arguments json.RawMessage
	}
	if err := json.Unmarshal(data, &aux); err != nil {
		return err
	}
	f.Name, f.Arguments = aux.Name, string(aux.Arguments)
	if len(aux.Arguments) > 0 && aux.Arguments[0] == '"' {
		return json.Unmarshal(aux.Arguments, &f.Arguments)
	}
	return nil
}

// templateMessage is a Message as templates expect it.
type templateMessage struct {
	Role             string         `json:"role"`
	Content          string         `json:"content"`
	ReasoningContent string         `json:"reasoning_content,omitempty"`
	ToolCalls        []templateCall `json:"tool_calls,omitempty"`
	ToolCallID       string         `json:"tool_call_id,omitempty"`
	Name             string         `json:"name,omitempty"`
}

type templateCall struct {
	ID       string `json:"id,omitempty"`
	Type     string `json:"type"`
	Function struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	} `json:"function"`
}

func (m Message) forTemplate() templateMessage {
	out := templateMessage{Role: m.Role, Content: m.Content, ReasoningContent: m.ReasoningContent, ToolCallID: m.ToolCallID, Name: m.Name}
	for _, c := range m.ToolCalls {
		call := templateCall{ID: c.ID, Type: c.Type}
		if call.Type == "" {
			call.Type = "function"
		}
		call.Function.Name = c.Function.Name
		call.Function.Arguments = json.RawMessage(c.Function.Arguments)
		if !isObject(c.Function.Arguments) {
			text, _ := json.Marshal(c.Function.Arguments) // a string always marshals
			call.Function.Arguments = text
		}
		out.ToolCalls = append(out.ToolCalls, call)
	}
	return out
}

// isObject tells whether text is one JSON object.
func isObject(text string) bool {
	return strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") && json.Valid([]byte(text))
}
