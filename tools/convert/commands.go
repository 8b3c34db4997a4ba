// The subcommands: verify, inspect and synth.

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/packer"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/synth"
)

func verifyCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Check a packed model directory: shapes, sizes and every SHA-256",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := open(args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			meter := newMeter(cmd.ErrOrStderr(), "verifying", quiet)
			err = m.Verify(cmd.Context(), meter.set)
			meter.finish()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is sound: %d files and %d shards, %s of weights, every SHA-256 as in the manifest\n",
				args[0], len(m.Manifest.Files), len(m.Manifest.Shards), bytesText(m.WeightBytes()))
			return nil
		},
	}
	cmd.Flags().BoolVar(&quiet, "quiet", false, "no progress")
	return cmd
}

func open(dir string) (*weights.Model, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	m, err := weights.Open(weights.Dir(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return m, nil
}

func inspectCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "inspect DIR",
		Short: "Print what a packed model directory holds and what packing cost",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := open(args[0])
			if err != nil {
				return err
			}
			defer m.Close()
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s\n", m.Config)
			fmt.Fprintf(w, "%s, %d shards, %s of weights, %.2f bits a parameter\n", m.Manifest.DType, len(m.Manifest.Shards),
				bytesText(m.WeightBytes()), 8*float64(m.WeightBytes())/float64(m.Manifest.Parameters))
			for _, f := range m.Manifest.Files {
				fmt.Fprintf(w, "  %-26s %s\n", f.Name, bytesText(f.SizeBytes))
			}
			printTensors(w, &m.Manifest, all)
			for _, warning := range m.Manifest.Warnings {
				fmt.Fprintf(w, "warning: %s\n", warning)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "a line for every tensor instead of one for each kind")
	return cmd
}

// tensorLine is what inspect prints of one checkpoint tensor or of all layers' tensors of one kind.
type tensorLine struct {
	name            string
	count           int
	from, to        string // dtypes
	rows, cols      int    // of the packed matrix
	bytes           int64  // of the packed matrix
	sumRMS, maxRMS  float64
	maxAbs          float64
	matrix          string
	matrixPieces    int
	matrixPieceSpan string
}

func printTensors(w io.Writer, m *weights.Manifest, all bool) {
	var lines []*tensorLine
	index := map[string]*tensorLine{}
	for _, mat := range m.Matrices {
		var size int64
		for _, p := range mat.Pieces {
			size += p.Data.Size + p.Scales.Size
		}
		for i, s := range mat.Sources {
			name := s.Name
			if !all {
				name = withoutLayer(name)
			}
			l := index[name]
			if l == nil {
				l = &tensorLine{name: name, from: s.DType, to: string(mat.DType), rows: mat.Rows, cols: mat.Cols, matrix: kind(mat.Name)}
				index[name] = l
				lines = append(lines, l)
			}
			l.count++
			if i == 0 {
				l.bytes += size
			}
			l.sumRMS += s.Error.RelativeRMS
			l.maxRMS = max(l.maxRMS, s.Error.RelativeRMS)
			l.maxAbs = max(l.maxAbs, s.Error.MaxAbs)
		}
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "tensor\tcount\tfrom\tto\tpacked as\trows\tcols\tbytes\trel. RMS error\tworst\tmax error\t")
	for _, l := range lines {
		size := ""
		if l.bytes > 0 {
			size = bytesText(l.bytes)
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%d\t%d\t%s\t%.5f\t%.5f\t%.3g\t\n", l.name, l.count, l.from, l.to, l.matrix, l.rows, l.cols,
			size, l.sumRMS/float64(l.count), l.maxRMS, l.maxAbs)
	}
	tw.Flush()
}

// withoutLayer replaces the layer's number by N.
func withoutLayer(name string) string {
	parts := strings.Split(name, ".")
	for i := 1; i < len(parts); i++ {
		if parts[i-1] == "layers" {
			parts[i] = "N"
		}
	}
	return strings.Join(parts, ".")
}

// kind is the last part of a packed matrix's name.
func kind(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// printReport says what a conversion made.
func printReport(w io.Writer, r packer.Report, out string, took time.Duration) {
	fmt.Fprintf(w, "%s\n", r.Config)
	printTensors(w, &r.Manifest, false)
	for _, warning := range r.Manifest.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	fmt.Fprintf(w, "%s: %s, %d shards, %s from %s in %.1f s (%s/s)", out, r.Manifest.DType, len(r.Manifest.Shards), bytesText(r.PackedBytes),
		bytesText(r.SourceBytes), took.Seconds(), bytesText(int64(float64(r.SourceBytes)/took.Seconds())))
	if peak := peakMemory(); peak > 0 {
		fmt.Fprintf(w, ", peak memory %s", bytesText(peak))
	}
	fmt.Fprintln(w)
}

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
			size := dirBytes(out)
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s: random weights of seed %d, %s in %.1f s\n", o.Config, out, seed, bytesText(size), time.Since(start).Seconds())
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

// dirBytes is the size of a folder's files.
func dirBytes(dir string) int64 {
	var n int64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
