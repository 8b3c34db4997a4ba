// What goes where: which checkpoint tensors make up each packed matrix, and the layout of every shard, all known
// before the first weight is read.

package packer

import (
	"fmt"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
)

// part is a checkpoint tensor's share of a packed matrix: its row i becomes packed row start+i*step.
type part struct {
	tensor
	rows        int
	start, step int
}

// matrixPlan is one packed matrix on its way.
type matrixPlan struct {
	weights.Matrix
	parts []part
	stats []rowStats // [Rows], filled while packing unless every part is copied exactly
}

// piecePlan is one piece: it lands in its shard as one or two tensors.
type piecePlan struct {
	matrix *matrixPlan
	index  int // in matrix.Pieces
}

// shardPlan is one output file: pieces, then vectors.
type shardPlan struct {
	name        string
	infos       []safetensors.TensorInfo
	pieces      []piecePlan
	vectors     []vectorPlan
	headerBytes int64 // upper bound
	dataBytes   int64
}

// vectorPlan is one norm gain; index is its place in the manifest's list.
type vectorPlan struct {
	tensor
	index int
}

// plan is the whole conversion.
type plan struct {
	matrices []*matrixPlan
	vectors  []weights.VectorInfo
	shards   []*shardPlan
	limit    int64 // bytes a shard file may have
}

var shardMetadata = map[string]string{"format": weights.Format}

// makePlan lays out the packed directory.
func makePlan(ck *checkpoint, dtype weights.DType, hasLMHead bool, shardBytes int64) (*plan, error) {
	p := &plan{limit: shardBytes}
	for _, spec := range weights.MatrixSpecs(ck.config, hasLMHead) {
		m := &matrixPlan{Matrix: weights.Matrix{
			Name: spec.Name, Rows: spec.Rows, Cols: spec.Cols, Stride: weights.Stride(spec.Cols), DType: dtype,
		}}
		m.parts = ck.parts(spec)
		p.matrices = append(p.matrices, m)
		if err := p.placeMatrix(m); err != nil {
			return nil, err
		}
	}
	for _, spec := range weights.VectorSpecs(ck.config) {
		name := strings.NewReplacer("q_norm", "self_attn.q_norm", "k_norm", "self_attn.k_norm").Replace(spec.Name)
		p.placeVector(spec, ck.tensors[name+".weight"])
	}
	return p, p.resolve()
}

// parts names the tensors behind a packed matrix.
func (ck *checkpoint) parts(spec weights.MatrixSpec) []part {
	layer, kind := "", spec.Name
	if i := strings.LastIndexByte(spec.Name, '.'); i >= 0 {
		layer, kind = spec.Name[:i+1], spec.Name[i+1:]
	}
	var names []string
	step := 1
	switch kind {
	case "qkv_proj":
		names = []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
	case "o_proj":
		names = []string{"self_attn.o_proj"}
	case "gate_up_proj":
		names, step = []string{"mlp.gate_proj", "mlp.up_proj"}, 2
	case "down_proj":
		names = []string{"mlp.down_proj"}
	default: // embed_tokens, lm_head
		names = []string{kind}
	}
	var parts []part
	start := 0
	for _, name := range names {
		t := ck.tensors[layer+name+".weight"]
		parts = append(parts, part{tensor: t, rows: t.Shape[0], start: start, step: step})
		if step == 1 {
			start += t.Shape[0]
		} else {
			start++
		}
	}
	return parts
}

// placeMatrix puts a matrix into the current shard where it fits whole, else into a new one, cut into equal pieces
// where it is larger than a shard.
func (p *plan) placeMatrix(m *matrixPlan) error {
	fits := func(rows int) bool { return emptyShardBytes+m.bytes(rows) <= p.limit }
	unit := min(weights.PieceRows, m.Rows)
	if !fits(unit) {
		return fmt.Errorf("convert: %d rows of %s need %d bytes, more than a shard of %d: choose larger shards", unit, m.Name, emptyShardBytes+m.bytes(unit), p.limit)
	}
	count := 1
	rows := m.Rows
	for !fits(rows) {
		count++
		rows = (m.Rows + count - 1) / count
		rows = (rows + weights.PieceRows - 1) / weights.PieceRows * weights.PieceRows
	}
	for start := 0; start < m.Rows; start += rows {
		n := min(rows, m.Rows-start)
		s := p.shardFor(m.bytes(n))
		name := m.Name
		if count > 1 {
			name = fmt.Sprintf("%s.rows.%d-%d", m.Name, start, start+n-1)
		}
		s.pieces = append(s.pieces, piecePlan{m, len(m.Pieces)})
		m.Pieces = append(m.Pieces, weights.Piece{RowStart: start, Rows: n})
		data, scales := m.DType.PlaneBytes(n, m.Stride)
		switch m.DType {
		case weights.BF16:
			s.add(safetensors.TensorInfo{Name: name, DType: safetensors.BF16, Shape: []int{n, m.Stride}}, data)
		case weights.Q8:
			s.add(safetensors.TensorInfo{Name: name, DType: safetensors.I8, Shape: []int{n, m.Stride}}, data)
		case weights.Q4:
			s.add(safetensors.TensorInfo{Name: name, DType: safetensors.U32, Shape: []int{n, m.Stride / 8}}, data)
		}
		if scales > 0 {
			s.add(safetensors.TensorInfo{Name: name + ".scales", DType: safetensors.F16, Shape: []int{int(align(scales) / 2)}}, align(scales))
		}
	}
	return nil
}

// align rounds a plane's size up, so that the next plane of the shard starts aligned.
func align(n int64) int64 {
	return (n + weights.PlaneAlignment - 1) / weights.PlaneAlignment * weights.PlaneAlignment
}

const (
	emptyShardBytes = 128 // length, braces, metadata and alignment of a header without tensors, generously
	entryBytes      = 160 // of a header's entry, beside the name: never more than this
)

// bytes is what a piece of rows rows takes of a shard, header entries included.
func (m *matrixPlan) bytes(rows int) int64 {
	data, scales := m.DType.PlaneBytes(rows, m.Stride)
	return data + align(scales) + 2*int64(entryBytes+len(m.Name))
}

// shardFor returns the last shard where size more bytes fit into it, else a new one.
func (p *plan) shardFor(size int64) *shardPlan {
	if n := len(p.shards); n > 0 {
		if s := p.shards[n-1]; s.headerBytes+s.dataBytes+size <= p.limit {
			return s
		}
	}
	s := &shardPlan{headerBytes: emptyShardBytes}
	p.shards = append(p.shards, s)
	return s
}

func (s *shardPlan) add(info safetensors.TensorInfo, size int64) {
	s.infos = append(s.infos, info)
	s.headerBytes += int64(entryBytes + len(info.Name))
	s.dataBytes += size
}

func (p *plan) placeVector(spec weights.VectorSpec, t tensor) {
	size := 4 * int64(spec.Length)
	s := p.shardFor(size + int64(entryBytes+len(spec.Name)))
	s.vectors = append(s.vectors, vectorPlan{t, len(p.vectors)})
	s.add(safetensors.TensorInfo{Name: spec.Name, DType: safetensors.F32, Shape: []int{spec.Length}}, size)
	p.vectors = append(p.vectors, weights.VectorInfo{Name: spec.Name, Length: spec.Length})
}

// resolve names the shards and turns the layouts into offsets.
func (p *plan) resolve() error {
	for i, s := range p.shards {
		s.name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(p.shards))
		_, placed, err := safetensors.Layout(shardMetadata, s.infos)
		if err != nil {
			return fmt.Errorf("convert: shard %s: %w", s.name, err)
		}
		if end := placed[len(placed)-1].End; end > p.limit {
			return fmt.Errorf("convert: shard %s would have %d bytes, more than %d: the plan is wrong", s.name, end, p.limit)
		}
		next := 0
		for _, pp := range s.pieces {
			m := pp.matrix
			piece := &m.Pieces[pp.index]
			data, scales := m.DType.PlaneBytes(piece.Rows, m.Stride)
			piece.Data = weights.Plane{Shard: s.name, Offset: placed[next].Begin, Size: data}
			next++
			if scales > 0 {
				piece.Scales = weights.Plane{Shard: s.name, Offset: placed[next].Begin, Size: scales}
				next++
			}
		}
		for _, v := range s.vectors {
			p.vectors[v.index].Data = weights.Plane{Shard: s.name, Offset: placed[next].Begin, Size: placed[next].End - placed[next].Begin}
			next++
		}
	}
	return nil
}
