//go:build !js && gowebgpu

// The second driver: wgpu-native 0.17 through github.com/rajveermalviya/go-webgpu, built with -tags gowebgpu. The
// default build does not download that module. The library keeps some 4 to 10 MB of each device that is closed.

package native

// #cgo CFLAGS: -DQW_WGPU_0_17
import "C"

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/rajveermalviya/go-webgpu/wgpu"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

const driverModule = "github.com/rajveermalviya/go-webgpu/wgpu v0.17.1"

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
	wgpuShaderStageCompute     = wgpu.ShaderStage_Compute
	wgpuBindingUniform         = wgpu.BufferBindingType_Uniform
	wgpuBindingReadOnlyStorage = wgpu.BufferBindingType_ReadOnlyStorage
	wgpuBindingStorage         = wgpu.BufferBindingType_Storage
)

// libraryVersion is what the module's static libraries contain.
func libraryVersion() string { return "0.17.0" }

var (
	unsignedConst = regexp.MustCompile(`(?m)^(const \w+: u32 = )([^;]+);`)
	workgroupSize = regexp.MustCompile(`@workgroup_size\(([^)]+)\)`)
)

// acceptedWGSL rewrites what the library's compiler does not take: it wants a number where a global u32 constant is
// computed, or a workgroup's size named. Lines stay where they are.
func acceptedWGSL(source string) string {
	r := gpu.ReadWGSL(source)
	source = unsignedConst.ReplaceAllStringFunc(source, func(text string) string {
		m := unsignedConst.FindStringSubmatch(text)
		n, err := r.Number(m[2])
		if err != nil {
			return text
		}
		return fmt.Sprintf("%s%du;", m[1], n)
	})
	return workgroupSize.ReplaceAllStringFunc(source, func(text string) string {
		sizes := strings.Split(workgroupSize.FindStringSubmatch(text)[1], ",")
		for i, s := range sizes {
			n, err := r.Number(s)
			if err != nil {
				return text
			}
			sizes[i] = fmt.Sprint(n)
		}
		return "@workgroup_size(" + strings.Join(sizes, ", ") + ")"
	})
}

func enumerateAdapters() []*wgpuAdapter {
	instance := wgpu.CreateInstance(&wgpu.InstanceDescriptor{Backends: backends})
	return instance.EnumerateAdapters(&wgpu.InstanceEnumerateAdapterOptons{Backends: backends})
}

const backends = wgpu.InstanceBackend_Vulkan | wgpu.InstanceBackend_Metal | wgpu.InstanceBackend_DX12

func adapterProperties(a *wgpuAdapter) properties {
	p := a.GetProperties()
	return properties{
		name: p.Name, driver: p.DriverDescription,
		vendorID: p.VendorId, deviceID: p.DeviceId,
		kind: adapterKind(p.AdapterType), backend: adapterBackend(p.BackendType),
	}
}

func adapterKind(t wgpu.AdapterType) string {
	switch t {
	case wgpu.AdapterType_DiscreteGPU:
		return "discrete"
	case wgpu.AdapterType_IntegratedGPU:
		return "integrated"
	case wgpu.AdapterType_CPU:
		return "cpu"
	}
	return "unknown"
}

func adapterBackend(t wgpu.BackendType) string {
	switch t {
	case wgpu.BackendType_Vulkan:
		return "vulkan"
	case wgpu.BackendType_Metal:
		return "metal"
	case wgpu.BackendType_D3D12:
		return "dx12"
	case wgpu.BackendType_OpenGL, wgpu.BackendType_OpenGLES:
		return "gl"
	}
	return "unknown"
}
