//go:build !js && !gowebgpu

// The default driver: wgpu-native through github.com/cogentcore/webgpu. Everything here is what differs from the other
// driver; objects.go uses both through these names.

package native

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/cogentcore/webgpu/wgpu"
)

const driverModule = "github.com/cogentcore/webgpu v0.23.0"

type (
	wgpuAdapter         = wgpu.Adapter
	wgpuDevice          = wgpu.Device
	wgpuQueue           = wgpu.Queue
	wgpuBuffer          = wgpu.Buffer
	wgpuLimits          = wgpu.Limits
	wgpuPipeline        = wgpu.ComputePipeline
	wgpuPipelineLayout  = wgpu.PipelineLayout
	wgpuBindGroup       = wgpu.BindGroup
	wgpuBindGroupLayout = wgpu.BindGroupLayout

	wgpuBufferDescriptor          = wgpu.BufferDescriptor
	wgpuBufferUsage               = wgpu.BufferUsage
	wgpuBindGroupEntry            = wgpu.BindGroupEntry
	wgpuBindGroupDescriptor       = wgpu.BindGroupDescriptor
	wgpuBindGroupLayoutEntry      = wgpu.BindGroupLayoutEntry
	wgpuBindGroupLayoutDescriptor = wgpu.BindGroupLayoutDescriptor
	wgpuBufferBindingLayout       = wgpu.BufferBindingLayout
	wgpuPipelineLayoutDescriptor  = wgpu.PipelineLayoutDescriptor
	wgpuPipelineDescriptor        = wgpu.ComputePipelineDescriptor
	wgpuStageDescriptor           = wgpu.ProgrammableStageDescriptor
	wgpuShaderDescriptor          = wgpu.ShaderModuleDescriptor
	wgpuWGSLDescriptor            = wgpu.ShaderModuleWGSLDescriptor
)

const (
	wgpuShaderStageCompute     = wgpu.ShaderStageCompute
	wgpuBindingUniform         = wgpu.BufferBindingTypeUniform
	wgpuBindingReadOnlyStorage = wgpu.BufferBindingTypeReadOnlyStorage
	wgpuBindingStorage         = wgpu.BufferBindingTypeStorage
)

// libraryVersion is what the module's static libraries contain; their wgpuGetVersion returns 0.
func libraryVersion() string {
	if runtime.GOOS == "linux" && runtime.GOARCH == "arm64" {
		return "22.1"
	}
	return "0.19.4"
}

// acceptedWGSL rewrites what the library's compiler does not take: nothing.
func acceptedWGSL(source string) string { return source }

func enumerateAdapters() []*wgpuAdapter {
	instance := wgpu.CreateInstance(&wgpu.InstanceDescriptor{Backends: backends})
	return instance.EnumerateAdapters(&wgpu.InstanceEnumerateAdapterOptons{Backends: backends})
}

const backends = wgpu.InstanceBackendVulkan | wgpu.InstanceBackendMetal | wgpu.InstanceBackendDX12

func adapterProperties(a *wgpuAdapter) properties {
	p := a.GetInfo()
	// This library writes the name into the description and PCI ids, as text, into the name and vendor.
	name, driver := p.Name, p.DriverDescription
	if strings.HasPrefix(name, "0x") && driver != "" {
		name, driver = driver, ""
	}
	return properties{
		name: name, vendor: strings.TrimPrefix(p.VendorName, fmt.Sprintf("0x%x", p.VendorId)), driver: driver,
		vendorID: p.VendorId, deviceID: p.DeviceId,
		kind: adapterKind(p.AdapterType), backend: adapterBackend(p.BackendType),
	}
}

func adapterKind(t wgpu.AdapterType) string {
	switch t {
	case wgpu.AdapterTypeDiscreteGPU:
		return "discrete"
	case wgpu.AdapterTypeIntegratedGPU:
		return "integrated"
	case wgpu.AdapterTypeCPU:
		return "cpu"
	}
	return "unknown"
}

func adapterBackend(t wgpu.BackendType) string {
	switch t {
	case wgpu.BackendTypeVulkan:
		return "vulkan"
	case wgpu.BackendTypeMetal:
		return "metal"
	case wgpu.BackendTypeD3D12:
		return "dx12"
	case wgpu.BackendTypeOpenGL, wgpu.BackendTypeOpenGLES:
		return "gl"
	}
	return "unknown"
}
