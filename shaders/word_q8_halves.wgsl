// Four int8 times their inputs, for dot_q8.wgsl, by way of float16, as in word_q4_halves.wgsl: bytes with the sign turned are 128
// more, and b in the low bits of a float16 is b * 2^-24.

const HELD: u32 = 0x80808080u;
const INPUT_SUMS: u32 = 1u;
const OFFSET: f32 = 128.0;

// Four inputs as the products want them.
fn scaled_input4(x: vec4<f32>) -> vec4<f32> {
    return x * 16777216.0;
}

// The products of four numbers, added to sum.
fn add_word(sum: vec4<f32>, w: u32, x: vec4<f32>) -> vec4<f32> {
    let b02 = unpack2x16float((w ^ held) & 0x00ff00ffu);
    let b13 = unpack2x16float(((w >> 8u) ^ held) & 0x00ff00ffu);
    return fma(vec4<f32>(b02.x, b13.x, b02.y, b13.y), x, sum);
}
