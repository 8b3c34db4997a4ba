// A 16-byte load of 4-bit numbers times its inputs, for lib_matvec.wgsl. Included after weight_q4.wgsl.

// The scale of a load, counted from the matrix's first.
fn load_scale(load: u32) -> f32 {
    return flat_scale(load);
}

// The inputs of a load, from the kernel's x4(load, j): vector j of them. Scaled as shifted_q4 wants them.
struct Inputs {
    x0: vec4<f32>,
    x1: vec4<f32>,
    x2: vec4<f32>,
    x3: vec4<f32>,
    x4: vec4<f32>,
    x5: vec4<f32>,
    x6: vec4<f32>,
    x7: vec4<f32>,
}

fn load_inputs(load: u32) -> Inputs {
    return Inputs(unshift_q4(x4(load, 0u)), unshift_q4(x4(load, 1u)), unshift_q4(x4(load, 2u)), unshift_q4(x4(load, 3u)),
        unshift_q4(x4(load, 4u)), unshift_q4(x4(load, 5u)), unshift_q4(x4(load, 6u)), unshift_q4(x4(load, 7u)));
}

fn dot_q4(w: u32, x_lo: vec4<f32>, x_hi: vec4<f32>) -> f32 {
    return dot(shifted_q4(w), x_lo) + dot(shifted_q4(w >> 16u), x_hi);
}

fn dot_load(w: vec4<u32>, x: Inputs) -> f32 {
    return (dot_q4(w.x, x.x0, x.x1) + dot_q4(w.y, x.x2, x.x3)) + (dot_q4(w.z, x.x4, x.x5) + dot_q4(w.w, x.x6, x.x7));
}
