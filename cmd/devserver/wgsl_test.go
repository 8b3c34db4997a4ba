package main

import "testing"

// What a kernel means and what shaders.Specialize looks for stays.
func TestCompactWGSL(t *testing.T) {
	const text = "// A kernel.\n// 0 x f32\n\noverride N: u32 = 1u; // threads\n//\n@group(0) @binding(0) var<storage, read> x: array<f32>;\n\n//#include kv\n//#instance down weight dot\n\n" +
		"fn a() -> f32 {\n    // half\n    if (N > 1u) {\n        return x[0] / 2.0; // a/b//c\n    }\n    return x[0];\n}\n"
	const want = "override N: u32 = 1u;\n@group(0) @binding(0) var<storage, read> x: array<f32>;\n//#include kv\n//#instance down weight dot\n" +
		"fn a() -> f32 {\n if (N > 1u) {\n  return x[0] / 2.0;\n }\n return x[0];\n}\n"
	if got := string(compactWGSL([]byte(text))); got != want {
		t.Errorf("%q", got)
	}
}
