// A 16-byte load of bfloat16 times its inputs, for lib_matvec.wgsl. Included after weight_bf16.wgsl.

// The scale of a load; bf16 has none.
fn load_scale(load: u32) -> f32 {
    return 1.0;
}

// Four inputs as add_load wants them.
fn scaled_input4(x: vec4<f32>) -> vec4<f32> {
    return x;
}

// The inputs of a load, from x4(load, j): vector j of them.
struct Inputs {
    x0: vec4<f32>,
    x1: vec4<f32>,
}

fn load_inputs(load: u32) -> Inputs {
    return Inputs(x4(load, 0u), x4(load, 1u));
}

fn add_load(acc: vec4<f32>, scale: f32, w: vec4<u32>, x: Inputs) -> vec4<f32> {
    return fma(widen_bf16(w.z, w.w), x.x1, fma(widen_bf16(w.x, w.y), x.x0, acc));
}
