// Package safetensors reads and writes files of the safetensors format: an 8-byte little-endian length, a JSON header
// of that many bytes, then the tensors' bytes without gaps.
//
// It owns the format and its checks; it knows nothing of models. A damaged or hostile file gives an error that names the
// tensor and the numbers, never a panic or a large allocation. Format: huggingface/safetensors, README "Format".
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxHeaderBytes is the longest JSON header that is read, the limit of the reference implementation.
const MaxHeaderBytes = 100_000_000

// DType is a tensor's number format, in the file's spelling.
type DType string

const (
	Bool   DType = "BOOL"
	U8     DType = "U8"
	I8     DType = "I8"
	F8E4M3 DType = "F8_E4M3"
	F8E5M2 DType = "F8_E5M2"
	U16    DType = "U16"
	I16    DType = "I16"
	F16    DType = "F16"
	BF16   DType = "BF16"
	U32    DType = "U32"
	I32    DType = "I32"
	F32    DType = "F32"
	U64    DType = "U64"
	I64    DType = "I64"
	F64    DType = "F64"
)

// Bytes is the size of one element, 0 for an unknown dtype.
func (d DType) Bytes() int64 {
	switch d {
	case Bool, U8, I8, F8E4M3, F8E5M2:
		return 1
	case U16, I16, F16, BF16:
		return 2
	case U32, I32, F32:
		return 4
	case U64, I64, F64:
		return 8
	}
	return 0
}

// Tensor is one tensor's place in a file.
type Tensor struct {
	Name       string
	DType      DType
	Shape      []int
	Begin, End int64 // bytes from the start of the file
}

// Elements is the product of the shape, 1 for a scalar.
func (t Tensor) Elements() int64 { return (t.End - t.Begin) / t.DType.Bytes() }

// File is a parsed header.
type File struct {
	Tensors     map[string]Tensor
	Metadata    map[string]string // "__metadata__", nil if absent
	HeaderBytes int64             // where the tensors' bytes begin
	SizeBytes   int64             // of the whole file
}

// Sorted lists the tensors in file order.
func (f *File) Sorted() []Tensor {
	list := make([]Tensor, 0, len(f.Tensors))
	for _, t := range f.Tensors {
		list = append(list, t)
	}
	sort.Slice(list, func(i, j int) bool { return compareTensors(list[i], list[j]) < 0 }) // in WebAssembly slices.SortFunc is 20 KB for a type
	return list
}

func compareTensors(a, b Tensor) int {
	switch {
	case a.Begin != b.Begin:
		if a.Begin < b.Begin {
			return -1
		}
		return 1
	case a.End != b.End: // empty tensors before the one that starts at the same byte
		if a.End < b.End {
			return -1
		}
		return 1
	}
	return strings.Compare(a.Name, b.Name)
}

// ParseHeader reads and checks the header of a file of size bytes.
func ParseHeader(r io.ReaderAt, size int64) (*File, error) {
	if size < 8 {
		return nil, fmt.Errorf("safetensors: the file has %d bytes, fewer than the 8 of the header length: it is truncated", size)
	}
	var prefix [8]byte
	if err := readFull(r, prefix[:], 0); err != nil {
		return nil, fmt.Errorf("safetensors: header length: %w", err)
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length > MaxHeaderBytes {
		return nil, fmt.Errorf("safetensors: the header claims %d bytes, more than the limit of %d: not a safetensors file, or corrupt", length, MaxHeaderBytes)
	}
	if int64(length) > size-8 {
		return nil, fmt.Errorf("safetensors: the header claims %d bytes, but only %d follow: the file is truncated", length, size-8)
	}
	header := make([]byte, length)
	if err := readFull(r, header, 8); err != nil {
		return nil, fmt.Errorf("safetensors: header of %d bytes: %w", length, err)
	}
	f := &File{Tensors: map[string]Tensor{}, HeaderBytes: 8 + int64(length), SizeBytes: size}
	if err := f.parse(header); err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	if err := f.checkLayout(); err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	return f, nil
}

// readFull fills p from offset; a short read is an error that counts bytes.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d of %d bytes at offset %d: %w", n, len(p), offset, err)
}

// parse walks the header token by token, because encoding/json would let a duplicate key pass.
func (f *File) parse(header []byte) error {
	if !utf8.Valid(header) {
		return errors.New("the header is not UTF-8: not a safetensors file, or corrupt")
	}
	dec := json.NewDecoder(bytes.NewReader(header))
	dec.UseNumber()
	err := object(dec, func(key string) error {
		if key == "__metadata__" {
			if f.Metadata != nil {
				return errors.New("duplicate key \"__metadata__\"")
			}
			f.Metadata = map[string]string{}
			return object(dec, func(k string) error {
				if _, dup := f.Metadata[k]; dup {
					return fmt.Errorf("duplicate metadata key %q", k)
				}
				var v *string
				if err := dec.Decode(&v); err != nil || v == nil {
					return fmt.Errorf("metadata %q is not a string", k)
				}
				f.Metadata[k] = *v
				return nil
			})
		}
		if _, dup := f.Tensors[key]; dup {
			return fmt.Errorf("tensor %q appears twice", key)
		}
		t, err := f.entry(dec, key)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", key, err)
		}
		f.Tensors[key] = t
		return nil
	})
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if rest := bytes.TrimRight(header[dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return fmt.Errorf("header: %d bytes after its closing brace", len(rest))
	}
	return nil
}

// object reads one JSON object and calls field for every key, which must consume the value.
func object(dec *json.Decoder, field func(key string) error) error {
	tok, err := dec.Token()
	if err != nil {
		return notJSON(err)
	}
	if tok != json.Delim('{') {
		return fmt.Errorf("expected a JSON object, found %v", tok)
	}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return notJSON(err)
		}
		key, ok := tok.(string)
		if !ok {
			return fmt.Errorf("expected a key, found %v", tok)
		}
		if err := field(key); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return notJSON(err)
	}
	return nil
}

func notJSON(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("not valid JSON: %w", err)
}

// entry reads {"dtype": …, "shape": […], "data_offsets": [begin, end]}.
func (f *File) entry(dec *json.Decoder, name string) (Tensor, error) {
	t := Tensor{Name: name}
	seen := map[string]bool{}
	err := object(dec, func(key string) error {
		if seen[key] {
			return fmt.Errorf("duplicate key %q", key)
		}
		seen[key] = true
		switch key {
		case "dtype":
			var d *string
			if err := dec.Decode(&d); err != nil || d == nil {
				return errors.New("dtype is not a string")
			}
			t.DType = DType(*d)
			if t.DType.Bytes() == 0 {
				return fmt.Errorf("unknown dtype %q", *d)
			}
			return nil
		case "shape":
			dims, err := integers(dec)
			if err != nil {
				return fmt.Errorf("shape: %w", err)
			}
			t.Shape = make([]int, len(dims))
			for i, d := range dims {
				t.Shape[i] = int(d)
				if int64(t.Shape[i]) != d {
					return fmt.Errorf("shape: dimension %d does not fit this machine's int", d)
				}
			}
			return nil
		case "data_offsets":
			offsets, err := integers(dec)
			if err != nil {
				return fmt.Errorf("data_offsets: %w", err)
			}
			if len(offsets) != 2 {
				return fmt.Errorf("data_offsets has %d numbers, not 2", len(offsets))
			}
			t.Begin, t.End = offsets[0], offsets[1]
			return nil
		}
		return fmt.Errorf("unknown key %q", key)
	})
	if err != nil {
		return t, err
	}
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if !seen[key] {
			return t, fmt.Errorf("%s is missing", key)
		}
	}
	return f.place(t)
}

// place checks a tensor's offsets against its shape and the file, and makes them absolute.
func (f *File) place(t Tensor) (Tensor, error) {
	want, err := SizeBytes(t.DType, t.Shape)
	if err != nil {
		return t, err
	}
	dataBytes := f.SizeBytes - f.HeaderBytes
	if t.Begin > t.End {
		return t, fmt.Errorf("data_offsets [%d, %d] run backwards", t.Begin, t.End)
	}
	if t.End > dataBytes {
		return t, fmt.Errorf("data_offsets [%d, %d] lie beyond the file's %d bytes of data: it is truncated, or corrupt", t.Begin, t.End, dataBytes)
	}
	if t.End-t.Begin != want {
		return t, fmt.Errorf("dtype %s and shape %v need %d bytes, but data_offsets [%d, %d] hold %d", t.DType, t.Shape, want, t.Begin, t.End, t.End-t.Begin)
	}
	t.Begin += f.HeaderBytes
	t.End += f.HeaderBytes
	return t, nil
}

// SizeBytes is the number of bytes of a tensor, or an error where the dtype is unknown or the product overflows.
func SizeBytes(d DType, shape []int) (int64, error) {
	size := uint64(d.Bytes())
	if size == 0 {
		return 0, fmt.Errorf("unknown dtype %q", d)
	}
	empty := slices.Contains(shape, 0)
	for _, dim := range shape {
		if dim < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		if empty {
			continue // [huge, huge, 0] is still nothing
		}
		hi, lo := bits.Mul64(size, uint64(dim))
		if hi != 0 || lo > 1<<62 {
			return 0, fmt.Errorf("dtype %s and shape %v overflow 2^62 bytes", d, shape)
		}
		size = lo
	}
	if empty {
		return 0, nil
	}
	return int64(size), nil
}

// integers reads a JSON array of whole numbers from 0 to 2^63-1.
func integers(dec *json.Decoder) ([]int64, error) {
	var numbers []json.Number
	if err := dec.Decode(&numbers); err != nil {
		return nil, errors.New("not an array of numbers")
	}
	if numbers == nil {
		return nil, errors.New("null is not an array of numbers")
	}
	list := make([]int64, len(numbers))
	for i, n := range numbers {
		v, err := strconv.ParseInt(n.String(), 10, 64)
		if err != nil || v < 0 {
			return nil, fmt.Errorf("%q is not a whole number from 0 to 2^63-1", n.String())
		}
		list[i] = v
	}
	return list, nil
}

// checkLayout demands that the tensors cover the data without overlap, hole or rest, as the reference implementation does.
func (f *File) checkLayout() error {
	at, before := f.HeaderBytes, ""
	for _, t := range f.Sorted() {
		switch {
		case t.Begin < at:
			return fmt.Errorf("tensors %q and %q overlap: the second begins at byte %d, the first ends at %d", before, t.Name, t.Begin, at)
		case t.Begin > at:
			return fmt.Errorf("%d bytes before tensor %q (byte %d on) belong to no tensor", t.Begin-at, t.Name, at)
		}
		at, before = t.End, t.Name
	}
	if at != f.SizeBytes {
		return fmt.Errorf("the tensors end at byte %d, but the file has %d bytes", at, f.SizeBytes)
	}
	return nil
}
