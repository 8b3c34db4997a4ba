// matmul for few tokens or few rows: the same formula, bindings and overrides, in tiles of 32 tokens x 32 rows.
// Four groups of 64 threads share the tile and split the k's of a round, so that one tile keeps a multiprocessor busy.
// 0 part       uniform   rows of W in this dispatch; row_start a multiple of 8
// 1 pass_state u32       [0] = T
// 2 a          f32       [T, A_STRIDE] inputs, zero wherever K_PAD exceeds the true length
// 3 gain       f32       [K_PAD] of the norm, padding zero; any buffer where NORM = 0
// 4 inv_rms    f32       [T] from row_rms; any buffer where NORM = 0
// 5 weights    vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 6 out        f32       [T, OUT_STRIDE] columns row_start.. (EPILOGUE 2: row_start/2..); others keep their value
// 7 scales     u32       f16 pairs, with q8 and q4 only
// Grid: ceil(T/32) x ceil(rows/32); a workgroup owns a tile, a thread 4x4 of it for a quarter of the k's.
// Accumulates in f32, each quarter in order of k, then the quarters in order. Parity test: kerneltest "matmul_small".

//#include weight
//#include matmul

const STEP: u32 = 64u; // k's a round, 16 a group of threads

// Quads of neighbouring rows: [k/4, k%4, quad ^ (k/4)%8], 8 KiB each; the swizzle spreads stores and reads over all banks.
// At the end both hold the groups' sums: [group%2, token, quad of rows].
var<workgroup> tile_a: array<array<array<vec4<f32>, 8>, 4>, 16>;
var<workgroup> tile_w: array<array<array<vec4<f32>, 8>, 4>, 16>;

// Sums of this thread's token i (0..3) with its four rows.
var<private> sum0: vec4<f32>;
var<private> sum1: vec4<f32>;
var<private> sum2: vec4<f32>;
var<private> sum3: vec4<f32>;

fn add_outer(a4: vec4<f32>, w4: vec4<f32>) {
    sum0 += a4.x * w4;
    sum1 += a4.y * w4;
    sum2 += a4.z * w4;
    sum3 += a4.w * w4;
}

fn load_block(brings_inputs: bool, t: u32, n: u32, k4: u32) -> Block {
    if (k4 >= K_PAD / 4u) {
        return Block(vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
    }
    if (brings_inputs) {
        return input_block(t, pass_state[0] - 1u, k4);
    }
    return weight_block(n, k4);
}

// The groups' sums of token t with quad n4 of rows, all four added.
fn total(t: u32, n4: u32) -> vec4<f32> {
    let hi = t / 4u;
    return ((tile_a[hi][t % 4u][n4] + tile_a[8u + hi][t % 4u][n4]) + tile_w[hi][t % 4u][n4]) + tile_w[8u + hi][t % 4u][n4];
}

@compute @workgroup_size(256)
fn matmul_small(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let first_t = group.x * 32u;
    let first_n = group.y * 32u;
    if (first_t >= pass_state[0] || first_n >= part.num_rows) {
        return;
    }
    // Loading: half of the threads bring inputs, half weights; 16 neighbouring threads bring 64 k's of a quad of rows.
    let brings_inputs = tid < 128u;
    let load_k4 = tid % 16u;
    let load_quad = (tid % 128u) / 16u;
    let load_q = load_quad ^ (load_k4 % 8u);
    let load_t = first_t + 4u * load_quad;
    let load_n = first_n + 4u * load_quad;

    let tx = tid % 8u;
    let ty = (tid / 8u) % 8u;
    let part_k4 = tid / 64u * 4u;

    var next = load_block(brings_inputs, load_t, load_n, load_k4);
    for (var k = 0u; k < K_PAD; k += STEP) {
        workgroupBarrier();
        if (brings_inputs) {
            tile_a[load_k4][0][load_q] = next.k0;
            tile_a[load_k4][1][load_q] = next.k1;
            tile_a[load_k4][2][load_q] = next.k2;
            tile_a[load_k4][3][load_q] = next.k3;
        } else {
            tile_w[load_k4][0][load_q] = next.k0;
            tile_w[load_k4][1][load_q] = next.k1;
            tile_w[load_k4][2][load_q] = next.k2;
            tile_w[load_k4][3][load_q] = next.k3;
        }
        workgroupBarrier();
        // The next round's numbers are under way while this round's are multiplied.
        next = load_block(brings_inputs, load_t, load_n, (k + STEP) / 4u + load_k4);
        for (var k4 = part_k4; k4 < part_k4 + 4u; k4++) {
            let qa = ty ^ (k4 % 8u);
            let qw = tx ^ (k4 % 8u);
            add_outer(tile_a[k4][0][qa], tile_w[k4][0][qw]);
            add_outer(tile_a[k4][1][qa], tile_w[k4][1][qw]);
            add_outer(tile_a[k4][2][qa], tile_w[k4][2][qw]);
            add_outer(tile_a[k4][3][qa], tile_w[k4][3][qw]);
        }
    }
    workgroupBarrier();
    let base = tid / 64u % 2u * 8u + ty;
    if (tid < 128u) {
        tile_a[base][0][tx] = sum0;
        tile_a[base][1][tx] = sum1;
        tile_a[base][2][tx] = sum2;
        tile_a[base][3][tx] = sum3;
    } else {
        tile_w[base][0][tx] = sum0;
        tile_w[base][1][tx] = sum1;
        tile_w[base][2][tx] = sum2;
        tile_w[base][3][tx] = sum3;
    }
    workgroupBarrier();
    if (tid < 128u) {
        let t = tid / 4u;
        let n8 = tid % 4u;
        store8(first_t + t, first_n + 8u * n8, total(t, 2u * n8), total(t, 2u * n8 + 1u));
    }
}
