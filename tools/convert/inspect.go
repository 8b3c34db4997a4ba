// The inspect subcommand, and the table that it shares with a conversion's report.

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/packer"
)

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
			var carried []string
			for _, f := range m.Manifest.Files {
				carried = append(carried, fmt.Sprintf("%s (%s)", f.Name, bytesText(f.SizeBytes)))
			}
			fmt.Fprintf(w, "with %s\n", strings.Join(carried, ", "))
			printTensors(w, &m.Manifest, all)
			printWarnings(w, &m.Manifest)
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "a line for every tensor instead of one for each kind")
	return cmd
}

// tensorLine is what inspect prints of one checkpoint tensor or of all layers' tensors of one kind.
type tensorLine struct {
	name           string
	count          int
	from, to       string // dtypes
	matrix         string // kind of the packed matrix that holds it
	rows, cols     int    // of that matrix
	bytes          int64  // of that matrix, at its first tensor only
	sumRMS, maxRMS float64
	maxAbs         float64
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
	fmt.Fprintln(tw, "tensor\tcount\tfrom\tto\tpacked as\tbytes\trel. RMS error\tworst\tmax error\t")
	for _, l := range lines {
		size := ""
		if l.bytes > 0 {
			size = bytesText(l.bytes)
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s [%d, %d]\t%s\t", l.name, l.count, l.from, l.to, l.matrix, l.rows, l.cols, size)
		if l.maxAbs == 0 {
			fmt.Fprintf(tw, "exact\t\t\t\n")
			continue
		}
		fmt.Fprintf(tw, "%.5f\t%.5f\t%.3g\t\n", l.sumRMS/float64(l.count), l.maxRMS, l.maxAbs)
	}
	tw.Flush()
}

// printWarnings prints what the converter had to say, the repetitive kind shortened.
func printWarnings(w io.Writer, m *weights.Manifest) {
	const most = 12
	for i, warning := range m.Warnings {
		if i == most && len(m.Warnings) > most+1 {
			fmt.Fprintf(w, "warning: and %d more, in %s\n", len(m.Warnings)-most, weights.ManifestName)
			return
		}
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
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
	printWarnings(w, &r.Manifest)
	fmt.Fprintf(w, "%s: %s, %d shards, %s from %s in %.1f s (%s/s)", out, r.Manifest.DType, len(r.Manifest.Shards), bytesText(r.PackedBytes),
		bytesText(r.SourceBytes), took.Seconds(), bytesText(int64(float64(r.SourceBytes)/took.Seconds())))
	if peak := peakMemory(); peak > 0 {
		fmt.Fprintf(w, ", peak memory %s", bytesText(peak))
	}
	fmt.Fprintln(w)
}
