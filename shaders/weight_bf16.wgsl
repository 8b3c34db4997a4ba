// Weights as bfloat16, two a u32. Row-major [rows, K_PAD]; one 16-byte load holds 8 weights.
// Included by kernels that declare `weights: array<vec4<u32>>` and the override K_PAD.

const WEIGHTS_PER_LOAD: u32 = 8u;
const LOADS_PER_ROW: u32 = K_PAD / WEIGHTS_PER_LOAD;
const VECS_PER_LOAD: u32 = WEIGHTS_PER_LOAD / 4u;

struct Weight8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

fn widen_bf16(lo: u32, hi: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(lo << 16u, lo & 0xffff0000u, hi << 16u, hi & 0xffff0000u));
}

// Weights [8*k8, 8*k8+8) of a row.
fn weight8(row: u32, k8: u32) -> Weight8 {
    let w = weights[row * LOADS_PER_ROW + k8];
    return Weight8(widen_bf16(w.x, w.y), widen_bf16(w.z, w.w));
}

// Weights [4*k4, 4*k4+4) of a row.
fn weight4(row: u32, k4: u32) -> vec4<f32> {
    let w = weights[row * LOADS_PER_ROW + (k4 >> 1u)];
    let half = select(w.xy, w.zw, (k4 & 1u) == 1u);
    return widen_bf16(half.x, half.y);
}
