//go:build js

package browser

import "unsafe"

// The functions of glue.js. Objects and devices are numbers, 0 is none; a token names the completion to come.

//go:wasmimport qwgpu request
func jsRequest(token uint32)

//go:wasmimport qwgpu spin
func jsSpin(on bool)

//go:wasmimport qwgpu close
func jsClose(dev uint32)

//go:wasmimport qwgpu buffer
func jsBuffer(dev, token uint32, label string, size float64, usage uint32) uint32

//go:wasmimport qwgpu release_buffer
func jsReleaseBuffer(id uint32)

//go:wasmimport qwgpu release
func jsRelease(id uint32)

//go:wasmimport qwgpu kernel
func jsKernel(dev, token uint32, kinds, label, wgsl, entry string) uint32

// entries are buffer, offset and size of each binding.
//
//go:wasmimport qwgpu bind
func jsBind(dev uint32, kinds, label string, entries unsafe.Pointer) uint32

//go:wasmimport qwgpu write
func jsWrite(dev, buffer uint32, offset float64, data unsafe.Pointer, size uint32)

// code are Go slices, one a pass.
//
//go:wasmimport qwgpu submit
func jsSubmit(dev uint32, code unsafe.Pointer, passes uint32)

//go:wasmimport qwgpu flush
func jsFlush(dev, token uint32)

// code are the passes before the copy, maybe none, as in submit.
//
//go:wasmimport qwgpu download
func jsDownload(dev, token, buffer uint32, offset, size float64, code unsafe.Pointer, passes uint32) uint32

//go:wasmimport qwgpu read
func jsRead(dev, staging uint32, dst unsafe.Pointer, size uint32)

//go:wasmimport qwgpu drop
func jsDrop(dev, staging uint32)
