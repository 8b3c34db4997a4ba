package forward

import (
	"fmt"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// ReadBandwidth measures how many bytes a second the device reads from a buffer of sizeBytes (rounded down to 64 MiB, cut
// to what it can bind): the median of rounds, each several dispatches of read_bandwidth.wgsl.
func ReadBandwidth(dev gpu.Device, sizeBytes uint64, rounds int) (bytesPerSecond float64, err error) {
	const unit, groups = 64 << 20, 2048
	size := min(sizeBytes, partLimit(dev.Limits())) / unit * unit
	if size == 0 {
		return 0, fmt.Errorf("forward: read bandwidth over %d bytes: at least %d are needed", sizeBytes, unit)
	}
	data, err := dev.NewBuffer("roofline data", size, gpu.UsageStorage|gpu.UsageCopyDst)
	if err != nil {
		return 0, err
	}
	defer data.Release()
	out, err := dev.NewBuffer("roofline out", 4*groups, gpu.UsageStorage|gpu.UsageCopySrc)
	if err != nil {
		return 0, err
	}
	defer out.Release()
	desc, err := shaders.Specialize("read_bandwidth", shaders.Options{Consts: map[string]uint32{"VECTORS": uint32(size / 16)}})
	if err != nil {
		return 0, err
	}
	k, err := dev.NewKernel(desc)
	if err != nil {
		return 0, err
	}
	defer k.Release()
	g, err := dev.Bind(k, gpu.Whole(data), gpu.Whole(out))
	if err != nil {
		return 0, err
	}
	defer g.Release()
	t := newTiming(dev, out, manyRepeats, func(repeats int) *gpu.Pass {
		pass := &gpu.Pass{Label: "roofline"}
		for range repeats {
			pass.Dispatch(k, g, groups, 1, 1)
		}
		return pass
	})
	if err := t.raiseClocks(); err != nil {
		return 0, err
	}
	if err := timeInTurns([]*timing{t}, rounds); err != nil {
		return 0, err
	}
	return float64(size) / t.median(), nil
}
