// Weights as bfloat16, two a u32. Row-major [rows, K_PAD]; one 16-byte load holds 8 weights. The scale plane is unused.
// Included by kernels that declare `weights: array<vec4<u32>>`, `scales: array<u32>` and the override K_PAD.

const WEIGHTS_PER_LOAD: u32 = 8u;
const LOADS_PER_ROW: u32 = K_PAD / WEIGHTS_PER_LOAD;

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

// Dot products of load `load` of four rows with the matching inputs, which the kernel gives as input4(i) = inputs [4*i, 4*i+4).
fn dot4(row: vec4<u32>, load: u32) -> vec4<f32> {
    let a = weights[row.x * LOADS_PER_ROW + load];
    let b = weights[row.y * LOADS_PER_ROW + load];
    let c = weights[row.z * LOADS_PER_ROW + load];
    let d = weights[row.w * LOADS_PER_ROW + load];
    let x0 = input4(load * 2u);
    let x1 = input4(load * 2u + 1u);
    return vec4<f32>(
        dot(widen_bf16(a.x, a.y), x0) + dot(widen_bf16(a.z, a.w), x1),
        dot(widen_bf16(b.x, b.y), x0) + dot(widen_bf16(b.z, b.w), x1),
        dot(widen_bf16(c.x, c.y), x0) + dot(widen_bf16(c.z, c.w), x1),
        dot(widen_bf16(d.x, d.y), x0) + dot(widen_bf16(d.z, d.w), x1));
}
