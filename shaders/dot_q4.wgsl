// A 16-byte load of 4-bit numbers times its inputs, for lib_matvec.wgsl. Included after weight_q4.wgsl.

// The scale of a load, counted from the matrix's first.
fn load_scale(load: u32) -> f32 {
    return flat_scale(load);
}

// Four inputs as add_load wants them: scaled once, where they are brought, instead of the weights.
fn scaled_input4(x: vec4<f32>) -> vec4<f32> {
    return unshift_q4(x);
}

// The inputs of a load, from x4(load, j): vector j of them.
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
    return Inputs(x4(load, 0u), x4(load, 1u), x4(load, 2u), x4(load, 3u), x4(load, 4u), x4(load, 5u), x4(load, 6u), x4(load, 7u));
}

// The products of eight weights, added to sum.
fn add_q4(sum: vec4<f32>, w: u32, x_lo: vec4<f32>, x_hi: vec4<f32>) -> vec4<f32> {
    return fma(shifted_q4(w >> 16u), x_hi, fma(shifted_q4(w), x_lo, sum));
}

fn add_load(acc: vec4<f32>, scale: f32, w: vec4<u32>, x: Inputs) -> vec4<f32> {
    let first = fma(shifted_q4(w.x >> 16u), x.x1, shifted_q4(w.x) * x.x0);
    let all = add_q4(add_q4(add_q4(first, w.y, x.x2, x.x3), w.z, x.x4, x.x5), w.w, x.x6, x.x7);
    return fma(vec4<f32>(scale), all, acc);
}
