package main

// doctor: what this machine offers, what is missing, and whether a model fits, in plain words.

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/native"
	"github.com/qwen-wgpu/qwen-wgpu/engine/ref"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

func newDoctor() *cobra.Command {
	var f modelFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [--model DIR]",
		Short: "Say which GPUs there are, what is missing, and whether a model fits",
		Long: `doctor lists the GPUs that can be used with their drivers and limits, says what to install where one is missing, which
kernels run and why, and, with --model, what that model needs of each processor's memory.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kv, err := runner.ParseKVDType(f.kv)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			report := native.Diagnose()
			var fits []fit
			var m *weights.Model
			if f.model != "" || embedded != nil {
				if m, err = f.openModel(cmd); err != nil {
					return err
				}
				defer m.Close()
				if fits, err = fitsOf(m, report.Adapters, f.context, kv); err != nil {
					return err
				}
			}
			w := cmd.OutOrStdout()
			if asJSON {
				enc := json.NewEncoder(w)
				enc.SetIndent("", "  ")
				return enc.Encode(struct {
					Version string        `json:"version"`
					Report  native.Report `json:"report"`
					Fits    []fit         `json:"fits,omitempty"`
				}{version(), report, fits})
			}
			fmt.Fprintf(w, "qwen-wgpu %s\n\n", version())
			if _, err := report.WriteTo(w); err != nil {
				return err
			}
			fmt.Fprintln(w)
			printChoice(w, report)
			if m == nil {
				fmt.Fprintln(w, "\nTo see whether a model fits, give --model DIR.")
				return nil
			}
			printFits(w, f.name(), m, fits)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printChoice says what the other commands would run on, with which kernels, and why.
func printChoice(w io.Writer, r native.Report) {
	hardware := -1
	for _, a := range r.Adapters {
		if a.Info.Type != "cpu" && (hardware < 0 || a.Index == r.Best) {
			hardware = a.Index
		}
	}
	switch {
	case hardware >= 0:
		fmt.Fprintf(w, "Runs on   adapter %d; --adapter chooses another, --device cpu the CPU\n", hardware)
	case len(r.Adapters) > 0:
		fmt.Fprintf(w, "Runs on   the CPU in plain Go, which is faster than a GPU that is itself a program on the CPU; --device gpu uses that one\n")
	default:
		fmt.Fprintf(w, "Runs on   the CPU in plain Go, as no GPU was found\n")
	}
	if len(r.Adapters) == 0 {
		return
	}
	fmt.Fprintf(w, `Kernels   float32 arithmetic over weights as packed (bf16, q8 or q4): the library lets WGSL use neither float16 nor
          subgroups, so the same kernels run on every GPU
          one token: 5 dispatches a layer (rmsnorm_qkv, attention, attn_out, rmsnorm_gate_up, down); long contexts are
          split over workgroups. On a GPU the first use of a model measures how each is best spread over threads, and
          whether all but attention is faster as one (layer_products)
          prompts: matmul in tiles of 128x128 where there are enough of them to fill a GPU, else of 32x32
`)
}

// fit is what a model needs of one processor.
type fit struct {
	Processor      string `json:"processor"`
	Fits           bool   `json:"fits"`
	Reason         string `json:"reason,omitempty"` // why not
	WeightBytes    int64  `json:"weight_bytes"`
	KVBytes        int64  `json:"kv_bytes"`
	WorkingBytes   int64  `json:"working_bytes"`
	AvailableBytes int64  `json:"available_bytes"` // 0: unknown
	ContextTokens  int    `json:"context_tokens"`
	KV             string `json:"kv"`
}

func (f fit) needed() int64 { return f.WeightBytes + f.KVBytes + f.WorkingBytes }

func fitsOf(m *weights.Model, adapters []native.Adapter, context int, kv runner.KVDType) ([]fit, error) {
	limit := m.Config.ContextLimit()
	if context == 0 {
		context = min(engine.DefaultContextTokens, limit)
	}
	if context < 1 || context > limit {
		return nil, fmt.Errorf("a context of %d tokens was asked for, this model takes 1 to %d", context, limit)
	}
	pages := (context + engine.PageSize - 1) / engine.PageSize
	var fits []fit
	for _, a := range adapters {
		mem, err := forward.PlanMemory(m, forward.Options{NumPages: pages, PageSize: engine.PageSize, KVDType: kv}, a.Limits)
		f := fit{fmt.Sprintf("adapter %d", a.Index), err == nil, "", int64(mem.WeightBytes), int64(mem.KVBytes), int64(mem.ActivationBytes), int64(a.Limits.MemoryBytes), context, string(kv)}
		if err != nil {
			f.Reason = strings.TrimPrefix(err.Error(), "forward: ")
		}
		fits = append(fits, f)
	}
	weightBytes, kvBytes, available, err := ref.PlanMemory(m, ref.Options{NumPages: pages, PageSize: engine.PageSize, KVDType: kv})
	if err != nil {
		return nil, err
	}
	f := fit{"the CPU", available == 0 || weightBytes+kvBytes <= available, "", int64(weightBytes), int64(kvBytes), 0, int64(available), context, string(kv)}
	if !f.Fits {
		f.Reason = "ask for a shorter --context, or convert to a smaller --dtype"
	}
	return append(fits, f), nil
}

func printFits(w io.Writer, name string, m *weights.Model, fits []fit) {
	fmt.Fprintf(w, "\nModel     %s\n          %s, weights %s\n", name, m.Config, bytesText(m.WeightBytes()))
	if !m.HasTokenizer() {
		fmt.Fprintln(w, "          no tokenizer.json: only token ids can be given (--ids)")
	}
	for _, f := range fits {
		available := "how much there is, is not known"
		if f.AvailableBytes > 0 {
			available = bytesText(f.AvailableBytes) + " available"
		}
		verdict := "fits"
		if !f.Fits {
			verdict = "does NOT fit"
		}
		fmt.Fprintf(w, "          %s: %s: %s needed (weights %s, KV cache for %d tokens in %s %s, working buffers %s), %s\n", f.Processor, verdict,
			bytesText(f.needed()), bytesText(f.WeightBytes), f.ContextTokens, f.KV, bytesText(f.KVBytes), bytesText(f.WorkingBytes), available)
		if f.Reason != "" {
			fmt.Fprintf(w, "            %s\n", f.Reason)
		}
	}
}
