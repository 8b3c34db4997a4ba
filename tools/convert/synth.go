// The synth subcommand: random checkpoints.

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/synth"
)

func synthCommand() *cobra.Command {
	var preset, configFile, out, dtype string
	var seed uint64
	var workers int
	var force, quiet, storeLMHead bool
	cmd := &cobra.Command{
		Use:   "synth --preset qwen3-0.6b|1.7b|4b|8b|14b|32b --seed N --out HFDIR",
		Short: "Write a random checkpoint of a published (or any) Qwen3 shape in Hugging Face's format",
		Long: `synth writes config.json, generation_config.json and random safetensors weights with the shapes, names and shard
count of a published model, scaled so that activations stay finite and logits spread. A seed gives the same bytes on
any number of threads. The text such a model writes means nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := synth.Options{Seed: seed, Force: force, Workers: workers, StoreLMHead: storeLMHead}
			switch {
			case out == "":
				return errors.New("synth: --out is needed")
			case (preset == "") == (configFile == ""):
				return errors.New("synth: give either --preset or --config")
			case preset != "":
				p, err := synth.FindPreset(preset)
				if err != nil {
					return err
				}
				o.Config = p.Config()
				if !cmd.Flags().Changed("store-lm-head") {
					o.StoreLMHead = p.StoreLMHead
				}
			default:
				data, err := os.ReadFile(configFile)
				if err != nil {
					return err
				}
				if o.Config, err = config.Parse(data); err != nil {
					return fmt.Errorf("%s: %w", configFile, err)
				}
			}
			o.DType = safetensors.DType(strings.ToUpper(dtype))
			meter := newMeter(cmd.ErrOrStderr(), "writing", quiet)
			o.Progress = meter.set
			start := time.Now()
			err := synth.Write(cmd.Context(), out, o)
			meter.finish()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s: random weights of seed %d, %s in %.1f s\n", o.Config, out, seed, bytesText(meter.done), time.Since(start).Seconds())
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&preset, "preset", "", "published shape: qwen3-0.6b, 1.7b, 4b, 8b, 14b or 32b")
	flags.StringVar(&configFile, "config", "", "config.json of any dense Qwen3 shape, instead of --preset")
	flags.Uint64Var(&seed, "seed", 1, "of the random numbers")
	flags.StringVar(&out, "out", "", "Hugging Face model directory to make")
	flags.StringVar(&dtype, "dtype", "bf16", "bf16 or f32")
	flags.BoolVar(&storeLMHead, "store-lm-head", false, "store lm_head of a tied model too (default: as the published checkpoint)")
	flags.BoolVar(&force, "force", false, "replace --out if it is a model directory")
	flags.IntVar(&workers, "workers", 0, "goroutines that draw (0: one a core)")
	flags.BoolVar(&quiet, "quiet", false, "no progress")
	return cmd
}
