// From packed bytes back to float32, one row at a time.

package weights

import (
	"encoding/binary"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
)

// DecodeRow widens the first len(dst) weights of a row. data and scales begin at the row; scales is unused for bf16.
func (d DType) DecodeRow(dst []float32, data, scales []byte) {
	switch d {
	case BF16:
		for i := range dst {
			dst[i] = half.BF16ToF32(binary.LittleEndian.Uint16(data[2*i:]))
		}
	case Q8:
		for i := 0; i < len(dst); i += GroupSize {
			scale := half.F16ToF32(binary.LittleEndian.Uint16(scales[i/GroupSize*2:]))
			group := dst[i:min(i+GroupSize, len(dst))]
			for j := range group {
				group[j] = float32(int8(data[i+j])) * scale
			}
		}
	case Q4:
		for i := 0; i < len(dst); i += GroupSize {
			scale := half.F16ToF32(binary.LittleEndian.Uint16(scales[i/GroupSize*2:]))
			group := dst[i:min(i+GroupSize, len(dst))]
			for j := range group {
				// Element j is in bits 4*(j%8) of little-endian u32 j/8, which is nibble j%2 of byte j/2.
				nibble := data[(i+j)/2] >> (4 * (j % 2)) & 0xf
				group[j] = float32(int(nibble)-8) * scale
			}
		}
	}
}
