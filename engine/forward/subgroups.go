package forward

// Whether decode's products add up their sums by subgroups. WGSL does not promise which threads share a subgroup, so the
// kernels' way is tried once when a model is loaded, before anything is recorded.

import (
	"encoding/binary"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// subgroupSize is the size of the device's subgroups where kernels can rely on them, else 0.
func subgroupSize(dev gpu.Device) int {
	l := dev.Limits()
	if !l.HasSubgroups || l.SubgroupMinSize != l.SubgroupMaxSize {
		return 0
	}
	size := int(l.SubgroupMinSize)
	if ok, err := trySubgroups(dev, size); !ok || err != nil {
		return 0 // what is wrong with the device itself shows in the next call
	}
	return size
}

// trySubgroups multiplies whole numbers, whose sums are exact in every order, with a team to each subgroup: if other threads
// than those were neighbours, rows would be mixed up.
func trySubgroups(dev gpu.Device, size int) (ok bool, err error) {
	shape := MatvecShape{Workgroup: 256, ThreadsPerRow: size, Rows: min(size, 4)}
	kPad := max(size, 4) * shaders.WeightsPerLoad["bf16"]
	l := dev.Limits()
	if !shape.Fits(kPad, "bf16", matvecBytes(l), matvecThreads(l)) {
		return false, nil
	}
	rows := shape.GroupRows()
	opt := shaders.Options{Label: "residual_proj with subgroups", Weight: "bf16", Consts: map[string]uint32{"ROW_START": 0, "NUM_ROWS": uint32(rows)}}
	shape.AddConsts(opt.Consts, kPad, opt.Weight, matvecBytes(l))
	if opt.UseSubgroups(size); !opt.Subgroups {
		return false, nil
	}
	a, w, x := make([]byte, 4*kPad), make([]byte, 2*rows*kPad), make([]byte, 4*rows)
	want := make([]float32, rows)
	for k := range kPad {
		in := float32(1 + k%3)
		binary.LittleEndian.PutUint32(a[4*k:], math.Float32bits(in))
		for n := range rows {
			weight := float32((7*n + 13*k + n*k) % 127) // exact in bf16, as all sums are in float32
			binary.LittleEndian.PutUint16(w[2*(n*kPad+k):], uint16(math.Float32bits(weight)>>16))
			want[n] += weight * in
		}
	}
	desc, err := shaders.Specialize("residual_proj", opt)
	if err != nil {
		return false, err
	}
	kernel, err := dev.NewKernel(desc)
	if err != nil {
		return false, err
	}
	defer kernel.Release()
	var bindings []gpu.Binding
	for _, data := range [][]byte{a, w, x} {
		b, err := dev.NewBuffer("trying subgroups", uint64(len(data)), gpu.UsageStorage|gpu.UsageCopyDst|gpu.UsageCopySrc)
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
	pass := &gpu.Pass{Label: "trying subgroups"}
	pass.Dispatch(kernel, group, 1, 1, 1)
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
