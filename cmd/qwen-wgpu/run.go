package main

// run: one answer to a prompt of token ids or text.

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
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
func (f *samplingFlags) params(cmd *cobra.Command, m *weights.Model) (sampling.Params, error) {
	p := engine.DefaultSampling(m)
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
		if given("temperature") && f.temperature != 0 {
			return p, usagef(cmd, "--greedy and --temperature %g exclude each other", f.temperature)
		}
		p.Temperature = 0
	}
	p.Seed = f.seed
	if !given("seed") {
		p.Seed = uint64(time.Now().UnixNano())
	}
	p.LogProbs = f.logProbs
	for _, s := range f.logitBias {
		id, bias, ok := strings.Cut(s, "=")
		n, err := strconv.ParseInt(id, 10, 32)
		v, err2 := strconv.ParseFloat(bias, 32)
		if !ok || err != nil || err2 != nil {
			return p, usagef(cmd, "--logit-bias %q is not of the form ID=BIAS", s)
		}
		if p.LogitBias == nil {
			p.LogitBias = map[int32]float32{}
		}
		p.LogitBias[int32(n)] = float32(v)
	}
	return p, nil
}

func newRun() *cobra.Command {
	var f modelFlags
	var s samplingFlags
	var ids string
	var maxTokens int
	var printIDs, ignoreEOS bool
	cmd := &cobra.Command{
		Use:   "run --model DIR [--ids 5,6,7 | PROMPT]",
		Short: "Answer one prompt",
		Long: `run generates one continuation and prints it: of --ids, token ids as they are, or of PROMPT, which is put into the
model's chat template. What runs the model and how fast goes to stderr.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (ids == "") == (len(args) == 0) {
				return usagef(cmd, "give either a PROMPT or --ids 5,6,7")
			}
			if maxTokens < 0 {
				return usagef(cmd, "--max-tokens %d is negative", maxTokens)
			}
			e, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer e.Close()
			params, err := s.params(cmd, e.model)
			if err != nil {
				return err
			}
			prompt, err := promptIDs(cmd, e, ids, strings.Join(args, " "))
			if err != nil {
				return err
			}
			out, err := newOutput(e, printIDs, s.logProbs > 0)
			if err != nil {
				return err
			}
			session := e.NewSession()
			defer session.Close()
			res, err := session.Generate(cmd.Context(), prompt, engine.GenerateOptions{Sampling: params, MaxTokens: maxTokens, StopIDs: e.StopIDs(), IgnoreEOS: ignoreEOS}, out.emit)
			out.end()
			reportRun(os.Stderr, e, res)
			if errors.Is(err, engine.ErrContextFull) && len(res.Tokens) > 0 {
				fmt.Fprintf(os.Stderr, "stopped: %v\n", err)
				return nil
			}
			return err
		},
	}
	f.add(cmd)
	s.add(cmd)
	cmd.Flags().StringVar(&ids, "ids", "", "token ids of the prompt, separated by commas")
	cmd.Flags().IntVarP(&maxTokens, "max-tokens", "n", 0, "tokens to generate at most (default: until the model stops or the context is full)")
	cmd.Flags().BoolVar(&printIDs, "print-ids", false, "print token ids instead of text")
	cmd.Flags().BoolVar(&ignoreEOS, "ignore-eos", false, "generate on past end-of-text tokens")
	return cmd
}
