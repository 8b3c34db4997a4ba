//go:build js

package browser_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/browser"
	"github.com/qwen-wgpu/qwen-wgpu/shaders/kerneltest"
)

// native names the outputs of the same cases on wgpu, written by shaders.TestWriteOutputs: a URL, or under Node a file.
var native = flag.String("native", "", "URL or file with the outputs of the native device, to compare with")

func open(t *testing.T) gpu.Device {
	d, err := browser.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	t.Logf("%+v", d.Info())
	return d
}

// TestCompile compiles every kernel in every number format.
func TestCompile(t *testing.T) {
	d := open(t)
	variants, err := kerneltest.Variants(d.Limits())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d storage buffers a stage", d.Limits().MaxStorageBuffersPerStage)
	if d.Limits().HasSubgroups {
		more, err := kerneltest.SubgroupVariants()
		if err != nil {
			t.Fatal(err)
		}
		variants = append(variants, more...)
	}
	waits := make([]func() error, len(variants))
	kernels := make([]gpu.Kernel, len(variants))
	for i, desc := range variants {
		kernels[i], waits[i] = d.(gpu.AsyncCompiler).NewKernelAsync(desc)
	}
	n := 0
	for i, wait := range waits {
		if err := wait(); err != nil {
			t.Errorf("%s: %v", variants[i].Label, err)
			continue
		}
		kernels[i].Release()
		n++
	}
	t.Logf("compiled %d kernels", n)
}

// TestParity runs the kernels' parity cases, as shaders/parity_test.go does natively, and prints as a line of JSON, by
// kernel and buffer, the largest error and the largest difference from the native device.
func TestParity(t *testing.T) {
	d := open(t)
	runner := kerneltest.NewRunner(d)
	defer runner.Close()
	cases, err := kerneltest.CasesOn(d)
	if err != nil {
		t.Fatal(err)
	}
	if l := d.Limits(); l.HasSubgroups && l.SubgroupMinSize == l.SubgroupMaxSize {
		t.Logf("subgroups of %d", l.SubgroupMinSize)
		cases = append(cases, kerneltest.SubgroupCases(int(l.SubgroupMinSize))...)
	}
	outputs := nativeOutputs(t)
	type row struct {
		Tolerance, Error float64
		Difference       *float64 `json:",omitempty"` // from the native device
	}
	table := map[string]*row{}
	for _, c := range cases {
		kernel, _, _ := strings.Cut(c.Name, "/")
		t.Run(c.Name, func(t *testing.T) {
			results, err := runner.Measure(c)
			if err != nil {
				t.Error(err)
			}
			for _, r := range results {
				key := kernel + " " + r.Buffer
				if table[key] == nil {
					table[key] = &row{}
				}
				table[key].Tolerance, table[key].Error = max(table[key].Tolerance, r.Tolerance), max(table[key].Error, r.MaxRelErr)
			}
			native := outputs[c.WithoutSubgroups()]
			if outputs == nil || native == nil && c.Name != c.WithoutSubgroups() { // shapes that only subgroups take
				return
			}
			got, err := runner.Outputs(c)
			if err != nil {
				t.Fatal(err)
			}
			for buffer, diff := range kerneltest.Differences(c, got, native) {
				r := table[kernel+" "+buffer]
				if r.Difference != nil {
					diff = max(diff, *r.Difference)
				}
				r.Difference = &diff
				if diff > 2*r.Tolerance {
					t.Errorf("%s: %s differs from the native device by %.3g of its largest number; each may be off by %.3g", c.Name, buffer, diff, r.Tolerance)
				}
			}
		})
	}
	text, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("parity table: %s\n", text)
}

func nativeOutputs(t *testing.T) kerneltest.Outputs {
	if *native == "" {
		return nil
	}
	var in io.ReadCloser
	if strings.HasPrefix(*native, "http:") {
		response, err := http.Get(*native)
		if err != nil {
			t.Fatal(err)
		}
		in = response.Body
	} else {
		file, err := os.Open(*native)
		if err != nil {
			t.Fatal(err)
		}
		in = file
	}
	defer in.Close()
	outputs, err := kerneltest.ReadOutputs(in)
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}
