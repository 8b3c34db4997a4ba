// inv_rms[t] = 1 / sqrt(mean(x[t, :]^2) + EPS)                           transformers: Qwen3RMSNorm
// The prefill's matmul multiplies by it at the end: W (x * gain) * inv_rms = W rmsnorm(x).
// 0 pass_state u32  [0] = T
// 1 x          f32  [T, HIDDEN_PAD] residual stream, padding zero
// 2 inv_rms    f32  [T]
// Grid: T workgroups in x; a workgroup owns a token. Accumulates in f32, fixed order. Parity test: kerneltest "row_rms".

override HIDDEN: u32 = 1024u;
override HIDDEN_PAD: u32 = 1024u; // HIDDEN rounded up to 32
override EPS: f32 = 1e-6;

const THREADS: u32 = 128u;

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> inv_rms: array<f32>;

var<workgroup> sums: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn row_rms(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let t = group.x;
    if (t >= pass_state[0]) {
        return;
    }
    var sum = 0.0;
    for (var i = tid; i < HIDDEN_PAD / 4u; i += THREADS) {
        let v = x[t * (HIDDEN_PAD / 4u) + i];
        sum += dot(v, v);
    }
    sums[tid] = sum;
    workgroupBarrier();
    for (var step = THREADS / 2u; step > 0u; step /= 2u) {
        if (tid < step) {
            sums[tid] += sums[tid + step];
        }
        workgroupBarrier();
    }
    if (tid == 0u) {
        inv_rms[t] = 1.0 / sqrt(sums[0] / f32(HIDDEN) + EPS);
    }
}
