// qkv[n] = rsqrt(mean(x^2) + EPS) * sum_k W[n, k] * gain[k] * x[k]       transformers: Qwen3RMSNorm, {q,k,v}_proj
// The statistic is a scalar, so it is gathered along with the dot products and applied once at the end.
// 0 x       f32       [K_PAD]  residual stream of one token, padding zero
// 1 gain    f32       [K_PAD]  input_layernorm, padding zero
// 2 weights vec4<u32> [rows, K_PAD] bf16, q8 or q4: q rows, then k, then v
// 3 qkv     f32       [rows of all parts]
// 4 scales  u32       f16 pairs, with q8 and q4 only
// Grid: ceil(rows / (BLOCKS*BLOCK_ROWS)) workgroups, folded into x and y; BLOCK_ROWS = ROWS*WORKGROUP_SIZE/THREADS_PER_ROW.
// Accumulates in f32. Parity test: kerneltest "rmsnorm_qkv", and the goldens' rmsnorm_qkv.*.

override HIDDEN: u32 = 1024u;
override K_PAD: u32 = 1024u;
override EPS: f32 = 1e-6;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> qkv: array<f32>;

fn input4(i: u32) -> vec4<f32> {
    let v = x[i];
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
fn rmsnorm_qkv(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let zero = unknown_zero(num_groups);
    let first = first_row(group, num_groups);
    for (var block = 0u; block < num_blocks(zero) && first + block * BLOCK_ROWS < NUM_ROWS; block++) {
        let row = first + block * BLOCK_ROWS;
        matvec(row, tid, block, zero);
        let n = stored_row(tid);
        if (n < BLOCK_ROWS && row + n < NUM_ROWS) {
            qkv[ROW_START + row + n] = row_sum(n) * inv_rms(HIDDEN, EPS);
        }
    }
}
