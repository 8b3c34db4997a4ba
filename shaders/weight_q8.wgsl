// Weights as int8 in groups of 32 with a float16 scale each. Data row-major [rows, K_PAD] int8, one 16-byte load holds 16
// weights; scales flat [rows, K_PAD/32] f16, two a u32. Weight = int8 * scale.
// Included by kernels that declare `weights: array<vec4<u32>>` and the override K_PAD. The scales are the kernel's last
// binding: its number is filled in where the kernel is specialized.

@group(0) @binding(SCALES_BINDING) var<storage, read> scales: array<u32>;

const WEIGHTS_PER_LOAD: u32 = 16u;
const LOADS_PER_ROW: u32 = K_PAD / WEIGHTS_PER_LOAD;
const VECS_PER_LOAD: u32 = WEIGHTS_PER_LOAD / 4u;
const GROUPS_PER_ROW: u32 = K_PAD / 32u;

const TWO_23: u32 = 0x4b000000u;

struct Weight8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

// Four int8 without a conversion instruction: their bits with the sign turned are 128 more, and put into the mantissa of
// 2^23 a byte in bits 8*e is 2^23 + byte * 256^e, exactly; the subtraction leaves int8 * (1, 256, 1, 256).
// two_23 is TWO_23, the bits of 2^23, or what a kernel keeps in a register for it.
fn shifted_q8(w: u32, two_23: u32) -> vec4<f32> {
    let v = w ^ 0x80808080u;
    let m = (vec4<u32>(v, v, v >> 16u, v >> 16u) & vec4<u32>(0xffu, 0xff00u, 0xffu, 0xff00u)) | vec4<u32>(two_23, two_23, two_23, two_23);
    return bitcast<vec4<f32>>(m) - vec4<f32>(8388736.0, 8421376.0, 8388736.0, 8421376.0);
}

// What takes the 256 off again, here or from the inputs.
fn unshift_q8(x: vec4<f32>) -> vec4<f32> {
    return x * vec4<f32>(1.0, 0.00390625, 1.0, 0.00390625);
}

fn widen_q8(w: u32) -> vec4<f32> {
    return unshift_q8(shifted_q8(w, TWO_23));
}

// Where in its word scale i of the flat scale plane is.
fn flat_shift(i: u32) -> u32 {
    return i % 2u * 16u;
}

fn scale_at(row: u32, group: u32) -> f32 {
    let i = row * GROUPS_PER_ROW + group;
    return unpack2x16float(scales[i >> 1u] >> flat_shift(i)).x;
}

// Weights [8*k8, 8*k8+8) of a row.
fn weight8(row: u32, k8: u32) -> Weight8 {
    let w = weights[row * LOADS_PER_ROW + (k8 >> 1u)];
    let s = scale_at(row, k8 >> 2u);
    let half = select(w.xy, w.zw, (k8 & 1u) == 1u);
    return Weight8(widen_q8(half.x) * s, widen_q8(half.y) * s);
}

// Weights [4*k4, 4*k4+4) of a row.
fn weight4(row: u32, k4: u32) -> vec4<f32> {
    let w = weights[row * LOADS_PER_ROW + (k4 >> 2u)];
    let half = select(w.xy, w.zw, (k4 & 2u) == 2u);
    return widen_q8(select(half.x, half.y, (k4 & 1u) == 1u)) * scale_at(row, k4 >> 3u);
}
