package gpu

import "testing"

func TestWorkgroupBytes(t *testing.T) {
	for _, test := range []struct {
		source string
		bytes  uint64
		ok     bool
	}{
		{"fn main() {}", 0, true},
		{"var<workgroup> a: u32;", 16, true},
		{"var<workgroup> a: array<f32, 64>;", 256, true},
		{"var<workgroup> a: array<f32, 64>; var<workgroup> b: array<vec4<f32>, 3u>;", 304, true},
		{"// var<workgroup> a: array<f32, 64>;\nvar <workgroup> a : array< vec3f , 0x10 > ;", 256, true},
		{"const N = 32u; const M: u32 = N * 4u; var<workgroup> a: array<array<u32, M>, N>;", 16384, true},
		{"const N = (3u + 5u) * 4u / 2u - 1u % 3u; var<workgroup> a: array<u32, N>;", 64, true},
		{"const N = u32(8); var<workgroup> a: array<atomic<u32>, N>;", 32, true},
		{"struct S { a: vec3<f32>, b: f32, c: vec2<u32>, } var<workgroup> s: array<S, 2>;", 64, true},
		{"struct S { a: f32, b: vec4<f32> } var<workgroup> s: S;", 32, true},
		{"var<workgroup> a: array<f32, UNKNOWN>;", 0, false},
		{"alias T = f32; var<workgroup> a: T;", 0, false},
		{"const N = N; var<workgroup> a: array<f32, N>;", 0, false},
		{"struct S { a: S } var<workgroup> a: S;", 0, false},
		{"struct S { @size(32) a: f32 } var<workgroup> a: S;", 0, false},
		{"var<workgroup> a: array<f32, 4294967295>;", 17179869184, true},
	} {
		bytes, ok := ReadWGSL(test.source).WorkgroupBytes()
		if bytes != test.bytes || ok != test.ok {
			t.Errorf("%s\n%d bytes, %v; want %d, %v", test.source, bytes, ok, test.bytes, test.ok)
		}
	}
}
