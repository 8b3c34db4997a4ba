// The end of lib_matvec.wgsl where the device has subgroups: adds up the threads' shares by shuffles. LANES neighbouring
// threads of a team halve the rows among themselves until each has one row (half of them keep the upper rows and give the
// lower ones away, the others the reverse), and add that up. Only where a team is more than one subgroup the rest goes
// through workgroup memory, behind a barrier; elsewhere a thread stores what it has.
// Thread t is taken to be lane t % SUBGROUP_SIZE, which WGSL does not promise: engine/forward tries it when it loads.

override SUBGROUP_SIZE: u32 = 32u;
override LANES: u32 = 32u; // min(SUBGROUP_SIZE, THREADS_PER_ROW), at least ROWS

const GAP: u32 = LANES / ROWS;              // neighbouring lanes that end with the same row
const ROW_PARTS: u32 = THREADS_PER_ROW / LANES;
const SUMS_SIZE: u32 = ROW_PARTS * BLOCK_ROWS;
const SUBGROUPS: u32 = WORKGROUP_SIZE / SUBGROUP_SIZE;
const IN_LANES: bool = ROW_PARTS == 1u && (!PAIRS || GAP < SUBGROUP_SIZE); // no sum leaves its subgroup

var<workgroup> sums: array<f32, SUMS_SIZE>;      // [ROW_PARTS, BLOCK_ROWS]
var<workgroup> sums_sq: array<f32, SUBGROUPS>;
var<private> own_sum: f32;
var<private> next_sum: f32; // of the row behind it, with PAIRS
var<private> own_squares: f32;

// The sum of value over each group of `lanes` neighbouring lanes, in all of them the same bits.
fn sum_lanes(value: f32, lanes: u32) -> f32 {
    var sum = value;
    for (var apart = lanes / 2u; apart > 0u; apart /= 2u) {
        sum += subgroupShuffleXor(sum, apart);
    }
    return sum;
}

// Called where the inputs are staged, before the barrier behind them: no other one is needed for the squares.
fn share_squares(tid: u32) {
    if (HAS_NORM) {
        let squares = sum_lanes(sum_sq, SUBGROUP_SIZE);
        if (tid % SUBGROUP_SIZE == 0u) {
            sums_sq[tid / SUBGROUP_SIZE] = squares;
        }
    }
}

// Called by all threads behind the products. Where there are fewer rows the distances, unused, are 0.
fn add_shares(tid: u32) {
    let shares_a = vec4<f32>(across(acc_0), across(acc_1), across(acc_2), across(acc_3));
    var four = shares_a;
    if (ROWS > 4u) {
        let shares_b = vec4<f32>(across(acc_4), across(acc_5), across(acc_6), across(acc_7));
        let upper = tid % LANES >= LANES / 2u;
        four = select(shares_a, shares_b, upper) + subgroupShuffleXor(select(shares_b, shares_a, upper), 4u * GAP % LANES);
    }
    var two = four.xy;
    if (ROWS > 2u) {
        let upper = tid % (4u * GAP) >= 2u * GAP;
        two = select(four.xy, four.zw, upper) + subgroupShuffleXor(select(four.zw, four.xy, upper), 2u * GAP % LANES);
    }
    var one = two.x;
    if (ROWS > 1u) {
        let upper = tid % (2u * GAP) >= GAP;
        one = select(two.x, two.y, upper) + subgroupShuffleXor(select(two.y, two.x, upper), GAP % LANES);
    }
    own_sum = sum_lanes(one, GAP);
    if (IN_LANES) {
        if (PAIRS) {
            next_sum = subgroupShuffleXor(own_sum, GAP % SUBGROUP_SIZE);
        }
        if (HAS_NORM && DIRECT == 1u) {
            own_squares = sum_lanes(sum_sq, LANES);
        }
        return;
    }
    if (BLOCKS > 1u) {
        workgroupBarrier(); // the last block's sums have been read
    }
    if (DIRECT == 1u) {
        share_squares(tid);
    }
    if (tid % GAP == 0u) {
        let row_of_block = tid / THREADS_PER_ROW * ROWS + tid % LANES / GAP;
        sums[tid % THREADS_PER_ROW / LANES * BLOCK_ROWS + row_of_block] = own_sum;
    }
    workgroupBarrier();
}

// The row of the block that this thread stores, of a pair the first; BLOCK_ROWS or more: none.
fn stored_row(tid: u32) -> u32 {
    if (IN_LANES) {
        // LANES are a team: its rows are at every GAP-th lane.
        return select(BLOCK_ROWS, tid / GAP, tid % select(GAP, 2u * GAP, PAIRS) == 0u);
    }
    return select(tid, 2u * tid, PAIRS);
}

// The product of stored_row, or with PAIRS of the one behind it.
fn row_sum(row_of_block: u32) -> f32 {
    if (IN_LANES) {
        return select(own_sum, next_sum, PAIRS && row_of_block % 2u == 1u);
    }
    var sum = 0.0;
    for (var i = 0u; i < ROW_PARTS; i++) {
        sum += sums[i * BLOCK_ROWS + row_of_block];
    }
    return sum;
}

// 1 / sqrt(mean of the squares of n inputs + EPS), what RMSNorm divides by.
fn inv_rms(n: u32, eps: f32) -> f32 {
    var sum = 0.0;
    if (IN_LANES && DIRECT == 1u) {
        sum = own_squares;
    } else {
        for (var i = 0u; i < SQUARE_THREADS / SUBGROUP_SIZE; i++) {
            sum += sums_sq[i];
        }
    }
    return 1.0 / sqrt(sum / f32(n) + eps);
}
