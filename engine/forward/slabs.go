package forward

import (
	"fmt"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// slabBytes is the most that several pieces of memory share. Every pass costs the processor time for each buffer in it, and a dispatch of
// layer_products takes as many layers as share one, so a model's weights lie in few; larger ones gain nothing more, and are harder to find a
// place for.
const slabBytes = 1 << 30

// slabPlan is how pieces of memory lie in slabs: buffers of at most slabBytes, or of one piece that is larger.
type slabPlan struct {
	limit uint64   // bytes of a buffer
	sizes []uint64 // bytes of the slabs
	full  bool     // the next piece begins a slab
}

func newSlabPlan(limits gpu.Limits) slabPlan {
	return slabPlan{limit: min(slabBytes, limits.MaxBufferBytes, limits.MaxStorageBindingBytes)}
}

// together has the next pieces lie in one slab, if all of them fit into one: one kernel reads them.
func (p *slabPlan) together(pieces []uint64) {
	if len(p.sizes) == 0 {
		return
	}
	end := p.sizes[len(p.sizes)-1]
	for _, bytes := range pieces {
		end = uint64(roundUp(int(end), bindAlignment)) + bytes
	}
	if end > p.limit {
		p.full = true
	}
}

// add puts a piece of so many bytes behind those in front of it, on a binding boundary, and says where it lies.
func (p *slabPlan) add(bytes uint64) (slab int, offset uint64) {
	if last := len(p.sizes) - 1; last >= 0 && !p.full {
		at := uint64(roundUp(int(p.sizes[last]), bindAlignment))
		if at+bytes <= p.limit {
			p.sizes[last] = at + bytes
			return last, at
		}
	}
	p.full = false
	p.sizes = append(p.sizes, bytes)
	return len(p.sizes) - 1, 0
}

// slabs hands out the pieces of a plan, in its order. A slab is allocated with its first piece.
type slabs struct {
	label   string
	usage   gpu.Usage
	plan    []uint64 // sizes
	taken   slabPlan // so far
	buffers []gpu.Buffer
}

func newSlabs(label string, usage gpu.Usage, plan slabPlan) *slabs {
	return &slabs{label: label, usage: usage, plan: plan.sizes}
}

// take gives the next piece, which has as many bytes as in the plan.
func (l *loader) take(s *slabs, bytes uint64) (gpu.Binding, error) {
	if last := len(s.taken.sizes) - 1; last >= 0 {
		s.taken.limit = s.plan[last]
	}
	slab, offset := s.taken.add(bytes)
	if slab >= len(s.plan) || offset+bytes > s.plan[slab] {
		return gpu.Binding{}, fmt.Errorf("forward: %s: %d bytes at %d of slab %d are not planned", s.label, bytes, offset, slab)
	}
	if slab == len(s.buffers) {
		b, err := l.buffer(fmt.Sprintf("%s %d", s.label, slab), s.plan[slab], s.usage)
		if err != nil {
			return gpu.Binding{}, err
		}
		s.buffers = append(s.buffers, b)
	}
	return gpu.Binding{Buffer: s.buffers[slab], Offset: offset, Size: bytes}, nil
}
