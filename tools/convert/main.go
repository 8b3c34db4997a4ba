// Command convert repacks a Hugging Face Qwen3 checkpoint into a directory that the engine uploads as it is.
//
// It owns the command line and what a person sees; packer does the conversion, synth makes random checkpoints, and
// engine/weights reads and verifies the result. Exit status 0 means done, 1 an error that was printed.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/packer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the program at once
	}()
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("interrupted; nothing was left behind")
		}
		fmt.Fprintf(os.Stderr, "convert: %s\n", strings.TrimPrefix(err.Error(), "convert: "))
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	var in, out, dtype, lmHead string
	var shardMiB, workers int
	var force, quiet bool
	cmd := &cobra.Command{
		Use:   "convert --in HFDIR --out DIR --dtype bf16|q8|q4",
		Short: "Repack a Hugging Face Qwen3 checkpoint for qwen-wgpu",
		Long: `convert reads a Hugging Face model directory (config.json and safetensors files) and writes a packed model
directory: shards that the GPU takes as they are, the tokenizer and configuration files, and a manifest with the
SHA-256 of each. The same input gives the same bytes.

bf16 keeps a bf16 checkpoint exactly. q8 and q4 share a scale among 32 weights, chosen for the least squared error.`,
		Example: `  convert --in ~/Qwen3-0.6B --out models/qwen3-0.6b-q4 --dtype q4
  convert verify models/qwen3-0.6b-q4
  convert inspect models/qwen3-0.6b-q4
  convert synth --preset qwen3-0.6b --seed 1 --out /tmp/random-0.6b`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in == "" && out == "" && cmd.Flags().NFlag() == 0 {
				return cmd.Help()
			}
			if in == "" || out == "" {
				return fmt.Errorf("both --in and --out are needed (see convert --help)")
			}
			d, err := weights.ParseDType(dtype)
			if err != nil {
				return err
			}
			meter := newMeter(cmd.ErrOrStderr(), "packing "+dtype, quiet)
			start := time.Now()
			report, err := packer.Convert(cmd.Context(), in, out, packer.Options{
				DType: d, ShardBytes: int64(shardMiB) << 20, Force: force, LMHead: packer.LMHead(lmHead), Workers: workers,
				Progress: meter.set,
			})
			meter.finish()
			if err != nil {
				return err
			}
			printReport(cmd.OutOrStdout(), report, out, time.Since(start))
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&in, "in", "", "Hugging Face model directory to read")
	flags.StringVar(&out, "out", "", "packed model directory to make")
	flags.StringVar(&dtype, "dtype", "bf16", "number format of the matrices: bf16, q8 or q4")
	flags.IntVar(&shardMiB, "shard-mib", packer.DefaultShardBytes>>20, "largest shard file, 1 to 128 MiB")
	flags.BoolVar(&force, "force", false, "replace --out if it is a packed model directory")
	flags.StringVar(&lmHead, "lm-head", "", "where a tied checkpoint's lm_head differs from its embedding, use: embedding or stored")
	flags.IntVar(&workers, "workers", 0, "goroutines that pack (0: one a core)")
	flags.BoolVar(&quiet, "quiet", false, "no progress")
	cmd.AddCommand(verifyCommand(), inspectCommand(), synthCommand())
	cmd.CompletionOptions.HiddenDefaultCmd = true
	return cmd
}
