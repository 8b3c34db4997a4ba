// Package gpu is the seam between the engine and a WebGPU implementation.
//
// It owns the Device interface and the plain data types that cross it. It imports nothing of this module and no WebGPU
// library, so that the engine builds unchanged for the native drivers (engine/gpu/native) and for the browser
// (engine/gpu/browser). In a token's trip it stands between the recorded forward pass and the hardware.
package gpu

import (
	"errors"
	"fmt"
	"time"
)

// ErrLost is wrapped by every error that a lost device causes; the caller may open a new device and replay its tokens.
var ErrLost = errors.New("gpu: device lost")

// ErrOutOfMemory is wrapped by an allocation that the device refuses.
var ErrOutOfMemory = errors.New("gpu: out of device memory")

// Device is one opened WebGPU device and its queue. Its methods may be called from several goroutines; passes run in
// the order in which Submit was called.
type Device interface {
	// Info tells which adapter this is.
	Info() AdapterInfo
	// Limits are those the device was opened with (the adapter's own, not WebGPU's defaults).
	Limits() Limits
	// NewBuffer returns a zero-filled buffer of size bytes (a multiple of 4, at most Limits().MaxBufferBytes).
	NewBuffer(label string, sizeBytes uint64, usage Usage) (Buffer, error)
	// Write copies data to buf at offset (both multiples of 4) before anything submitted later runs.
	Write(buf Buffer, offset uint64, data []byte) error
	// NewKernel compiles a compute pipeline. A WGSL or pipeline error names desc.Label.
	NewKernel(desc KernelDesc) (Kernel, error)
	// Bind makes a bind group for group 0 of k: bindings[i] is @binding(i). It checks kinds, sizes and alignment.
	Bind(k Kernel, bindings ...Binding) (BindGroup, error)
	// Submit runs the steps of a pass in order; each step sees the writes of those before it. It validates before
	// it submits and does not wait.
	Submit(pass *Pass) error
	// Download submits the passes, if any, and behind them and everything submitted before a copy of sizeBytes bytes of buf at
	// offset (both multiples of 4), all as one submission, and returns at once. Readback.Wait is the only call that blocks
	// on the GPU.
	Download(buf Buffer, offset, sizeBytes uint64, passes ...*Pass) (Readback, error)
	// Close releases the device. Buffers, kernels and bind groups of a closed device must not be used.
	Close() error
}

// Buffer is device memory. Release may be called once nothing submitted uses it any more.
type Buffer interface {
	Label() string
	Size() uint64 // bytes
	Release()
}

// Kernel is a compiled compute pipeline.
type Kernel interface {
	Label() string
	Release()
}

// BindGroup is a kernel's set of buffers, made once and replayed.
type BindGroup interface {
	Release()
}

// Readback is a download under way.
type Readback interface {
	// Wait blocks until the bytes have arrived and copies them to dst, whose length is the size asked for. Call it once.
	Wait(dst []byte) error
}

// Expecter is an optional interface of a Readback, and of what waits for one: Expect tells when the bytes are expected, zero if that is not
// known, so that Wait need not look for them all the time before. It is called before Wait, if at all, and may be wrong.
type Expecter interface {
	Expect(at time.Time)
}

// AsyncCompiler is an optional interface of a Device: NewKernelAsync starts compiling and returns at once. The kernel may be
// bound, but not submitted before wait has returned nil; when wait returns an error there is no kernel. So kernels compile in
// parallel, while weights are loaded and when tuning tries many.
type AsyncCompiler interface {
	NewKernelAsync(desc KernelDesc) (k Kernel, wait func() error)
}

// Spinner is an optional interface of a Device: while it spins, waits look for what is done without a pause, and end when it is. What is
// measured needs that; it keeps a processor busy.
type Spinner interface {
	Spin(on bool)
}

// AdapterInfo describes the hardware and driver behind a Device.
type AdapterInfo struct {
	Name    string `json:"name"`    // for example "NVIDIA H200"
	Vendor  string `json:"vendor"`  // vendor name or PCI id, may be empty
	Driver  string `json:"driver"`  // driver name and version, may be empty
	Backend string `json:"backend"` // "vulkan", "metal", "dx12", "gl", "browser"
	Type    string `json:"type"`    // "discrete", "integrated", "cpu", "virtual", "unknown"
	Library string `json:"library"` // WebGPU implementation, for example "wgpu-native 0.19.4"
}

// Limits are the numbers that the engine checks before it allocates or dispatches.
type Limits struct {
	MaxBufferBytes             uint64 `json:"max_buffer_bytes"`
	MaxStorageBindingBytes     uint64 `json:"max_storage_binding_bytes"`
	MaxUniformBindingBytes     uint64 `json:"max_uniform_binding_bytes"`
	MinStorageOffsetAlignment  uint32 `json:"min_storage_offset_alignment"`
	MinUniformOffsetAlignment  uint32 `json:"min_uniform_offset_alignment"`
	MaxStorageBuffersPerStage  uint32 `json:"max_storage_buffers_per_stage"`
	MaxWorkgroupStorageBytes   uint32 `json:"max_workgroup_storage_bytes"`
	MaxInvocationsPerWorkgroup uint32 `json:"max_invocations_per_workgroup"`
	MaxWorkgroupSizeX          uint32 `json:"max_workgroup_size_x"`
	MaxWorkgroupsPerDimension  uint32 `json:"max_workgroups_per_dimension"`
	HasSubgroups               bool   `json:"has_subgroups"` // usable in WGSL, not merely advertised
	SubgroupMinSize            uint32 `json:"subgroup_min_size"`
	SubgroupMaxSize            uint32 `json:"subgroup_max_size"`
	HasShaderF16               bool   `json:"has_shader_f16"` // usable in WGSL, not merely advertised
	HasTimestamps              bool   `json:"has_timestamps"`
	MemoryBytes                uint64 `json:"memory_bytes"` // device memory where it can be known, else 0
}

// Usage says what a buffer is for; combine with |.
type Usage uint32

const (
	UsageStorage Usage = 1 << iota // read or written by kernels
	UsageUniform                   // small parameters
	UsageCopySrc                   // Download or Copy from it
	UsageCopyDst                   // Write or Copy to it
)

// BindingKind is how a kernel declares one binding.
type BindingKind uint8

const (
	BindUniform     BindingKind = iota // var<uniform>
	BindStorageRead                    // var<storage, read>
	BindStorage                        // var<storage, read_write>
)

func (k BindingKind) String() string {
	switch k {
	case BindUniform:
		return "uniform"
	case BindStorageRead:
		return "storage, read"
	case BindStorage:
		return "storage, read_write"
	}
	return fmt.Sprintf("BindingKind(%d)", uint8(k))
}

// KernelDesc is everything a Device needs to compile a kernel. The shaders package makes it.
type KernelDesc struct {
	Label    string        // the kernel's name, used in every error
	WGSL     string        // complete source without override declarations
	Entry    string        // entry point
	Bindings []BindingKind // group 0, index = @binding
}

// NumStorage is how many storage buffers the kernel has, which Limits.MaxStorageBuffersPerStage bounds.
func (d KernelDesc) NumStorage() (n int) {
	for _, kind := range d.Bindings {
		if kind != BindUniform {
			n++
		}
	}
	return n
}

// Binding is a range of a buffer. Size 0 means: to the end of the buffer.
type Binding struct {
	Buffer Buffer
	Offset uint64 // bytes, aligned to the limit of its kind
	Size   uint64 // bytes
}

// Whole binds all of b.
func Whole(b Buffer) Binding { return Binding{Buffer: b} }

// Pass is a list of steps that run in order. It may be submitted any number of times, and be appended to in between; steps
// that were submitted must not be changed in place, since a device keeps what it made of them.
type Pass struct {
	Label string
	Steps []Step
	kept  keptPass
}

// Step is a dispatch (Kernel set) or a copy (Src set), never both.
type Step struct {
	Kernel Kernel
	Group  BindGroup
	Grid   [3]uint32 // workgroups

	Src, Dst             Buffer
	SrcOffset, DstOffset uint64 // bytes, multiples of 4
	SizeBytes            uint64 // bytes, a multiple of 4
}

// Dispatch appends a kernel launch of x*y*z workgroups.
func (p *Pass) Dispatch(k Kernel, g BindGroup, x, y, z uint32) {
	p.Steps = append(p.Steps, Step{Kernel: k, Group: g, Grid: [3]uint32{x, y, z}})
}

// Copy appends a buffer copy.
func (p *Pass) Copy(src Buffer, srcOffset uint64, dst Buffer, dstOffset, sizeBytes uint64) {
	p.Steps = append(p.Steps, Step{Src: src, SrcOffset: srcOffset, Dst: dst, DstOffset: dstOffset, SizeBytes: sizeBytes})
}

// Read downloads len(dst) bytes of buf at offset, behind the passes if there are any, and waits for them.
func Read(d Device, buf Buffer, offset uint64, dst []byte, passes ...*Pass) error {
	r, err := d.Download(buf, offset, uint64(len(dst)), passes...)
	if err != nil {
		return err
	}
	return r.Wait(dst)
}
