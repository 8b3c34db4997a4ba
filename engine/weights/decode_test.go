package weights

import (
	"slices"
	"testing"
)

// The three formats, written out by hand as docs/model-format.md describes them.
func TestDecodeRow(t *testing.T) {
	got := make([]float32, 3)
	BF16.DecodeRow(got, []byte{0x80, 0x3f, 0x00, 0xc0, 0xc2, 0x42}, nil)
	if want := []float32{1, -2, 97}; !slices.Equal(got, want) {
		t.Errorf("bf16: %v, want %v", got, want)
	}

	// Two groups of 32 int8, scales 0.5 (0x3800) and -2 (0xc000).
	q8 := make([]byte, 64)
	q8[0], q8[1], q8[31], q8[32], q8[63] = 127, 0x81, 3, 0xff, 10
	got = make([]float32, 64)
	Q8.DecodeRow(got, q8, []byte{0x00, 0x38, 0x00, 0xc0})
	want := make([]float32, 64)
	want[0], want[1], want[31], want[32], want[63] = 63.5, -63.5, 1.5, 2, -20
	if !slices.Equal(got, want) {
		t.Errorf("q8: %v, want %v", got, want)
	}

	// Element e is in bits 4*(e%8) of little-endian u32 e/8; value (nibble-8)*scale. Here nibble e is e%16.
	q4 := make([]byte, 32)
	for word := range 8 {
		var u uint32
		for i := range 8 {
			u |= uint32((8*word+i)%16) << (4 * i)
		}
		q4[4*word], q4[4*word+1], q4[4*word+2], q4[4*word+3] = byte(u), byte(u>>8), byte(u>>16), byte(u>>24)
	}
	Q4.DecodeRow(got, q4, []byte{0x00, 0x38, 0x00, 0xc0})
	for e := range want {
		want[e] = float32(e%16-8) * []float32{0.5, -2}[e/32]
	}
	if !slices.Equal(got, want) {
		t.Errorf("q4: %v, want %v", got, want)
	}
	// A row that ends within a group.
	short := make([]float32, 37)
	Q4.DecodeRow(short, q4, []byte{0x00, 0x38, 0x00, 0xc0})
	if !slices.Equal(short, want[:37]) {
		t.Errorf("q4, 37 columns: %v", short)
	}
}

func TestPlaneBytes(t *testing.T) {
	for _, tc := range []struct {
		d            DType
		rows, cols   int
		data, scales int64
	}{
		{BF16, 3, 33, 3 * 64 * 2, 0}, {Q8, 3, 33, 3 * 64, 12}, {Q4, 3, 33, 3 * 32, 12}, {Q4, 1, 32, 16, 4}, {Q8, 151936, 1024, 151936 * 1024, 151936 * 64},
	} {
		data, scales := tc.d.PlaneBytes(tc.rows, Stride(tc.cols))
		if data != tc.data || scales != tc.scales {
			t.Errorf("%s [%d, %d]: %d and %d bytes, want %d and %d", tc.d, tc.rows, tc.cols, data, scales, tc.data, tc.scales)
		}
	}
	if _, err := ParseDType("f16"); err == nil {
		t.Error("f16 was accepted")
	}
}
