// matmul for products of few large tiles: the same formula, bindings and overrides, in tiles of 64 tokens x 64 rows.
// Four groups of 64 threads share the tile and split the k's of a round: each thread has 8x8 as in matmul, so that a vector
// read from workgroup memory is as useful, and there are four times as many tiles.
// 0 part       uniform   rows of W in this dispatch; row_start a multiple of 8
// 1 pass_state u32       [0] = T
// 2 a          f32       [T, A_STRIDE] inputs, zero wherever K_PAD exceeds the true length
// 3 gain       f32       [K_PAD] of the norm, padding zero; any buffer where NORM = 0
// 4 inv_rms    f32       [T] from row_rms; any buffer where NORM = 0
// 5 weights    vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 6 out        f32       [T, OUT_STRIDE] columns row_start.. (EPILOGUE 2: row_start/2..); others keep their value
// 7 scales     u32       f16 pairs, with q8 and q4 only
// Grid: ceil(T/64) x ceil(rows/64); a workgroup owns a tile, a thread 8x8 of it for a quarter of the k's.
// Accumulates in f32, each quarter in order of k, then the quarters in order. Parity test: kerneltest "matmul_medium".

//#include weight
//#include matmul

const STEP: u32 = 32u; // k's a round, 8 a group of threads

// Quads of neighbouring rows: [k/4, k%4, quad%2, quad/2 ^ k/4], 8 KiB each; the swizzle spreads stores and reads over all banks.
// At the end both hold sums of two tokens a thread: [group%2 * 4 + token * 2 + quad, ty/2, ty%2, tx] of groups 0, 1 and 2, 3.
var<workgroup> tile_a: array<array<array<array<vec4<f32>, 8>, 2>, 4>, 8>;
var<workgroup> tile_w: array<array<array<array<vec4<f32>, 8>, 2>, 4>, 8>;

// Row i of the outer products is this thread's token i, their columns its weight rows.
//#include outer

// Adds four k's.
fn multiply(k4: u32, tx: u32, ty: u32) {
    let i = ty ^ k4;
    let n = tx ^ k4;
    add_outer(tile_a[k4][0][0][i], tile_a[k4][0][1][i], tile_w[k4][0][0][n], tile_w[k4][0][1][n]);
    add_outer(tile_a[k4][1][0][i], tile_a[k4][1][1][i], tile_w[k4][1][0][n], tile_w[k4][1][1][n]);
    add_outer(tile_a[k4][2][0][i], tile_a[k4][2][1][i], tile_w[k4][2][0][n], tile_w[k4][2][1][n]);
    add_outer(tile_a[k4][3][0][i], tile_a[k4][3][1][i], tile_w[k4][3][0][n], tile_w[k4][3][1][n]);
}

fn load_block(brings_inputs: bool, t: u32, n: u32, k4: u32) -> Block {
    if (brings_inputs) {
        return input_block(t, pass_state[0] - 1u, k4);
    }
    return weight_block(n, k4);
}

// The groups' sums at i, all four added.
fn total(i: u32, tx: u32, ty: u32) -> vec4<f32> {
    let y = ty / 2u;
    let z = ty % 2u;
    return ((tile_a[i][y][z][tx] + tile_a[4u + i][y][z][tx]) + tile_w[i][y][z][tx]) + tile_w[4u + i][y][z][tx];
}

// Adds up and stores the groups' sums of two tokens a thread, t and t+1 of its eight.
fn store_tokens(tid: u32, tx: u32, ty: u32, t: u32, first_t: u32, first_n: u32, lo_a: vec4<f32>, hi_a: vec4<f32>, lo_b: vec4<f32>, hi_b: vec4<f32>) {
    workgroupBarrier();
    let i = tid / 64u % 2u * 4u;
    let y = ty / 2u;
    let z = ty % 2u;
    if (tid < 128u) {
        tile_a[i][y][z][tx] = lo_a;
        tile_a[i + 1u][y][z][tx] = hi_a;
        tile_a[i + 2u][y][z][tx] = lo_b;
        tile_a[i + 3u][y][z][tx] = hi_b;
    } else {
        tile_w[i][y][z][tx] = lo_a;
        tile_w[i + 1u][y][z][tx] = hi_a;
        tile_w[i + 2u][y][z][tx] = lo_b;
        tile_w[i + 3u][y][z][tx] = hi_b;
    }
    workgroupBarrier();
    if (tid < 128u) {
        let token = tid / 64u;
        let n8 = tid % 8u;
        let t8 = tid / 8u % 8u;
        store8(first_t + 8u * t8 + t + token, first_n + 8u * n8, total(2u * token, n8, t8), total(2u * token + 1u, n8, t8));
    }
}

@compute @workgroup_size(256)
fn matmul_medium(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let first_t = group.x * 64u;
    let first_n = group.y * 64u;
    if (first_t >= pass_state[0] || first_n >= part.num_rows) {
        return;
    }
    // Loading: half of the threads bring inputs, half weights; 8 neighbouring threads bring 32 k's of a quad of rows.
    let brings_inputs = tid < 128u;
    let load_k4 = tid % 8u;
    let load_quad = (tid % 128u) / 8u;
    let load_h = load_quad % 2u;
    let load_q = (load_quad / 2u) ^ load_k4;
    let load_t = first_t + 4u * load_quad;
    let load_n = first_n + 4u * load_quad;

    // Computing: as in matmul, neighbouring threads differ in ty, the pairs next to each other in tx.
    let tx = (tid / 2u) % 8u;
    let ty = (tid / 16u) % 4u * 2u + tid % 2u;
    let part_k4 = tid / 64u % 4u * 2u;

    var next = load_block(brings_inputs, load_t, load_n, load_k4);
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
        next = load_block(brings_inputs, load_t, load_n, min(k + STEP, K_PAD - STEP) / 4u + load_k4);
        multiply(part_k4, tx, ty);
        multiply(part_k4 + 1u, tx, ty);
    }
    store_tokens(tid, tx, ty, 0u, first_t, first_n, lo0, hi0, lo1, hi1);
    store_tokens(tid, tx, ty, 2u, first_t, first_n, lo2, hi2, lo3, hi3);
    store_tokens(tid, tx, ty, 4u, first_t, first_n, lo4, hi4, lo5, hi5);
    store_tokens(tid, tx, ty, 6u, first_t, first_n, lo6, hi6, lo7, hi7);
}
