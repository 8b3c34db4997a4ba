// The KV cache arena: keys and values of every slot, in 16 bits (runner.KVF16) or float32.
//
// It owns the numbers only. Which slot belongs to which token is the InferenceContext's to say: new tokens are written at
// Slot, and attention reads whole pages that the page table names.

package ref

import (
	"fmt"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// cache is the arena.
type cache struct {
	numSlots, pageSize int
	keys, values       []plane // [layers]
}

// plane is one layer's keys or values; one of the two slices is used.
type plane struct {
	headDim, width int       // width: kvHeads*headDim
	f32            []float32 // [numSlots, kvHeads, headDim]
	bits           []uint16  // [numSlots, kvHeads, headDim] values as float16, keys as keyBits
	isKeys         bool
}

// cacheBytes is what newCache allocates; a float64, as any context may be asked for.
func cacheBytes(c *config.Config, opt Options) float64 {
	return float64(opt.NumPages) * float64(opt.PageSize) * float64(c.KVDim()) * float64(2*c.NumHiddenLayers*opt.KVDType.Bytes())
}

func newCache(c *config.Config, opt Options) cache {
	out := cache{numSlots: opt.NumPages * opt.PageSize, pageSize: opt.PageSize}
	for range c.NumHiddenLayers {
		out.keys = append(out.keys, newPlane(c, out.numSlots, opt.KVDType, true))
		out.values = append(out.values, newPlane(c, out.numSlots, opt.KVDType, false))
	}
	return out
}

func newPlane(c *config.Config, numSlots int, dtype runner.KVDType, isKeys bool) plane {
	p := plane{headDim: c.HeadDim, width: c.KVDim(), isKeys: isKeys}
	if dtype == runner.KVF32 {
		p.f32 = make([]float32, numSlots*p.width)
	} else {
		p.bits = make([]uint16, numSlots*p.width)
	}
	return p
}

// write stores the keys and values of the context's tokens, rows of qkv, in layer i.
func (c *cache) write(i int, ic *kvcache.InferenceContext, qkv []float32, cfg *config.Config) error {
	qDim, kvDim := cfg.QDim(), cfg.KVDim()
	for t := range ic.NumTokens() {
		row := qkv[t*(qDim+2*kvDim):][:qDim+2*kvDim]
		slot := int(ic.Slot(t))
		if bad := c.keys[i].write(slot, row[qDim:qDim+kvDim]); bad >= 0 {
			return overflow(i, "k", ic.Start()+t, bad, row[qDim+bad])
		}
		if bad := c.values[i].write(slot, row[qDim+kvDim:]); bad >= 0 {
			return overflow(i, "v", ic.Start()+t, bad, row[qDim+kvDim+bad])
		}
	}
	return nil
}

// overflow explains a number that float16 cannot hold.
func overflow(layer int, tensor string, position, index int, v float32) error {
	if v-v != 0 {
		return &nonFiniteError{tensor: fmt.Sprintf("layers.%d.%s", layer, tensor), position: position, index: index, value: v}
	}
	return fmt.Errorf("ref: layers.%d.%s at position %d, index %d is %g, but float16 ends at 65504: use the f32 KV cache", layer, tensor, position, index, v)
}

// write stores src, [width], in a slot, rounded. It returns the index of the first number that 16 bits cannot hold, else -1.
func (p *plane) write(slot int, src []float32) int {
	if p.f32 != nil {
		copy(p.f32[slot*p.width:][:p.width], src)
		return -1
	}
	dst := p.bits[slot*p.width:][:p.width]
	if p.isKeys {
		for i, v := range src {
			if v-v != 0 {
				return i
			}
			dst[i] = keyBits(v)
		}
		return -1
	}
	for i, v := range src {
		h := half.F32ToF16(v)
		if h&0x7c00 == 0x7c00 {
			return i
		}
		dst[i] = h
	}
	return -1
}

// read widens one head of n consecutive slots to dst, [n, headDim].
func (p *plane) read(dst []float32, slot, n, head int) {
	for i := range n {
		at := (slot+i)*p.width + head*p.headDim
		out := dst[i*p.headDim : (i+1)*p.headDim]
		if p.f32 != nil {
			copy(out, p.f32[at:])
			continue
		}
		src := p.bits[at:][:p.headDim]
		if p.isKeys {
			for j, b := range src {
				out[j] = keyOf(b)
			}
			continue
		}
		for j, h := range src {
			out[j] = widenFinite(h)
		}
	}
}

// keyBits stores a key in [-1, 1] as its square root with its sign, in steps of 1/32767.
func keyBits(v float32) uint16 {
	root := math.Sqrt(min(math.Abs(float64(v)), 1))
	return uint16(int16(math.Round(math.Copysign(root, float64(v)) * 32767)))
}

// keyOf is the key that bits stand for.
func keyOf(bits uint16) float32 {
	root := float32(int16(bits)) * (1.0 / 32767)
	if root < 0 {
		return -root * root
	}
	return root * root
}

// widenFinite is half.F16ToF32 for what is not infinite or NaN, without branches: shifted into place, the exponent is 112
// too small, also that of subnormals.
func widenFinite(h uint16) float32 {
	f := math.Float32frombits(uint32(h&0x7fff)<<13) * 0x1p112
	return math.Float32frombits(math.Float32bits(f) | uint32(h&0x8000)<<16)
}

// copyPage does a copy-on-write in every layer.
func (c *cache) copyPage(p kvcache.PageCopy) error {
	numPages := c.numSlots / c.pageSize
	if int64(p.Src) >= int64(numPages) || int64(p.Dst) >= int64(numPages) || p.NumTokens < 0 || p.NumTokens > c.pageSize {
		return fmt.Errorf("ref: copy of %d tokens from page %d to page %d: the arena has %d pages of %d", p.NumTokens, p.Src, p.Dst, numPages, c.pageSize)
	}
	for i := range c.keys {
		c.keys[i].copySlots(int(p.Src)*c.pageSize, int(p.Dst)*c.pageSize, p.NumTokens)
		c.values[i].copySlots(int(p.Src)*c.pageSize, int(p.Dst)*c.pageSize, p.NumTokens)
	}
	return nil
}

func (p *plane) copySlots(src, dst, n int) {
	if p.f32 != nil {
		copy(p.f32[dst*p.width:][:n*p.width], p.f32[src*p.width:])
		return
	}
	copy(p.bits[dst*p.width:][:n*p.width], p.bits[src*p.width:])
}
