//go:build linux && !js

package native

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Without any driver Open says so and what to install. The Vulkan loader reads its drivers once, so a second process asks.
func TestNoDriver(t *testing.T) {
	const asked = "QWEN_WGPU_TEST_NO_DRIVER"
	if os.Getenv(asked) != "" {
		d, err := Open(Options{})
		if err == nil {
			d.Close()
		}
		fmt.Printf("no adapter %v: %v\n", errors.Is(err, ErrNoAdapter), err)
		return
	}
	if _, err := Adapters(); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoDriver$", "-test.v")
	cmd.Env = append(os.Environ(), asked+"=1", "VK_DRIVER_FILES=/nonexistent.json", "VK_ICD_FILENAMES=/nonexistent.json")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, w := range []string{"no adapter true", "Vulkan", "mesa-vulkan-drivers"} {
		if !strings.Contains(string(out), w) {
			t.Errorf("%q is missing in\n%s", w, out)
		}
	}
}
