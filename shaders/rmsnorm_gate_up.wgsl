// mlp[i] = silu(g) * u, g|u = rsqrt(mean(x^2) + EPS) * sum_k W[2i|2i+1, k] * gain[k] * x[k]   transformers: Qwen3MLP
// 0 x       f32       [K_PAD]  residual stream of one token, padding zero
// 1 gain    f32       [K_PAD]  post_attention_layernorm, padding zero
// 2 weights vec4<u32> [rows, K_PAD] bf16, q8 or q4: gate row i, up row i, gate row i+1, ...
// 3 mlp     f32       [rows of all parts / 2]
// 4 scales  u32       f16 pairs, with q8 and q4 only
// Grid: ceil(rows / (BLOCKS*BLOCK_ROWS)) workgroups, folded into x and y; BLOCK_ROWS = ROWS*WORKGROUP_SIZE/THREADS_PER_ROW.
// Accumulates in f32. Parity test: kerneltest "rmsnorm_gate_up".

override HIDDEN: u32 = 1024u;
override K_PAD: u32 = 1024u;
override EPS: f32 = 1e-6;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> mlp: array<f32>;

fn input4(i: u32) -> vec4<f32> {
    let v = x[i];
    sum_sq += dot(v, v);
    return v * gain[i];
}

const HAS_NORM: bool = true;
const PAIRS: bool = true; // rows 2i and 2i+1 are stored by the same thread

//#include weight
//#include dot
//#include loads
//#include rows
//#include matvec
//#include matvec_sums

@compute @workgroup_size(WORKGROUP_SIZE)
fn rmsnorm_gate_up(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let zero = unknown_zero(num_groups);
    let first = first_row(group, num_groups);
    for (var block = 0u; block < num_blocks(zero) && first + block * BLOCK_ROWS < NUM_ROWS; block++) {
        let row = first + block * BLOCK_ROWS;
        matvec(row, tid, block, zero);
        let n = stored_row(tid);
        if (n < BLOCK_ROWS && row + n < NUM_ROWS) {
            let scale = inv_rms(HIDDEN, EPS);
            let gate = row_sum(n) * scale;
            mlp[(ROW_START + row + n) / 2u] = gate / (1.0 + exp(-gate)) * (row_sum(n + 1u) * scale);
        }
    }
}
