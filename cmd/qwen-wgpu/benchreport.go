package main

// What bench measured, as a table, CSV and JSON.

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
)

// benchReport is what bench --json prints.
type benchReport struct {
	Model          string               `json:"model"`
	Runs           string               `json:"runs"`                      // what runs the model
	CheckSeconds   float64              `json:"check_seconds"`             // hashing the files, 0 with --no-verify
	LoadSeconds    float64              `json:"load_seconds"`              // opening the device, reading weights, compiling kernels, and what checking takes longer
	TuneSeconds    float64              `json:"tune_seconds"`              // measuring kernels, where that was still to do
	WeightBytes    int64                `json:"weight_bytes"`              // packed
	ContextTokens  int                  `json:"context_tokens"`            // that the KV cache holds
	DeviceMemory   *forward.Memory      `json:"device_memory,omitempty"`   // nil on the CPU
	PeakBytes      int64                `json:"peak_resident_bytes"`       // of this program, 0 where it is not known
	RooflineBytesS float64              `json:"roofline_bytes_per_second"` // 0 on the CPU
	Rows           []engine.BenchRow    `json:"rows"`
	Profiles       []engine.PassProfile `json:"profiles,omitempty"`
	Tuning         []forward.TuneRow    `json:"tuning,omitempty"`
}

// benchColumn is a column of the table and of the CSV. A value of 0 was not measured and stays empty.
type benchColumn struct {
	title, csv string
	unit       float64 // of the table, in that of the CSV
	decimals   int     // in the table
	value      func(*benchReport, engine.BenchRow) float64
}

var benchColumns = []benchColumn{
	{"tokens/s", "tokens_per_second", 1, 1, func(_ *benchReport, r engine.BenchRow) float64 { return r.TokensPerSecond }},
	{"ms/token", "seconds_per_token", 1e-3, 4, func(_ *benchReport, r engine.BenchRow) float64 { return 1 / r.TokensPerSecond }},
	{"first ms", "seconds_to_first_token", 1e-3, 2, func(_ *benchReport, r engine.BenchRow) float64 { return r.TimeToFirst }},
	{"MB/token", "bytes_per_token", 1e6, 1, func(_ *benchReport, r engine.BenchRow) float64 { return float64(r.BytesPerToken) }},
	{"GB/s", "bytes_per_second", 1e9, 1, func(_ *benchReport, r engine.BenchRow) float64 { return r.BytesPerSecond }},
	{"% roofline", "roofline_share", 1e-2, 1, func(rep *benchReport, r engine.BenchRow) float64 {
		if rep.RooflineBytesS == 0 {
			return 0
		}
		return r.BytesPerSecond / rep.RooflineBytesS
	}},
	{"TFLOP/s", "flops_per_second", 1e12, 2, func(_ *benchReport, r engine.BenchRow) float64 { return r.FLOPsPerSecond }},
	{"CPU ms/token", "cpu_seconds_per_token", 1e-3, 4, func(_ *benchReport, r engine.BenchRow) float64 { return engine.Median(r.CPUSeconds) }},
}

func (r *benchReport) printJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// printCSV prints a line for every test, with the figures of the whole run repeated on each.
func (r *benchReport) printCSV(w io.Writer) error {
	header := []string{"model", "runs", "test", "tokens", "depth"}
	for _, c := range benchColumns {
		header = append(header, c.csv)
	}
	number := func(v float64) string {
		if v == 0 {
			return ""
		}
		return strconv.FormatFloat(v, 'g', 8, 64)
	}
	var memory forward.Memory
	if r.DeviceMemory != nil {
		memory = *r.DeviceMemory
	}
	run := []struct {
		name  string
		value float64
	}{
		{"roofline_bytes_per_second", r.RooflineBytesS}, {"load_seconds", r.LoadSeconds}, {"check_seconds", r.CheckSeconds}, {"tune_seconds", r.TuneSeconds},
		{"model_bytes", float64(r.WeightBytes)}, {"context_tokens", float64(r.ContextTokens)}, {"device_bytes", float64(memory.Total())}, {"device_weight_bytes", float64(memory.WeightBytes)},
		{"device_kv_bytes", float64(memory.KVBytes)}, {"device_activation_bytes", float64(memory.ActivationBytes)}, {"peak_resident_bytes", float64(r.PeakBytes)},
	}
	for _, c := range run {
		header = append(header, c.name)
	}
	out := csv.NewWriter(w)
	out.Write(header)
	for _, row := range r.Rows {
		line := []string{r.Model, r.Runs, row.Test, strconv.Itoa(row.Tokens), strconv.Itoa(row.Depth)}
		for _, c := range benchColumns {
			line = append(line, number(c.value(r, row)))
		}
		for _, c := range run {
			line = append(line, number(c.value))
		}
		out.Write(line)
	}
	out.Flush()
	return out.Error()
}

// print prints tables for people.
func (r *benchReport) print(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%s\nloaded in %.2f s (%s)", r.Model, r.Runs, r.LoadSeconds, bytesText(r.WeightBytes))
	if r.CheckSeconds > 0.005 {
		fmt.Fprintf(w, ", checked meanwhile in %.2f s", r.CheckSeconds)
	}
	if r.TuneSeconds > 0.005 {
		fmt.Fprintf(w, ", kernels measured in %.2f s", r.TuneSeconds)
	}
	if r.RooflineBytesS > 0 {
		fmt.Fprintf(w, ", read roofline %.4g GB/s", r.RooflineBytesS/1e9)
	}
	fmt.Fprintf(w, "\n\n%-14s", "test")
	for _, c := range benchColumns {
		fmt.Fprintf(w, " %12s", c.title)
	}
	fmt.Fprintln(w)
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%-14s", row.Test)
		for _, c := range benchColumns {
			if v := c.value(r, row); v == 0 {
				fmt.Fprintf(w, " %12s", "-")
			} else {
				fmt.Fprintf(w, " %12.*f", c.decimals, v/c.unit)
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	if m := r.DeviceMemory; m != nil {
		fmt.Fprintf(w, "device memory %s: weights %s, KV cache %s for %d tokens, activations %s\n", bytesText(int64(m.Total())),
			bytesText(int64(m.WeightBytes)), bytesText(int64(m.KVBytes)), r.ContextTokens, bytesText(int64(m.ActivationBytes)))
	}
	if r.PeakBytes > 0 {
		fmt.Fprintf(w, "this program's memory at its peak %s\n", bytesText(r.PeakBytes))
	}
	for _, p := range r.Profiles {
		printProfile(w, p)
	}
	for i, t := range r.Tuning {
		if i == 0 {
			fmt.Fprintf(w, "\n%-18s %-24s %10s %8s\n", "kernel", "rows x threads", "us", "GB/s")
		}
		mark := ""
		if t.Chosen {
			mark = " *"
		}
		fmt.Fprintf(w, "%-18s %-24s %10.2f %8.0f%s\n", t.Kernel, t.MatvecShape, 1e6*t.Seconds, t.BytesPerSecond/1e9, mark)
	}
	return nil
}

// printProfile prints a pass's kernels. Their sum falls short of the whole where one runs while another ends.
func printProfile(w io.Writer, p engine.PassProfile) {
	fmt.Fprintf(w, "\npass of %d tokens at depth %d: what each use of a kernel adds to the device's time\n", p.Tokens, p.Depth)
	fmt.Fprintf(w, "%-18s %-10s %10s %10s %10s %8s %8s\n", "kernel", "product", "dispatches", "us in all", "us each", "GB/s", "TFLOP/s")
	sum := forward.ProfileRow{Kernel: "(sum)"}
	line := func(k forward.ProfileRow) {
		fmt.Fprintf(w, "%-18s %-10s %10d %10.1f %10.2f", k.Kernel, k.Product, k.Dispatches, 1e6*k.Seconds, 1e6*k.Seconds/float64(max(k.Dispatches, 1)))
		if k.Bytes > 0 && k.Seconds > 0 {
			fmt.Fprintf(w, " %8.4g %8.3g", float64(k.Bytes)/k.Seconds/1e9, k.FLOPs/k.Seconds/1e12)
		}
		fmt.Fprintln(w)
	}
	for _, k := range p.Rows[1:] {
		line(k)
		sum.Dispatches += k.Dispatches
		sum.Seconds += k.Seconds
	}
	line(sum)
	line(p.Rows[0])
}
