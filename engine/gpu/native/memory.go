//go:build !js

// Facts about an adapter that the WebGPU library does not tell, from the Vulkan loader where there is one.

package native

import (
	"fmt"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// VulkanReport is what the Vulkan loader itself says.
type VulkanReport struct {
	Loader        string         `json:"loader"`         // path, empty without a loader
	LoaderVersion string         `json:"loader_version"` // instance version
	Error         string         `json:"error,omitempty"`
	Devices       []VulkanDevice `json:"devices"`
}

// VulkanDevice is one physical device.
type VulkanDevice struct {
	Name        string `json:"name"`
	Type        string `json:"type"` // as in gpu.AdapterInfo
	Driver      string `json:"driver"`
	APIVersion  string `json:"api_version"`
	VendorID    uint32 `json:"vendor_id"`
	DeviceID    uint32 `json:"device_id"`
	MemoryBytes uint64 `json:"memory_bytes"` // the largest device-local heap
}

func vulkanVersion(v uint32) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", v>>22&0x7f, v>>12&0x3ff, v&0xfff)
}

// addVulkanFacts fills memory size, driver and the finer type of a Vulkan adapter. All stay as they are without a loader.
func addVulkanFacts(info *gpu.AdapterInfo, limits *gpu.Limits, vendorID, deviceID uint32) {
	if info.Backend == "vulkan" {
		if r := probeVulkan(); r != nil {
			for _, d := range r.Devices {
				if d.VendorID != vendorID || d.DeviceID != deviceID || d.Name != info.Name {
					continue
				}
				limits.MemoryBytes = d.MemoryBytes
				if info.Driver == "" {
					info.Driver = d.Driver
				}
				if info.Type == "unknown" {
					info.Type = d.Type
				}
				break
			}
		}
	}
	if info.Type == "cpu" {
		limits.MemoryBytes = hostMemoryBytes()
	}
}
