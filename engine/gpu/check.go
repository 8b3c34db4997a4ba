package gpu

// What a Device must refuse before WebGPU sees it, in the same words whatever stands behind. A backend embeds the
// Checked* types in its own objects and asks Checks before each call. Checks does not lock: the backend does.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// Checks belongs to one device.
type Checks struct {
	Adapter string // its name, for messages
	Limits  Limits
	Usable  func() error // why the device cannot be used any more, or nil

	epoch uint64 // counts released objects, so that bind groups and passes are looked through only then
}

// CheckedBuffer is what the checks know of a buffer.
type CheckedBuffer struct {
	owner    *Checks
	label    string
	size     uint64 // bytes
	usage    Usage
	released bool
}

// Label is the buffer's name.
func (b *CheckedBuffer) Label() string { return b.label }

// Size is the buffer's size in bytes.
func (b *CheckedBuffer) Size() uint64 { return b.size }

// Released tells whether the buffer has been released.
func (b *CheckedBuffer) Released() bool { return b.released }

// MarkReleased tells whether this is the first release.
func (b *CheckedBuffer) MarkReleased() bool {
	first := !b.released
	if first {
		b.released = true
		b.owner.epoch++
	}
	return first
}

func (b *CheckedBuffer) checkedBuffer() *CheckedBuffer { return b }

// CheckedKernel is what the checks know of a kernel.
type CheckedKernel struct {
	owner    *Checks
	label    string
	kinds    []BindingKind
	released bool
}

// Label is the kernel's name.
func (k *CheckedKernel) Label() string { return k.label }

// Kinds are the kernel's bindings.
func (k *CheckedKernel) Kinds() []BindingKind { return k.kinds }

// MarkReleased tells whether this is the first release.
func (k *CheckedKernel) MarkReleased() bool {
	first := !k.released
	if first {
		k.released = true
		k.owner.epoch++
	}
	return first
}

func (k *CheckedKernel) checkedKernel() *CheckedKernel { return k }

// CheckedGroup is what the checks know of a bind group.
type CheckedGroup struct {
	owner    *Checks
	label    string // of the kernel it was made for
	kinds    []BindingKind
	buffers  []*CheckedBuffer
	epoch    uint64 // the owner's when the buffers were last seen alive
	released bool
}

// MarkReleased tells whether this is the first release.
func (g *CheckedGroup) MarkReleased() bool {
	first := !g.released
	if first {
		g.released = true
		g.owner.epoch++
	}
	return first
}

func (g *CheckedGroup) checkedGroup() *CheckedGroup { return g }

const allUsages = UsageStorage | UsageUniform | UsageCopySrc | UsageCopyDst

func (u Usage) String() string {
	var names []string
	for i, name := range []string{"UsageStorage", "UsageUniform", "UsageCopySrc", "UsageCopyDst"} {
		if u&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// NewBuffer checks the arguments of Device.NewBuffer.
func (c *Checks) NewBuffer(label string, size uint64, usage Usage) (CheckedBuffer, error) {
	var err error
	switch {
	case size == 0:
		err = fmt.Errorf("buffer %q has size 0", label)
	case size%4 != 0:
		err = fmt.Errorf("buffer %q: %d bytes is not a multiple of 4", label, size)
	case usage == 0 || usage&^allUsages != 0:
		err = fmt.Errorf("buffer %q: usage %#x is no combination of the gpu.Usage flags", label, uint32(usage))
	case size > c.Limits.MaxBufferBytes:
		err = fmt.Errorf("buffer %q: %d bytes is more than the %d that %s allows a buffer: %w", label, size, c.Limits.MaxBufferBytes, c.Adapter, ErrOutOfMemory)
	default:
		if err = c.Usable(); err != nil {
			err = fmt.Errorf("buffer %q: %w", label, err)
		}
	}
	return CheckedBuffer{owner: c, label: label, size: size, usage: usage}, err
}

func (c *Checks) buffer(what string, buf Buffer) (*CheckedBuffer, error) {
	if err := c.Usable(); err != nil {
		return nil, fmt.Errorf("%s buffer: %w", what, err)
	}
	own, ok := buf.(interface{ checkedBuffer() *CheckedBuffer })
	if !ok {
		return nil, fmt.Errorf("%s buffer: %T is no buffer of this package", what, buf)
	}
	b := own.checkedBuffer()
	switch {
	case b.owner != c:
		return nil, fmt.Errorf("%s buffer %q: it belongs to another device", what, b.label)
	case b.released:
		return nil, fmt.Errorf("%s buffer %q: it has been released", what, b.label)
	}
	return b, nil
}

// Range checks a range of a buffer and that it has one of the usages needed.
func (c *Checks) Range(what string, buf Buffer, offset, size uint64, need Usage) (*CheckedBuffer, error) {
	b, err := c.buffer(what, buf)
	if err != nil {
		return nil, err
	}
	switch {
	case b.usage&need == 0:
		err = fmt.Errorf("%s buffer %q: it has usage %s and needs %s", what, b.label, b.usage, need)
	case offset%4 != 0 || size%4 != 0:
		err = fmt.Errorf("%s buffer %q: offset %d and size %d must be multiples of 4", what, b.label, offset, size)
	case offset > b.size || size > b.size-offset:
		err = fmt.Errorf("%s buffer %q: %d bytes at offset %d go beyond its %d bytes", what, b.label, size, offset, b.size)
	}
	return b, err
}

// NewKernel checks the arguments of Device.NewKernel.
func (c *Checks) NewKernel(desc KernelDesc) (CheckedKernel, error) {
	for i, k := range desc.Bindings {
		switch k {
		case BindUniform, BindStorageRead, BindStorage:
		default:
			return CheckedKernel{}, fmt.Errorf("kernel %q: binding %d has unknown kind %d", desc.Label, i, k)
		}
	}
	var err error
	switch numStorage := desc.NumStorage(); {
	case desc.WGSL == "":
		err = fmt.Errorf("kernel %q has no WGSL source", desc.Label)
	case desc.Entry == "":
		err = fmt.Errorf("kernel %q has no entry point", desc.Label)
	case strings.IndexByte(desc.WGSL+desc.Entry, 0) >= 0:
		err = fmt.Errorf("kernel %q: its text contains a NUL", desc.Label)
	case numStorage > int(c.Limits.MaxStorageBuffersPerStage):
		err = fmt.Errorf("kernel %q has %d storage bindings, more than the %d that %s allows", desc.Label, numStorage, c.Limits.MaxStorageBuffersPerStage, c.Adapter)
	default:
		if err = c.Usable(); err != nil {
			err = fmt.Errorf("kernel %q: %w", desc.Label, err)
		} else if n, ok := ReadWGSL(desc.WGSL).WorkgroupBytes(); ok && n > uint64(c.Limits.MaxWorkgroupStorageBytes) {
			err = fmt.Errorf("kernel %q declares %d bytes of workgroup memory, more than the %d that %s has", desc.Label, n, c.Limits.MaxWorkgroupStorageBytes, c.Adapter)
		}
	}
	return CheckedKernel{owner: c, label: desc.Label, kinds: slices.Clone(desc.Bindings)}, err
}

func (c *Checks) kernel(kern Kernel) (*CheckedKernel, error) {
	own, ok := kern.(interface{ checkedKernel() *CheckedKernel })
	if !ok {
		return nil, fmt.Errorf("%T is no kernel of this package", kern)
	}
	k := own.checkedKernel()
	switch {
	case k.owner != c:
		return nil, fmt.Errorf("kernel %q belongs to another device", k.label)
	case k.released:
		return nil, fmt.Errorf("kernel %q has been released", k.label)
	}
	return k, nil
}

// Bind checks the arguments of Device.Bind and returns the bindings' sizes with 0 resolved.
func (c *Checks) Bind(kern Kernel, bindings []Binding) (CheckedGroup, []uint64, error) {
	err := c.Usable()
	var k *CheckedKernel
	if err == nil {
		k, err = c.kernel(kern)
	}
	if err != nil {
		return CheckedGroup{}, nil, fmt.Errorf("bind: %w", err)
	}
	g := CheckedGroup{owner: c, label: k.label, kinds: k.kinds, epoch: c.epoch, buffers: make([]*CheckedBuffer, len(k.kinds))}
	if len(bindings) != len(k.kinds) {
		return g, nil, fmt.Errorf("bind group of kernel %q: %d bindings given, the kernel has %d", k.label, len(bindings), len(k.kinds))
	}
	sizes := make([]uint64, len(bindings))
	for i, kind := range k.kinds {
		if g.buffers[i], sizes[i], err = c.binding(kind, bindings[i]); err != nil {
			return g, nil, fmt.Errorf("bind group of kernel %q, binding %d (%s): %w", k.label, i, kind, err)
		}
	}
	if err := g.conflicts(bindings, sizes); err != nil {
		return g, nil, fmt.Errorf("bind group of kernel %q: %w", k.label, err)
	}
	return g, sizes, nil
}

func (c *Checks) binding(kind BindingKind, b Binding) (*CheckedBuffer, uint64, error) {
	need, align, limit := UsageStorage, c.Limits.MinStorageOffsetAlignment, c.Limits.MaxStorageBindingBytes
	if kind == BindUniform {
		need, align, limit = UsageUniform, c.Limits.MinUniformOffsetAlignment, c.Limits.MaxUniformBindingBytes
	}
	buf, err := c.Range("bind", b.Buffer, b.Offset, b.Size, need)
	if err != nil {
		return nil, 0, err
	}
	size := b.Size
	if size == 0 {
		size = buf.size - b.Offset
	}
	switch {
	case size == 0:
		err = fmt.Errorf("buffer %q: no bytes from offset %d on", buf.label, b.Offset)
	case b.Offset%uint64(align) != 0:
		err = fmt.Errorf("buffer %q: offset %d is not a multiple of %d", buf.label, b.Offset, align)
	case size > limit:
		err = fmt.Errorf("buffer %q: %d bytes is more than the %d that %s allows one binding; bind a part of it", buf.label, size, limit, c.Adapter)
	}
	return buf, size, err
}

// conflicts finds a buffer that one dispatch would both write and read, or write twice at the same place.
func (g *CheckedGroup) conflicts(bindings []Binding, sizes []uint64) error {
	for i := range g.buffers {
		for j := i + 1; j < len(g.buffers); j++ {
			if g.buffers[i] != g.buffers[j] || g.kinds[i] != BindStorage && g.kinds[j] != BindStorage {
				continue
			}
			label := g.buffers[i].label
			if g.kinds[i] != g.kinds[j] {
				return fmt.Errorf("buffer %q is bound as %q (binding %d) and as %q (binding %d); a buffer that a dispatch writes may not be read through another binding",
					label, g.kinds[i], i, g.kinds[j], j)
			}
			if from, to := max(bindings[i].Offset, bindings[j].Offset), min(bindings[i].Offset+sizes[i], bindings[j].Offset+sizes[j]); from < to {
				return fmt.Errorf("bindings %d and %d both write bytes %d to %d of buffer %q", i, j, from, to, label)
			}
		}
	}
	return nil
}

// keptPass is a checked pass in a device's own terms.
type keptPass struct {
	owner    *Checks
	epoch    uint64 // the owner's when the steps were checked
	first    *Step
	numSteps int
	code     any
}

// Keep notes that all steps of the pass were checked, and what the device made of them.
func (c *Checks) Keep(p *Pass, code any) {
	p.kept = keptPass{owner: c, epoch: c.epoch, first: unsafe.SliceData(p.Steps), numSteps: len(p.Steps), code: code}
}

// Kept returns what Keep was given, or nil: the pass is new or another one now, or something has been released since.
func (c *Checks) Kept(p *Pass) any {
	if k := &p.kept; k.owner == c && k.epoch == c.epoch && k.first == unsafe.SliceData(p.Steps) && k.numSteps == len(p.Steps) {
		return k.code
	}
	return nil
}

// Step checks one step of a pass. The caller has asked whether the device is usable.
func (c *Checks) Step(s *Step) error {
	switch {
	case s.Kernel != nil && (s.Src != nil || s.Dst != nil):
		return fmt.Errorf("it is both a dispatch of kernel %q and a copy", s.Kernel.Label())
	case s.Kernel != nil:
		return c.dispatch(s)
	case s.Src != nil || s.Dst != nil:
		return c.copy(s)
	}
	return errors.New("it is neither a dispatch nor a copy")
}

func (c *Checks) dispatch(s *Step) error {
	k, err := c.kernel(s.Kernel)
	if err != nil {
		return err
	}
	own, ok := s.Group.(interface{ checkedGroup() *CheckedGroup })
	if !ok {
		return fmt.Errorf("kernel %q: %T is no bind group of this package", k.label, s.Group)
	}
	g := own.checkedGroup()
	switch {
	case g.owner != c:
		return fmt.Errorf("kernel %q: its bind group belongs to another device", k.label)
	case g.released:
		return fmt.Errorf("kernel %q: its bind group (made for kernel %q) has been released", k.label, g.label)
	case !slices.Equal(g.kinds, k.kinds):
		return fmt.Errorf("kernel %q has bindings %v; the bind group was made for kernel %q with %v", k.label, k.kinds, g.label, g.kinds)
	}
	if g.epoch != c.epoch {
		for i, b := range g.buffers {
			if b.released {
				return fmt.Errorf("kernel %q: binding %d, buffer %q, has been released", k.label, i, b.label)
			}
		}
		g.epoch = c.epoch
	}
	if limit := c.Limits.MaxWorkgroupsPerDimension; max(s.Grid[0], s.Grid[1], s.Grid[2]) > limit {
		return fmt.Errorf("kernel %q: a grid of %d x %d x %d workgroups; %s allows %d in each dimension", k.label, s.Grid[0], s.Grid[1], s.Grid[2], c.Adapter, limit)
	}
	return nil
}

func (c *Checks) copy(s *Step) error {
	src, err := c.Range("copy from", s.Src, s.SrcOffset, s.SizeBytes, UsageCopySrc)
	if err != nil {
		if s.Dst != nil {
			return fmt.Errorf("%w (copying to %q)", err, s.Dst.Label())
		}
		return err
	}
	dst, err := c.Range("copy to", s.Dst, s.DstOffset, s.SizeBytes, UsageCopyDst)
	if err != nil {
		return fmt.Errorf("%w (copying from %q)", err, src.label)
	}
	if src == dst && s.SrcOffset < s.DstOffset+s.SizeBytes && s.DstOffset < s.SrcOffset+s.SizeBytes {
		return fmt.Errorf("copy of %d bytes within buffer %q from offset %d to %d: the ranges overlap", s.SizeBytes, src.label, s.SrcOffset, s.DstOffset)
	}
	return nil
}
