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

// One load of four rows.
struct Weights4 {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

// Load `load` of the rows that start at loads rows.x, .y, .z and .w.
fn load_weights(rows: vec4<u32>, load: u32) -> Weights4 {
    return Weights4(weights[rows.x + load], weights[rows.y + load], weights[rows.z + load], weights[rows.w + load]);
}

// Their dot products with the matching inputs, which the kernel gives as staged4(load, j): vector j of the load's.
fn dot4(w: Weights4, load: u32) -> vec4<f32> {
    let x0 = staged4(load, 0u);
    let x1 = staged4(load, 1u);
    return vec4<f32>(
        dot(widen_bf16(w.a.x, w.a.y), x0) + dot(widen_bf16(w.a.z, w.a.w), x1),
        dot(widen_bf16(w.b.x, w.b.y), x0) + dot(widen_bf16(w.b.z, w.b.w), x1),
        dot(widen_bf16(w.c.x, w.c.y), x0) + dot(widen_bf16(w.c.z, w.c.w), x1),
        dot(widen_bf16(w.d.x, w.d.y), x0) + dot(widen_bf16(w.d.z, w.d.w), x1));
}
