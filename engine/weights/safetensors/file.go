// Whole safetensors files on disk: for traces, reference data and tests, where everything fits in memory.

package safetensors

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
)

// Array is a tensor in memory: exactly one of F32 and I32 is set.
type Array struct {
	Shape []int
	F32   []float32
	I32   []int32
}

// Float32s makes an Array of shape from data.
func Float32s(data []float32, shape ...int) Array { return Array{Shape: shape, F32: data} }

// Int32s makes an Array of shape from data.
func Int32s(data []int32, shape ...int) Array { return Array{Shape: shape, I32: data} }

// WriteFile writes tensors, sorted by name, to a new file at path. A failed write leaves no file.
func WriteFile(path string, metadata map[string]string, tensors map[string]Array) (err error) {
	names := make([]string, 0, len(tensors))
	for name := range tensors {
		names = append(names, name)
	}
	slices.Sort(names)
	infos := make([]TensorInfo, len(names))
	for i, name := range names {
		a := tensors[name]
		info := TensorInfo{Name: name, DType: F32, Shape: a.Shape}
		elements := int64(len(a.F32))
		if a.F32 == nil {
			info.DType, elements = I32, int64(len(a.I32))
		}
		size, err := SizeBytes(info.DType, info.Shape)
		if err != nil {
			return fmt.Errorf("safetensors: tensor %q: %w", name, err)
		}
		if size != 4*elements {
			return fmt.Errorf("safetensors: tensor %q: shape %v needs %d elements, not %d", name, info.Shape, size/4, elements)
		}
		infos[i] = info
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	defer func() {
		if cerr := file.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("safetensors: close %s: %w", path, cerr)
		}
		if err != nil {
			os.Remove(path)
		}
	}()
	w, err := Create(file, metadata, infos)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := w.Write(tensors[name].bytes()); err != nil {
			return err
		}
	}
	return w.Close()
}

func (a Array) bytes() []byte {
	var b []byte
	for _, v := range a.F32 {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	for _, v := range a.I32 {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return b
}

// Reader is an open file.
type Reader struct {
	*File
	file *os.File
}

// Open parses the header of the file at path.
func Open(path string) (*Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	parsed, err := ParseHeader(file, info.Size())
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Reader{File: parsed, file: file}, nil
}

// ReadAt reads raw bytes at a file offset.
func (r *Reader) ReadAt(p []byte, offset int64) (int, error) { return r.file.ReadAt(p, offset) }

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

// Float32 reads a whole F32, F16 or BF16 tensor.
func (r *Reader) Float32(name string) ([]float32, error) {
	t, ok := r.Tensors[name]
	if !ok {
		return nil, fmt.Errorf("safetensors: there is no tensor %q", name)
	}
	return ReadFloat32(r.file, t)
}

// Int32 reads a whole I32 tensor, or an I64 tensor whose values fit.
func (r *Reader) Int32(name string) ([]int32, error) {
	t, ok := r.Tensors[name]
	if !ok {
		return nil, fmt.Errorf("safetensors: there is no tensor %q", name)
	}
	return ReadInt32(r.file, t)
}

// ReadFloat32 reads a whole F32, F16 or BF16 tensor, widened to float32.
func ReadFloat32(r io.ReaderAt, t Tensor) ([]float32, error) {
	raw, err := readTensor(r, t)
	if err != nil {
		return nil, err
	}
	out := make([]float32, t.Elements())
	for i := range out {
		switch t.DType {
		case F32:
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		case F16:
			out[i] = half.F16ToF32(binary.LittleEndian.Uint16(raw[2*i:]))
		case BF16:
			out[i] = half.BF16ToF32(binary.LittleEndian.Uint16(raw[2*i:]))
		default:
			return nil, fmt.Errorf("safetensors: tensor %q is %s, not F32, F16 or BF16", t.Name, t.DType)
		}
	}
	return out, nil
}

// ReadInt32 reads a whole I32 tensor, or an I64 tensor whose values fit.
func ReadInt32(r io.ReaderAt, t Tensor) ([]int32, error) {
	raw, err := readTensor(r, t)
	if err != nil {
		return nil, err
	}
	out := make([]int32, t.Elements())
	for i := range out {
		switch t.DType {
		case I32:
			out[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
		case I64:
			v := int64(binary.LittleEndian.Uint64(raw[8*i:]))
			if v != int64(int32(v)) {
				return nil, fmt.Errorf("safetensors: tensor %q: element %d is %d, beyond int32", t.Name, i, v)
			}
			out[i] = int32(v)
		default:
			return nil, fmt.Errorf("safetensors: tensor %q is %s, not I32 or I64", t.Name, t.DType)
		}
	}
	return out, nil
}

func readTensor(r io.ReaderAt, t Tensor) ([]byte, error) {
	raw := make([]byte, t.End-t.Begin)
	if err := readFull(r, raw, t.Begin); err != nil {
		return nil, fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
	}
	return raw, nil
}
