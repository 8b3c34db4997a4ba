package main

// trace: a model's activations as a safetensors file, and the CPU and GPU paths in lockstep.

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

func newTrace() *cobra.Command {
	var f modelFlags
	var ids, out string
	var maxTokens int
	var compare, asJSON bool
	var tolerance float64
	cmd := &cobra.Command{
		Use:   "trace --model DIR --ids 5,6,7 --out FILE.safetensors",
		Short: "Record hidden states and logits, or compare the CPU and GPU paths",
		Long: `trace runs token ids and records float32 hidden.0 ... hidden.L [tokens, hidden] as transformers names them (hidden.0 the
embedding, hidden.i the residual stream after layer i, the last one after the final norm), logits [tokens, vocab], and
int32 generated: exactly --max-tokens greedy tokens, end-of-text ids included.

trace --compare runs the CPU path and the GPU path in lockstep over the prompt and the generated tokens. It prints the
largest error of every tensor, relative to the tensor's largest magnitude, and the first layer, tensor and token that
differ beyond --tolerance; then the exit status is 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ids == "" {
				return usagef(cmd, "give the prompt's token ids: --ids 5,6,7")
			}
			prompt, err := parseIDs(ids)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			if maxTokens < 0 {
				return usagef(cmd, "--max-tokens %d is negative", maxTokens)
			}
			if compare {
				return traceCompare(cmd, f, prompt, maxTokens, tolerance, asJSON)
			}
			if out == "" {
				return usagef(cmd, "give --out FILE.safetensors, or --compare")
			}
			return traceFile(cmd, f, prompt, maxTokens, out)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&ids, "ids", "", "token ids of the prompt, separated by commas")
	cmd.Flags().StringVarP(&out, "out", "o", "", "file to write")
	cmd.Flags().IntVarP(&maxTokens, "max-tokens", "n", 0, "greedy tokens to generate")
	cmd.Flags().BoolVar(&compare, "compare", false, "compare the CPU path with the GPU path")
	cmd.Flags().Float64Var(&tolerance, "tolerance", 0, "largest relative error with --compare (default 2e-4 with f32 KV, 2e-3 with f16)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the comparison as JSON")
	return cmd
}

func traceFile(cmd *cobra.Command, f modelFlags, ids []int32, maxTokens int, out string) error {
	e, err := f.open(cmd)
	if err != nil {
		return err
	}
	defer e.Close()
	t, err := e.Trace(cmd.Context(), ids, maxTokens)
	if err != nil {
		return err
	}
	c := e.Config()
	tensors := map[string]safetensors.Array{
		"input_ids": safetensors.Int32s(t.IDs, len(ids)),
		"logits":    safetensors.Float32s(t.Logits, len(ids), c.VocabSize),
		"generated": safetensors.Int32s(t.Generated, len(t.Generated)),
	}
	for i, h := range t.Hidden {
		tensors[fmt.Sprintf("hidden.%d", i)] = safetensors.Float32s(h, len(ids), c.HiddenSize)
	}
	if err := safetensors.WriteFile(out, map[string]string{"made_by": "qwen-wgpu trace, " + e.Describe()}, tensors); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: hidden.0 to hidden.%d, logits of %d tokens, %d generated; %s\n", out, c.NumHiddenLayers, len(ids), len(t.Generated), e.Describe())
	return nil
}

// traceFault is what tests break on the compared path.
var traceFault *kvcache.Fault

func traceCompare(cmd *cobra.Command, f modelFlags, ids []int32, maxTokens int, tolerance float64, asJSON bool) error {
	kv, err := runner.ParseKVDType(f.kv)
	if err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	if tolerance == 0 {
		tolerance = map[runner.KVDType]float64{runner.KVF32: 2e-4, runner.KVF16: 2e-3}[kv]
	}
	cpu, gpu := f, f
	cpu.device, cpu.adapter, gpu.device = "cpu", "", "gpu"
	gpu.trust, gpu.fault = true, traceFault // the first has checked the files
	want, err := cpu.open(cmd)
	if err != nil {
		return err
	}
	defer want.Close()
	got, err := gpu.open(cmd)
	if err != nil {
		return err
	}
	defer got.Close()
	c, err := engine.Compare(cmd.Context(), want.Engine, got.Engine, ids, maxTokens, tolerance)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		if err := enc.Encode(c); err != nil {
			return err
		}
	} else {
		printComparison(cmd.OutOrStdout(), want.Describe(), got.Describe(), c)
	}
	if d := c.First; d != nil {
		return fmt.Errorf("the paths differ: first in %s, token %d, index %d: %g on the CPU, %g on the GPU, error %.3g of the largest magnitude, tolerance %g",
			d.Tensor, d.Token, d.Index, d.Want, d.Got, d.MaxError, tolerance)
	}
	if !asJSON {
		fmt.Fprintf(cmd.OutOrStdout(), "equal within %g over %d prompt and %d generated tokens\n", tolerance, len(ids), len(c.Generated))
	}
	return nil
}

func printComparison(w io.Writer, want, got string, c *engine.Comparison) {
	fmt.Fprintf(w, "reference: %s\ncompared:  %s\n\n%-22s %12s %8s %8s\n", want, got, "tensor", "max error", "token", "index")
	for _, r := range c.Rows {
		fmt.Fprintf(w, "%-22s %12.3g %8d %8d\n", r.Tensor, r.MaxError, r.Token, r.Index)
	}
	fmt.Fprintln(w)
}
