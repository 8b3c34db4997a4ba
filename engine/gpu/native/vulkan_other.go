//go:build !linux && !js

package native

func probeVulkan() *VulkanReport { return nil }

func canLoad(string) (bool, string) { return false, "" }

func hostMemoryBytes() uint64 { return 0 }
