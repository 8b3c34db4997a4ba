// The sums of a tile of 8x8 that a thread of matmul.wgsl, matmul_medium.wgsl and attention_prefill.wgsl keeps, in named vectors:
// row i (0..7) with columns 0..3 (lo) and 4..7 (hi).

var<private> lo0: vec4<f32>;
var<private> lo1: vec4<f32>;
var<private> lo2: vec4<f32>;
var<private> lo3: vec4<f32>;
var<private> lo4: vec4<f32>;
var<private> lo5: vec4<f32>;
var<private> lo6: vec4<f32>;
var<private> lo7: vec4<f32>;
var<private> hi0: vec4<f32>;
var<private> hi1: vec4<f32>;
var<private> hi2: vec4<f32>;
var<private> hi3: vec4<f32>;
var<private> hi4: vec4<f32>;
var<private> hi5: vec4<f32>;
var<private> hi6: vec4<f32>;
var<private> hi7: vec4<f32>;

// Adds the outer product of eight rows' and eight columns' numbers.
fn add_outer(a_lo: vec4<f32>, a_hi: vec4<f32>, w_lo: vec4<f32>, w_hi: vec4<f32>) {
    lo0 += a_lo.x * w_lo;
    hi0 += a_lo.x * w_hi;
    lo1 += a_lo.y * w_lo;
    hi1 += a_lo.y * w_hi;
    lo2 += a_lo.z * w_lo;
    hi2 += a_lo.z * w_hi;
    lo3 += a_lo.w * w_lo;
    hi3 += a_lo.w * w_hi;
    lo4 += a_hi.x * w_lo;
    hi4 += a_hi.x * w_hi;
    lo5 += a_hi.y * w_lo;
    hi5 += a_hi.y * w_hi;
    lo6 += a_hi.z * w_lo;
    hi6 += a_hi.z * w_hi;
    lo7 += a_hi.w * w_lo;
    hi7 += a_hi.w * w_hi;
}
