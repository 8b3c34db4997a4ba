// out[t, n] = epilogue(sum_k W[n, k] * a[t, k] * gain[k]), many tokens    transformers: Qwen3MLP, Qwen3Attention's projections
// NORM = 1 is RMSNorm fused in: gain at the input, inv_rms[t] at the end; NORM = 0 leaves both out.
// EPILOGUE 0: out = sum. 1: out += sum (residual, in place). 2: out[t, n/2] = silu(sum of row n) * (sum of row n+1), n even.
// 0 part       uniform   rows of W in this dispatch; row_start a multiple of 8
// 1 pass_state u32       [0] = T
// 2 a          f32       [T, A_STRIDE] inputs, zero wherever K_PAD exceeds the true length
// 3 gain       f32       [K_PAD] of the norm, padding zero; any buffer where NORM = 0
// 4 inv_rms    f32       [T] from row_rms; any buffer where NORM = 0
// 5 weights    vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 6 out        f32       [T, OUT_STRIDE] columns row_start.. (EPILOGUE 2: row_start/2..); others keep their value
// 7 scales     u32       f16 pairs, with q8 and q4 only
// Grid: ceil(T/128) x ceil(rows/128); a workgroup owns a tile of 128 tokens x 128 rows, a thread 8x8 of it. For fewer tiles
// than multiprocessors use matmul_small. Accumulates in f32, in order of k. Parity test: kerneltest "matmul".

//#include weight
//#include matmul

const STEP: u32 = 16u; // k's a round

// Quads of neighbouring rows: [k/4, k%4, quad%2, quad/2 ^ swizzle], 8 KiB each. The swizzle 2*(k/4) + quad%2 spreads the
// stores of a block's column and the reads of eight neighbouring quads over all banks.
var<workgroup> tile_a: array<array<array<array<vec4<f32>, 16>, 2>, 4>, 4>;
var<workgroup> tile_w: array<array<array<array<vec4<f32>, 16>, 2>, 4>, 4>;

// Row i of the outer products is this thread's token i, their columns its weight rows.
//#include outer

@compute @workgroup_size(256)
fn matmul(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let num_tokens = pass_state[0];
    let first_t = group.x * 128u;
    let first_n = group.y * 128u;
    if (first_t >= num_tokens || first_n >= part.num_rows) {
        return;
    }
    // Loading: half of the threads bring inputs, half weights; 4 neighbouring threads bring 16 k's of a quad of rows.
    let brings_inputs = tid < 128u;
    let load_k4 = tid % 4u;
    let load_quad = (tid % 128u) / 4u;
    let load_h = load_quad % 2u;
    let load_q = (load_quad / 2u) ^ (2u * load_k4 + load_h);
    let load_t = first_t + 4u * load_quad;
    let load_n = first_n + 4u * load_quad;

    // Computing: a warp of 32 spans 8 (rows) x 4 (tokens) threads. Neighbours differ in ty, the pairs next to each other in tx:
    // so half a warp asks for eight different vectors at most, of inputs as of weights.
    let tx = (tid / 32u) % 2u * 8u + (tid / 2u) % 8u;
    let ty = tid / 64u * 4u + (tid / 16u) % 2u * 2u + tid % 2u;

    var next: Block;
    if (brings_inputs) {
        next = input_block(load_t, num_tokens - 1u, load_k4);
    } else {
        next = weight_block(load_n, load_k4);
    }
    for (var k = 0u; k < K_PAD; k += STEP) {
        workgroupBarrier();
        if (brings_inputs) {
            tile_a[load_k4][0][load_h][load_q] = next.k0;
            tile_a[load_k4][1][load_h][load_q] = next.k1;
            tile_a[load_k4][2][load_h][load_q] = next.k2;
            tile_a[load_k4][3][load_h][load_q] = next.k3;
        } else {
            tile_w[load_k4][0][load_h][load_q] = next.k0;
            tile_w[load_k4][1][load_h][load_q] = next.k1;
            tile_w[load_k4][2][load_h][load_q] = next.k2;
            tile_w[load_k4][3][load_h][load_q] = next.k3;
        }
        workgroupBarrier();
        // The next round's numbers are under way while this round's are multiplied.
        let next_k4 = min(k + STEP, K_PAD - STEP) / 4u + load_k4;
        if (brings_inputs) {
            next = input_block(load_t, num_tokens - 1u, next_k4);
        } else {
            next = weight_block(load_n, next_k4);
        }
        for (var k4 = 0u; k4 < STEP / 4u; k4++) {
            let a0 = ty ^ (2u * k4);
            let a1 = ty ^ (2u * k4 + 1u);
            let w0 = tx ^ (2u * k4);
            let w1 = tx ^ (2u * k4 + 1u);
            add_outer(tile_a[k4][0][0][a0], tile_a[k4][0][1][a1], tile_w[k4][0][0][w0], tile_w[k4][0][1][w1]);
            add_outer(tile_a[k4][1][0][a0], tile_a[k4][1][1][a1], tile_w[k4][1][0][w0], tile_w[k4][1][1][w1]);
            add_outer(tile_a[k4][2][0][a0], tile_a[k4][2][1][a1], tile_w[k4][2][0][w0], tile_w[k4][2][1][w1]);
            add_outer(tile_a[k4][3][0][a0], tile_a[k4][3][1][a1], tile_w[k4][3][0][w0], tile_w[k4][3][1][w1]);
        }
    }
    let t = first_t + 8u * ty;
    let n = first_n + 8u * tx;
    store8(t, n, lo0, hi0);
    store8(t + 1u, n, lo1, hi1);
    store8(t + 2u, n, lo2, hi2);
    store8(t + 3u, n, lo3, hi3);
    store8(t + 4u, n, lo4, hi4);
    store8(t + 5u, n, lo5, hi5);
    store8(t + 6u, n, lo6, hi6);
    store8(t + 7u, n, lo7, hi7);
}
