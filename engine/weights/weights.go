// Package weights reads and writes the packed model directory, the format that the converter produces and that the
// engine uploads as it is.
//
// It owns the directory's layout (manifest, shards, pieces, planes) and the number formats (bf16, q8, q4). It does not
// own the GPU: the engine streams planes from here into device buffers, chunk by chunk.
package weights

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
