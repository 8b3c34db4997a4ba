package main

// bench: prefill and decode rates beside the read roofline of the same device.

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
)

// benchReport is what bench --json prints.
type benchReport struct {
	Model          string            `json:"model"`
	Runs           string            `json:"runs"` // what runs the model
	LoadSeconds    float64           `json:"load_seconds"`
	WeightBytes    int64             `json:"weight_bytes"`
	RooflineBytesS float64           `json:"roofline_bytes_per_second"` // 0 on the CPU
	Rows           []engine.BenchRow `json:"rows"`
	Profiles       []benchProfile    `json:"profiles,omitempty"`
	Tuning         []forward.TuneRow `json:"tuning,omitempty"`
}

// benchProfile is where a pass's time goes.
type benchProfile struct {
	Tokens int                  `json:"tokens"`
	Depth  int                  `json:"depth"`
	Rows   []forward.ProfileRow `json:"rows"`
}

func newBench() *cobra.Command {
	var f modelFlags
	var prompts, depths []int
	var generate, repetitions int
	var asJSON, asCSV, showTuning, profile bool
	cmd := &cobra.Command{
		Use:   "bench --model DIR",
		Short: "Measure prefill and decode rates",
		Long: `bench measures, like llama-bench: prefill of -p random tokens (pp), decode of -n greedy tokens (tg), each behind -d tokens
of context, as medians of -r repetitions after one that is not counted. Beside the decode rates stand the bytes that a
token reads and their share of a read-only roofline measured on the same device in the same run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if repetitions < 1 || generate < 0 {
				return usagef(cmd, "-r %d and -n %d: at least 1 repetition and 0 tokens", repetitions, generate)
			}
			if f.context == 0 {
				f.context = benchContext(prompts, depths, generate)
			}
			begin := time.Now()
			e, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer e.Close()
			rep := benchReport{Model: e.Config().String(), Runs: e.Describe(), LoadSeconds: time.Since(begin).Seconds(), WeightBytes: e.model.WeightBytes()}
			if e.device != nil {
				if rep.RooflineBytesS, err = forward.ReadBandwidth(e.device, 1<<30, 5); err != nil {
					return err
				}
			}
			if showTuning {
				if rep.Tuning, err = e.Tune(tuningRounds); err != nil {
					return err
				}
			}
			for _, d := range depths {
				for _, p := range prompts {
					if p == 0 {
						continue
					}
					row, err := e.BenchPrefill(cmd.Context(), p, d, repetitions)
					if err != nil {
						return err
					}
					rep.Rows = append(rep.Rows, row)
				}
				if generate > 0 {
					row, err := e.BenchDecode(cmd.Context(), generate, d, repetitions, cpuTime)
					if err != nil {
						return err
					}
					rep.Rows = append(rep.Rows, row)
				}
				if profile {
					for _, n := range append([]int{1}, prompts...) {
						if n == 0 || n == 1 && generate == 0 {
							continue
						}
						rows, err := e.Profile(cmd.Context(), n, d, repetitions)
						if err != nil {
							return err
						}
						rep.Profiles = append(rep.Profiles, benchProfile{n, d, rows})
					}
				}
			}
			return rep.print(cmd.OutOrStdout(), asJSON, asCSV)
		},
	}
	f.add(cmd)
	cmd.Flags().IntSliceVarP(&prompts, "prompt", "p", []int{512}, "prompt lengths in tokens, 0: none")
	cmd.Flags().IntSliceVarP(&depths, "depth", "d", []int{0}, "tokens of context before each test")
	cmd.Flags().IntVarP(&generate, "generate", "n", 128, "tokens to decode, 0: none")
	cmd.Flags().IntVarP(&repetitions, "repetitions", "r", 5, "repetitions")
	cmd.Flags().BoolVar(&showTuning, "show-tuning", false, "first measure every way to spread the kernels over threads, and print it")
	cmd.Flags().BoolVar(&profile, "profile", false, "print the time of each kernel of a decode step, measured by repetition")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print CSV")
	return cmd
}

// benchContext is the context that the longest test needs.
func benchContext(prompts, depths []int, generate int) int {
	longest := generate + 1
	for _, p := range prompts {
		longest = max(longest, p)
	}
	deepest := 0
	for _, d := range depths {
		deepest = max(deepest, d)
	}
	return deepest + longest
}

func (r *benchReport) print(w io.Writer, asJSON, asCSV bool) error {
	switch {
	case asJSON:
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	case asCSV:
		out := csv.NewWriter(w)
		out.Write([]string{"model", "runs", "test", "tokens", "depth", "tokens_per_second", "bytes_per_second", "roofline_bytes_per_second"})
		for _, row := range r.Rows {
			out.Write([]string{r.Model, r.Runs, row.Test, strconv.Itoa(row.Tokens), strconv.Itoa(row.Depth),
				fmt.Sprintf("%.2f", row.TokensPerSecond), fmt.Sprintf("%.4g", row.BytesPerSecond), fmt.Sprintf("%.4g", r.RooflineBytesS)})
		}
		out.Flush()
		return out.Error()
	}
	fmt.Fprintf(w, "%s\n%s\nloaded in %.2f s (%s)", r.Model, r.Runs, r.LoadSeconds, bytesText(r.WeightBytes))
	if r.RooflineBytesS > 0 {
		fmt.Fprintf(w, ", read roofline %.0f GB/s", r.RooflineBytesS/1e9)
	}
	fmt.Fprintf(w, "\n\n%-14s %12s %12s %10s %10s %12s\n", "test", "tokens/s", "ms/token", "GB/s", "roofline", "CPU ms/token")
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%-14s %12.1f %12.4f", row.Test, row.TokensPerSecond, 1e3/row.TokensPerSecond)
		if row.BytesPerToken > 0 {
			fmt.Fprintf(w, " %10.1f", row.BytesPerSecond/1e9)
			if r.RooflineBytesS > 0 {
				fmt.Fprintf(w, " %9.0f%% %12.3f", 100*row.BytesPerSecond/r.RooflineBytesS, 1e3*engine.Median(row.CPUSeconds))
			}
		}
		fmt.Fprintln(w)
	}
	for _, p := range r.Profiles {
		p.print(w)
	}
	for i, t := range r.Tuning {
		if i == 0 {
			fmt.Fprintf(w, "\n%-18s %-20s %10s %8s\n", "kernel", "rows x threads", "us", "GB/s")
		}
		mark := ""
		if t.Chosen {
			mark = " *"
		}
		fmt.Fprintf(w, "%-18s %-20s %10.2f %8.0f%s\n", t.Kernel, t.MatvecShape, 1e6*t.Seconds, t.BytesPerSecond/1e9, mark)
	}
	return nil
}

func (p benchProfile) print(w io.Writer) {
	fmt.Fprintf(w, "\npass of %d tokens at depth %d: what each kernel adds to the device's time\n%-18s %10s %10s %10s\n", p.Tokens, p.Depth, "kernel", "dispatches", "us in all", "us each")
	for _, k := range p.Rows {
		fmt.Fprintf(w, "%-18s %10d %10.1f %10.2f\n", k.Kernel, k.Dispatches, 1e6*k.Seconds, 1e6*k.Seconds/float64(k.Dispatches))
	}
}
