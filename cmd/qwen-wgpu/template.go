package main

// template: renders conversations with a chat template, without a model.

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine/chat"
)

func newTemplate() *cobra.Command {
	var file string
	var jsonl bool
	cmd := &cobra.Command{
		Use:   "template --file TEMPLATE.jinja",
		Short: "Render conversations with a chat template",
		Long: `template shows the prompt that a chat template makes of a conversation. It reads a JSON object with the template's
variables (messages, tools, add_generation_prompt, enable_thinking, and any others) and prints the rendering; with --jsonl
it reads one object a line and prints each rendering as a JSON string. --file may also name a tokenizer_config.json.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef(cmd, "give --file TEMPLATE.jinja")
			}
			t, err := readTemplate(file)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			defer out.Flush()
			if !jsonl {
				in, err := io.ReadAll(cmd.InOrStdin())
				if err != nil {
					return err
				}
				text, err := t.RenderJSON(in)
				if err != nil {
					return err
				}
				_, err = out.WriteString(text)
				return err
			}
			return eachLine(cmd.InOrStdin(), func(n int, line []byte) error {
				text, err := t.RenderJSON(line)
				if err != nil {
					return fmt.Errorf("line %d: %w", n, err)
				}
				b, err := marshalJSON(text)
				if err != nil {
					return err
				}
				_, err = out.Write(append(b, '\n'))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "chat template (.jinja), or a tokenizer_config.json that holds one")
	cmd.Flags().BoolVar(&jsonl, "jsonl", false, "one JSON object a line, one JSON string a line")
	return cmd
}

func readTemplate(file string) (*chat.Template, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	parse := func(data []byte) (*chat.Template, error) { return chat.Parse(string(data)) }
	if strings.HasSuffix(file, ".json") {
		parse = chat.ParseConfig
	}
	t, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return t, nil
}
