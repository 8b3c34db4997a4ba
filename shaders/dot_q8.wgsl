// A 16-byte load of int8 times its inputs, for lib_matvec.wgsl. Included after weight_q8.wgsl.

// The scale of a load, counted from the matrix's first.
fn load_scale(load: u32) -> f32 {
    return flat_scale(load >> 1u);
}

// Four inputs as add_load wants them: scaled once, where they are brought, instead of the weights.
fn scaled_input4(x: vec4<f32>) -> vec4<f32> {
    return unshift_q8(x);
}

// The inputs of a load, from x4(load, j): vector j of them.
struct Inputs {
    x0: vec4<f32>,
    x1: vec4<f32>,
    x2: vec4<f32>,
    x3: vec4<f32>,
}

fn load_inputs(load: u32) -> Inputs {
    return Inputs(x4(load, 0u), x4(load, 1u), x4(load, 2u), x4(load, 3u));
}

fn add_load(acc: vec4<f32>, scale: f32, w: vec4<u32>, x: Inputs) -> vec4<f32> {
    let low = fma(shifted_q8(w.y), x.x1, shifted_q8(w.x) * x.x0);
    let both = fma(shifted_q8(w.w), x.x3, fma(shifted_q8(w.z), x.x2, low));
    return fma(vec4<f32>(scale), both, acc);
}
