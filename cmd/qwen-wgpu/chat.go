package main

// chat: a conversation on a terminal, or line by line through a pipe.
//
// This file owns the loop and what is printed around an answer; chat_commands.go owns the / commands, chat_input.go how
// messages are typed.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/chat"
)

func newChat() *cobra.Command {
	var f modelFlags
	var c conversationFlags
	cmd := &cobra.Command{
		Use:   "chat [--model DIR]",
		Short: "Talk with a model",
		Long: `chat holds a conversation with a model: on a terminal with line editing, history and / commands (/help lists them),
through a pipe with one message a line. A line that ends with a backslash goes on with the next one, and """ begins and
ends a message of several lines. Ctrl-C stops an answer and keeps the conversation; at the prompt, Ctrl-D or Ctrl-C twice
leaves.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.check(cmd); err != nil {
				return err
			}
			if c.sampling.logProbs > 0 {
				return usagef(cmd, "chat does not show --logprobs: use run")
			}
			e, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer e.Close()
			conv, err := c.start(cmd, e)
			if err != nil {
				return err
			}
			defer conv.Close()
			in, err := newChatInput(cmd.InOrStdin())
			if err != nil {
				return err
			}
			defer in.close()
			defer context.AfterFunc(cmd.Context(), in.close)() // gives the terminal back
			s := &chatSession{Conversation: conv, e: e, in: in, out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), hideThinking: c.hideThinking}
			s.dim, s.plain = paint(s.notes)
			s.note("Model   %s\n        %s\nRuns on %s", f.name(), e.Config(), e.Describe())
			if e.device == nil {
				s.note("        %s", e.whyCPU)
			}
			if cmd.Context().Err() != nil {
				return cmd.Context().Err()
			}
			if in.interactive() {
				signal.Reset(os.Interrupt) // from here on Ctrl-C is for the answer, not for the program
				s.note("/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.\n")
			}
			return s.loop(cmd.Context())
		},
	}
	f.add(cmd)
	c.add(cmd)
	return cmd
}

// chatSession is one run of chat.
type chatSession struct {
	*engine.Conversation
	e            *opened
	in           chatInput
	out, notes   io.Writer
	dim, plain   string // on notes
	hideThinking bool
	turns        []engine.Answer
}

// note says something about the conversation, apart from it.
func (s *chatSession) note(format string, args ...any) {
	fmt.Fprintf(s.notes, "%s%s%s\n", s.dim, fmt.Sprintf(format, args...), s.plain)
}

// message waits for the next message, or for ctx to end: a read from a pipe cannot be ended by closing it.
func (s *chatSession) message(ctx context.Context) (string, error) {
	type result struct {
		text string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := s.in.message()
		read <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-read:
		return r.text, r.err
	}
}

// loop runs until the input ends. On a terminal it survives errors, in a pipe it returns the first.
func (s *chatSession) loop(ctx context.Context) error {
	for {
		text, err := s.message(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case strings.TrimSpace(text) == "":
			continue
		}
		if strings.HasPrefix(text, "/") {
			err = s.command(ctx, text)
		} else {
			err = s.send(ctx, chat.Message{Role: chat.RoleUser, Content: text})
		}
		switch {
		case errors.Is(err, errLeave):
			return nil
		case err != nil && (!s.in.interactive() || ctx.Err() != nil):
			return err
		case err != nil:
			s.note("%v", err)
		}
	}
}

// send adds a message and shows the answer, then the answers to the tool calls in it.
func (s *chatSession) send(ctx context.Context, m chat.Message) error {
	return s.show(ctx, func(ctx context.Context, emit func(chat.Event) error) (engine.Answer, error) {
		return s.Send(ctx, m, emit)
	})
}

func (s *chatSession) show(ctx context.Context, generate func(context.Context, func(chat.Event) error) (engine.Answer, error)) error {
	for {
		printer := newAnswerPrinter(s.out, s.hideThinking)
		answering, stop := s.stoppable(ctx)
		a, err := generate(answering, printer.event)
		stopped := answering.Err() != nil && ctx.Err() == nil
		stop()
		printer.end()
		s.turns = append(s.turns, a)
		if n := a.Dropped; n.Messages > 0 {
			s.note("The context is full: the oldest %d messages (%d tokens) were left out of this prompt.", n.Messages, n.Tokens)
		}
		if len(a.Result.Tokens) > 0 {
			s.note("%s", s.figures(a))
		}
		switch {
		case stopped && len(a.Result.Tokens) > 0:
			s.note("Stopped; what was said so far is kept.")
			return nil
		case stopped:
			s.note("Stopped before the answer began; the message was taken back.")
			return nil
		case err != nil:
			return err
		}
		if generate = s.answerTools(ctx, a.Message.ToolCalls); generate == nil {
			return nil
		}
	}
}

// stoppable is ctx until Ctrl-C is typed; a second one then ends the program.
func (s *chatSession) stoppable(ctx context.Context) (context.Context, context.CancelFunc) {
	if !s.in.interactive() {
		return ctx, func() {}
	}
	answering, stop := signal.NotifyContext(ctx, os.Interrupt)
	context.AfterFunc(answering, stop)
	return answering, stop
}

// answerTools asks the person for the results of tool calls; nil without calls, or when they are left unanswered.
func (s *chatSession) answerTools(ctx context.Context, calls []chat.ToolCall) func(context.Context, func(chat.Event) error) (engine.Answer, error) {
	if len(calls) == 0 {
		return nil
	}
	for _, c := range calls {
		s.note("The result of %s(%s)?", c.Function.Name, c.Function.Arguments)
		text, err := s.message(ctx)
		if err != nil || ctx.Err() != nil {
			return nil
		}
		s.Messages = append(s.Messages, chat.Message{Role: chat.RoleTool, Content: text, ToolCallID: c.ID, Name: c.Function.Name})
	}
	return s.Generate
}

// figures are the line behind an answer.
func (s *chatSession) figures(a engine.Answer) string {
	r := a.Result
	text := fmt.Sprintf("[%d tokens%s · prompt %d cached + %d new%s · context %d/%d", len(r.Tokens), at(len(r.Tokens)-1, r.Duration),
		r.Sync.Reused, r.Sync.Prefilled, at(r.Sync.Prefilled, r.Sync.Duration), s.CachedTokens(), s.e.ContextTokens())
	if r.Reason == engine.ReasonLength || r.Reason == engine.ReasonContext {
		text += fmt.Sprintf(" · ended by %s", r.Reason)
	}
	return text + "]"
}

func at(n int, d time.Duration) string {
	if n <= 0 || d <= 0 {
		return ""
	}
	return fmt.Sprintf(" at %.1f/s", float64(n)/d.Seconds())
}
