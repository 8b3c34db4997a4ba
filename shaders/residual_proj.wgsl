// x[n] += sum_k W[n, k] * a[k]                       transformers: Qwen3Attention.o_proj and Qwen3MLP.down_proj, residual
// 0 a       f32       [K_PAD]  attention output, or silu(gate)*up, of one token, padding zero
// 1 weights vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 2 x       f32       [rows of all parts] residual stream, in place
// 3 scales  u32       f16 pairs, with q8 and q4 only
// Grid: ceil(rows / (BLOCKS*BLOCK_ROWS)) workgroups, folded into x and y; BLOCK_ROWS = ROWS*WORKGROUP_SIZE/THREADS_PER_ROW.
// Accumulates in f32. Parity test: kerneltest "residual_proj".

override K_PAD: u32 = 3072u;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

fn input4(i: u32) -> vec4<f32> {
    return a[i];
}

const HAS_NORM: bool = false;
const PAIRS: bool = false;

//#include weight
//#include dot
//#include loads
//#include rows
//#include matvec
//#include matvec_sums

@compute @workgroup_size(WORKGROUP_SIZE)
fn residual_proj(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let zero = unknown_zero(num_groups);
    let first = first_row(group, num_groups);
    for (var block = 0u; block < num_blocks(zero) && first + block * BLOCK_ROWS < NUM_ROWS; block++) {
        let row = first + block * BLOCK_ROWS;
        matvec(row, tid, block, zero);
        let n = stored_row(tid);
        if (n < BLOCK_ROWS && row + n < NUM_ROWS) {
            x[ROW_START + row + n] += row_sum(n);
        }
    }
}
