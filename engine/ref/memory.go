// Whether weights and KV cache fit into memory, asked before any of it is allocated: a Go program that asks the system for
// more than it has is ended, without an error to report.

package ref

import (
	"bufio"
	"fmt"
	"os"
	"runtime"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// PlanMemory tells the bytes that New would allocate for m's weights and KV cache, and those that the system can give (0: it
// does not say).
func PlanMemory(m *weights.Model, opt Options) (weightBytes, kvBytes, available float64, err error) {
	if opt, err = opt.withDefaults(m.Config); err != nil {
		return 0, 0, 0, err
	}
	if available = availableMemory(); available == unknownMemory {
		available = 0
	}
	return float64(m.WeightBytes()), cacheBytes(m.Config, opt), available, nil
}

// unknownMemory is above any machine's, and within what sizes can be counted with.
const unknownMemory = 1 << 46

// availableMemory is how many bytes the system can still give, as far as it says so (Linux does).
func availableMemory() float64 {
	if runtime.GOARCH == "wasm" {
		return 4 << 30 // its addresses have 32 bits
	}
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return unknownMemory
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var kib float64
		if n, _ := fmt.Sscanf(lines.Text(), "MemAvailable: %f kB", &kib); n == 1 {
			return kib * 1024
		}
	}
	return unknownMemory
}

// checkMemory refuses a model with a cache of numTokens tokens that needs more memory than there is.
func checkMemory(weightBytes int64, cacheBytes float64, numTokens int) error {
	const gib = 1 << 30
	if available := availableMemory(); float64(weightBytes)+cacheBytes > available {
		return fmt.Errorf("ref: the weights take %.2f GiB and a KV cache of %d tokens %.2f GiB, but %.2f GiB of memory are available: ask for a shorter context, or a smaller model",
			float64(weightBytes)/gib, numTokens, cacheBytes/gib, available/gib)
	}
	return nil
}
