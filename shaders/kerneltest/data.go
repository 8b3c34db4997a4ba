package kerneltest

// Random inputs, and their packing into the number formats that kernels read.

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
)

// Weights and KVs are the number formats that shaders.Options takes.
var (
	Weights = []string{"bf16", "q8", "q4"}
	KVs     = []string{"f16", "f32"}
)

// NewRand returns a generator that depends on the seed alone.
func NewRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)) }

// RoundUp returns the smallest multiple that is not below n.
func RoundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }

// CeilDiv is the number of tiles of size n that cover total.
func CeilDiv(total, n int) uint32 { return uint32((total + n - 1) / n) }

// Normal returns n numbers of a normal distribution with the given spread.
func Normal(rng *rand.Rand, n int, spread float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64() * spread)
	}
	return out
}

// Rows returns [rows, stride] numbers of which the first cols of a row are random and the rest zero.
func Rows(rng *rand.Rand, rows, cols, stride int, spread float64) []float32 {
	out := make([]float32, rows*stride)
	for r := range rows {
		copy(out[r*stride:], Normal(rng, cols, spread))
	}
	return out
}

// F32Bytes encodes float32 numbers.
func F32Bytes(values []float32) []byte {
	raw := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(v))
	}
	return raw
}

// U32Bytes encodes u32 numbers.
func U32Bytes(values ...uint32) []byte {
	raw := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(raw[4*i:], v)
	}
	return raw
}

// Poison returns 4*n bytes that read as NaN in float32 and in float16.
func Poison(n int) []byte {
	raw := make([]byte, 4*n)
	for i := range n {
		binary.LittleEndian.PutUint32(raw[4*i:], 0x7fc07e5a)
	}
	return raw
}

// Untouched returns n NaNs, the Want of a buffer that must keep its bits; set those that are written.
func Untouched(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = math.NaN()
	}
	return out
}

// Float64s widens.
func Float64s(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	return out
}

// PassState is the buffer pass_state of a pass of numTokens tokens from position start on.
func PassState(numTokens, start, numSplits, logitsRow int) []byte {
	return U32Bytes(uint32(numTokens), uint32(start), uint32(start+numTokens), uint32(numSplits), uint32(logitsRow), 0, 0, 0)
}

// MatrixPart is the uniform of the same name.
func MatrixPart(rowStart, numRows int) []byte {
	return U32Bytes(uint32(rowStart), uint32(numRows), 0, 0)
}

// Matrix is a random weight matrix in a packed format.
type Matrix struct {
	Data   []byte    // plane of weights [rows, kPad]
	Scales []byte    // plane of scales [rows, kPad/32] f16, padded to 4 bytes; 4 bytes for bf16, which has none
	Values []float32 // [rows, kPad] what the planes stand for, exactly

	quantized bool
}

// bind adds the scales to the bindings of a kernel, where the format has some.
func (m Matrix) bind(bindings []Binding) []Binding {
	if !m.quantized {
		return bindings
	}
	return append(bindings, Binding{Buffer: "scales"})
}

// RandomMatrix makes [rows, k] weights of about the given spread, zero from k to kPad (a multiple of 32).
func RandomMatrix(rng *rand.Rand, weight string, rows, k, kPad int, spread float64) Matrix {
	m := Matrix{Values: make([]float32, rows*kPad), Scales: make([]byte, RoundUp(rows*kPad/32*2, 4)), quantized: weight != "bf16"}
	switch weight {
	case "bf16":
		m.Data, m.Scales = make([]byte, 2*rows*kPad), make([]byte, 4)
	case "q8":
		m.Data = make([]byte, rows*kPad)
	case "q4":
		m.Data = make([]byte, rows*kPad/2)
	default:
		panic(fmt.Sprintf("kerneltest: weight format %q is unknown", weight))
	}
	for r := range rows {
		scale := float32(0)
		for c := range kPad {
			i := r*kPad + c
			if c%32 == 0 && weight != "bf16" {
				steps := map[string]float64{"q8": 64, "q4": 4}[weight]
				bits := half.F32ToF16(float32(spread * (0.5 + rng.Float64()) / steps))
				scale = half.F16ToF32(bits)
				binary.LittleEndian.PutUint16(m.Scales[i/32*2:], bits)
			}
			m.set(weight, i, rng, scale, spread, c < k)
		}
	}
	return m
}

func (m *Matrix) set(weight string, i int, rng *rand.Rand, scale float32, spread float64, inside bool) {
	switch weight {
	case "bf16":
		bits := uint16(0)
		if inside {
			bits = half.F32ToBF16(float32(rng.NormFloat64() * spread))
		}
		binary.LittleEndian.PutUint16(m.Data[2*i:], bits)
		m.Values[i] = half.BF16ToF32(bits)
	case "q8":
		n := 0
		if inside {
			n = rng.IntN(255) - 127
		}
		m.Data[i] = byte(int8(n))
		m.Values[i] = float32(n) * scale
	case "q4":
		n := 8
		if inside {
			n = rng.IntN(16)
		}
		m.Data[i/2] |= byte(n << (4 * (i % 2)))
		m.Values[i] = float32(n-8) * scale
	}
}

// KVShape is the layout of a cache of keys or values: [pages, NumKVHeads, PageSize, HeadPad].
type KVShape struct {
	KV         string // "f16" or "f32"
	IsKeys     bool
	NumPages   int
	NumKVHeads int
	PageSize   int
	HeadDim    int
}

// HeadPad is the stride of a head.
func (s KVShape) HeadPad() int { return RoundUp(s.HeadDim, 8) }

// Len counts the numbers of the cache.
func (s KVShape) Len() int { return s.NumPages * s.NumKVHeads * s.PageSize * s.HeadPad() }

// Index finds number d of a head at a position.
func (s KVShape) Index(pageTable []uint32, pos, head, d int) int {
	page := int(pageTable[pos/s.PageSize])
	return ((page*s.NumKVHeads+head)*s.PageSize+pos%s.PageSize)*s.HeadPad() + d
}

// Format is how a Check reads the cache.
func (s KVShape) Format() Format {
	if s.KV == "f16" && s.IsKeys {
		return Key
	}
	return Format(s.KV)
}

// Keys is the shape as a cache of keys.
func (s KVShape) Keys() KVShape {
	s.IsKeys = true
	return s
}

// Poison fills a cache with NaNs, or, where the format has none, with large numbers.
func (s KVShape) Poison() []byte {
	if s.KV == "f16" {
		return Poison(s.Len() / 2)
	}
	return Poison(s.Len())
}

// Set writes number i of a cache and returns it as the cache holds it.
func (s KVShape) Set(cache []byte, i int, v float32) float32 {
	switch s.Format() {
	case F16:
		binary.LittleEndian.PutUint16(cache[2*i:], half.F32ToF16(v))
	case Key:
		root := math.Sqrt(min(math.Abs(float64(v)), 1))
		binary.LittleEndian.PutUint16(cache[2*i:], uint16(int16(math.Round(math.Copysign(root, float64(v))*32767))))
	default:
		binary.LittleEndian.PutUint32(cache[4*i:], math.Float32bits(v))
	}
	return float32(s.Format().decode(cache[s.Format().width()*i:]))
}

// Get reads number i of a cache.
func (s KVShape) Get(cache []byte, i int) float64 {
	width := s.Format().width()
	return s.Format().decode(cache[i*width : (i+1)*width])
}

// Head reads [numPos, HeadDim] numbers of a head.
func (s KVShape) Head(cache []byte, pageTable []uint32, head, numPos int) [][]float64 {
	out := make([][]float64, numPos)
	for pos := range out {
		out[pos] = make([]float64, s.HeadDim)
		for d := range out[pos] {
			out[pos][d] = s.Get(cache, s.Index(pageTable, pos, head, d))
		}
	}
	return out
}

// Random returns a cache whose positions [0, numTokens) hold random numbers, zero from HeadDim to HeadPad; all else is poison.
func (s KVShape) Random(rng *rand.Rand, pageTable []uint32, numTokens int, spread float64) []byte {
	cache := s.Poison()
	for pos := range numTokens {
		for head := range s.NumKVHeads {
			for d := range s.HeadPad() {
				v := float32(0)
				if d < s.HeadDim {
					v = float32(rng.NormFloat64() * spread)
				}
				s.Set(cache, s.Index(pageTable, pos, head, d), v)
			}
		}
	}
	return cache
}

// BoundKeys makes the gains of a key norm [2, HeadDim], q_norm's first, such that keys fit a 16-bit cache; scores keep their
// size.
func (s KVShape) BoundKeys(norms []float32) {
	d := s.HeadDim
	if s.KV != "f16" {
		return
	}
	for i := range d / 2 {
		a, b := norms[d+i], norms[d+d/2+i]
		bound := float32(max(math.Abs(float64(a)), math.Abs(float64(b))) * math.Sqrt(float64(d)))
		for _, j := range []int{i, d/2 + i} {
			norms[j] *= bound
			norms[d+j] /= bound
		}
	}
}

// RandomPageTable gives numPages different pages of an arena in random order.
func RandomPageTable(rng *rand.Rand, numPages, arenaPages int) []uint32 {
	out := make([]uint32, numPages)
	for i, p := range rng.Perm(arenaPages)[:numPages] {
		out[i] = uint32(p)
	}
	return out
}

// RopeTable returns [positions, headDim/2, 2] cos and sin, of angles pos * 10000^(-2i/headDim).
func RopeTable(positions, headDim int) []float32 {
	out := make([]float32, 0, positions*headDim)
	for pos := range positions {
		for i := range headDim / 2 {
			angle := float64(pos) * math.Pow(10000, -2*float64(i)/float64(headDim))
			out = append(out, float32(math.Cos(angle)), float32(math.Sin(angle)))
		}
	}
	return out
}
