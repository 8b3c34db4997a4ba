package shaders

// Trials of what WGSL leaves to a device and some kernels rely on: each runs residual_proj once, on whole numbers, whose sums are
// exact in every order.

import (
	"encoding/binary"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// Workgroup memory and threads that every device has.
const (
	leastWorkgroupBytes = 16 << 10
	leastThreads        = 256
)

// SubgroupsWork tells whether neighbouring threads share a subgroup of size threads, as UseSubgroups has it: teams of one subgroup
// each multiply their rows; if other threads than those were neighbours, rows would be mixed up.
func SubgroupsWork(dev gpu.Device, size int) (bool, error) {
	kPad := max(size, 4) * WeightsPerLoad["bf16"]
	shape := MatvecShape{Workgroup: leastThreads, ThreadsPerRow: size, Rows: min(size, 4)}
	opt := Options{Label: "residual_proj with subgroups", Weight: "bf16", Consts: map[string]uint32{}}
	if !shape.Fits(kPad, opt.Weight, leastWorkgroupBytes, leastThreads) {
		return false, nil
	}
	shape.AddTo(&opt, kPad, leastWorkgroupBytes)
	if opt.UseSubgroups(size); !opt.Subgroups {
		return false, nil
	}
	rows := shape.GroupRows()
	weights := make([]float32, rows*kPad)
	raw := make([]byte, 2*len(weights))
	for i := range weights {
		n, k := i/kPad, i%kPad
		weights[i] = float32((7*n + 13*k + n*k) % 127) // exact in bf16
		binary.LittleEndian.PutUint16(raw[2*i:], uint16(math.Float32bits(weights[i])>>16))
	}
	return exactProduct(dev, opt, rows, weights, raw)
}

// HalvesExact tells whether the device makes f32 of subnormal float16 numbers as they are, as Options.Halves has it, with every int8
// as a weight. WGSL lets it take them for 0.
func HalvesExact(dev gpu.Device) (bool, error) {
	const kPad, rows = 256, 16
	opt := Options{Label: "residual_proj with halves", Weight: "q8", Consts: map[string]uint32{}}
	MatvecShape{Workgroup: 64, ThreadsPerRow: 8, Rows: 2, Halves: true}.AddTo(&opt, kPad, leastWorkgroupBytes)
	weights := make([]float32, rows*kPad)
	raw := make([]byte, len(weights))
	scales := make([]byte, 2*len(weights)/32)
	for i := range weights {
		raw[i] = byte(i + i/kPad*41)
		weights[i] = float32(int8(raw[i]))
	}
	for i := 0; i < len(scales); i += 2 {
		binary.LittleEndian.PutUint16(scales[i:], 0x3c00) // 1
	}
	return exactProduct(dev, opt, rows, weights, raw, scales)
}

// exactProduct tells whether residual_proj with these options gives the exact product of weights, [rows, K_PAD], which are in buffers
// as the kernel has them, and 1, 2, 3, 1, ...
func exactProduct(dev gpu.Device, opt Options, rows int, weights []float32, buffers ...[]byte) (bool, error) {
	opt.Consts["ROW_START"], opt.Consts["NUM_ROWS"] = 0, uint32(rows)
	kPad := len(weights) / rows
	a, x, want := make([]byte, 4*kPad), make([]byte, 4*rows), make([]float32, rows)
	for k := range kPad {
		in := float32(1 + k%3)
		binary.LittleEndian.PutUint32(a[4*k:], math.Float32bits(in))
		for n := range rows {
			want[n] += weights[n*kPad+k] * in
		}
	}
	desc, err := Specialize("residual_proj", opt)
	if err != nil {
		return false, err
	}
	kernel, err := dev.NewKernel(desc)
	if err != nil {
		return false, err
	}
	defer kernel.Release()
	var bindings []gpu.Binding
	for _, data := range append([][]byte{a, buffers[0], x}, buffers[1:]...) {
		b, err := dev.NewBuffer("trial", uint64(len(data)), gpu.UsageStorage|gpu.UsageCopyDst|gpu.UsageCopySrc)
		if err != nil {
			return false, err
		}
		defer b.Release()
		if err := dev.Write(b, 0, data); err != nil {
			return false, err
		}
		bindings = append(bindings, gpu.Whole(b))
	}
	group, err := dev.Bind(kernel, bindings...)
	if err != nil {
		return false, err
	}
	defer group.Release()
	pass := &gpu.Pass{Label: "trial"}
	pass.Dispatch(kernel, group, uint32(rows), 1, 1) // more than enough
	if err := dev.Submit(pass); err != nil {
		return false, err
	}
	if err := gpu.Read(dev, bindings[2].Buffer, 0, x); err != nil {
		return false, err
	}
	for n := range want {
		if math.Float32frombits(binary.LittleEndian.Uint32(x[4*n:])) != want[n] {
			return false, nil
		}
	}
	return true, nil
}
