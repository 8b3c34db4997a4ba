package main

// The / commands of chat.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/chat"
)

var errLeave = errors.New("leave")

type chatCommand struct {
	name, args, help string
	run              func(s *chatSession, ctx context.Context, arg string) error
}

// chatCommands is filled in init because /help reads it.
var chatCommands []chatCommand

func init() {
	chatCommands = []chatCommand{
		{"/think", "", "have the model think before it answers", func(s *chatSession, _ context.Context, _ string) error { return s.think(true) }},
		{"/nothink", "", "have it answer at once", func(s *chatSession, _ context.Context, _ string) error { return s.think(false) }},
		{"/system", "[TEXT]", "set the system message (none removes it), or show it", (*chatSession).system},
		{"/regenerate", "", "answer the last message again", (*chatSession).regenerate},
		{"/clear", "", "forget the conversation; the system message stays", (*chatSession).clear},
		{"/save", "FILE", "write the conversation as JSON", (*chatSession).save},
		{"/load", "FILE", "read one", (*chatSession).load},
		{"/stats", "", "tokens of every turn, context and memory in use", (*chatSession).stats},
		{"/help", "", "this list", (*chatSession).help},
		{"/exit", "", "leave (Ctrl-D)", func(*chatSession, context.Context, string) error { return errLeave }},
	}
}

func (s *chatSession) command(ctx context.Context, line string) error {
	name, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	if name == "/quit" || name == "/bye" {
		name = "/exit"
	}
	i := slices.IndexFunc(chatCommands, func(c chatCommand) bool { return c.name == name })
	if i < 0 {
		return fmt.Errorf("there is no command %s; /help lists them. To say something that begins with /, put a space before it", name)
	}
	c := chatCommands[i]
	if arg = strings.TrimSpace(arg); arg == "" && c.args == "FILE" {
		return fmt.Errorf("%s needs a file: %s %s", c.name, c.name, c.args)
	}
	return c.run(s, ctx, arg)
}

func (s *chatSession) think(on bool) error {
	s.Thinking = &on
	s.note("Thinking is %s from the next answer on.", map[bool]string{true: "on", false: "off"}[on])
	return nil
}

func (s *chatSession) hasSystem() bool {
	return len(s.Messages) > 0 && s.Messages[0].Role == chat.RoleSystem
}

func (s *chatSession) system(_ context.Context, text string) error {
	if text == "" {
		if !s.hasSystem() {
			s.note("There is no system message.")
		} else {
			s.note("%s", s.Messages[0].Content)
		}
		return nil
	}
	if s.hasSystem() {
		s.Messages = s.Messages[1:]
	}
	if text != "none" {
		s.Messages = slices.Concat([]chat.Message{{Role: chat.RoleSystem, Content: text}}, s.Messages)
	}
	s.note("The system message is %s.", map[bool]string{true: "set", false: "removed"}[s.hasSystem()])
	return nil
}

func (s *chatSession) regenerate(ctx context.Context, _ string) error {
	n := len(s.Messages)
	for n > 0 && s.Messages[n-1].Role == chat.RoleAssistant {
		n--
	}
	if n == len(s.Messages) || n == 0 {
		return errors.New("there is no answer to generate again")
	}
	before := s.Messages
	s.Messages = slices.Clone(before[:n])
	s.Sampling.Seed++ // or the answer would be the same
	turns := len(s.turns)
	err := s.show(ctx, s.Generate)
	if turns < len(s.turns) && len(s.turns[turns].Result.Tokens) == 0 {
		s.Messages = before
	}
	return err
}

func (s *chatSession) clear(context.Context, string) error {
	keep := 0
	if s.hasSystem() {
		keep = 1
	}
	s.Messages, s.turns = s.Messages[:keep:keep], nil
	s.note("The conversation is cleared.")
	return nil
}

// savedChat is the file of /save.
type savedChat struct {
	Messages []chat.Message `json:"messages"`
	Tools    []chat.Tool    `json:"tools,omitempty"`
	Thinking *bool          `json:"enable_thinking,omitempty"`
}

func (s *chatSession) save(_ context.Context, file string) error {
	data, err := json.MarshalIndent(savedChat{s.Messages, s.Tools, s.Thinking}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o600); err != nil {
		return err
	}
	s.note("%d messages saved in %s.", len(s.Messages), file)
	return nil
}

func (s *chatSession) load(_ context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var saved savedChat
	if err := json.Unmarshal(data, &saved); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if saved.Messages == nil {
		return fmt.Errorf("%s holds no \"messages\"", file)
	}
	for i, m := range saved.Messages {
		if !slices.Contains([]string{chat.RoleSystem, chat.RoleUser, chat.RoleAssistant, chat.RoleTool}, m.Role) {
			return fmt.Errorf("%s: message %d has the role %q", file, i, m.Role)
		}
	}
	s.Messages, s.Tools, s.Thinking, s.turns = saved.Messages, saved.Tools, saved.Thinking, nil
	s.note("%d messages loaded.", len(s.Messages))
	return nil
}

func (s *chatSession) stats(context.Context, string) error {
	s.note("%s: %s\n%s", s.e.Config(), bytesText(s.e.model.WeightBytes()), s.e.Describe())
	if len(s.turns) > 0 {
		s.note("%4s %8s %8s %8s %14s %10s %14s  %s", "turn", "prompt", "reused", "new", "tokens/s", "generated", "tokens/s", "ended by")
	}
	perSecond := func(n int, seconds float64) string {
		if n <= 0 || seconds <= 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", float64(n)/seconds)
	}
	for i, a := range s.turns {
		r := a.Result
		s.note("%4d %8d %8d %8d %14s %10d %14s  %s", i+1, r.Sync.Prompt, r.Sync.Reused, r.Sync.Prefilled, perSecond(r.Sync.Prefilled, r.Sync.Duration.Seconds()),
			len(r.Tokens), perSecond(len(r.Tokens)-1, r.Duration.Seconds()), r.Reason)
	}
	p := s.e.CacheStats()
	c := s.e.Config()
	pageBytes := int64(p.PageSize * 2 * c.NumHiddenLayers * c.KVDim() * s.e.kv.Bytes())
	s.note("context  %d of %d tokens (%d%%)", s.CachedTokens(), s.e.ContextTokens(), 100*s.CachedTokens()/s.e.ContextTokens())
	s.note("KV cache %s: %d of %d pages of %d tokens in use (%s), %d kept for reuse", bytesText(int64(p.NumPages)*pageBytes), p.UsedPages, p.NumPages, p.PageSize,
		bytesText(int64(p.UsedPages)*pageBytes), p.CachedPages)
	return nil
}

func (s *chatSession) help(context.Context, string) error {
	var b strings.Builder
	for _, c := range chatCommands {
		fmt.Fprintf(&b, "  %-14s %s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
	}
	s.note("%s\nA line that ends with \\ goes on with the next; \"\"\" begins and ends a message of several lines.\nCtrl-C stops an answer and keeps the conversation; at the prompt, Ctrl-D or Ctrl-C twice leaves.", b.String())
	return nil
}
