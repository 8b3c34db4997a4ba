// The end of lib_matvec.wgsl: adds up the threads' shares through workgroup memory. lib_matvec_sums_subgroups.wgsl has the same
// functions for devices with subgroups.

const PART_STRIDE: u32 = WORKGROUP_SIZE + PARTS;
const PART_SIZE: u32 = ROWS * PART_STRIDE;
const SUMS_SIZE: u32 = PARTS * BLOCK_ROWS;
const SQUARE_PARTS: u32 = 16u;

var<workgroup> part: array<f32, PART_SIZE>;       // [ROWS, PART_STRIDE] a thread's share of its team's rows
var<workgroup> part_sq: array<f32, WORKGROUP_SIZE>;
var<workgroup> sums: array<f32, SUMS_SIZE>;       // [PARTS, BLOCK_ROWS]
var<workgroup> sums_sq: array<f32, SQUARE_PARTS>;

// Called where the inputs are staged, before the barrier behind them; the squares wait for the rows here.
fn share_squares(tid: u32) {
}

// Called by all threads behind the products.
fn add_shares(tid: u32) {
    // Two flat steps instead of a tree: a barrier costs more than a thread's few additions.
    part[tid] = across(acc_0);
    if (ROWS > 1u) {
        part[PART_STRIDE + tid] = across(acc_1);
    }
    if (ROWS > 2u) {
        part[2u * PART_STRIDE + tid] = across(acc_2);
        part[3u * PART_STRIDE + tid] = across(acc_3);
    }
    if (ROWS > 4u) {
        part[4u * PART_STRIDE + tid] = across(acc_4);
        part[5u * PART_STRIDE + tid] = across(acc_5);
        part[6u * PART_STRIDE + tid] = across(acc_6);
        part[7u * PART_STRIDE + tid] = across(acc_7);
    }
    if (HAS_NORM) {
        part_sq[tid] = sum_sq;
    }
    workgroupBarrier();
    if (tid < PARTS * BLOCK_ROWS) {
        let row_of_block = tid / PARTS;
        let begin = row_of_block % ROWS * PART_STRIDE + row_of_block / ROWS * THREADS_PER_ROW + tid % PARTS;
        var sum = 0.0;
        for (var i = 0u; i < THREADS_PER_ROW; i += PARTS) {
            sum += part[begin + i];
        }
        sums[tid % PARTS * BLOCK_ROWS + row_of_block] = sum;
    }
    if (HAS_NORM && tid >= WORKGROUP_SIZE - SQUARE_PARTS) {
        let begin = tid - (WORKGROUP_SIZE - SQUARE_PARTS);
        var sum = 0.0;
        for (var i = 0u; i < SQUARE_THREADS; i += SQUARE_PARTS) {
            sum += part_sq[begin + i];
        }
        sums_sq[begin] = sum;
    }
    workgroupBarrier();
}

// The row of the block that this thread stores, of a pair the first; BLOCK_ROWS or more: none.
fn stored_row(tid: u32) -> u32 {
    return select(tid, 2u * tid, PAIRS);
}

// The product of stored_row, or with PAIRS of the one behind it.
fn row_sum(row_of_block: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < PARTS; i++) {
        sum += sums[i * BLOCK_ROWS + row_of_block];
    }
    return sum;
}

// 1 / sqrt(mean of the squares of n inputs + EPS), what RMSNorm divides by.
fn inv_rms(n: u32, eps: f32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < SQUARE_PARTS; i++) {
        sum += sums_sq[i];
    }
    return 1.0 / sqrt(sum / f32(n) + eps);
}
