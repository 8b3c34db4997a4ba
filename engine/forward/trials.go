package forward

// What WGSL leaves to a device and kernels are only to rely on where a trial shows it (shaders.SubgroupsWork, HalvesExact).

import (
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// subgroupSize is the size of the device's subgroups where decode's products can add up their sums by them, else 0. It is found out
// before anything is recorded.
func subgroupSize(dev gpu.Device) int {
	l := dev.Limits()
	if !l.HasSubgroups || l.SubgroupMinSize != l.SubgroupMaxSize {
		return 0
	}
	size := int(l.SubgroupMinSize)
	if ok, err := shaders.SubgroupsWork(dev, size); !ok || err != nil {
		return 0 // what is wrong with the device itself shows in the next call
	}
	return size
}

// halves tells whether decode's products can take quantized weights by way of float16, tried when it is first asked.
func (r *Runner) halves() bool {
	if r.halvesExact == nil {
		ok, err := shaders.HalvesExact(r.dev)
		ok = ok && err == nil
		r.halvesExact = &ok
	}
	return *r.halvesExact
}
