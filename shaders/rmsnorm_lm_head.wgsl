// logits[n] = rsqrt(mean(x^2) + EPS) * sum_k W[n, k] * gain[k] * x[row, k]   transformers: Qwen3Model.norm, lm_head
// 0 pass_state u32       [4] = row of x whose logits are wanted
// 1 x          f32       [T, K_PAD] residual stream after the last layer, padding zero
// 2 gain       f32       [K_PAD]  norm, padding zero
// 3 weights    vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 4 logits     f32       [rows of all parts]
// 5 scales     u32       f16 pairs, with q8 and q4 only
// Grid: ceil(rows / (BLOCKS*BLOCK_ROWS)) workgroups, folded into x and y; BLOCK_ROWS = ROWS*WORKGROUP_SIZE/THREADS_PER_ROW.
// Accumulates in f32. Parity test: kerneltest "rmsnorm_lm_head".

override HIDDEN: u32 = 1024u;
override K_PAD: u32 = 1024u;
override EPS: f32 = 1e-6;

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> logits: array<f32>;

fn input4(i: u32) -> vec4<f32> {
    let v = x[pass_state[4] * (K_PAD / 4u) + i];
    sum_sq += dot(v, v);
    return v * gain[i];
}

const HAS_NORM: bool = true;
const PAIRS: bool = false;

//#include weight
//#include dot
//#include loads
//#include rows
//#include matvec
//#include matvec_sums

@compute @workgroup_size(WORKGROUP_SIZE)
fn rmsnorm_lm_head(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let zero = unknown_zero(num_groups);
    let first = first_row(group, num_groups);
    for (var block = 0u; block < num_blocks(zero) && first + block * BLOCK_ROWS < NUM_ROWS; block++) {
        let row = first + block * BLOCK_ROWS;
        matvec(row, tid, block, zero);
        let n = stored_row(tid);
        if (n < BLOCK_ROWS && row + n < NUM_ROWS) {
            logits[ROW_START + row + n] = row_sum(n) * inv_rms(HIDDEN, EPS);
        }
    }
}
