package main

import (
	"encoding/csv"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
)

// The table, the CSV and the JSON have the same tests and columns, on the GPU with a roofline and device memory.
func TestBench(t *testing.T) {
	withGPU(t)
	c := goldentest.RandomConfig(1)
	c.NumHiddenLayers, c.HiddenSize, c.IntermediateSize = 1, 64, 64 // the CPU's Vulkan driver is slow
	model := goldentest.ModelOf(t, c, 1, weights.BF16)
	base := []string{"bench", "--model", model, "--device", "gpu", "--tune", "off", "-p", "3,5", "-n", "2", "-d", "0,4", "-r", "1"}
	table := succeed(t, "", base...).out
	for _, want := range []string{"loaded in", "read roofline", "first ms", "MB/token", "% roofline", "TFLOP/s", "CPU ms/token", "\npp3 ", "\npp5@4 ", "\ntg2 ", "\ntg2@4 ", "device memory", "KV cache", "at its peak"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}

	lines, err := csv.NewReader(strings.NewReader(succeed(t, "", append(base, "--csv")...).out)).ReadAll()
	if err != nil || len(lines) != 1+2*3 {
		t.Fatalf("%d lines of CSV: %v", len(lines), err)
	}
	decode := map[string]bool{"bytes_per_token": true, "bytes_per_second": true, "roofline_share": true}
	prefill := map[string]bool{"seconds_to_first_token": true, "flops_per_second": true}
	for _, line := range lines[1:] {
		for i, name := range lines[0] {
			if i < 2 || name == "test" || name == "depth" || name == "tune_seconds" {
				continue
			}
			want := strings.HasPrefix(line[2], "pp") && !decode[name] || strings.HasPrefix(line[2], "tg") && !prefill[name]
			if v, err := strconv.ParseFloat(line[i], 64); want != (err == nil && v > 0) {
				t.Errorf("%s: %s is %q", line[2], name, line[i])
			}
		}
	}

	var rep benchReport
	if err := json.Unmarshal([]byte(succeed(t, "", "bench", "--model", model, "--device", "gpu", "--tune", "off", "-n", "1", "-p", "0", "-d", "2", "-r", "2", "--profile", "--json").out), &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Rows) != 1 || len(rep.Rows[0].Seconds) != 2 || len(rep.Rows[0].CPUSeconds) != 2 || rep.DeviceMemory == nil || rep.PeakBytes == 0 || rep.RooflineBytesS == 0 {
		t.Errorf("%+v", rep)
	}
	if len(rep.Profiles) != 1 || rep.Profiles[0].Tokens != 1 || rep.Profiles[0].Depth != 2 || rep.Profiles[0].Rows[0].Kernel != "(all)" {
		t.Errorf("profiles %+v", rep.Profiles)
	}
}

// On the CPU there is no roofline and no device memory.
func TestBenchCPU(t *testing.T) {
	model := goldentest.RandomModel(t, 1, weights.Q4)
	out := succeed(t, "", "bench", "--model", model, "--device", "cpu", "-p", "2", "-n", "1", "-r", "1", "--profile").out
	for _, line := range strings.Split(out, "\n") {
		if fields := strings.Fields(line); strings.HasPrefix(line, "tg1") && (len(fields) != 9 || fields[6] != "-") {
			t.Errorf("%q", line)
		}
	}
	if strings.Contains(out, "device memory") || strings.Contains(out, "what each use of a kernel adds") || !strings.Contains(out, "\ntg1 ") {
		t.Error(out)
	}
}

// What was measured before an error is printed.
func TestBenchPartly(t *testing.T) {
	model := goldentest.RandomModel(t, 1, weights.Q4)
	for _, format := range []string{"--csv=false", "--csv", "--json"} {
		r := run(t, "", "bench", "--model", model, "--device", "cpu", "--context", "8", "-p", "3,50", "-n", "0", "-r", "1", format)
		if r.code != 1 || !strings.Contains(r.out, "pp3") || strings.Contains(r.out, "pp50") || !strings.Contains(r.err, "the context holds 8") {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q", format, r.code, r.out, r.err)
		}
	}
}

func TestBenchUsage(t *testing.T) {
	for _, c := range []struct {
		want, args []string
	}{
		{[]string{"-p -1"}, []string{"-p", "4,-1"}},
		{[]string{"-d -2"}, []string{"-d", "-2"}},
		{[]string{"-r 0", "at least 1"}, []string{"-r", "0"}},
		{[]string{"--json and --csv"}, []string{"--json", "--csv"}},
		{[]string{"--synth and --model"}, []string{"--synth", "0.6b", "--model", "x"}},
		{[]string{"--dtype", "--synth"}, []string{"--dtype", "q8", "--model", "x"}},
		{[]string{"no preset", "7b", "qwen3-8b"}, []string{"--synth", "7b"}},
		{[]string{"q5"}, []string{"--synth", "0.6b", "--dtype", "q5"}},
	} {
		fail(t, 2, c.want, append([]string{"bench"}, c.args...)...)
	}
}
