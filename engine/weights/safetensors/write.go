// Writing safetensors: the layout is known before the first byte, so that any amount of data streams through.

package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Alignment of the first tensor's byte in files written here: the header is padded with spaces up to it.
const Alignment = 16

// TensorInfo announces one tensor to a Writer.
type TensorInfo struct {
	Name  string
	DType DType
	Shape []int
}

// Layout returns the file's first bytes (length and header) and where each tensor will lie, in the given order.
// Metadata may be nil. The same arguments give the same bytes.
func Layout(metadata map[string]string, tensors []TensorInfo) ([]byte, []Tensor, error) {
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	b.WriteByte('{')
	if metadata != nil {
		m, err := json.Marshal(metadata) // sorts its keys
		if err != nil {
			return nil, nil, fmt.Errorf("safetensors: metadata: %w", err)
		}
		fmt.Fprintf(&b, `"__metadata__":%s`, m)
	}
	placed := make([]Tensor, len(tensors))
	seen := make(map[string]bool, len(tensors))
	var at int64
	for i, t := range tensors {
		size, err := SizeBytes(t.DType, t.Shape)
		if err != nil {
			return nil, nil, fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
		}
		if seen[t.Name] || t.Name == "__metadata__" {
			return nil, nil, fmt.Errorf("safetensors: the name %q is used twice or reserved", t.Name)
		}
		seen[t.Name] = true
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, nil, fmt.Errorf("safetensors: tensor name %q: %w", t.Name, err)
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		dims, err := json.Marshal(shape)
		if err != nil {
			return nil, nil, fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
		}
		if b.Len() > 9 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `%s:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, name, t.DType, dims, at, at+size)
		placed[i] = Tensor{Name: t.Name, DType: t.DType, Shape: shape, Begin: at, End: at + size}
		at += size
	}
	b.WriteByte('}')
	for b.Len()%Alignment != 0 {
		b.WriteByte(' ')
	}
	header := b.Bytes()
	if len(header)-8 > MaxHeaderBytes {
		return nil, nil, fmt.Errorf("safetensors: a header of %d bytes is above the limit of %d", len(header)-8, MaxHeaderBytes)
	}
	binary.LittleEndian.PutUint64(header, uint64(len(header)-8))
	for i := range placed {
		placed[i].Begin += int64(len(header))
		placed[i].End += int64(len(header))
	}
	return header, placed, nil
}

// Writer streams the tensors' bytes after the header. Tensors follow each other in the order announced to Create.
type Writer struct {
	w       io.Writer
	tensors []Tensor
	at      int64 // file offset of the next byte
	end     int64
}

// Create writes the header to w.
func Create(w io.Writer, metadata map[string]string, tensors []TensorInfo) (*Writer, error) {
	header, placed, err := Layout(metadata, tensors)
	if err != nil {
		return nil, err
	}
	sw := &Writer{w: w, tensors: placed, at: int64(len(header)), end: int64(len(header))}
	if len(placed) > 0 {
		sw.end = placed[len(placed)-1].End
	}
	if _, err := w.Write(header); err != nil {
		return nil, fmt.Errorf("safetensors: header: %w", err)
	}
	return sw, nil
}

// Tensors lists where each tensor lies, in order.
func (w *Writer) Tensors() []Tensor { return w.tensors }

// Write appends data; it may cross from one tensor into the next.
func (w *Writer) Write(p []byte) (int, error) {
	if int64(len(p)) > w.end-w.at {
		return 0, fmt.Errorf("safetensors: %d bytes more than the %d announced", int64(len(p))-(w.end-w.at), w.end)
	}
	n, err := w.w.Write(p)
	w.at += int64(n)
	if err != nil {
		return n, fmt.Errorf("safetensors: at byte %d: %w", w.at, err)
	}
	return n, nil
}

// Close checks that every announced byte was written. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.at != w.end {
		return fmt.Errorf("safetensors: %d of %d bytes written", w.at, w.end)
	}
	return nil
}
