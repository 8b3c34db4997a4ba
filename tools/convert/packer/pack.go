// Packing a piece: workers read runs of checkpoint rows, widen and check them, and encode each at its packed place.

package packer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
)

// runBytes is about what a worker reads of the checkpoint at a time.
const runBytes = 1 << 20

// buffers holds one piece's planes.
type buffers struct {
	data, scales []byte
}

// worker holds one goroutine's scratch memory.
type worker struct {
	source []byte    // raw checkpoint rows
	row    []float32 // one row, zero padded to the stride
}

// run is a stretch of one part's rows that falls into a piece.
type run struct {
	part        *part
	first, rows int // rows of the part
}

// runs cuts the part of each tensor that lies in the packed rows [start, start+rows) into runs of about runBytes.
func (m *matrixPlan) runs(start, rows int) []run {
	var list []run
	for i := range m.parts {
		p := &m.parts[i]
		// Row r of the part is packed row p.start+r*p.step.
		first := max(0, (start-p.start+p.step-1)/p.step)
		end := min(p.rows, (start+rows-p.start+p.step-1)/p.step)
		step := max(1, runBytes/int(p.DType.Bytes()*int64(m.Cols)))
		for r := first; r < end; r += step {
			list = append(list, run{p, r, min(step, end-r)})
		}
	}
	return list
}

// packPiece fills out with a piece's planes. Runs are handed out in order and finish once begun, so the first error by
// position is the one reported, whatever the number of workers.
func packPiece(ctx context.Context, m *matrixPlan, piece weights.Piece, out buffers, workers []*worker, progress func(bytes int64)) error {
	runs := m.runs(piece.RowStart, piece.Rows)
	errs := make([]error, len(runs))
	var next atomic.Int64
	var failed atomic.Bool
	var wg sync.WaitGroup
	for _, w := range workers[:min(len(workers), len(runs))] {
		wg.Go(func() {
			for !failed.Load() && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(runs) {
					return
				}
				if errs[i] = w.pack(m, piece, runs[i], out); errs[i] != nil {
					failed.Store(true)
					return
				}
				progress(int64(runs[i].rows) * int64(m.Cols) * runs[i].part.DType.Bytes())
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// pack encodes one run.
func (w *worker) pack(m *matrixPlan, piece weights.Piece, r run, out buffers) error {
	p := r.part
	rowBytes := p.DType.Bytes() * int64(m.Cols)
	w.source = grow(w.source, int(rowBytes)*r.rows)
	if err := readTensor(p.tensor, w.source, int64(r.first)*rowBytes); err != nil {
		return err
	}
	dataRow, scaleRow := m.DType.DataRowBytes(m.Stride), m.DType.ScaleRowBytes(m.Stride)
	for i := range r.rows {
		src := w.source[int64(i)*rowBytes : int64(i+1)*rowBytes]
		packed := p.start + (r.first+i)*p.step
		at := int64(packed - piece.RowStart)
		data, scales := out.data[at*dataRow:(at+1)*dataRow], out.scales[at*scaleRow:(at+1)*scaleRow]
		if col := firstNotFinite(p.DType, src); col >= 0 {
			return fmt.Errorf("convert: tensor %s of %s: element [%d, %d] is %v: the checkpoint is damaged", p.Name, p.path, r.first+i, col, element(p.DType, src, col))
		}
		if m.DType == weights.BF16 && p.DType == safetensors.BF16 {
			clear(data[copy(data, src):])
			continue
		}
		if len(w.row) != m.Stride {
			w.row = make([]float32, m.Stride)
		}
		widen(w.row[:m.Cols], p.DType, src)
		clear(w.row[m.Cols:]) // another matrix of this stride may have more columns
		if col, ok := packRow(m.DType, w.row, data, scales, &m.stats[packed]); !ok {
			return fmt.Errorf("convert: tensor %s of %s: row %d, from column %d on: weights as large as %v do not fit %s", p.Name, p.path, r.first+i, col, w.row[col], m.DType)
		}
	}
	return nil
}

// grow returns a slice of n bytes, b's memory where it is large enough.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// readTensor fills p from a tensor's bytes, offset bytes into it.
func readTensor(t tensor, p []byte, offset int64) error {
	n, err := t.file.ReadAt(p, t.Begin+offset)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("convert: tensor %s of %s: read %d of %d bytes at offset %d: %w", t.Name, t.path, n, len(p), t.Begin+offset, err)
}

// element widens element i of raw checkpoint bytes.
func element(d safetensors.DType, raw []byte, i int) float32 {
	switch d {
	case safetensors.BF16:
		return half.BF16ToF32(binary.LittleEndian.Uint16(raw[2*i:]))
	case safetensors.F16:
		return half.F16ToF32(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
}

// widen converts len(dst) elements of raw checkpoint bytes; exact for every dtype.
func widen(dst []float32, d safetensors.DType, raw []byte) {
	switch d {
	case safetensors.BF16:
		raw = raw[:2*len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(raw[2*i])<<16 | uint32(raw[2*i+1])<<24)
		}
	default:
		for i := range dst {
			dst[i] = element(d, raw, i)
		}
	}
}

// firstNotFinite returns the index of the first NaN or infinity in raw checkpoint bytes, -1 if there is none.
func firstNotFinite(d safetensors.DType, raw []byte) int {
	// All exponent bits set, in eight bytes at once: the field XORed with ones is zero, and subtracting 1 borrows.
	var mask, low, high uint64
	switch d {
	case safetensors.BF16:
		mask, low, high = 0x7f80_7f80_7f80_7f80, 0x0001_0001_0001_0001, 0x8000_8000_8000_8000
	case safetensors.F16:
		mask, low, high = 0x7c00_7c00_7c00_7c00, 0x0001_0001_0001_0001, 0x8000_8000_8000_8000
	default:
		mask, low, high = 0x7f80_0000_7f80_0000, 0x0000_0001_0000_0001, 0x8000_0000_8000_0000
	}
	i := 0
	for ; i+8 <= len(raw); i += 8 {
		x := binary.LittleEndian.Uint64(raw[i:])&mask ^ mask
		if (x-low)&^x&high != 0 {
			break // in these eight bytes, or (rarely, by a borrow) in none of them
		}
	}
	size := int(d.Bytes())
	for j := i / size; j < len(raw)/size; j++ {
		if v := float64(element(d, raw, j)); math.IsNaN(v) || math.IsInf(v, 0) {
			return j
		}
	}
	return -1
}

// readVector reads a norm's gain, checked and widened.
func readVector(t tensor) ([]float32, error) {
	raw := make([]byte, t.End-t.Begin)
	if err := readTensor(t, raw, 0); err != nil {
		return nil, err
	}
	if i := firstNotFinite(t.DType, raw); i >= 0 {
		return nil, fmt.Errorf("convert: tensor %s of %s: element [%d] is %v: the checkpoint is damaged", t.Name, t.path, i, element(t.DType, raw, i))
	}
	out := make([]float32, t.Elements())
	widen(out, t.DType, raw)
	return out, nil
}

// finish sums up the row statistics, in row order, into the error of each source tensor.
func (m *matrixPlan) finish() {
	for _, p := range m.parts {
		var total rowStats
		if m.stats != nil {
			for i := range p.rows {
				s := m.stats[p.start+i*p.step]
				total.errSq += s.errSq
				total.normSq += s.normSq
				total.maxAbs = max(total.maxAbs, s.maxAbs)
			}
		}
		source := weights.SourceTensor{Name: p.Name, DType: string(p.DType), Error: weights.ErrorStats{MaxAbs: total.maxAbs}}
		if total.errSq > 0 {
			source.Error.RelativeRMS = math.Sqrt(total.errSq / total.normSq)
		}
		m.Sources = append(m.Sources, source)
	}
	m.stats = nil
}
