package gputest

import (
	"errors"
	"fmt"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// Checks that misuse comes back as an error that names the culprit, and that the device works on after it.
var misuseChecks = []Check{
	{"buffer misuse", checkBufferMisuse},
	{"range misuse", checkRangeMisuse},
	{"bind misuse", checkBindMisuse},
	{"binding conflicts", checkConflicts},
	{"step misuse", checkStepMisuse},
	{"released objects", checkReleased},
	{"objects of another device", checkForeign},
	{"closed device", checkClosed},
}

func (c *context) stillWorks() {
	c.Helper()
	k := c.kernel("fill", fillWGSL, gpu.BindStorage)
	b := c.buffer("still works", 8, storageUsages)
	c.submit(dispatch(k, c.bind(k, gpu.Whole(b)), 1, 1, 1))
	c.same("after misuse", c.read(b, 0, 2), []uint32{0xabcd0000, 0xabcd0001})
}

func checkBufferMisuse(c *context) {
	limit := c.Limits().MaxBufferBytes
	for _, bad := range []struct {
		size  uint64
		usage gpu.Usage
		word  string
	}{
		{0, storageUsages, "0"}, {6, storageUsages, "4"}, {64, 0, "sage"}, {64, 1 << 20, "sage"},
		{limit + 4, storageUsages, fmt.Sprint(limit)}, {math.MaxUint64 - 3, storageUsages, fmt.Sprint(limit)},
	} {
		b, err := c.NewBuffer("bad buffer", bad.size, bad.usage)
		c.refuses(fmt.Sprintf("buffer of %d bytes, usage %#x", bad.size, bad.usage), err, "bad buffer", bad.word)
		if b != nil {
			c.fail("a buffer came with the error")
		}
		if bad.size > limit && !errors.Is(err, gpu.ErrOutOfMemory) {
			c.fail("a buffer beyond the limit is no ErrOutOfMemory: %v", err)
		}
	}
	c.stillWorks()
}

func checkRangeMisuse(c *context) {
	b := c.buffer("small", 64, storageUsages)
	for _, bad := range []struct{ offset, size uint64 }{
		{0, 68}, {64, 4}, {68, 0}, {2, 4}, {4, 6}, {math.MaxUint64 - 3, 8},
	} {
		if bad.size < 1<<20 {
			err := c.Write(b, bad.offset, make([]byte, bad.size))
			c.refuses(fmt.Sprintf("write of %d at %d", bad.size, bad.offset), err, "small")
		}
		r, err := c.Download(b, bad.offset, bad.size)
		c.refuses(fmt.Sprintf("download of %d at %d", bad.size, bad.offset), err, "small")
		if r != nil {
			c.fail("a readback came with the error")
		}
		other := c.buffer("other", 64, storageUsages)
		from, to := &gpu.Pass{}, &gpu.Pass{}
		from.Copy(b, bad.offset, other, 0, bad.size)
		to.Copy(other, 0, b, bad.offset, bad.size)
		c.refuses("copy from a bad range", c.Submit(from), "small")
		c.refuses("copy to a bad range", c.Submit(to), "small")
	}
	_, err := c.Download(b, 0, math.MaxUint64-3)
	c.refuses("endless download", err, "small")
	only := c.buffer("storage only", 64, gpu.UsageStorage)
	_, err = c.Download(only, 0, 4)
	c.refuses("download without UsageCopySrc", err, "storage only", "UsageCopySrc")
	c.refuses("write without UsageCopyDst", c.Write(only, 0, make([]byte, 4)), "storage only", "UsageCopyDst")
	pass := &gpu.Pass{}
	pass.Copy(only, 0, b, 0, 4)
	c.refuses("copy without UsageCopySrc", c.Submit(pass), "storage only", "UsageCopySrc")
	c.refuses("write to nil", c.Write(nil, 0, make([]byte, 4)))
	c.stillWorks()
}

func checkBindMisuse(c *context) {
	k := c.kernel("add", addParamWGSL, gpu.BindUniform, gpu.BindStorage)
	params := c.buffer("params", 1024, gpu.UsageUniform|gpu.UsageCopyDst)
	x := c.buffer("x", 1024, storageUsages)
	align := uint64(c.Limits().MinStorageOffsetAlignment)
	tooMany := c.Limits().MaxUniformBindingBytes + 16
	bigUniform := c.buffer("big uniform", tooMany, gpu.UsageUniform)
	for _, bad := range []struct {
		what     string
		bindings []gpu.Binding
		word     string
	}{
		{"too few bindings", []gpu.Binding{gpu.Whole(params)}, "2"},
		{"too many bindings", []gpu.Binding{gpu.Whole(params), gpu.Whole(x), gpu.Whole(x)}, "3"},
		{"no buffer", []gpu.Binding{gpu.Whole(params), {}}, "add"},
		{"wrong usage", []gpu.Binding{gpu.Whole(x), gpu.Whole(x)}, "UsageUniform"},
		{"wrong usage", []gpu.Binding{gpu.Whole(params), gpu.Whole(params)}, "UsageStorage"},
		{"beyond the end", []gpu.Binding{gpu.Whole(params), {Buffer: x, Size: 1028}}, "1028"},
		{"offset at the end", []gpu.Binding{gpu.Whole(params), {Buffer: x, Offset: 1024}}, "1024"},
		{"offset beyond the end", []gpu.Binding{gpu.Whole(params), {Buffer: x, Offset: 1 << 40}}, "x"},
		{"overflow", []gpu.Binding{gpu.Whole(params), {Buffer: x, Offset: align, Size: math.MaxUint64 - 3}}, "x"},
		{"unaligned offset", []gpu.Binding{gpu.Whole(params), {Buffer: x, Offset: align / 2, Size: 4}}, fmt.Sprint(align)},
		{"unaligned size", []gpu.Binding{gpu.Whole(params), {Buffer: x, Size: 6}}, "6"},
		{"uniform too large", []gpu.Binding{gpu.Whole(bigUniform), gpu.Whole(x)}, fmt.Sprint(tooMany)},
	} {
		g, err := c.Bind(k, bad.bindings...)
		c.refuses(bad.what, err, "add", bad.word)
		if g != nil {
			c.fail("%s: a bind group came with the error", bad.what)
		}
	}
	_, err := c.Bind(nil, gpu.Whole(x))
	c.refuses("bind without a kernel", err)
	c.stillWorks()
}

func checkConflicts(c *context) {
	k := c.kernel("chain", chainWGSL, gpu.BindStorageRead, gpu.BindStorage)
	b := c.buffer("both", 4096, storageUsages|gpu.UsageUniform)
	_, err := c.Bind(k, gpu.Whole(b), gpu.Whole(b))
	c.refuses("read and written in one dispatch", err, "chain", "both")
	_, err = c.Bind(k, gpu.Binding{Buffer: b, Size: 256}, gpu.Binding{Buffer: b, Offset: 1024, Size: 256})
	c.refuses("read and written in parts", err, "chain", "both")

	add := c.kernel("add", addParamWGSL, gpu.BindUniform, gpu.BindStorage)
	_, err = c.Bind(add, gpu.Binding{Buffer: b, Size: 16}, gpu.Binding{Buffer: b, Offset: 1024})
	c.refuses("uniform and written", err, "add", "both")

	const twoOut = `
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(1)
fn main() { x[0] = 1u; y[0] = 2u; }`
	two := c.kernel("two outputs", twoOut, gpu.BindStorage, gpu.BindStorage)
	_, err = c.Bind(two, gpu.Binding{Buffer: b, Size: 1024}, gpu.Binding{Buffer: b, Offset: 512, Size: 1024})
	c.refuses("overlapping outputs", err, "two outputs", "both")
	// Disjoint parts may both be written.
	g := c.bind(two, gpu.Binding{Buffer: b, Size: 1024}, gpu.Binding{Buffer: b, Offset: 1024, Size: 1024})
	c.submit(dispatch(two, g, 1, 1, 1))
	c.same("disjoint outputs", append(c.read(b, 0, 1), c.read(b, 1024, 1)...), []uint32{1, 2})

	const twoIn = `
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> y: array<u32>;
@group(0) @binding(2) var<storage, read_write> z: array<u32>;
@compute @workgroup_size(1)
fn main() { z[0] = x[0] + 10u * y[0]; }`
	reads := c.kernel("two inputs", twoIn, gpu.BindStorageRead, gpu.BindStorageRead, gpu.BindStorage)
	z := c.buffer("z", 64, storageUsages)
	c.submit(dispatch(reads, c.bind(reads, gpu.Whole(b), gpu.Binding{Buffer: b, Offset: 1024}, gpu.Whole(z)), 1, 1, 1))
	c.same("one buffer read twice", c.read(z, 0, 1), []uint32{21})
}

func checkStepMisuse(c *context) {
	k := c.kernel("chain", chainWGSL, gpu.BindStorageRead, gpu.BindStorage)
	fill := c.kernel("fill", fillWGSL, gpu.BindStorage)
	a, b := c.buffer("a", 64, storageUsages), c.buffer("b", 64, storageUsages)
	g := c.bind(k, gpu.Whole(a), gpu.Whole(b))
	limit := c.Limits().MaxWorkgroupsPerDimension
	for _, bad := range []struct {
		what string
		step gpu.Step
		word string
	}{
		{"empty step", gpu.Step{}, "neither"},
		{"dispatch and copy", gpu.Step{Kernel: k, Group: g, Grid: [3]uint32{1, 1, 1}, Src: a, Dst: b, SizeBytes: 4}, "both"},
		{"no bind group", gpu.Step{Kernel: k, Grid: [3]uint32{1, 1, 1}}, "chain"},
		{"another kernel's group", dispatch(fill, g, 1, 1, 1), "fill"},
		{"grid too large", dispatch(k, g, 1, limit+1, 1), fmt.Sprint(limit)},
		{"copy without destination", gpu.Step{Src: a, SizeBytes: 4}, "copy"},
		{"copy without source", gpu.Step{Dst: a, SizeBytes: 4}, "copy"},
	} {
		// A good step before the bad one must not run.
		good := c.bind(fill, gpu.Whole(b))
		err := c.Submit(&gpu.Pass{Label: "bad pass", Steps: []gpu.Step{dispatch(fill, good, 1, 1, 1), bad.step}})
		c.refuses(bad.what, err, "bad pass", "step 1", bad.word)
		c.same("buffer of a refused pass", c.read(b, 0, 16), make([]uint32, 16))
	}
	c.refuses("no pass", c.Submit(nil))
	c.stillWorks()
}

func checkReleased(c *context) {
	k := c.kernel("chain", chainWGSL, gpu.BindStorageRead, gpu.BindStorage)
	a, b := c.buffer("a", 64, storageUsages), c.buffer("gone", 64, storageUsages)
	g := c.bind(k, gpu.Whole(a), gpu.Whole(b))
	pass := &gpu.Pass{Label: "old pass", Steps: []gpu.Step{dispatch(k, g, 1, 1, 1)}}
	copies := &gpu.Pass{Label: "old copy"}
	copies.Copy(a, 0, b, 0, 4)
	c.must(c.Submit(pass))
	c.must(c.Submit(copies))
	b.Release()
	c.refuses("pass with a released buffer", c.Submit(pass), "old pass", "chain", "gone", "released")
	c.refuses("again", c.Submit(pass), "gone", "released")
	_, err := c.Download(a, 0, 4, pass)
	c.refuses("download behind it", err, "old pass", "gone", "released")
	c.refuses("copy to a released buffer", c.Submit(copies), "old copy", "gone", "released")
	c.refuses("write to a released buffer", c.Write(b, 0, make([]byte, 4)), "gone", "released")
	_, err = c.Download(b, 0, 4)
	c.refuses("download from a released buffer", err, "gone", "released")
	_, err = c.Bind(k, gpu.Whole(a), gpu.Whole(b))
	c.refuses("bind of a released buffer", err, "gone", "released")

	d := c.buffer("d", 64, storageUsages)
	g2 := c.bind(k, gpu.Whole(a), gpu.Whole(d))
	c.submit(dispatch(k, g2, 1, 1, 1))
	g2.Release()
	err = c.Submit(&gpu.Pass{Steps: []gpu.Step{dispatch(k, g2, 1, 1, 1)}})
	c.refuses("released bind group", err, "chain", "released")
	g3 := c.bind(k, gpu.Whole(a), gpu.Whole(d))
	k.Release()
	err = c.Submit(&gpu.Pass{Steps: []gpu.Step{dispatch(k, g3, 1, 1, 1)}})
	c.refuses("released kernel", err, "chain", "released")
	_, err = c.Bind(k, gpu.Whole(a), gpu.Whole(d))
	c.refuses("bind for a released kernel", err, "chain", "released")
	c.stillWorks()
}

func checkForeign(c *context) {
	other, err := c.open()
	c.must(err)
	defer other.Close()
	foreign, err := other.NewBuffer("foreign", 64, allUsages)
	c.must(err)
	desc := gpu.KernelDesc{Label: "foreign kernel", WGSL: fillWGSL, Entry: "main", Bindings: []gpu.BindingKind{gpu.BindStorage}}
	foreignKernel, err := other.NewKernel(desc)
	c.must(err)
	foreignGroup, err := other.Bind(foreignKernel, gpu.Whole(foreign))
	c.must(err)

	k := c.kernel("fill", fillWGSL, gpu.BindStorage)
	own := c.buffer("own", 64, storageUsages)
	_, err = c.Bind(k, gpu.Whole(foreign))
	c.refuses("bind of a foreign buffer", err, "foreign", "another device")
	_, err = c.Bind(foreignKernel, gpu.Whole(own))
	c.refuses("bind for a foreign kernel", err, "foreign kernel", "another device")
	c.refuses("write to a foreign buffer", c.Write(foreign, 0, make([]byte, 4)), "foreign", "another device")
	_, err = c.Download(foreign, 0, 4)
	c.refuses("download of a foreign buffer", err, "foreign", "another device")
	err = c.Submit(&gpu.Pass{Steps: []gpu.Step{dispatch(foreignKernel, foreignGroup, 1, 1, 1)}})
	c.refuses("dispatch of a foreign kernel", err, "foreign kernel", "another device")
	err = c.Submit(&gpu.Pass{Steps: []gpu.Step{dispatch(k, foreignGroup, 1, 1, 1)}})
	c.refuses("dispatch over a foreign group", err, "fill", "another device")
	pass := &gpu.Pass{}
	pass.Copy(own, 0, foreign, 0, 4)
	c.refuses("copy to a foreign buffer", c.Submit(pass), "foreign", "another device")
	c.stillWorks()
}

func checkClosed(c *context) {
	d, err := c.open()
	c.must(err)
	b, err := d.NewBuffer("b", 64, storageUsages)
	c.must(err)
	k, err := d.NewKernel(gpu.KernelDesc{Label: "fill", WGSL: fillWGSL, Entry: "main", Bindings: []gpu.BindingKind{gpu.BindStorage}})
	c.must(err)
	g, err := d.Bind(k, gpu.Whole(b))
	c.must(err)
	pass := &gpu.Pass{Label: "late", Steps: []gpu.Step{dispatch(k, g, 1, 1, 1)}}
	c.must(d.Submit(pass))
	r, err := d.Download(b, 0, 4)
	c.must(err)
	c.must(d.Close())
	c.must(d.Close())
	c.refuses("submit", d.Submit(pass), "closed")
	c.refuses("wait", r.Wait(make([]byte, 4)), "closed")
	c.refuses("write", d.Write(b, 0, make([]byte, 4)), "closed")
	_, err = d.Download(b, 0, 4)
	c.refuses("download", err, "closed")
	_, err = d.NewBuffer("b2", 64, storageUsages)
	c.refuses("new buffer", err, "closed")
	_, err = d.NewKernel(gpu.KernelDesc{Label: "fill", WGSL: fillWGSL, Entry: "main", Bindings: []gpu.BindingKind{gpu.BindStorage}})
	c.refuses("new kernel", err, "closed")
	_, err = d.Bind(k, gpu.Whole(b))
	c.refuses("bind", err, "closed")
	g.Release()
	b.Release()
	k.Release()
	if d.Info().Name == "" {
		c.fail("a closed device has no name")
	}
}
