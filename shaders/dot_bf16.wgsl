// A 16-byte load of bfloat16 times its inputs, for lib_matvec.wgsl. Included after weight_bf16.wgsl.

// The scale of a load; bf16 has none.
fn load_scale(load: u32) -> f32 {
    return 1.0;
}

// The inputs of a load, from the kernel's x4(load, j): vector j of them.
struct Inputs {
    x0: vec4<f32>,
    x1: vec4<f32>,
}

fn load_inputs(load: u32) -> Inputs {
    return Inputs(x4(load, 0u), x4(load, 1u));
}

fn dot_load(w: vec4<u32>, x: Inputs) -> f32 {
    return dot(widen_bf16(w.x, w.y), x.x0) + dot(widen_bf16(w.z, w.w), x.x1);
}
