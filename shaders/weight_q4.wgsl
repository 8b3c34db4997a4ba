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

fn dot_q4(w: vec4<u32>, x: array<vec4<f32>, 8>) -> f32 {
    return ((dot(widen_q4(w.x), x[0]) + dot(widen_q4(w.x >> 16u), x[1])) + (dot(widen_q4(w.y), x[2]) + dot(widen_q4(w.y >> 16u), x[3])))
        + ((dot(widen_q4(w.z), x[4]) + dot(widen_q4(w.z >> 16u), x[5])) + (dot(widen_q4(w.w), x[6]) + dot(widen_q4(w.w >> 16u), x[7])));
}

// Dot products of load `load` of four rows with the matching inputs, which the kernel gives as input4(i) = inputs [4*i, 4*i+4).
fn dot4(row: vec4<u32>, load: u32) -> vec4<f32> {
    let a = weights[row.x * LOADS_PER_ROW + load];
    let b = weights[row.y * LOADS_PER_ROW + load];
    let c = weights[row.z * LOADS_PER_ROW + load];
    let d = weights[row.w * LOADS_PER_ROW + load];
    let s = vec4<f32>(scale_at(row.x, load), scale_at(row.y, load), scale_at(row.z, load), scale_at(row.w, load));
    let i = load * 8u;
    let x = array<vec4<f32>, 8>(input4(i), input4(i + 1u), input4(i + 2u), input4(i + 3u),
        input4(i + 4u), input4(i + 5u), input4(i + 6u), input4(i + 7u));
    return s * vec4<f32>(dot_q4(a, x), dot_q4(b, x), dot_q4(c, x), dot_q4(d, x));
}
