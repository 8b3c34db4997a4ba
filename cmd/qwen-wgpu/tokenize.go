package main

// tokenize: texts to token ids and back, one JSON value a line.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
)

func newTokenize() *cobra.Command {
	var file string
	var decode, jsonl, noSpecial bool
	cmd := &cobra.Command{
		Use:   "tokenize --tokenizer FILE.json [--decode]",
		Short: "Turn texts into token ids, or ids into texts",
		Long: `tokenize reads one JSON string a line and prints one JSON array of ids a line; with --decode, the other way round.
Without --jsonl it takes the whole of standard input as one text (with --decode: one JSON array).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef(cmd, "give --tokenizer FILE.json")
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("tokenizer: %w", err)
			}
			tok, err := loadTokenizer(data)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			convert := func(in []byte) ([]byte, error) { return encodeLine(tok, in, noSpecial) }
			if decode {
				convert = func(in []byte) ([]byte, error) { return decodeLine(tok, in) }
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			defer out.Flush()
			if jsonl {
				return eachLine(cmd.InOrStdin(), func(n int, line []byte) error {
					b, err := convert(line)
					if err != nil {
						return fmt.Errorf("line %d: %w", n, err)
					}
					out.Write(append(b, '\n'))
					return nil
				})
			}
			in, err := io.ReadAll(cmd.InOrStdin())
			if err != nil {
				return err
			}
			if !decode {
				if in, err = marshalJSON(string(in)); err != nil {
					return err
				}
			}
			b, err := convert(in)
			if err != nil {
				return err
			}
			_, err = out.Write(append(b, '\n'))
			return err
		},
	}
	cmd.Flags().StringVar(&file, "tokenizer", "", "tokenizer.json")
	cmd.Flags().BoolVar(&jsonl, "jsonl", false, "one JSON value a line")
	cmd.Flags().BoolVar(&decode, "decode", false, "ids to text")
	cmd.Flags().BoolVar(&noSpecial, "no-special", false, "treat the text of added tokens as plain text")
	return cmd
}

func encodeLine(tok tokenizer.Interface, in []byte, noSpecial bool) ([]byte, error) {
	var text string
	if err := json.Unmarshal(in, &text); err != nil {
		return nil, fmt.Errorf("not a JSON string: %w", err)
	}
	ids, err := tok.EncodeWith(text, tokenizer.EncodeOptions{NoSpecial: noSpecial})
	if err != nil {
		return nil, err
	}
	if ids == nil {
		ids = []int32{}
	}
	return json.Marshal(ids)
}

func decodeLine(tok tokenizer.Interface, in []byte) ([]byte, error) {
	var ids []int32
	if err := json.Unmarshal(in, &ids); err != nil {
		return nil, fmt.Errorf("not a JSON array of token ids: %w", err)
	}
	text, err := tok.Decode(ids)
	if err != nil {
		return nil, err
	}
	return marshalJSON(text)
}

// marshalJSON is json.Marshal without escaping of <, > and &.
func marshalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// eachLine calls fn with every line that is not blank, numbered from 1.
func eachLine(r io.Reader, fn func(n int, line []byte) error) error {
	in := bufio.NewReaderSize(r, 1<<16)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			if err := fn(n, line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
