// Package kerneltest holds parity cases of the kernels in shaders: inputs, dispatches and what a plain float64 reference
// says must come out. The same cases run on the native device (shaders/parity_test.go) and in a browser.
//
// It owns the cases, their random inputs and references, and Run. It opens no device, and the references share no code
// with the engine.
package kerneltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// Case is one parity check. Its inputs are made only when it runs.
type Case struct {
	Name  string // "kernel/variant", unique
	Build func() *Setup
}

// Setup is everything a case needs on a device.
type Setup struct {
	Buffers map[string][]byte // initial contents; a multiple of 4 bytes each
	Steps   []Step            // run in order
	Checks  []Check           // after the last step
}

// Step is one dispatch.
type Step struct {
	Kernel   string
	Options  shaders.Options
	Bindings []Binding // in the order of @binding
	Grid     [3]uint32 // workgroups
}

// Binding is a range of one of the setup's buffers. Size 0 means: to its end.
type Binding struct {
	Buffer       string
	Offset, Size uint64 // bytes
}

// Bind binds whole buffers.
func Bind(names ...string) []Binding {
	out := make([]Binding, len(names))
	for i, n := range names {
		out[i].Buffer = n
	}
	return out
}

// Format is how a checked buffer stores its numbers.
type Format string

const (
	F32 Format = "f32"
	F16 Format = "f16"
	Key Format = "key" // a key in 16 bits: the square root of a number in [-1, 1], with its sign, as snorm16
	U32 Format = "u32"
)

// Check compares a whole buffer with the reference.
type Check struct {
	Buffer    string
	Format    Format
	Want      []float64 // one a number of the buffer; NaN where the kernel must leave the initial bits as they are, Any
	Tolerance float64   // of |got - want|, relative to the largest |want| of the buffer
}

// Any in Check.Want stands where it does not matter what the kernel writes.
var Any = math.Inf(1)

// Result is what a check measured.
type Result struct {
	Buffer    string
	MaxRelErr float64 // largest |got - want| / largest |want|
	Tolerance float64
}

// Cases lists the parity cases of all kernels.
func Cases() []Case {
	var all []Case
	for _, more := range registered {
		all = append(all, more()...)
	}
	return all
}

// subgroupsOf separates the name of a case from the size of the subgroups that it runs with.
const subgroupsOf = " subgroups="

// SubgroupCases lists the cases of Cases whose kernels have a variant with subgroups, on a device where they have size threads
// each, and more in shapes that only those take.
func SubgroupCases(size int) []Case {
	var all []Case
	for _, c := range append(Cases(), matvecCasesIn(subgroupShapes, false)...) {
		kernels, _, _ := strings.Cut(c.Name, "/")
		if !slices.ContainsFunc(strings.Split(kernels, "+"), shaders.HasSubgroupVariant) {
			continue
		}
		all = append(all, Case{fmt.Sprint(c.Name, subgroupsOf, size), func() *Setup {
			s := c.Build()
			for i := range s.Steps {
				s.Steps[i].Options.UseSubgroups(size)
			}
			return s
		}})
	}
	return all
}

// WithoutSubgroups is the name of the same case of Cases.
func (c Case) WithoutSubgroups() string {
	name, _, _ := strings.Cut(c.Name, subgroupsOf)
	return name
}

// registered holds the functions that make the cases; each file with cases adds its own in init.
var registered []func() []Case

// Run runs one case and returns the largest relative error of its checks. The error says which number differs, by how much.
func Run(dev gpu.Device, c Case) (maxRelErr float64, err error) {
	r := NewRunner(dev)
	defer r.Close()
	results, err := r.Measure(c)
	for _, m := range results {
		maxRelErr = max(maxRelErr, m.MaxRelErr)
	}
	return maxRelErr, err
}

// Runner runs cases on a device and keeps the kernels it compiled.
type Runner struct {
	dev     gpu.Device
	kernels map[string]gpu.Kernel // by WGSL
}

// NewRunner returns a Runner for one goroutine.
func NewRunner(dev gpu.Device) *Runner { return &Runner{dev: dev, kernels: map[string]gpu.Kernel{}} }

// Close releases the kernels.
func (r *Runner) Close() {
	for _, k := range r.kernels {
		k.Release()
	}
	clear(r.kernels)
}

// Measure runs a case and returns what each check measured; also those that failed, with the first failure as the error.
func (r *Runner) Measure(c Case) ([]Result, error) {
	s := c.Build()
	names := make([]string, len(s.Checks))
	for i, check := range s.Checks {
		names[i] = check.Buffer
	}
	got, err := r.Execute(s, names...)
	if err != nil {
		return nil, fmt.Errorf("kerneltest: %s: %w", c.Name, err)
	}
	var results []Result
	var firstErr error
	for i, check := range s.Checks {
		m, err := check.compare(got[i], s.Buffers[check.Buffer])
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("kerneltest: %s: %s%w", c.Name, check.Buffer, err)
		}
		results = append(results, m)
	}
	return results, firstErr
}

// Execute runs the steps of s and returns the contents of the named buffers afterwards.
func (r *Runner) Execute(s *Setup, names ...string) ([][]byte, error) {
	buffers := map[string]gpu.Buffer{}
	defer func() {
		for _, b := range buffers {
			b.Release()
		}
	}()
	for name, data := range s.Buffers {
		b, err := r.dev.NewBuffer(name, uint64(len(data)), gpu.UsageStorage|gpu.UsageUniform|gpu.UsageCopySrc|gpu.UsageCopyDst)
		if err != nil {
			return nil, err
		}
		buffers[name] = b
		if err := r.dev.Write(b, 0, data); err != nil {
			return nil, err
		}
	}
	for i, step := range s.Steps {
		if err := r.step(step, buffers); err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
	}
	out := make([][]byte, len(names))
	for i, name := range names {
		b, ok := buffers[name]
		if !ok {
			return nil, fmt.Errorf("there is no buffer %q", name)
		}
		out[i] = make([]byte, b.Size())
		if err := gpu.Read(r.dev, b, 0, out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *Runner) kernel(name string, opt shaders.Options) (gpu.Kernel, error) {
	desc, err := shaders.Specialize(name, opt)
	if err != nil {
		return nil, err
	}
	if k := r.kernels[desc.WGSL]; k != nil {
		return k, nil
	}
	k, err := r.dev.NewKernel(desc)
	if err != nil {
		return nil, err
	}
	r.kernels[desc.WGSL] = k
	return k, nil
}

func (r *Runner) step(step Step, buffers map[string]gpu.Buffer) error {
	kernel, err := r.kernel(step.Kernel, step.Options)
	if err != nil {
		return err
	}
	bindings := make([]gpu.Binding, len(step.Bindings))
	for i, b := range step.Bindings {
		buffer, ok := buffers[b.Buffer]
		if !ok {
			return fmt.Errorf("binding %d names the buffer %q, which does not exist", i, b.Buffer)
		}
		bindings[i] = gpu.Binding{Buffer: buffer, Offset: b.Offset, Size: b.Size}
	}
	group, err := r.dev.Bind(kernel, bindings...)
	if err != nil {
		return err
	}
	defer group.Release()
	pass := &gpu.Pass{Label: step.Kernel}
	pass.Dispatch(kernel, group, step.Grid[0], step.Grid[1], step.Grid[2])
	return r.dev.Submit(pass)
}

// compare checks every number of got; an error starts with the number's index.
func (c Check) compare(got, initial []byte) (Result, error) {
	width := c.Format.width()
	r := Result{Buffer: c.Buffer, Tolerance: c.Tolerance}
	if len(got) != width*len(c.Want) {
		return r, fmt.Errorf(" has %d bytes, the reference has %d numbers of %d bytes", len(got), len(c.Want), width)
	}
	largest := 0.0
	for _, w := range c.Want {
		if !math.IsNaN(w) && w != Any {
			largest = max(largest, math.Abs(w))
		}
	}
	var firstErr error
	for i, w := range c.Want {
		if w == Any {
			continue
		}
		raw := got[i*width : (i+1)*width]
		if math.IsNaN(w) {
			if !bytes.Equal(raw, initial[i*width:(i+1)*width]) && firstErr == nil {
				firstErr = fmt.Errorf("[%d] must stay untouched: its bytes were %x and are %x", i, initial[i*width:(i+1)*width], raw)
			}
			continue
		}
		v := c.Format.decode(raw)
		diff := math.Abs(v - w)
		if diff == 0 {
			continue
		}
		relErr := diff / largest
		if !(relErr <= c.Tolerance) && firstErr == nil {
			firstErr = fmt.Errorf("[%d] is %.9g, want %.9g: off by %.3g of the largest magnitude %.4g, tolerance %.3g", i, v, w, relErr, largest, c.Tolerance)
		}
		if math.IsNaN(relErr) {
			relErr = math.Inf(1)
		}
		r.MaxRelErr = max(r.MaxRelErr, relErr)
	}
	return r, firstErr
}

// width is the bytes of a number.
func (f Format) width() int {
	if f == F16 || f == Key {
		return 2
	}
	return 4
}

func (f Format) decode(raw []byte) float64 {
	switch f {
	case F16:
		return float64(half.F16ToF32(binary.LittleEndian.Uint16(raw)))
	case Key:
		root := max(float64(int16(binary.LittleEndian.Uint16(raw)))/32767, -1)
		return root * math.Abs(root)
	case U32:
		return float64(binary.LittleEndian.Uint32(raw))
	}
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(raw)))
}
