// Weights as 4-bit numbers in groups of 32 with a float16 scale each. One 16-byte load is one group: element e in bits
// 4*(e%8) of u32 e/8; scales flat [rows, K_PAD/32] f16, two a u32. Weight = (nibble - 8) * scale.
// Included by kernels that declare `weights: array<vec4<u32>>` and the override K_PAD. The scales are the kernel's last
// binding: its number is filled in where the kernel is specialized.

@group(0) @binding(SCALES_BINDING) var<storage, read> scales: array<u32>;

const WEIGHTS_PER_LOAD: u32 = 32u;
const LOADS_PER_ROW: u32 = K_PAD / WEIGHTS_PER_LOAD;
const VECS_PER_LOAD: u32 = WEIGHTS_PER_LOAD / 4u;

const TWO_23: u32 = 0x4b000000u;

struct Weight8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

// Four nibbles without a conversion instruction: put into the mantissa of 2^23 a nibble in bits 4*e is 2^23 + nibble * 16^e,
// exactly; the subtraction leaves (nibble - 8) * 16^e.
// two_23 is TWO_23, the bits of 2^23, or what a kernel keeps in a register for it.
fn shifted_q4(w: u32, two_23: u32) -> vec4<f32> {
    let m = (vec4<u32>(w, w, w, w) & vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u)) | vec4<u32>(two_23, two_23, two_23, two_23);
    return bitcast<vec4<f32>>(m) - vec4<f32>(8388616.0, 8388736.0, 8390656.0, 8421376.0);
}

// What takes the 16^e off again, here or from the inputs.
fn unshift_q4(x: vec4<f32>) -> vec4<f32> {
    return x * vec4<f32>(1.0, 0.0625, 0.00390625, 0.000244140625);
}

fn widen_q4(w: u32) -> vec4<f32> {
    return unshift_q4(shifted_q4(w, TWO_23));
}

// Where in its word scale i of the flat scale plane is.
fn flat_shift(i: u32) -> u32 {
    return i % 2u * 16u;
}

fn scale_at(row: u32, group: u32) -> f32 {
    let i = row * LOADS_PER_ROW + group;
    return unpack2x16float(scales[i >> 1u] >> flat_shift(i)).x;
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
