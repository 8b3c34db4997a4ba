//go:build js

package browser_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/browser"
	"github.com/qwen-wgpu/qwen-wgpu/shaders/kerneltest"
)

// A browser on the CPU compiles slowly, so a run may be cut into parts that several browsers share.
var shard = flag.String("shard", "0/1", "INDEX/COUNT: the kernels whose number is INDEX modulo COUNT")

// inShard tells whether the n-th kernel is this run's.
func inShard(t *testing.T, n int) bool {
	var index, count int
	if _, err := fmt.Sscanf(*shard, "%d/%d", &index, &count); err != nil || count < 1 {
		t.Fatalf("-shard %q is not INDEX/COUNT", *shard)
	}
	return n%count == index
}

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
	variants, err := kerneltest.Variants()
	if err != nil {
		t.Fatal(err)
	}
	waits := make([]func() (gpu.Kernel, error), len(variants))
	for i, desc := range variants {
		if inShard(t, i) {
			waits[i] = d.(gpu.AsyncCompiler).NewKernelAsync(desc)
		}
	}
	n := 0
	for i, wait := range waits {
		if wait == nil {
			continue
		}
		k, err := wait()
		if err != nil {
			t.Errorf("%s: %v", variants[i].Label, err)
			continue
		}
		k.Release()
		n++
	}
	t.Logf("compiled %d kernels", n)
}

// TestParity runs the kernels' parity cases, as shaders/parity_test.go does natively, and prints each kernel's largest error
// as a line of JSON.
func TestParity(t *testing.T) {
	runner := kerneltest.NewRunner(open(t))
	defer runner.Close()
	worst := map[string]float64{} // by kernel and buffer
	kernels := map[string]int{}
	for _, c := range kerneltest.Cases() {
		kernel, _, _ := strings.Cut(c.Name, "/")
		if _, ok := kernels[kernel]; !ok {
			kernels[kernel] = len(kernels)
		}
		if !inShard(t, kernels[kernel]) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			results, err := runner.Measure(c)
			if err != nil {
				t.Error(err)
			}
			for _, r := range results {
				worst[kernel+" "+r.Buffer] = max(worst[kernel+" "+r.Buffer], r.MaxRelErr)
			}
		})
	}
	if len(worst) == 0 {
		t.Fatal("no case ran")
	}
	table, err := json.Marshal(worst)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("largest errors: %s\n", table)
}
