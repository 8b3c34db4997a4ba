package main

// doctor: what this machine offers, and whether a model fits, in plain words.

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/native"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

func newDoctor() *cobra.Command {
	var f modelFlags
	cmd := &cobra.Command{
		Use:   "doctor [--model DIR]",
		Short: "Say which GPUs there are, what is missing, and whether a model fits",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kv, err := runner.ParseKVDType(f.kv)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "qwen-wgpu %s\n\n", version())
			adapters, err := native.Adapters()
			if err != nil {
				fmt.Fprintf(w, "GPU: none can be used: %v\nModels run on the CPU (--device cpu).\n", err)
			}
			for _, a := range adapters {
				printAdapter(w, a)
			}
			if f.model == "" {
				fmt.Fprintln(w, "To see whether a model fits, give --model DIR.")
				return nil
			}
			m, err := f.openModel(cmd)
			if err != nil {
				return err
			}
			defer m.Close()
			return printFit(w, m, adapters, f.context, kv)
		},
	}
	f.add(cmd)
	return cmd
}

func printAdapter(w io.Writer, a native.Adapter) {
	l := a.Limits
	fmt.Fprintf(w, "GPU %d: %s (%s, %s)\n", a.Index, a.Info.Name, a.Info.Type, a.Info.Backend)
	fmt.Fprintf(w, "  driver            %s\n  library           %s\n", a.Info.Driver, a.Info.Library)
	memory := "unknown"
	if l.MemoryBytes > 0 {
		memory = bytesText(int64(l.MemoryBytes))
	}
	fmt.Fprintf(w, "  memory            %s\n", memory)
	fmt.Fprintf(w, "  largest buffer    %s, largest binding %s\n", limitText(l.MaxBufferBytes), limitText(l.MaxStorageBindingBytes))
	fmt.Fprintf(w, "  workgroup         %d threads, %s shared\n", l.MaxInvocationsPerWorkgroup, bytesText(int64(l.MaxWorkgroupStorageBytes)))
	fmt.Fprintf(w, "  kernels           float32 arithmetic over packed weights: this WebGPU library offers kernels neither\n"+
		"                    float16 arithmetic nor subgroups, so the same kernels run on every GPU\n")
	switch {
	case a.Info.Type == "cpu":
		fmt.Fprintf(w, "  use               --device gpu; --device auto prefers the plain CPU path, which is faster than this software GPU\n")
	default:
		fmt.Fprintf(w, "  use               the default, or --adapter %d\n", a.Index)
	}
	fmt.Fprintln(w)
}

func limitText(n uint64) string {
	if n >= 1<<40 {
		return "unlimited"
	}
	return bytesText(int64(n))
}

// printFit says what the model needs and which adapters have it.
func printFit(w io.Writer, m *weights.Model, adapters []native.Adapter, context int, kv runner.KVDType) error {
	if context == 0 {
		context = min(engine.DefaultContextTokens, m.Config.ContextLimit())
	}
	fmt.Fprintf(w, "Model: %s, weights %s\n", m.Config, bytesText(m.WeightBytes()))
	if !m.HasTokenizer() {
		fmt.Fprintln(w, "  no tokenizer.json: only token ids can be given (--ids)")
	}
	for _, a := range adapters {
		mem, err := forward.PlanMemory(m, forward.Options{NumPages: (context + engine.PageSize - 1) / engine.PageSize, PageSize: engine.PageSize, KVDType: kv}, a.Limits)
		if err != nil {
			fmt.Fprintf(w, "  GPU %d: does not fit: %s\n", a.Index, strings.TrimPrefix(err.Error(), "forward: "))
			continue
		}
		available := "available memory unknown"
		if a.Limits.MemoryBytes > 0 {
			available = bytesText(int64(a.Limits.MemoryBytes)) + " available"
		}
		fmt.Fprintf(w, "  GPU %d: fits: %s needed (weights %s, KV cache for %d tokens in %s %s, working buffers %s), %s\n", a.Index,
			bytesText(int64(mem.Total())), bytesText(int64(mem.WeightBytes)), context, kv, bytesText(int64(mem.KVBytes)), bytesText(int64(mem.ActivationBytes)), available)
	}
	return nil
}
