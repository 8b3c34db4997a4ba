//go:build !js

package native

func memoryBytes(Adapter) uint64 { return 0 }
