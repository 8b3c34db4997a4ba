package gputest

import (
	"fmt"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// Checks of kernels, bindings and passes.
var kernelChecks = []Check{
	{"dependent dispatches", checkChain},
	{"ping-pong between buffers", checkPingPong},
	{"replayed pass", checkReplay},
	{"uniform offsets", checkUniformOffsets},
	{"storage ranges", checkStorageRanges},
	{"unused bindings and shared groups", checkSharedGroups},
	{"grids", checkGrids},
	{"workgroup memory", checkWorkgroupMemory},
	{"packed formats", checkPackedFormats},
	{"WGSL errors", checkWGSLErrors},
	{"compiling beside other work", checkCompileAsync},
}

// fill writes 0xabcd0000 + index to each word.
const fillWGSL = `
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < arrayLength(&x)) { x[id.x] = 0xabcd0000u + id.x; }
}`

// addParam: x[0] = (x[0] + params.x) * params.y
const addParamWGSL = `
@group(0) @binding(0) var<uniform> params: vec4<u32>;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@compute @workgroup_size(1)
fn main() { x[0] = (x[0] + params.x) * params.y; }`

// A chain in which every dispatch reads all that the one before wrote, in another place.
const chainWGSL = `
@group(0) @binding(0) var<storage, read> src: array<u32>;
@group(0) @binding(1) var<storage, read_write> dst: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let n = arrayLength(&dst);
  if (id.x < n) { dst[id.x] = src[(id.x + 4099u) % n] * 5u + src[n - 1u - id.x] + 1u; }
}`

func chain(src []uint32) []uint32 {
	n := uint32(len(src))
	dst := make([]uint32, n)
	for i := range n {
		dst[i] = src[(i+4099)%n]*5 + src[n-1-i] + 1
	}
	return dst
}

func checkChain(c *context) {
	const n, depth = 5000, 60
	k := c.kernel("chain", chainWGSL, gpu.BindStorageRead, gpu.BindStorage)
	want := counting(n, 3)
	buffers := []gpu.Buffer{c.words("chain 0", want, storageUsages)}
	pass := &gpu.Pass{Label: "chain"}
	for i := 1; i <= depth; i++ {
		buffers = append(buffers, c.buffer(fmt.Sprintf("chain %d", i), 4*n, storageUsages))
		pass.Dispatch(k, c.bind(k, gpu.Whole(buffers[i-1]), gpu.Whole(buffers[i])), (n+63)/64, 1, 1)
		want = chain(want)
	}
	c.must(c.Submit(pass))
	c.same("end of the chain", c.read(buffers[depth], 0, n), want)
}

func checkPingPong(c *context) {
	const n, rounds = 3000, 150
	k := c.kernel("chain", chainWGSL, gpu.BindStorageRead, gpu.BindStorage)
	want := counting(n, 4)
	a, b := c.words("ping", want, storageUsages), c.buffer("pong", 4*n, storageUsages)
	there, back := c.bind(k, gpu.Whole(a), gpu.Whole(b)), c.bind(k, gpu.Whole(b), gpu.Whole(a))
	pass := &gpu.Pass{Label: "ping-pong"}
	for range rounds {
		pass.Dispatch(k, there, (n+63)/64, 1, 1)
		pass.Dispatch(k, back, (n+63)/64, 1, 1)
		want = chain(chain(want))
	}
	c.must(c.Submit(pass))
	c.same("after ping-pong", c.read(a, 0, n), want)
}

// Dispatches and copies in turn, submitted many times without waiting.
func checkReplay(c *context) {
	const n = 5000
	k := c.kernel("chain", chainWGSL, gpu.BindStorageRead, gpu.BindStorage)
	want := counting(n, 6)
	a, b := c.words("state", want, storageUsages), c.buffer("next", 4*n, storageUsages)
	pass := &gpu.Pass{Label: "replay"}
	pass.Dispatch(k, c.bind(k, gpu.Whole(a), gpu.Whole(b)), (n+63)/64, 1, 1)
	pass.Copy(b, 0, a, 0, 4*n)
	for range 40 {
		c.must(c.Submit(pass))
		want = chain(want)
	}
	c.same("after 40 replays", c.read(a, 0, n), want)

	// A pass may grow between submissions.
	pass.Steps = append(pass.Steps, pass.Steps...)
	c.must(c.Submit(pass))
	c.same("after the grown pass", c.read(a, 0, n), chain(chain(want)))
}

func checkUniformOffsets(c *context) {
	const n = 5
	step := uint64(c.Limits().MinUniformOffsetAlignment)
	k := c.kernel("add", addParamWGSL, gpu.BindUniform, gpu.BindStorage)
	params := c.buffer("params", n*step, gpu.UsageUniform|gpu.UsageCopyDst)
	x := c.buffer("x", 256, storageUsages)
	pass := &gpu.Pass{Label: "uniform offsets"}
	want := uint32(0)
	for i := uint64(0); i < n; i++ {
		p := []uint32{uint32(i + 1), uint32(2*i + 3), 0, 0}
		c.must(c.Write(params, i*step, bytesOf(p)))
		pass.Dispatch(k, c.bind(k, gpu.Binding{Buffer: params, Offset: i * step, Size: 16}, gpu.Whole(x)), 1, 1, 1)
		want = (want + p[0]) * p[1]
	}
	c.must(c.Submit(pass))
	c.same("uniforms at offsets", c.read(x, 0, 1), []uint32{want})
	_, err := c.Bind(k, gpu.Binding{Buffer: params, Offset: 4, Size: 16}, gpu.Whole(x))
	c.refuses("unaligned uniform offset", err, "add", "params", "4")
}

func checkStorageRanges(c *context) {
	const wgsl = `
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@compute @workgroup_size(1)
fn main() { x[0] = arrayLength(&x); x[arrayLength(&x) - 1u] = x[0] + 1u; }`
	align := uint64(c.Limits().MinStorageOffsetAlignment)
	k := c.kernel("length", wgsl, gpu.BindStorage)
	for _, n := range []uint64{8, 12, 64, 100, 1024} {
		b := c.buffer("ranges", 8*align+4096, storageUsages)
		c.submit(dispatch(k, c.bind(k, gpu.Binding{Buffer: b, Offset: 3 * align, Size: n}), 1, 1, 1))
		words := c.read(b, 0, int(b.Size()/4))
		want := make([]uint32, len(words))
		first := 3 * align / 4
		want[first] = uint32(n / 4)
		want[first+n/4-1] = uint32(n/4) + 1
		c.same(fmt.Sprintf("range of %d bytes", n), words, want)
	}
	b := c.buffer("rest", 4*align, storageUsages)
	c.submit(dispatch(k, c.bind(k, gpu.Binding{Buffer: b, Offset: align}), 1, 1, 1))
	c.same("range to the end", c.read(b, align, 1), []uint32{uint32(3 * align / 4)})
}

// A binding that the WGSL never uses stays in the layout, and kernels with the same kinds share bind groups.
func checkSharedGroups(c *context) {
	const declared = `
@group(0) @binding(0) var<uniform> params: vec4<u32>;
@group(0) @binding(1) var<storage, read> unused: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<u32>;
@compute @workgroup_size(1)
fn main() { x[%s] = x[%s] + %s; }`
	kinds := []gpu.BindingKind{gpu.BindUniform, gpu.BindStorageRead, gpu.BindStorage}
	first := c.kernel("first", fmt.Sprintf(declared, "0", "0", "1u"), kinds...)
	second := c.kernel("second", fmt.Sprintf(declared, "1", "0", "params.x"), kinds...)
	params := c.words("params", []uint32{10, 0, 0, 0}, gpu.UsageUniform|gpu.UsageCopyDst)
	unused := c.buffer("unused", 64, storageUsages)
	x := c.buffer("x", 64, storageUsages)
	g := c.bind(first, gpu.Whole(params), gpu.Whole(unused), gpu.Whole(x))
	c.submit(dispatch(first, g, 1, 1, 1), dispatch(second, g, 1, 1, 1), dispatch(first, g, 1, 1, 1))
	c.same("two kernels over one group", c.read(x, 0, 2), []uint32{2, 11})
	first.Release()
	c.submit(dispatch(second, g, 1, 1, 1))
	c.same("after the first kernel's release", c.read(x, 0, 2), []uint32{2, 12})
}

func checkGrids(c *context) {
	const wgsl = `
@group(0) @binding(0) var<storage, read_write> x: array<atomic<u32>>;
@compute @workgroup_size(2, 2, 1)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(num_workgroups) n: vec3<u32>) {
  atomicAdd(&x[(wg.z * n.y + wg.y) * n.x + wg.x], 1u << (8u * lane));
}`
	k := c.kernel("grid", wgsl, gpu.BindStorage)
	limit := c.Limits().MaxWorkgroupsPerDimension
	for _, grid := range [][3]uint32{{1, 1, 1}, {7, 5, 3}, {limit, 1, 1}, {1, limit, 1}, {1, 1, limit}} {
		n := grid[0] * grid[1] * grid[2]
		b := c.buffer("grid", uint64(4*n), storageUsages)
		c.submit(dispatch(k, c.bind(k, gpu.Whole(b)), grid[0], grid[1], grid[2]))
		want := make([]uint32, n)
		for i := range want {
			want[i] = 0x01010101
		}
		c.same(fmt.Sprintf("grid %v", grid), c.read(b, 0, int(n)), want)
		for axis := range grid {
			over := grid
			over[axis] = limit + 1
			err := c.Submit(&gpu.Pass{Label: "too large", Steps: []gpu.Step{dispatch(k, c.bind(k, gpu.Whole(b)), over[0], over[1], over[2])}})
			c.refuses("grid beyond the limit", err, "grid", fmt.Sprint(limit))
		}
		b.Release()
	}
}

// A tree sum over 256 lanes, which needs barriers to be right.
func checkWorkgroupMemory(c *context) {
	const wgsl = `
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;
var<workgroup> partial: array<u32, 256>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  partial[lane] = x[wg.x * 256u + lane];
  for (var half = 128u; half > 0u; half = half / 2u) {
    workgroupBarrier();
    if (lane < half) { partial[lane] = partial[lane] + partial[lane + half]; }
  }
  if (lane == 0u) { sums[wg.x] = partial[0]; }
}`
	const numGroups = 300
	values := counting(256*numGroups, 8)
	k := c.kernel("tree sum", wgsl, gpu.BindStorageRead, gpu.BindStorage)
	x, sums := c.words("x", values, storageUsages), c.buffer("sums", 4*numGroups, storageUsages)
	c.submit(dispatch(k, c.bind(k, gpu.Whole(x), gpu.Whole(sums)), numGroups, 1, 1))
	want := make([]uint32, numGroups)
	for i, v := range values {
		want[i/256] += v
	}
	c.same("workgroup sums", c.read(sums, 0, numGroups), want)
}

// The built-ins by which kernels read packed weights: bf16 by shifting, f16 pairs, signed bytes, nibbles.
func checkPackedFormats(c *context) {
	const wgsl = `
@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> z: array<u32>;
@compute @workgroup_size(1)
fn main() {
  let w = x[0];
  let halves = unpack2x16float(w.x);
  let norms = unpack4x8snorm(w.y);
  y[0] = halves.x;
  y[1] = halves.y;
  y[2] = bitcast<f32>(w.y << 16u);
  y[3] = bitcast<f32>(w.y & 0xffff0000u);
  for (var i = 0u; i < 4u; i = i + 1u) { y[4u + i] = round(norms[i] * 127.0); }
  for (var i = 0u; i < 8u; i = i + 1u) { y[8u + i] = f32(extractBits(w.z, 4u * i, 4u)) - 8.0; }
  y[16] = f32(extractBits(bitcast<i32>(w.w), 8u, 8u));
  z[0] = pack2x16float(vec2<f32>(y[0], 0.333333));
  z[1] = countOneBits(w.x) + firstLeadingBit(w.z);
}`
	in := []uint32{0xc2007bff, 0x817f40f3, 0x76543210, 0x12349078}
	k := c.kernel("packed", wgsl, gpu.BindStorageRead, gpu.BindStorage, gpu.BindStorage)
	x, y := c.words("x", in, storageUsages), c.buffer("y", 4*17, storageUsages)
	z := c.buffer("z", 8, storageUsages)
	c.submit(dispatch(k, c.bind(k, gpu.Whole(x), gpu.Whole(y), gpu.Whole(z)), 1, 1, 1))
	want := []float32{65504, -3, math.Float32frombits(0x40f30000), math.Float32frombits(0x817f0000),
		-13, 64, 127, -127, -8, -7, -6, -5, -4, -3, -2, -1, -112}
	for i, bits := range c.read(y, 0, 17) {
		if got := math.Float32frombits(bits); got != want[i] {
			c.fail("unpacked value %d is %v, want %v", i, got, want[i])
		}
	}
	// 0xc2007bff has 17 bits set; the highest of 0x76543210 is bit 30. 0.333333 is 0x3555 in f16.
	c.same("packed words", c.read(z, 0, 2), []uint32{0x35557bff, 17 + 30})
}

// Kernels compile, one of them not, while the device has other work.
func checkCompileAsync(c *context) {
	compiler, ok := c.Device.(gpu.AsyncCompiler)
	if !ok {
		return
	}
	const n = 30
	source := func(i int) string {
		return fmt.Sprintf("@group(0) @binding(0) var<storage, read_write> x: array<u32>;\n@compute @workgroup_size(64)\n"+
			"fn main(@builtin(global_invocation_id) id: vec3<u32>) { if (id.x < arrayLength(&x)) { x[id.x] = id.x * %du + %du; } }", i+1, i*i)
	}
	var kernels [n]gpu.Kernel
	var waits [n]func() error
	for i := range n {
		kernels[i], waits[i] = compiler.NewKernelAsync(gpu.KernelDesc{Label: fmt.Sprint("async ", i), WGSL: source(i), Entry: "main", Bindings: []gpu.BindingKind{gpu.BindStorage}})
	}
	out := c.buffer("out", 400, storageUsages)
	groups := make([]gpu.BindGroup, n)
	for i, k := range kernels {
		groups[i] = c.bind(k, gpu.Whole(out))
	}
	chained := c.kernel("chain", chainWGSL, gpu.BindStorageRead, gpu.BindStorage)
	want := counting(5000, 7)
	from, to := c.words("from", want, storageUsages), c.buffer("to", 20000, storageUsages)
	ping, pong := c.bind(chained, gpu.Whole(from), gpu.Whole(to)), c.bind(chained, gpu.Whole(to), gpu.Whole(from))
	for range 10 {
		more := c.words("more", want, storageUsages)
		c.submit(dispatch(chained, ping, 79, 1, 1), dispatch(chained, pong, 79, 1, 1))
		want = chain(chain(want))
		c.same("meanwhile", c.read(from, 0, len(want)), want)
		more.Release()
	}
	for i, k := range kernels {
		c.must(waits[i]())
		c.submit(dispatch(k, groups[i], 2, 1, 1))
		numbers := make([]uint32, 100)
		for j := range numbers {
			numbers[j] = uint32(j*(i+1) + i*i)
		}
		c.same(fmt.Sprint("kernel ", i), c.read(out, 0, 100), numbers)
	}
	// One that does not compile, and one that nobody waits for.
	bad, wait := compiler.NewKernelAsync(gpu.KernelDesc{Label: "broken async", WGSL: source(1) + "}", Entry: "main", Bindings: []gpu.BindingKind{gpu.BindStorage}})
	if bad == nil || wait() == nil {
		c.fail("a kernel with a syntax error compiled")
	}
	left, _ := compiler.NewKernelAsync(gpu.KernelDesc{Label: "left", WGSL: source(1000), Entry: "main", Bindings: []gpu.BindingKind{gpu.BindStorage}})
	left.Release()
}

func checkWGSLErrors(c *context) {
	const good = "@group(0) @binding(0) var<storage, read_write> x: array<u32>;\n"
	for _, bad := range []struct {
		what, wgsl string
		line       string // of the mistake, empty where none can be named
	}{
		{"syntax error", good + "@compute @workgroup_size(1)\nfn main() { x[0] = ; }", "3"},
		{"unknown name", good + "@compute @workgroup_size(1)\nfn main() {\n  x[0] = nowhere;\n}", "4"},
		{"type error", good + "@compute @workgroup_size(1)\nfn main() {\n\n  let y: f32 = 1.5;\n  x[0] = x[1] * y;\n}", "6"},
		{"entry point missing", good + "@compute @workgroup_size(1)\nfn other() { x[0] = 1u; }", ""},
		{"binding kind mismatch", "@group(0) @binding(0) var<uniform> x: vec4<u32>;\n@group(0) @binding(1) var<storage, read_write> y: array<u32>;\n" +
			"@compute @workgroup_size(1)\nfn main() { y[0] = x.x; }", ""},
		{"workgroup too large", good + "@compute @workgroup_size(65536)\nfn main() { x[0] = 1u; }", ""},
		{"too much workgroup memory", good + "var<workgroup> w: array<u32, 1000000>;\n@compute @workgroup_size(1)\nfn main() { w[x[1]] = 2u; x[0] = w[x[2]]; }", ""},
		{"no source", "", ""},
	} {
		k, err := c.NewKernel(gpu.KernelDesc{Label: "broken kernel", WGSL: bad.wgsl, Entry: "main", Bindings: []gpu.BindingKind{gpu.BindStorage}})
		c.refuses(bad.what, err, "broken kernel", bad.line)
		if k != nil {
			c.fail("%s: a kernel came with the error", bad.what)
		}
	}
	// The device works on.
	k := c.kernel("fill", fillWGSL, gpu.BindStorage)
	b := c.buffer("b", 4, storageUsages)
	c.submit(dispatch(k, c.bind(k, gpu.Whole(b)), 1, 1, 1))
	c.same("after the errors", c.read(b, 0, 1), []uint32{0xabcd0000})
}
