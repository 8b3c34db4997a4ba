// The verify subcommand: is a packed model directory what its manifest says?

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

func verifyCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Check a packed model directory: shapes, sizes and every SHA-256",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			meter := newMeter(cmd.ErrOrStderr(), "verifying", quiet)
			m, err := open(args[0], weights.WithVerify(cmd.Context(), meter.set))
			meter.finish()
			if err != nil {
				return err
			}
			defer m.Close()
			fmt.Fprintf(cmd.OutOrStdout(), "%s is sound: %d files and %d shards, %s of weights, every SHA-256 as in the manifest\n",
				args[0], len(m.Manifest.Files), len(m.Manifest.Shards), bytesText(m.WeightBytes()))
			return nil
		},
	}
	cmd.Flags().BoolVar(&quiet, "quiet", false, "no progress")
	return cmd
}

// open opens a packed directory; errors name it.
func open(dir string, options ...weights.Option) (*weights.Model, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	m, err := weights.Open(weights.Dir(dir), options...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return m, nil
}
