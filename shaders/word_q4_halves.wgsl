// Eight 4-bit numbers times their inputs, for dot_q4.wgsl, by way of float16: n in the low bits of one is n * 2^-24, a subnormal
// number, and unpack2x16float makes f32 of two, exactly. That is half an instruction a weight less than word_q4.wgsl. The 8 that
// each number is too large by is taken off once a load, from the sum of its inputs. Not on devices that flush subnormal float16
// numbers: shaders.HalvesExact tries.

const HELD: u32 = 0u;
const INPUT_SUMS: u32 = 1u;
const OFFSET: f32 = 8.0;

// Four inputs as the products want them: times 2^24, and 16 less where the numbers come 16 times as large.
fn scaled_input4(x: vec4<f32>) -> vec4<f32> {
    return x * vec4<f32>(16777216.0, 1048576.0, 16777216.0, 1048576.0);
}

// The products of eight numbers, added to sum.
fn add_word(sum: vec4<f32>, w: u32, x_lo: vec4<f32>, x_hi: vec4<f32>) -> vec4<f32> {
    let v = w >> 8u;
    let n04 = unpack2x16float(w & 0x000f000fu);
    let n15 = unpack2x16float(w & 0x00f000f0u);
    let n26 = unpack2x16float(v & 0x000f000fu);
    let n37 = unpack2x16float(v & 0x00f000f0u);
    return fma(vec4<f32>(n04.y, n15.y, n26.y, n37.y), x_hi, fma(vec4<f32>(n04.x, n15.x, n26.x, n37.x), x_lo, sum));
}
