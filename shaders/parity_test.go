//go:build !js

package shaders_test

import (
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
	"github.com/qwen-wgpu/qwen-wgpu/shaders/kerneltest"
)

// TestParity runs every kernel against its float64 reference, and logs the largest error of each kernel and format.
func TestParity(t *testing.T) {
	dev := testdevice.Open(t)
	runner := kerneltest.NewRunner(dev)
	defer runner.Close()
	worst := map[string]float64{}
	took := map[string]time.Duration{}
	cases, err := kerneltest.CasesOn(dev)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		kernel, _, _ := strings.Cut(c.Name, "/")
		t.Run(c.Name, func(t *testing.T) {
			start := time.Now()
			results, err := runner.Measure(c)
			if err != nil {
				t.Error(err)
			}
			took[kernel] += time.Since(start)
			for _, r := range results {
				key := fmt.Sprintf("%-20s %-8s tolerance %6.0e", kernel, r.Buffer, r.Tolerance)
				worst[key] = max(worst[key], r.MaxRelErr)
			}
		})
	}
	for _, key := range sortedKeys(worst) {
		t.Logf("%s largest error %8.2e", key, worst[key])
	}
	for _, key := range sortedKeys(took) {
		t.Logf("%-20s %v", key, took[key].Round(time.Millisecond))
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
