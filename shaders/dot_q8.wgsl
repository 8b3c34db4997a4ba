// A 16-byte load of int8 times its inputs, for lib_matvec.wgsl. Included after weight_q8.wgsl.

// The scale of a load, counted from the matrix's first.
fn load_scale(load: u32) -> f32 {
    return flat_scale(load >> 1u);
}

// The inputs of a load, from the kernel's x4(load, j): vector j of them. Scaled as shifted_q8 wants them.
struct Inputs {
    x0: vec4<f32>,
    x1: vec4<f32>,
    x2: vec4<f32>,
    x3: vec4<f32>,
}

fn load_inputs(load: u32) -> Inputs {
    return Inputs(unshift_q8(x4(load, 0u)), unshift_q8(x4(load, 1u)), unshift_q8(x4(load, 2u)), unshift_q8(x4(load, 3u)));
}

fn dot_load(w: vec4<u32>, x: Inputs) -> f32 {
    return (dot(shifted_q8(w.x), x.x0) + dot(shifted_q8(w.y), x.x1)) + (dot(shifted_q8(w.z), x.x2) + dot(shifted_q8(w.w), x.x3));
}
