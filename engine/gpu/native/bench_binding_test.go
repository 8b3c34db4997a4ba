//go:build !js && !gowebgpu

package native

import (
	"testing"
	"time"

	"github.com/cogentcore/webgpu/wgpu"
)

// keptDeviceBytes is what may stay behind of each closed device.
const keptDeviceBytes = 1 << 20

// BenchmarkSubmitThroughBinding encodes the pass of BenchmarkSubmit with the Go binding's own calls, for comparison.
func BenchmarkSubmitThroughBinding(b *testing.B) {
	d := open(b).(*device)
	pass := manyDispatches(b, d, 300)
	check := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	var submit time.Duration
	for range b.N {
		start := time.Now()
		encoder, err := d.raw.CreateCommandEncoder(nil)
		check(err)
		compute := encoder.BeginComputePass(nil)
		for i := range pass.Steps {
			s := &pass.Steps[i]
			compute.SetPipeline(s.Kernel.(*kernel).raw)
			compute.SetBindGroup(0, s.Group.(*bindGroup).raw, nil)
			compute.DispatchWorkgroups(s.Grid[0], s.Grid[1], s.Grid[2])
		}
		check(compute.End())
		compute.Release()
		commands, err := encoder.Finish(&wgpu.CommandBufferDescriptor{})
		check(err)
		d.queue.Submit(commands)
		commands.Release()
		encoder.Release()
		submit += time.Since(start)
		idle(b, d)
	}
	b.ReportMetric(float64(submit.Nanoseconds())/float64(b.N)/300/1000, "µs-cpu/dispatch")
}
