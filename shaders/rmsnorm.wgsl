// out[t, k] = x[t, k] * inv_rms[t] * gain[k]                             transformers: Qwen3RMSNorm
// 0 pass_state u32  [0] = T
// 1 x          f32  [T, HIDDEN_PAD] residual stream, padding zero
// 2 gain       f32  [HIDDEN_PAD]    padding zero
// 3 inv_rms    f32  [T]             from row_rms
// 4 out        f32  [T, HIDDEN_PAD] padding zero
// Grid: ceil(HIDDEN_PAD/4/64) x T; a thread makes 4 numbers. Parity test: kerneltest "rmsnorm".

override HIDDEN_PAD: u32 = 1024u; // hidden rounded up to 32

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> inv_rms: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn rmsnorm(@builtin(global_invocation_id) id: vec3<u32>) {
    let k4 = id.x;
    let t = id.y;
    if (k4 >= HIDDEN_PAD / 4u || t >= pass_state[0]) {
        return;
    }
    let i = t * (HIDDEN_PAD / 4u) + k4;
    out[i] = x[i] * inv_rms[t] * gain[k4];
}
