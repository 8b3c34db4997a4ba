//go:build !js && gowebgpu

package native

// keptDeviceBytes is what may stay behind of each closed device: this library keeps the memory pools of all of them.
const keptDeviceBytes = 16 << 20
