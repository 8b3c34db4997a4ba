// Matrices in memory, as packed, and their product with the activations of one or many tokens.

package ref

import (
	"fmt"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// matrix is a matrix with the bytes of a packed directory, its pieces joined.
type matrix struct {
	dtype      weights.DType
	rows, cols int
	stride     int    // cols padded with zeros to a multiple of weights.GroupSize
	data       []byte // [rows, dataRow]
	scales     []byte // [rows, scaleRow]; nil for bf16
	dataRow    int    // bytes
	scaleRow   int    // bytes
}

// loader reads a model's weights; the first error sticks.
type loader struct {
	m           *weights.Model
	progress    func(doneBytes, totalBytes int64)
	done, total int64
	dtypes      []string
	err         error
}

func (l *loader) advance(n int64) {
	l.done += n
	if l.progress != nil {
		l.progress(l.done, l.total)
	}
}

func (l *loader) vector(name string) []float32 {
	if l.err != nil {
		return nil
	}
	v, err := l.m.Vector(name)
	if err != nil {
		l.err = fmt.Errorf("ref: %w", err)
		return nil
	}
	l.advance(int64(4 * len(v)))
	return v
}

func (l *loader) matrix(name string) *matrix {
	if l.err != nil {
		return nil
	}
	mat, err := l.m.Matrix(name)
	if err != nil {
		l.err = fmt.Errorf("ref: %w", err)
		return nil
	}
	d, err := weights.ParseDType(string(mat.DType))
	if err != nil {
		l.err = fmt.Errorf("ref: matrix %s: %w", name, err)
		return nil
	}
	out := &matrix{
		dtype: d, rows: mat.Rows, cols: mat.Cols, stride: mat.Stride,
		dataRow: int(d.DataRowBytes(mat.Stride)), scaleRow: int(d.ScaleRowBytes(mat.Stride)),
	}
	out.data = make([]byte, mat.Rows*out.dataRow)
	if out.scaleRow > 0 {
		out.scales = make([]byte, mat.Rows*out.scaleRow)
	}
	for _, p := range mat.Pieces {
		l.plane(name, p.Data, out.data[p.RowStart*out.dataRow:][:p.Rows*out.dataRow])
		if out.scaleRow > 0 {
			l.plane(name, p.Scales, out.scales[p.RowStart*out.scaleRow:][:p.Rows*out.scaleRow])
		}
	}
	l.dtypes = append(l.dtypes, string(d))
	return out
}

// plane reads a plane's bytes into dst; the plane may be padded beyond it.
func (l *loader) plane(name string, p weights.Plane, dst []byte) {
	if l.err != nil {
		return
	}
	err := l.m.Stream(p, 4<<20, func(offset int64, chunk []byte) error {
		if offset < int64(len(dst)) {
			copy(dst[offset:], chunk)
		}
		l.advance(int64(len(chunk)))
		return nil
	})
	if err == nil && p.Size < int64(len(dst)) {
		err = fmt.Errorf("a plane of %d bytes, %d are needed", p.Size, len(dst))
	}
	if err != nil {
		l.err = fmt.Errorf("ref: matrix %s: %w", name, err)
	}
}

// row is the bytes of row i.
func (m *matrix) row(i int) (data, scales []byte) {
	return m.data[i*m.dataRow : (i+1)*m.dataRow], m.scales[i*m.scaleRow : (i+1)*m.scaleRow]
}

// decodeRow widens row i to float32, dst [stride].
func (m *matrix) decodeRow(dst []float32, i int) {
	data, scales := m.row(i)
	switch m.dtype {
	case weights.Q8:
		decodeQ8(dst, data, scales)
	case weights.Q4:
		decodeQ4(dst, data, scales)
	default:
		decodeBF16(dst, data)
	}
}

// dotRow is row i times x, [stride]: what decodeRow and dot give, in one go.
func (m *matrix) dotRow(i int, x []float32) float32 {
	data, scales := m.row(i)
	switch m.dtype {
	case weights.Q8:
		return dotQ8(data, scales, x)
	case weights.Q4:
		return dotQ4(data, scales, x)
	}
	return dotBF16(data, x)
}

// matmul is the task out[t] = W in[t], or out[t] += W in[t], for every token t.
type matmul struct {
	w           *matrix
	in          []float32 // [numTokens, w.stride]
	out         []float32 // [numTokens, w.rows]
	add         bool
	numTokens   int
	rowsPerPart int
	rowBuffers  [][]float32 // [workers][widest row]
}

// minPartMACs is the work that is worth waking a goroutine for, in multiplications.
const minPartMACs = 1 << 14

// multiply computes out = W in, or out += W in.
func (r *Runner) multiply(out []float32, w *matrix, in []float32, numTokens int, add bool) {
	p := &r.product
	p.w, p.in, p.out, p.add, p.numTokens = w, in, out, add, numTokens
	// Four parts a worker, so that one that starts late does not hold up the rest.
	p.rowsPerPart = max((w.rows+4*r.pool.workers-1)/(4*r.pool.workers), (minPartMACs-1)/(w.stride*numTokens)+1)
	r.pool.run(p, (w.rows+p.rowsPerPart-1)/p.rowsPerPart)
}

func (p *matmul) run(worker, part int) {
	first := part * p.rowsPerPart
	for row := first; row < min(first+p.rowsPerPart, p.w.rows); row++ {
		if p.numTokens == 1 {
			p.set(row, 0, p.w.dotRow(row, p.in))
			continue
		}
		wide := p.rowBuffers[worker][:p.w.stride]
		p.w.decodeRow(wide, row)
		for t := range p.numTokens {
			p.set(row, t, dot(wide, p.in[t*p.w.stride:][:p.w.stride]))
		}
	}
}

func (p *matmul) set(row, t int, v float32) {
	at := t*p.w.rows + row
	if p.add {
		v += p.out[at]
	}
	p.out[at] = v
}
