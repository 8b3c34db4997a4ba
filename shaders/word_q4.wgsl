// Eight 4-bit numbers times their inputs, for dot_q4.wgsl.

const HELD: u32 = TWO_23;
const INPUT_SUMS: u32 = 0u; // 1: numbers are too large by OFFSET: sums begin with -OFFSET times the sum of a load's inputs
const OFFSET: f32 = 0.0;

// Four inputs as the products want them: scaled once, where they are brought, instead of the weights.
fn scaled_input4(x: vec4<f32>) -> vec4<f32> {
    return unshift_q4(x);
}

// The products of eight weights, added to sum.
fn add_word(sum: vec4<f32>, w: u32, x_lo: vec4<f32>, x_hi: vec4<f32>) -> vec4<f32> {
    return fma(shifted_q4(w >> 16u, held), x_hi, fma(shifted_q4(w, held), x_lo, sum));
}
