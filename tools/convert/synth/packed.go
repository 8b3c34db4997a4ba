package synth

// A random model as a packed directory that nobody writes: the bytes are made up as they are read, as fast as memory is
// copied. For benchmarks, where a checkpoint of the same shape would have to be drawn, written and converted first.

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
)

const (
	// blockBytes of random numbers serve for all planes of a kind. No row's length divides it, so that rows differ though
	// each plane goes round the block; a multiple of 16, so that no number is torn apart.
	blockBytes = 4<<20 + 16*37
	pieceBytes = 64 << 20 // of a matrix at most, as the converter's shards
)

// Packed is a packed model of the config's shape, in dtype throughout, with weights of the sizes that Write draws.
func Packed(c *config.Config, dtype weights.DType, seed uint64) (weights.Source, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("convert: synth: %w", err)
	}
	p := packed{shards: map[string]packedBlob{}, blocks: map[string]block{}}
	g := generator{Options: Options{Config: c, Seed: seed, DType: safetensors.F32}}
	tensors := map[string]tensor{}
	for _, t := range g.tensors() {
		tensors[strings.TrimSuffix(strings.TrimPrefix(t.Name, "model."), ".weight")] = t
	}
	first := strings.NewReplacer("qkv_proj", "self_attn.q_proj", "o_proj", "self_attn.o_proj", "gate_up_proj", "mlp.gate_proj", "down_proj", "mlp.down_proj")
	m := weights.Manifest{Format: weights.Format, Version: weights.Version, DType: dtype, GroupSize: weights.GroupSize, Parameters: c.ParameterCount()}
	for _, spec := range weights.MatrixSpecs(c, !c.TieWordEmbeddings) {
		m.Matrices = append(m.Matrices, p.matrix(&m, spec, dtype, tensors[first.Replace(spec.Name)]))
	}
	norms := strings.NewReplacer("q_norm", "self_attn.q_norm", "k_norm", "self_attn.k_norm")
	for _, spec := range weights.VectorSpecs(c) {
		gains := make([]byte, 4*spec.Length)
		t := tensors[norms.Replace(spec.Name)]
		span{t: &t, n: int64(spec.Length)}.drawGains(gains)
		data, _ := p.shard(&m, spec.Name, packedBlob{data: plane{block: gains, size: int64(len(gains))}})
		m.Vectors = append(m.Vectors, weights.VectorInfo{Name: spec.Name, Length: spec.Length, Data: data})
	}
	var err error
	if p.config, err = json.Marshal(c); err != nil {
		return nil, fmt.Errorf("convert: synth: %w", err)
	}
	m.Files = []weights.FileInfo{{Name: weights.ConfigName, SizeBytes: int64(len(p.config)), SHA256: noHash}}
	if p.manifest, err = m.Marshal(); err != nil {
		return nil, err
	}
	return &p, nil
}

// noHash stands where a written model has a hash; nothing was written that could have changed.
var noHash = strings.Repeat("0", 64)

type packed struct {
	manifest, config []byte
	shards           map[string]packedBlob
	blocks           map[string]block
}

// plane is size bytes of a block that is gone round, from start on.
type plane struct {
	block       []byte
	start, size int64
}

// block is random numbers for weights of one standard deviation, and their scales where the format has some.
type block struct{ data, scales []byte }

// shard lists b as a shard and says where its planes lie.
func (p *packed) shard(m *weights.Manifest, name string, b packedBlob) (data, scales weights.Plane) {
	p.shards[name] = b
	m.Shards = append(m.Shards, weights.FileInfo{Name: name, SizeBytes: b.Size(), SHA256: noHash})
	data = weights.Plane{Shard: name, Size: b.data.size}
	if b.scales.size > 0 {
		scales = weights.Plane{Shard: name, Offset: b.scalesBegin(), Size: b.scales.size}
	}
	return data, scales
}

// matrix lays out a matrix whose weights have t's standard deviation.
func (p *packed) matrix(m *weights.Manifest, spec weights.MatrixSpec, dtype weights.DType, t tensor) weights.Matrix {
	mat := weights.Matrix{Name: spec.Name, Rows: spec.Rows, Cols: spec.Cols, Stride: weights.Stride(spec.Cols), DType: dtype}
	rows := max(pieceBytes/int(dtype.DataRowBytes(mat.Stride))/weights.PieceRows, 1) * weights.PieceRows
	b := p.block(dtype, t.std)
	for start := 0; start < spec.Rows; start += rows {
		piece := weights.Piece{RowStart: start, Rows: min(rows, spec.Rows-start)}
		dataBytes, scaleBytes := dtype.PlaneBytes(piece.Rows, mat.Stride)
		at := int64(random(t.key, uint64(start)) % (blockBytes / 16) * 16)
		piece.Data, piece.Scales = p.shard(m, fmt.Sprintf("%s.%d", spec.Name, start), packedBlob{plane{b.data, at, dataBytes}, plane{b.scales, at, scaleBytes}})
		mat.Pieces = append(mat.Pieces, piece)
	}
	return mat
}

// block draws the random numbers of weights with a standard deviation, once for each.
func (p *packed) block(dtype weights.DType, std float32) block {
	key := fmt.Sprint(dtype, std)
	if b, ok := p.blocks[key]; ok {
		return b
	}
	b := block{data: make([]byte, blockBytes)}
	// normal is the i-th number of the block.
	normal := func(i int) float64 { return float64(normals()[random(1, uint64(i))&0xffff]) }
	step := 0.0 // between two quantized weights, beside their standard deviation
	switch dtype {
	case weights.BF16:
		for i := range blockBytes / 2 {
			binary.LittleEndian.PutUint16(b.data[2*i:], half.F32ToBF16(std*float32(normal(i))))
		}
	case weights.Q8:
		step = 1.0 / 32
		for i := range b.data {
			b.data[i] = byte(int8(math.Round(min(max(normal(i)/step, -127), 127))))
		}
	case weights.Q4:
		step = 1.0 / 2.5
		nibble := func(i int) byte { return byte(8 + math.Round(min(max(normal(i)/step, -7), 7))) }
		for i := range b.data {
			b.data[i] = nibble(2*i) | nibble(2*i+1)<<4
		}
	}
	if step > 0 {
		b.scales = make([]byte, blockBytes)
		for i := range blockBytes / 2 {
			spread := 0.75 + 0.5*float64(random(2, uint64(i))&0xffff)/0xffff
			binary.LittleEndian.PutUint16(b.scales[2*i:], half.F32ToF16(float32(float64(std)*step*spread)))
		}
	}
	p.blocks[key] = b
	return b
}

// ReadFile implements weights.Source.
func (p *packed) ReadFile(name string) ([]byte, error) {
	switch name {
	case weights.ManifestName:
		return p.manifest, nil
	case weights.ConfigName:
		return p.config, nil
	}
	return nil, fmt.Errorf("convert: synth: %s: %w", name, fs.ErrNotExist)
}

// Open implements weights.Source.
func (p *packed) Open(name string) (weights.Blob, error) {
	b, ok := p.shards[name]
	if !ok {
		return nil, fmt.Errorf("convert: synth: shard %s: %w", name, fs.ErrNotExist)
	}
	return b, nil
}

// packedBlob is a shard: data, and scales behind it on a plane's boundary.
type packedBlob struct{ data, scales plane }

func (b packedBlob) Close() error { return nil }

func (b packedBlob) scalesBegin() int64 {
	return (b.data.size + weights.PlaneAlignment - 1) / weights.PlaneAlignment * weights.PlaneAlignment
}

func (b packedBlob) Size() int64 {
	if b.scales.size == 0 {
		return b.data.size
	}
	return b.scalesBegin() + b.scales.size
}

func (b packedBlob) ReadAt(dst []byte, offset int64) (n int, err error) {
	if offset < 0 || offset >= b.Size() {
		return 0, io.EOF
	}
	if offset < b.data.size {
		n = b.data.readAt(dst, offset)
	}
	if begin := b.scalesBegin(); b.scales.size > 0 && n < len(dst) {
		// Between the planes lies nothing that anybody reads.
		if at := offset + int64(n); at < begin {
			n += int(min(begin-at, int64(len(dst)-n)))
		}
		if at := offset + int64(n); n < len(dst) && at < b.Size() {
			n += b.scales.readAt(dst[n:], at-begin)
		}
	}
	if n < len(dst) {
		return n, io.EOF
	}
	return n, nil
}

// readAt copies bytes from offset on and returns how many there are.
func (p plane) readAt(dst []byte, offset int64) int {
	dst = dst[:min(int64(len(dst)), p.size-offset)]
	for n := 0; n < len(dst); {
		n += copy(dst[n:], p.block[(p.start+offset+int64(n))%int64(len(p.block)):])
	}
	return len(dst)
}
