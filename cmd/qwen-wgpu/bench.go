package main

// bench: prefill and decode rates beside the read roofline of the same device, and what they cost in time and memory.

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/synth"
)

// benchFlags are the tests that bench runs.
type benchFlags struct {
	modelFlags
	prompts, depths       []int
	generate, repetitions int
	showTuning, profile   bool
	synth, dtype          string // shape and number format of a random model; "": --model
}

func newBench() *cobra.Command {
	var f benchFlags
	var asJSON, asCSV bool
	cmd := &cobra.Command{
		Use:   "bench --model DIR",
		Short: "Measure prefill and decode rates",
		Long: `bench measures, like llama-bench: prefill of -p random tokens (pp), decode of -n greedy tokens (tg), each behind -d tokens
of context, as medians of -r repetitions after one that is not counted. Decode is timed from the call to the last token: nothing of
it is done before.

The columns: the time to the first token of a prefill, that token drawn and read; for decode the bytes of weights and
cached keys and values that a token reads, the rate at which they were read, and its share of a read-only roofline
measured on the same device in the same run; for prefill TFLOP/s, 2 * parameters * tokens / time; and the processor time
of this program for a token. Above and below the table: the time to load the model, device memory by what it is for, and
the most memory that this program had. --csv has one line a test with all of it, --json also every repetition, profiles and
tunings. What was measured before an interrupt or an error is printed all the same.`,
		Example: `  qwen-wgpu bench --model qwen3-0.6b-q8 -p 512,2048 -n 128 -d 0,4096 -r 5
  qwen-wgpu bench --synth qwen3-4b --dtype q4 --profile`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			if asJSON && asCSV {
				return usagef(cmd, "--json and --csv: give one of them")
			}
			if f.synth != "" {
				if err := f.makeModel(cmd); err != nil {
					return err
				}
			}
			rep, err := f.run(cmd)
			if err != nil && (rep == nil || len(rep.Rows) == 0) {
				return err
			}
			write := rep.print
			switch {
			case asJSON:
				write = rep.printJSON
			case asCSV:
				write = rep.printCSV
			}
			return errors.Join(err, write(cmd.OutOrStdout()))
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.synth, "synth", "", "instead of --model, a random model of a published shape, made up in memory: qwen3-0.6b, 1.7b, 4b, 8b, 14b or 32b")
	cmd.Flags().StringVar(&f.dtype, "dtype", "bf16", "number format of a --synth model: bf16, q8 or q4")
	cmd.Flags().IntSliceVarP(&f.prompts, "prompt", "p", []int{512}, "prompt lengths in tokens, 0: none")
	cmd.Flags().IntSliceVarP(&f.depths, "depth", "d", []int{0}, "tokens of context before each test")
	cmd.Flags().IntVarP(&f.generate, "generate", "n", 128, "tokens to decode, 0: none")
	cmd.Flags().IntVarP(&f.repetitions, "repetitions", "r", 5, "repetitions")
	cmd.Flags().BoolVar(&f.showTuning, "show-tuning", false, "first measure every way to spread the kernels over threads, and print it")
	cmd.Flags().BoolVar(&f.profile, "profile", false, "print what each use of a kernel adds to a decode step and to a prefill, measured by leaving it out")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print CSV")
	_ = cmd.RegisterFlagCompletionFunc("dtype", cobra.FixedCompletions([]string{"bf16", "q8", "q4"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (f *benchFlags) check(cmd *cobra.Command) error {
	if f.repetitions < 1 || f.generate < 0 {
		return usagef(cmd, "-r %d and -n %d: at least 1 repetition and 0 tokens", f.repetitions, f.generate)
	}
	for _, p := range f.prompts {
		if p < 0 {
			return usagef(cmd, "-p %d: a prompt has at least 0 tokens", p)
		}
	}
	for _, d := range f.depths {
		if d < 0 {
			return usagef(cmd, "-d %d: a context has at least 0 tokens", d)
		}
	}
	if f.synth != "" && f.model != "" {
		return usagef(cmd, "--synth and --model: give one of them")
	}
	if f.synth == "" && cmd.Flags().Changed("dtype") {
		return usagef(cmd, "--dtype is for --synth: a packed model has its own")
	}
	return nil
}

// makeModel makes the --synth model, which exists in memory alone and is made up as it is read.
func (f *benchFlags) makeModel(cmd *cobra.Command) error {
	preset, err := synth.FindPreset(f.synth)
	if err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	dtype, err := weights.ParseDType(f.dtype)
	if err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	f.source, err = synth.Packed(preset.Config(), dtype, 1)
	f.trust = true // there are no files that could be damaged
	return err
}

// contextTokens is the context that the longest test needs.
func (f *benchFlags) contextTokens() int {
	longest, deepest := f.generate+1, 0
	for _, p := range f.prompts {
		longest = max(longest, p)
	}
	for _, d := range f.depths {
		deepest = max(deepest, d)
	}
	return deepest + longest
}

// run measures everything. With an error it gives the report of the tests before.
func (f *benchFlags) run(cmd *cobra.Command) (*benchReport, error) {
	if f.context == 0 {
		f.context = f.contextTokens()
	}
	e, err := f.open(cmd)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	rep := &benchReport{
		Model: e.Config().String(), Runs: e.Describe(), WeightBytes: e.model.WeightBytes(), ContextTokens: e.ContextTokens(),
		CheckSeconds: e.checking.Seconds(), LoadSeconds: e.loading.Seconds(), TuneSeconds: e.tuning.Seconds(),
	}
	if m, ok := e.DeviceMemory(); ok {
		rep.DeviceMemory = &m
	}
	if e.device != nil {
		size := uint64(1 << 30) // beyond any cache
		if e.device.Info().Type == "cpu" {
			size = 64 << 20
		}
		if rep.RooflineBytesS, err = forward.ReadBandwidth(e.device, size, f.repetitions); err != nil {
			return nil, err
		}
	}
	if f.showTuning {
		if rep.Tuning = e.measured; rep.Tuning == nil { // not while it was opened
			if rep.Tuning, err = e.Tune(engine.TuningRounds); err != nil {
				return nil, err
			}
		}
	}
	for _, d := range f.depths {
		if err = f.runAt(cmd, e, rep, d); err != nil {
			break
		}
	}
	rep.PeakBytes = peakMemory()
	return rep, err
}

// runAt measures behind depth tokens.
func (f *benchFlags) runAt(cmd *cobra.Command, e *opened, rep *benchReport, depth int) error {
	var passes []int
	add := func(row engine.BenchRow, err error) error {
		if err == nil {
			rep.Rows = append(rep.Rows, row)
		}
		return err
	}
	for _, p := range f.prompts {
		if p == 0 {
			continue
		}
		if err := add(e.BenchPrefill(cmd.Context(), p, depth, f.repetitions, cpuTime)); err != nil {
			return err
		}
		passes = append(passes, p)
	}
	if f.generate > 0 {
		if err := add(e.BenchDecode(cmd.Context(), f.generate, depth, f.repetitions, cpuTime)); err != nil {
			return err
		}
		passes = append([]int{1}, passes...)
	}
	if !f.profile {
		return nil
	}
	for _, n := range passes {
		p, err := e.Profile(cmd.Context(), n, depth, f.repetitions)
		if err != nil {
			return err
		}
		if len(p.Rows) > 0 {
			rep.Profiles = append(rep.Profiles, p)
		}
	}
	return nil
}
