// What dot_bf16.wgsl's products want of their inputs: nothing.

const HELD: u32 = 0u;
const INPUT_SUMS: u32 = 0u;
const OFFSET: f32 = 0.0;

// Four inputs as the products want them.
fn scaled_input4(x: vec4<f32>) -> vec4<f32> {
    return x;
}
