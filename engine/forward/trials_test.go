//go:build !js

package forward

import (
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
)

// boaster claims subgroups that its compiler does not know.
type boaster struct {
	gpu.Device
	min, max uint32
}

func (b boaster) Limits() gpu.Limits {
	l := b.Device.Limits()
	l.HasSubgroups, l.SubgroupMinSize, l.SubgroupMaxSize = true, b.min, b.max
	return l
}

// Subgroups that do not work, or have no fixed size, are not used; it is no error.
func TestSubgroupsThatDoNotWork(t *testing.T) {
	dev := testdevice.Open(t)
	for _, size := range [][2]uint32{{32, 32}, {8, 32}, {0, 0}, {512, 512}} {
		if got := subgroupSize(boaster{dev, size[0], size[1]}); got != 0 {
			t.Errorf("subgroups of %d to %d: %d are used", size[0], size[1], got)
		}
	}
}
