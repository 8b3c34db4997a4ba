package main

// run: one answer to a prompt of token ids or text.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/chat"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// samplingFlags choose how tokens are picked. Those not given are the model's own, from generation_config.json.
type samplingFlags struct {
	greedy                                      bool
	temperature, topP, minP                     float32
	topK                                        int
	repetitionPenalty, presencePenalty, freqPen float32
	seed                                        uint64
	logitBias                                   []string
	logProbs                                    int
}

func (f *samplingFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&f.greedy, "greedy", false, "always take the most probable token (same as --temperature 0)")
	fl.Float32VarP(&f.temperature, "temperature", "t", 0, "sampling temperature (default: the model's generation_config.json, else 1)")
	fl.Float32Var(&f.topP, "top-p", 1, "keep the most probable tokens up to this probability")
	fl.Float32Var(&f.minP, "min-p", 0, "keep tokens at least this fraction as probable as the best")
	fl.IntVar(&f.topK, "top-k", 0, "keep this many tokens, 0: all")
	fl.Float32Var(&f.repetitionPenalty, "repetition-penalty", 1, "divide positive logits of seen tokens by this")
	fl.Float32Var(&f.presencePenalty, "presence-penalty", 0, "subtract from logits of generated tokens")
	fl.Float32Var(&f.freqPen, "frequency-penalty", 0, "subtract from logits per occurrence")
	fl.Uint64Var(&f.seed, "seed", 0, "seed of the random numbers (default: from the clock)")
	fl.StringArrayVar(&f.logitBias, "logit-bias", nil, "ID=BIAS, added to that token's logit; may be repeated")
	fl.IntVar(&f.logProbs, "logprobs", 0, "also report this many of the most probable tokens of each step (0 to 20)")
}

// params joins the flags that were given with the model's defaults.
func (f *samplingFlags) params(cmd *cobra.Command, m *weights.Model) (p sampling.Params, err error) {
	p = engine.DefaultSampling(m)
	given := cmd.Flags().Changed
	if given("temperature") {
		p.Temperature = f.temperature
	}
	if given("top-p") {
		p.TopP = f.topP
	}
	if given("min-p") {
		p.MinP = f.minP
	}
	if given("top-k") {
		p.TopK = f.topK
	}
	if given("repetition-penalty") {
		p.RepetitionPenalty = f.repetitionPenalty
	}
	if given("presence-penalty") {
		p.PresencePenalty = f.presencePenalty
	}
	if given("frequency-penalty") {
		p.FrequencyPenalty = f.freqPen
	}
	if f.greedy {
		p.Temperature = 0
	}
	p.Seed = f.seed
	if !given("seed") {
		p.Seed = uint64(time.Now().UnixNano())
	}
	p.LogProbs = f.logProbs
	if p.LogitBias, err = f.biases(); err != nil {
		return p, &usageError{cmd.CommandPath(), err}
	}
	if err := p.Validate(m.Config.VocabSize); err != nil {
		return p, &usageError{cmd.CommandPath(), err}
	}
	return p, nil
}

// check refuses what is wrong whatever the model.
func (f *samplingFlags) check(cmd *cobra.Command) error {
	if f.greedy && cmd.Flags().Changed("temperature") && f.temperature != 0 {
		return usagef(cmd, "--greedy and --temperature %g exclude each other", f.temperature)
	}
	if f.logProbs < 0 || f.logProbs > 20 {
		return usagef(cmd, "--logprobs %d is not in 0 to 20", f.logProbs)
	}
	if _, err := f.biases(); err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	return nil
}

// biases reads ID=BIAS.
func (f *samplingFlags) biases() (map[int32]float32, error) {
	biases := map[int32]float32{}
	for _, s := range f.logitBias {
		id, bias, ok := strings.Cut(s, "=")
		n, err := strconv.ParseInt(id, 10, 32)
		v, err2 := strconv.ParseFloat(bias, 32)
		if !ok || err != nil || err2 != nil {
			return nil, fmt.Errorf("--logit-bias %q is not of the form ID=BIAS", s)
		}
		biases[int32(n)] = float32(v)
	}
	return biases, nil
}

func newRun() *cobra.Command {
	var f modelFlags
	var c conversationFlags
	var ids string
	var raw, printIDs, ignoreEOS bool
	cmd := &cobra.Command{
		Use:   "run [--model DIR] [--ids 5,6,7 | PROMPT]",
		Short: "Answer one prompt",
		Long: `run answers PROMPT (- reads it from standard input) in the model's chat template, or continues it as plain text with
--raw or where the model has no template. With --ids it continues token ids as they are. The answer goes to standard
output as it is generated; what runs the model and how fast goes to stderr. Sampling parameters that are not given are
those of the model's generation_config.json.`,
		Example: `  qwen-wgpu run "Why is the sky blue?"
  qwen-wgpu run --model qwen3-0.6b-q8 --no-think --greedy "2+2?"
  qwen-wgpu run --model qwen3-0.6b-q8 --raw "Once upon a time" --stop . --max-tokens 40`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (ids == "") == (len(args) == 0) {
				return usagef(cmd, "give either a PROMPT or --ids 5,6,7")
			}
			if err := c.check(cmd); err != nil {
				return err
			}
			given, err := parseIDs(ids)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			text := strings.Join(args, " ")
			if text == "-" {
				in, err := io.ReadAll(cmd.InOrStdin())
				if err != nil {
					return err
				}
				text = string(in)
			}
			e, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer e.Close()
			var res engine.Result
			var runErr error
			if given == nil && !raw && !ignoreEOS && hasTemplate(e.model) {
				res, runErr = answer(cmd, e, &c, text, printIDs)
			} else {
				res, runErr = complete(cmd, e, &c, given, text, printIDs, ignoreEOS)
			}
			if len(res.Tokens) > 0 {
				reportRun(cmd.ErrOrStderr(), e, res)
			}
			if errors.Is(runErr, engine.ErrContextFull) && len(res.Tokens) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "stopped: %v\n", runErr)
				return nil
			}
			return runErr
		},
	}
	f.add(cmd)
	c.add(cmd)
	cmd.Flags().StringVar(&ids, "ids", "", "token ids of the prompt, separated by commas")
	cmd.Flags().BoolVar(&raw, "raw", false, "continue the prompt as plain text, without the chat template")
	cmd.Flags().BoolVar(&printIDs, "print-ids", false, "print token ids instead of text")
	cmd.Flags().BoolVar(&ignoreEOS, "ignore-eos", false, "generate on past end-of-text tokens (implies --raw)")
	return cmd
}

func hasTemplate(m *weights.Model) bool {
	_, err := engine.LoadTemplate(m)
	return m.HasTokenizer() && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, chat.ErrNoTemplate)
}

// answer runs one turn of a conversation.
func answer(cmd *cobra.Command, e *opened, f *conversationFlags, prompt string, printIDs bool) (engine.Result, error) {
	c, err := f.start(cmd, e)
	if err != nil {
		return engine.Result{}, err
	}
	defer c.Close()
	text := newAnswerPrinter(cmd.OutOrStdout(), f.hideThinking)
	emit, end := text.event, text.end
	if printIDs || f.sampling.logProbs > 0 {
		tokens, err := newTokenPrinter(cmd.OutOrStdout(), e, printIDs, f.sampling.logProbs > 0)
		if err != nil {
			return engine.Result{}, err
		}
		c.OnToken = func(r sampling.Result) { tokens.print(r) }
		emit, end = func(chat.Event) error { return tokens.err }, tokens.end
	}
	a, err := c.Send(cmd.Context(), chat.Message{Role: chat.RoleUser, Content: prompt}, emit)
	end()
	return a.Result, err
}

// complete continues ids, or a text as it is.
func complete(cmd *cobra.Command, e *opened, f *conversationFlags, ids []int32, prompt string, printIDs, ignoreEOS bool) (res engine.Result, err error) {
	params, err := f.sampling.params(cmd, e.model)
	if err != nil {
		return res, err
	}
	tok, err := e.Tokenizer()
	switch {
	case errors.Is(err, engine.ErrNoTokenizer) && ids != nil && len(f.stop) == 0:
	case err != nil:
		return res, err
	case ids == nil:
		if ids, err = tok.Encode(prompt); err != nil {
			return res, err
		}
	}
	session := e.NewSession()
	defer session.Close()
	opt := engine.GenerateOptions{Sampling: params, MaxTokens: f.maxTokens, StopIDs: e.StopIDs(), IgnoreEOS: ignoreEOS}
	if tok == nil || printIDs || params.LogProbs > 0 {
		tokens, err := newTokenPrinter(cmd.OutOrStdout(), e, printIDs || tok == nil, params.LogProbs > 0)
		if err != nil {
			return res, err
		}
		var stream *engine.TextStream
		if tok != nil {
			stream = engine.NewTextStream(tok, f.stop)
		}
		res, err = session.Generate(cmd.Context(), ids, opt, func(r sampling.Result) error {
			tokens.print(r)
			if stream != nil {
				if _, stopped := stream.Push(r.Token); stopped {
					return engine.ErrStop
				}
			}
			return tokens.err
		})
		tokens.end()
		return res, err
	}
	out, stream := newAnswerPrinter(cmd.OutOrStdout(), false), engine.NewTextStream(tok, f.stop)
	res, err = session.Generate(cmd.Context(), ids, opt, func(r sampling.Result) error {
		if slices.Contains(opt.StopIDs, r.Token) {
			return nil
		}
		text, stopped := stream.Push(r.Token)
		if err := out.text(text); err != nil {
			return err
		}
		if stopped {
			return engine.ErrStop
		}
		return nil
	})
	out.text(stream.Flush())
	out.end()
	return res, err
}
