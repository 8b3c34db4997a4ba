// Weights as 4-bit numbers in groups of 32 with a float16 scale each. One 16-byte load is one group: element e in bits
// 4*(e%8) of u32 e/8; scales flat [rows, K_PAD/32] f16, two a u32. Weight = (nibble - 8) * scale.
// Included by kernels that declare `weights: array<vec4<u32>>`, `scales: array<u32>` and the override K_PAD.

const WEIGHTS_PER_LOAD: u32 = 32u;
const LOADS_PER_ROW: u32 = K_PAD / WEIGHTS_PER_LOAD;

struct Weight8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

fn widen_q4(w: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(w, w >> 4u, w >> 8u, w >> 12u) & vec4<u32>(15u, 15u, 15u, 15u)) - vec4<i32>(8, 8, 8, 8));
}

fn scale_at(row: u32, group: u32) -> f32 {
    let i = row * LOADS_PER_ROW + group;
    let pair = unpack2x16float(scales[i >> 1u]);
    return select(pair.x, pair.y, (i & 1u) == 1u);
}

// Weights [8*k8, 8*k8+8) of a row.
fn weight8(row: u32, k8: u32) -> Weight8 {
    let g = weights[row * LOADS_PER_ROW + (k8 >> 2u)];
    let pair = select(g.xy, g.zw, (k8 & 2u) == 2u);
    let w = select(pair.x, pair.y, (k8 & 1u) == 1u);
    let s = scale_at(row, k8 >> 2u);
    return Weight8(widen_q4(w) * s, widen_q4(w >> 16u) * s);
}

// Weights [4*k4, 4*k4+4) of a row.
fn weight4(row: u32, k4: u32) -> vec4<f32> {
    let g = weights[row * LOADS_PER_ROW + (k4 >> 3u)];
    let pair = select(g.xy, g.zw, (k4 & 4u) == 4u);
    let w = select(pair.x, pair.y, (k4 & 2u) == 2u);
    return widen_q4(w >> ((k4 & 1u) * 16u)) * scale_at(row, k4 >> 3u);
}

fn bytes4(w: u32) -> vec4<f32> {
    return vec4<f32>(vec4<u32>(w, w >> 8u, w >> 16u, w >> 24u) & vec4<u32>(255u, 255u, 255u, 255u));
}

// Sum of nibble * input over 8 weights, inputs with even and odd places apart: two masks give 8 nibbles as bytes.
fn dot8(w: u32, even: vec4<f32>, odd: vec4<f32>) -> f32 {
    return dot(bytes4(w & 0x0f0f0f0fu), even) + dot(bytes4((w >> 4u) & 0x0f0f0f0fu), odd);
}

// Dot products of load `load` of four rows with the matching inputs, which the kernel gives as input4(i) = inputs [4*i, 4*i+4).
fn dot4(row: vec4<u32>, load: u32) -> vec4<f32> {
    let a = weights[row.x * LOADS_PER_ROW + load];
    let b = weights[row.y * LOADS_PER_ROW + load];
    let c = weights[row.z * LOADS_PER_ROW + load];
    let d = weights[row.w * LOADS_PER_ROW + load];
    let s = vec4<f32>(scale_at(row.x, load), scale_at(row.y, load), scale_at(row.z, load), scale_at(row.w, load));
    let i = load * 8u;
    let x0 = input4(i);
    let x1 = input4(i + 1u);
    let x2 = input4(i + 2u);
    let x3 = input4(i + 3u);
    let x4 = input4(i + 4u);
    let x5 = input4(i + 5u);
    let x6 = input4(i + 6u);
    let x7 = input4(i + 7u);
    let e0 = vec4<f32>(x0.xz, x1.xz);
    let o0 = vec4<f32>(x0.yw, x1.yw);
    let e1 = vec4<f32>(x2.xz, x3.xz);
    let o1 = vec4<f32>(x2.yw, x3.yw);
    let e2 = vec4<f32>(x4.xz, x5.xz);
    let o2 = vec4<f32>(x4.yw, x5.yw);
    let e3 = vec4<f32>(x6.xz, x7.xz);
    let o3 = vec4<f32>(x6.yw, x7.yw);
    // Nibbles are 8 too large: 8 times the inputs' sum is taken off for all four rows at once.
    let offset = dot(((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7)), vec4<f32>(8.0, 8.0, 8.0, 8.0));
    return s * (vec4<f32>(
        (dot8(a.x, e0, o0) + dot8(a.y, e1, o1)) + (dot8(a.z, e2, o2) + dot8(a.w, e3, o3)),
        (dot8(b.x, e0, o0) + dot8(b.y, e1, o1)) + (dot8(b.z, e2, o2) + dot8(b.w, e3, o3)),
        (dot8(c.x, e0, o0) + dot8(c.y, e1, o1)) + (dot8(c.z, e2, o2) + dot8(c.w, e3, o3)),
        (dot8(d.x, e0, o0) + dot8(d.y, e1, o1)) + (dot8(d.z, e2, o2) + dot8(d.w, e3, o3))) - offset);
}
