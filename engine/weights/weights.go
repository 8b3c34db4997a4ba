// Package weights reads and writes the packed model directory, the format that the converter produces and that the
// engine uploads as it is.
//
// It owns the directory's layout (manifest, shards, pieces, planes) and the number formats (bf16, q8, q4). It does not
// own the GPU: the engine streams planes from here into device buffers, chunk by chunk. docs/model-format.md describes
// the format for other readers.
package weights

import "fmt"

// DType is the number format of a matrix in a packed directory.
type DType string

const (
	BF16 DType = "bf16" // two a u32, little endian, as in the checkpoint
	Q8   DType = "q8"   // groups of 32: int8 plane [rows, stride], f16 scale plane [rows, stride/32]
	Q4   DType = "q4"   // groups of 32: 16 bytes a group, element e in bits 4*(e%8) of u32 e/8, value (nibble-8)*scale; f16 scale plane
)

// GroupSize is the number of neighbouring weights of a row that share one scale in q8 and q4. Every row is padded with
// zeros to a multiple of it in every dtype, so that rows start on 16-byte boundaries.
const GroupSize = 32

// PlaneAlignment is what every plane's offset in its shard is a multiple of, in bytes.
const PlaneAlignment = 16

// PieceRows is what every piece's first row is a multiple of. It keeps the gate and up rows of a pair together, and
// makes the planes of all pieces but the last whole multiples of PlaneAlignment, so they can be laid end to end.
const PieceRows = 32

// ParseDType accepts "bf16", "q8" and "q4".
func ParseDType(s string) (DType, error) {
	switch d := DType(s); d {
	case BF16, Q8, Q4:
		return d, nil
	}
	return "", fmt.Errorf("weights: dtype %q is unknown: use bf16, q8 or q4", s)
}

// Stride is the padded length of a row of cols weights.
func Stride(cols int) int { return (cols + GroupSize - 1) / GroupSize * GroupSize }

// DataRowBytes is the size of one row of stride weights in the data plane.
func (d DType) DataRowBytes(stride int) int64 {
	switch d {
	case BF16:
		return 2 * int64(stride)
	case Q8:
		return int64(stride)
	case Q4:
		return int64(stride) / 2
	}
	return 0
}

// ScaleRowBytes is the size of one row of stride weights in the scale plane, 0 for bf16.
func (d DType) ScaleRowBytes(stride int) int64 {
	if d == BF16 {
		return 0
	}
	return int64(stride) / GroupSize * 2
}

// PlaneBytes are the sizes of a piece's two planes. The scale plane is padded with zeros to a multiple of 4.
func (d DType) PlaneBytes(rows, stride int) (data, scales int64) {
	data = int64(rows) * d.DataRowBytes(stride)
	scales = (int64(rows)*d.ScaleRowBytes(stride) + 3) / 4 * 4
	return data, scales
}
