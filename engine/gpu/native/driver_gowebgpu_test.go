//go:build !js && gowebgpu

package native

import "testing"

// keptDeviceBytes is what may stay behind of each closed device: this library keeps the memory pools of all of them.
const keptDeviceBytes = 16 << 20

func TestAcceptedWGSL(t *testing.T) {
	const source = `const A: u32 = 6u; // even
const B: u32 = A / 4u * 2u;
const LOW: f32 = -1e30;
var<workgroup> w: array<f32, B>;
@compute @workgroup_size(A, B)
fn main() { let c: u32 = A * B; }`
	const want = `const A: u32 = 6u; // even
const B: u32 = 2u;
const LOW: f32 = -1e30;
var<workgroup> w: array<f32, B>;
@compute @workgroup_size(6, 2)
fn main() { let c: u32 = A * B; }`
	if got := acceptedWGSL(source); got != want {
		t.Errorf("rewritten as\n%s", got)
	}
}
