package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/internal/testutil"
)

// file is a header and n bytes of data.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	return append(b, make([]byte, n)...)
}

func parse(b []byte) (*File, error) { return ParseHeader(bytes.NewReader(b), int64(len(b))) }

const two = `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}`

func TestParse(t *testing.T) {
	f, err := parse(file(two+"   ", 32))
	if err != nil {
		t.Fatal(err)
	}
	start := int64(8 + len(two) + 3)
	want := []Tensor{{"a", F32, []int{2, 3}, start, start + 24}, {"b", BF16, []int{4}, start + 24, start + 32}}
	if got := f.Sorted(); !reflect.DeepEqual(got, want) || f.Metadata["format"] != "pt" || f.HeaderBytes != start {
		t.Errorf("%+v", f)
	}
	if n := f.Tensors["a"].Elements(); n != 6 {
		t.Errorf("%d elements", n)
	}
	// Scalars, empty tensors and an empty file are legal.
	for _, tc := range []struct {
		header string
		n      int
	}{
		{`{}`, 0},
		{`{"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}`, 8},
		{`{"e":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]},"s":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1},
		{`{"e":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807,0],"data_offsets":[0,0]}}`, 0},
	} {
		if _, err := parse(file(tc.header, tc.n)); err != nil {
			t.Errorf("%s: %v", tc.header, err)
		}
	}
}

func TestDamage(t *testing.T) {
	entry := func(body string) string { return `{"w":{` + body + `}}` }
	for _, tc := range []struct {
		name  string
		data  []byte
		words string
	}{
		{"empty", nil, "truncated"},
		{"seven bytes", make([]byte, 7), "truncated"},
		{"short header", file(two, 32)[:40], "only 32 follow"},
		{"huge header", append(bytes.Repeat([]byte{0xff}, 8), two...), "more than the limit"},
		{"limit", binary.LittleEndian.AppendUint64(nil, MaxHeaderBytes+1), "more than the limit"},
		{"no header", file("", 8), "not valid JSON"},
		{"not JSON", file("hello", 0), "not valid JSON"},
		{"not UTF-8", file("{\"\xff\":1}", 0), "UTF-8"},
		{"array", file("[]", 0), "expected a JSON object"},
		{"unclosed", file(`{"w":{"dtype":"F32"`, 0), "not valid JSON"},
		{"rest", file(`{}x`, 0), "after its closing brace"},
		{"two objects", file(`{}{}`, 0), "after its closing brace"},
		{"null entry", file(`{"w":null}`, 0), "expected a JSON object"},
		{"truncated data", file(two, 31), "beyond the file's 31 bytes"},
		{"extra data", file(two, 33), "the tensors end at byte"},
		{"duplicate tensor", file(`{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "twice"},
		{"duplicate key", file(entry(`"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]`), 1), "duplicate key"},
		{"duplicate metadata", file(`{"__metadata__":{},"__metadata__":{}}`, 0), "duplicate key"},
		{"duplicate metadata key", file(`{"__metadata__":{"a":"1","a":"2"}}`, 0), "duplicate metadata"},
		{"metadata number", file(`{"__metadata__":{"a":1}}`, 0), "not a string"},
		{"unknown key", file(entry(`"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0`), 1), "unknown key"},
		{"no shape", file(entry(`"dtype":"U8","data_offsets":[0,1]`), 1), "shape is missing"},
		{"no dtype", file(entry(`"shape":[1],"data_offsets":[0,1]`), 1), "dtype is missing"},
		{"no offsets", file(entry(`"dtype":"U8","shape":[1]`), 1), "data_offsets is missing"},
		{"unknown dtype", file(entry(`"dtype":"F4","shape":[1],"data_offsets":[0,1]`), 1), `unknown dtype "F4"`},
		{"null dtype", file(entry(`"dtype":null,"shape":[1],"data_offsets":[0,1]`), 1), "dtype"},
		{"negative dimension", file(entry(`"dtype":"U8","shape":[-1],"data_offsets":[0,1]`), 1), "whole number"},
		{"fraction", file(entry(`"dtype":"U8","shape":[1.5],"data_offsets":[0,1]`), 1), "whole number"},
		{"exponent", file(entry(`"dtype":"U8","shape":[1e0],"data_offsets":[0,1]`), 1), "whole number"},
		{"huge dimension", file(entry(`"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]`), 1), "whole number"},
		{"null shape", file(entry(`"dtype":"U8","shape":null,"data_offsets":[0,1]`), 1), "shape"},
		{"overflow", file(entry(`"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]`), 0), "overflow"},
		{"overflow to zero", file(entry(`"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]`), 0), "overflow"},
		{"one offset", file(entry(`"dtype":"U8","shape":[1],"data_offsets":[0]`), 1), "1 numbers"},
		{"backwards", file(entry(`"dtype":"U8","shape":[1],"data_offsets":[1,0]`), 1), "backwards"},
		{"wrong size", file(entry(`"dtype":"F32","shape":[2],"data_offsets":[0,4]`), 4), "need 8 bytes"},
		{"overlap", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), `"a" and "b" overlap`},
		{"same place", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2), "overlap"},
		{"hole", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3), "1 bytes before tensor \"b\""},
		{"hole in front", file(entry(`"dtype":"U8","shape":[1],"data_offsets":[1,2]`), 2), "belong to no tensor"},
	} {
		f, err := parse(tc.data)
		if err == nil {
			t.Errorf("%s: accepted: %+v", tc.name, f)
		} else if !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%s: %q lacks %q", tc.name, err, tc.words)
		}
	}
	// A size that the reader cannot deliver.
	if _, err := ParseHeader(bytes.NewReader(file(two, 32)), 1<<40); err == nil {
		t.Error("a reader shorter than its size was accepted")
	}
}

func TestWriter(t *testing.T) {
	infos := []TensorInfo{
		{"z", U8, []int{16}}, {"name \"quoted\" \n é <", F32, []int{2, 2}}, {"scalar", I32, nil}, {"empty", F16, []int{0, 3}},
	}
	var b bytes.Buffer
	w, err := Create(&b, map[string]string{"b": "2", "a": "1"}, infos)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 16+16+4)
	for i := range data {
		data[i] = byte(i)
	}
	for _, cut := range [][]byte{data[:5], data[5:30], data[30:]} { // across tensors
		if _, err := w.Write(cut); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte{1}); err == nil {
		t.Error("a byte too many was accepted")
	}
	f, err := parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if f.HeaderBytes%Alignment != 0 || !reflect.DeepEqual(f.Metadata, map[string]string{"a": "1", "b": "2"}) {
		t.Errorf("%+v", f)
	}
	for i, want := range w.Tensors() {
		got := f.Tensors[infos[i].Name]
		if got.Begin != want.Begin || got.End != want.End || got.DType != infos[i].DType || !slices.Equal(got.Shape, infos[i].Shape) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if !bytes.Equal(b.Bytes()[f.HeaderBytes:], data) {
		t.Error("the data differ")
	}
	short, err := Create(&bytes.Buffer{}, nil, infos)
	if err != nil {
		t.Fatal(err)
	}
	if err := short.Close(); err == nil {
		t.Error("missing data were accepted")
	}
	for _, bad := range [][]TensorInfo{
		{{"a", F32, []int{1}}, {"a", F32, []int{1}}}, {{"__metadata__", F32, []int{1}}}, {{"a", "F4", []int{1}}}, {{"a", F32, []int{-1}}}, {{"a", F64, []int{1 << 40, 1 << 40}}},
	} {
		if _, _, err := Layout(nil, bad); err == nil {
			t.Errorf("%v: accepted", bad)
		}
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	floats, ints := []float32{1, -2.5, 3e-9, 4, 5, 6}, []int32{-1, 2, 1 << 30}
	if err := WriteFile(path, nil, map[string]Array{"f": Float32s(floats, 2, 3), "i": Int32s(ints, 3)}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := r.Float32("f"); err != nil || !slices.Equal(got, floats) || !slices.Equal(r.Tensors["f"].Shape, []int{2, 3}) {
		t.Errorf("%v %v", got, err)
	}
	if got, err := r.Int32("i"); err != nil || !slices.Equal(got, ints) {
		t.Errorf("%v %v", got, err)
	}
	for _, err := range []error{second(r.Float32("i")), second(r.Int32("f")), second(r.Float32("absent")), second(r.Int32("absent"))} {
		if err == nil {
			t.Error("a wrong read was accepted")
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.safetensors")
	if err := WriteFile(bad, nil, map[string]Array{"f": Float32s(floats, 7)}); err == nil {
		t.Error("a wrong shape was accepted")
	}
	if _, err := os.Stat(bad); err == nil {
		t.Error("a failed write left a file")
	}
}

func second[T any](_ T, err error) error { return err }

// The reference data were written by the reference implementation.
func TestReferenceFile(t *testing.T) {
	r, err := Open(testutil.Shared(t, "goldens/tied-gqa2/model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	norm, err := r.Float32("model.norm.weight")
	if err != nil || len(norm) != 64 {
		t.Fatalf("%d gains, %v", len(norm), err)
	}
	if r.Metadata["format"] != "pt" {
		t.Errorf("metadata %v", r.Metadata)
	}
}

// Whatever is accepted covers the file exactly, and gives itself again when its layout is written.
func FuzzParseHeader(f *testing.F) {
	f.Add(file(two, 32))
	f.Add(file(`{}`, 0))
	f.Add(file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3))
	f.Add(file(`{"e":{"dtype":"F64","shape":[0,2305843009213693952,2305843009213693952],"data_offsets":[0,0]}}`, 0))
	f.Add(file(`{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0))
	f.Add(file(`{"\u0000":{"shape":[],"data_offsets":[0,1],"dtype":"BOOL"}}`, 1))
	f.Add(append(bytes.Repeat([]byte{0xff}, 8), 1, 2, 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := parse(data)
		if err != nil {
			return
		}
		at := parsed.HeaderBytes
		var infos []TensorInfo
		for _, tensor := range parsed.Sorted() {
			size, err := SizeBytes(tensor.DType, tensor.Shape)
			if err != nil || tensor.Begin != at || tensor.End-tensor.Begin != size {
				t.Fatalf("%+v at %d: %d bytes, %v", tensor, at, size, err)
			}
			at = tensor.End
			infos = append(infos, TensorInfo{tensor.Name, tensor.DType, tensor.Shape})
		}
		if at != int64(len(data)) {
			t.Fatalf("tensors end at %d of %d", at, len(data))
		}
		header, placed, err := Layout(parsed.Metadata, infos)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(append(header, data[parsed.HeaderBytes:]...))
		if err != nil {
			t.Fatal(err)
		}
		if got := again.Sorted(); fmt.Sprint(got) != fmt.Sprint(placed) {
			t.Fatalf("%v, want %v", got, placed)
		}
	})
}
