//go:build !js

// Which adapters there are, which one a caller means, and what to install when there is none.

package native

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// ErrNoAdapter is wrapped by Open and Adapters when no usable adapter was found.
var ErrNoAdapter = errors.New("native: no WebGPU adapter")

// Adapter is one device that could be opened. Index is what Options.Adapter accepts as a number.
type Adapter struct {
	Index    int             `json:"index"`
	Info     gpu.AdapterInfo `json:"info"`
	Limits   gpu.Limits      `json:"limits"`
	Features []string        `json:"features"`  // as the library names them; see Limits for what is usable
	VendorID uint32          `json:"vendor_id"` // PCI
	DeviceID uint32          `json:"device_id"` // PCI
}

// Options chooses an adapter.
type Options struct {
	// Adapter is an index of Adapters(), or a part of the adapter's name or driver (any case). Empty: the best one,
	// in the order discrete, integrated, virtual or unknown, CPU.
	Adapter string
	// ForceCPU looks only at CPU devices (lavapipe).
	ForceCPU bool
}

// properties is what both bindings tell of an adapter.
type properties struct {
	name, vendor, driver string
	vendorID, deviceID   uint32
	kind, backend        string
}

type candidate struct {
	Adapter
	raw *wgpuAdapter
}

var (
	enumerateOnce sync.Once
	candidates    []*candidate
)

// enumerate lists the adapters once a process: the instance and its adapters live as long as the process does.
func enumerate() []*candidate {
	enumerateOnce.Do(func() {
		captureLog()
		quietLoader()
		for _, raw := range enumerateAdapters() {
			p := adapterProperties(raw)
			if p.backend == "gl" || p.backend == "unknown" {
				continue
			}
			c := &candidate{raw: raw}
			c.Index = len(candidates)
			c.VendorID, c.DeviceID = p.vendorID, p.deviceID
			c.Info = gpu.AdapterInfo{
				Name: p.name, Vendor: vendorName(p.vendor, p.vendorID), Driver: p.driver,
				Backend: p.backend, Type: p.kind, Library: "wgpu-native " + libraryVersion(),
			}
			c.Limits = publicLimits(raw.GetLimits().Limits)
			addVulkanFacts(&c.Info, &c.Limits, p.vendorID, p.deviceID)
			for _, f := range raw.EnumerateFeatures() {
				c.Features = append(c.Features, f.String())
			}
			candidates = append(candidates, c)
		}
	})
	return candidates
}

// quietLoader keeps Mesa's device-select layer from looking for a Wayland display, which prints a complaint for each
// instance where there is no session. The layer stays on where it could have a say.
func quietLoader() {
	if runtime.GOOS != "linux" || os.Getenv("XDG_RUNTIME_DIR") != "" {
		return
	}
	for _, name := range []string{"NODEVICE_SELECT", "MESA_VK_DEVICE_SELECT", "DISPLAY", "WAYLAND_DISPLAY"} {
		if os.Getenv(name) != "" {
			return
		}
	}
	os.Setenv("NODEVICE_SELECT", "1")
	quieted = true
}

var quieted bool // the variable is ours, not the user's

const maxBufferBytes = 1 << 40

// publicLimits are the adapter's limits as far as the engine looks at them. Some drivers report 2^64-1 bytes a buffer.
func publicLimits(l wgpuLimits) gpu.Limits {
	return gpu.Limits{
		MaxBufferBytes:             min(l.MaxBufferSize, maxBufferBytes) &^ 3,
		MaxStorageBindingBytes:     l.MaxStorageBufferBindingSize &^ 3,
		MaxUniformBindingBytes:     l.MaxUniformBufferBindingSize &^ 3,
		MinStorageOffsetAlignment:  l.MinStorageBufferOffsetAlignment,
		MinUniformOffsetAlignment:  l.MinUniformBufferOffsetAlignment,
		MaxStorageBuffersPerStage:  l.MaxStorageBuffersPerShaderStage,
		MaxWorkgroupStorageBytes:   l.MaxComputeWorkgroupStorageSize,
		MaxInvocationsPerWorkgroup: l.MaxComputeInvocationsPerWorkgroup,
		MaxWorkgroupSizeX:          l.MaxComputeWorkgroupSizeX,
		MaxWorkgroupsPerDimension:  l.MaxComputeWorkgroupsPerDimension,
	}
}

func vendorName(reported string, id uint32) string {
	if reported != "" {
		return reported
	}
	switch id {
	case 0x10de:
		return "NVIDIA"
	case 0x1002, 0x1022:
		return "AMD"
	case 0x8086:
		return "Intel"
	case 0x13b5:
		return "ARM"
	case 0x5143:
		return "Qualcomm"
	case 0x106b:
		return "Apple"
	case 0x10005:
		return "Mesa"
	}
	if id == 0 {
		return ""
	}
	return fmt.Sprintf("0x%04x", id)
}

// Adapters lists what could be opened, in the library's order. None at all is ErrNoAdapter, with what to install.
func Adapters() ([]Adapter, error) {
	found := enumerate()
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoAdapter, installAdvice())
	}
	list := make([]Adapter, len(found))
	for i, c := range found {
		list[i] = c.Adapter
	}
	return list, nil
}

// installAdvice says in plain words what makes an adapter appear.
func installAdvice() string {
	switch runtime.GOOS {
	case "linux":
		return "no Vulkan device was found. Install the GPU vendor's Vulkan driver (NVIDIA: the nvidia driver package; " +
			"AMD and Intel: mesa-vulkan-drivers). Without a GPU, mesa-vulkan-drivers also brings a CPU device (lavapipe): " +
			"apt-get install mesa-vulkan-drivers libvulkan1"
	case "windows":
		return "no Direct3D 12 or Vulkan device was found: install the GPU vendor's driver"
	case "darwin":
		return "no Metal device was found: macOS 10.13 or newer on a Mac with Metal is needed"
	}
	return "no Vulkan, Metal or Direct3D 12 device was found: install the GPU vendor's driver"
}

func rank(kind string) int {
	switch kind {
	case "discrete":
		return 0
	case "integrated":
		return 1
	case "virtual", "unknown":
		return 2
	}
	return 3
}

// choose picks the adapter that the options mean.
func choose(found []*candidate, o Options) (*candidate, error) {
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoAdapter, installAdvice())
	}
	want := strings.ToLower(strings.TrimSpace(o.Adapter))
	if index, err := strconv.Atoi(want); err == nil {
		if index < 0 || index >= len(found) {
			return nil, fmt.Errorf("%w number %d; there are: %s", ErrNoAdapter, index, describe(found))
		}
		if c := found[index]; !o.ForceCPU || c.Info.Type == "cpu" {
			return c, nil
		}
		return nil, fmt.Errorf("%w: number %d is no CPU device; there are: %s", ErrNoAdapter, index, describe(found))
	}
	var best *candidate
	for _, c := range found {
		if o.ForceCPU && c.Info.Type != "cpu" {
			continue
		}
		if !strings.Contains(strings.ToLower(c.Info.Name+"\n"+c.Info.Driver), want) {
			continue
		}
		if best == nil || rank(c.Info.Type) < rank(best.Info.Type) {
			best = c
		}
	}
	if best != nil {
		return best, nil
	}
	if o.ForceCPU && want == "" {
		return nil, fmt.Errorf("%w that runs on the CPU; there are: %s. Install mesa-vulkan-drivers (lavapipe) for one",
			ErrNoAdapter, describe(found))
	}
	cpu := ""
	if o.ForceCPU {
		cpu = "CPU device "
	}
	return nil, fmt.Errorf("%w: no %sname contains %q; there are: %s", ErrNoAdapter, cpu, o.Adapter, describe(found))
}

func describe(found []*candidate) string {
	var parts []string
	for _, c := range found {
		parts = append(parts, fmt.Sprintf("%d: %s (%s, %s)", c.Index, c.Info.Name, c.Info.Type, c.Info.Backend))
	}
	return strings.Join(parts, "; ")
}
