// Package gputest is the conformance suite of gpu.Device: what the engine relies on, run against any implementation.
//
// It does not import the testing package, so that a browser build can run the same checks and print their results.
// Every check gets a device of its own. It knows nothing of models; kernels are tested where they live.
package gputest

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// T is the part of *testing.T that the suite needs.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
}

// Check is one named check.
type Check struct {
	Name string
	run  func(c *context)
}

// Checks lists all checks in the order in which Run runs them.
func Checks() []Check {
	var all []Check
	all = append(all, dataChecks...)
	all = append(all, kernelChecks...)
	all = append(all, misuseChecks...)
	return all
}

// Run runs every check, each on a device of its own.
func Run(t T, open func() (gpu.Device, error)) {
	t.Helper()
	for _, check := range Checks() {
		check.Run(t, open)
	}
}

// Run runs one check on a new device, which it closes.
func (k Check) Run(t T, open func() (gpu.Device, error)) {
	t.Helper()
	d, err := open()
	if err != nil {
		t.Errorf("%s: open: %v", k.Name, err)
		return
	}
	c := &context{T: t, name: k.Name, Device: d, open: open}
	defer func() {
		t.Helper()
		r := recover()
		if s, ok := r.(stop); ok {
			c.fail("%v", s.err)
		} else if r != nil {
			panic(r)
		}
		if err := d.Close(); err != nil {
			c.fail("close: %v", err)
		}
	}()
	k.run(c)
}

// context is what a check works with. Its helpers end the check on an unexpected error.
type context struct {
	T
	gpu.Device
	name string
	open func() (gpu.Device, error)
}

type stop struct{ err error }

func (c *context) fail(format string, args ...any) {
	c.Helper()
	c.Errorf("%s: %s", c.name, fmt.Sprintf(format, args...))
}

func (c *context) must(err error) {
	if err != nil {
		panic(stop{err})
	}
}

// refuses demands an error whose text contains all of the words.
func (c *context) refuses(what string, err error, words ...string) {
	c.Helper()
	if err == nil {
		c.fail("%s: accepted, want an error", what)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			c.fail("%s: error %q does not mention %q", what, err, w)
		}
	}
}

const allUsages = gpu.UsageStorage | gpu.UsageUniform | gpu.UsageCopySrc | gpu.UsageCopyDst

const storageUsages = gpu.UsageStorage | gpu.UsageCopySrc | gpu.UsageCopyDst

func (c *context) buffer(label string, size uint64, usage gpu.Usage) gpu.Buffer {
	b, err := c.NewBuffer(label, size, usage)
	c.must(err)
	return b
}

// words makes a buffer that holds the values. [len(values)] u32
func (c *context) words(label string, values []uint32, usage gpu.Usage) gpu.Buffer {
	b := c.buffer(label, uint64(4*len(values)), usage)
	c.must(c.Write(b, 0, bytesOf(values)))
	return b
}

func (c *context) kernel(label, wgsl string, kinds ...gpu.BindingKind) gpu.Kernel {
	k, err := c.NewKernel(gpu.KernelDesc{Label: label, WGSL: wgsl, Entry: "main", Bindings: kinds})
	c.must(err)
	return k
}

func (c *context) bind(k gpu.Kernel, bindings ...gpu.Binding) gpu.BindGroup {
	g, err := c.Bind(k, bindings...)
	c.must(err)
	return g
}

func (c *context) submit(steps ...gpu.Step) { c.must(c.Submit(&gpu.Pass{Label: c.name, Steps: steps})) }

func dispatch(k gpu.Kernel, g gpu.BindGroup, x, y, z uint32) gpu.Step {
	return gpu.Step{Kernel: k, Group: g, Grid: [3]uint32{x, y, z}}
}

func (c *context) read(b gpu.Buffer, offset uint64, n int) []uint32 {
	raw := make([]byte, 4*n)
	c.must(gpu.Read(c.Device, b, offset, raw))
	return wordsOf(raw)
}

// same compares a buffer's words with those wanted and reports the first difference.
func (c *context) same(what string, got, want []uint32) {
	c.Helper()
	if len(got) != len(want) {
		c.fail("%s: %d words, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		if got[i] != want[i] {
			c.fail("%s: word %d is %#x, want %#x", what, i, got[i], want[i])
			return
		}
	}
}

func bytesOf(values []uint32) []byte {
	raw := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(raw[4*i:], v)
	}
	return raw
}

func wordsOf(raw []byte) []uint32 {
	values := make([]uint32, len(raw)/4)
	for i := range values {
		values[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	return values
}

// counting returns n words that differ from each other and from those of another seed.
func counting(n int, seed uint32) []uint32 {
	values := make([]uint32, n)
	for i := range values {
		values[i] = (uint32(i) + seed*0x10001) * 0x9e3779b1
	}
	return values
}
