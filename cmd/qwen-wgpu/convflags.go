package main

// The flags of an answer in the model's chat template, shared by run and chat.

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/chat"
)

type conversationFlags struct {
	sampling       samplingFlags
	system         string
	think, noThink bool
	hideThinking   bool
	tools          string
	stop           []string
	maxTokens      int
	overflow       string
}

func (f *conversationFlags) add(cmd *cobra.Command) {
	f.sampling.add(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&f.system, "system", "s", "", "system message")
	fl.BoolVar(&f.think, "think", false, "ask the model to think first (default: as its chat template does)")
	fl.BoolVar(&f.noThink, "no-think", false, "ask the model to answer at once")
	fl.BoolVar(&f.hideThinking, "hide-thinking", false, "do not show what the model thinks")
	fl.StringVar(&f.tools, "tools", "", "JSON file with a list of tools (OpenAI's format) that the model may call")
	fl.StringArrayVar(&f.stop, "stop", nil, "text that ends an answer; may be repeated")
	fl.IntVarP(&f.maxTokens, "max-tokens", "n", 0, "tokens to generate at most (default: until the model stops or the context is full)")
	fl.StringVar(&f.overflow, "overflow", string(engine.OverflowError), "when a conversation outgrows the context: error, or drop-oldest (whole turns)")
	_ = cmd.RegisterFlagCompletionFunc("overflow", cobra.FixedCompletions([]string{string(engine.OverflowError), string(engine.OverflowDropOldest)}, cobra.ShellCompDirectiveNoFileComp))
}

// check refuses wrong flags before a model is loaded.
func (f *conversationFlags) check(cmd *cobra.Command) error {
	if f.maxTokens < 0 {
		return usagef(cmd, "--max-tokens %d is negative", f.maxTokens)
	}
	if f.think && f.noThink {
		return usagef(cmd, "--think and --no-think exclude each other")
	}
	if _, err := engine.ParseOverflow(f.overflow); err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	return f.sampling.check(cmd)
}

// start makes a conversation as the flags say.
func (f *conversationFlags) start(cmd *cobra.Command, e *opened) (*engine.Conversation, error) {
	params, err := f.sampling.params(cmd, e.model)
	if err != nil {
		return nil, err
	}
	tools, err := readTools(f.tools)
	if err != nil {
		return nil, err
	}
	c, err := e.NewConversation()
	if err != nil {
		return nil, err
	}
	c.Sampling, c.MaxTokens, c.Stop, c.Overflow, c.Tools = params, f.maxTokens, f.stop, engine.Overflow(f.overflow), tools
	if f.think || f.noThink {
		c.Thinking = &f.think
	}
	if f.system != "" {
		c.Messages = []chat.Message{{Role: chat.RoleSystem, Content: f.system}}
	}
	return c, nil
}

func readTools(file string) ([]chat.Tool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--tools: %w", err)
	}
	var tools []chat.Tool
	if err := json.Unmarshal(data, &tools); err != nil {
		return nil, fmt.Errorf("--tools %s: not a JSON list of tools: %w", file, err)
	}
	return tools, nil
}
