package forward

import (
	"fmt"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// ReadBandwidth measures how many bytes a second the device reads from a buffer of sizeBytes (rounded down to 64 MiB, cut
// to what it can bind): the best of rounds, each several dispatches of read_bandwidth.wgsl.
func ReadBandwidth(dev gpu.Device, sizeBytes uint64, rounds int) (bytesPerSecond float64, err error) {
	const unit, groups, repeats = 64 << 20, 2048, 16
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
	seconds := func(n int) (float64, error) {
		pass := &gpu.Pass{Label: "roofline"}
		for range n {
			pass.Dispatch(k, g, groups, 1, 1)
		}
		begin := time.Now()
		if err := dev.Submit(pass); err != nil {
			return 0, err
		}
		err := gpu.Read(dev, out, 0, make([]byte, 4))
		return time.Since(begin).Seconds(), err
	}
	best := 0.0
	for range rounds {
		one, err := seconds(1)
		if err != nil {
			return 0, err
		}
		many, err := seconds(1 + repeats)
		if err != nil {
			return 0, err
		}
		if many > one {
			best = max(best, float64(size)*repeats/(many-one))
		}
	}
	return best, nil
}
