// Matrix-vector product for decode: teams of THREADS_PER_ROW neighbouring threads share ROWS rows and stride over their
// 16-byte loads, the loads of UNROLL rounds under way together, or with PIPELINE those of the next round. Included
// after weight_*.wgsl, word_*.wgsl, dot_*.wgsl and lib_rows.wgsl by kernels that declare K_PAD, HAS_NORM, PAIRS, and a function input4(i) that gives
// inputs [4*i, 4*i+4) and, with HAS_NORM, adds their squares to sum_sq. What the threads of a team have is added up in
// lib_matvec_sums.wgsl or lib_matvec_sums_subgroups.wgsl.
// Inputs come through workgroup memory, STAGE_ROUNDS rounds at a time, so that neighbouring threads read neighbouring
// vectors however many weights a load holds. With DIRECT each team reads them itself: no barrier before the products, but
// strided reads, which only bf16's two vectors a load bear.
// WORKGROUP_SIZE, THREADS_PER_ROW and ROWS are powers of two, ROWS at most 8 and at most THREADS_PER_ROW; UNROLL is at most 4
// and divides STAGE_ROUNDS. matvec.go chooses the rest for them.

override WORKGROUP_SIZE: u32 = 128u;
override THREADS_PER_ROW: u32 = 32u;
override BLOCKS: u32 = 1u;        // of rows that a workgroup computes one after the other
override PARTS: u32 = 8u;         // min(16, THREADS_PER_ROW/ROWS): threads that add up one row
override UNROLL: u32 = 1u;
override PIPELINE: u32 = 0u;
override STAGE_ROUNDS: u32 = 1u;
override DIRECT: u32 = 0u;        // 1: inputs do not go through workgroup memory
override ROW_START: u32 = 0u;     // of this part of the matrix among all rows
override NUM_ROWS: u32 = 4096u;   // of this part

fn first_weight() -> u32 {
    return 0u;
}

fn first_scale() -> u32 {
    return 0u;
}

const TEAMS: u32 = WORKGROUP_SIZE / THREADS_PER_ROW;
const BLOCK_ROWS: u32 = ROWS * TEAMS; // rows of a workgroup at a time
const ROUNDS: u32 = (LOADS_PER_ROW + THREADS_PER_ROW - 1u) / THREADS_PER_ROW;
const STAGE_LOADS: u32 = STAGE_ROUNDS * THREADS_PER_ROW;
const STAGE_VECS: u32 = STAGE_LOADS * VECS_PER_LOAD;
const STAGES: u32 = (LOADS_PER_ROW + STAGE_LOADS - 1u) / STAGE_LOADS;
const XS_STRIDE: u32 = STAGE_LOADS * (1u - DIRECT) + 1u; // odd, so that both sides spread over the banks
const XS_VECS: u32 = (VECS_PER_LOAD + INPUT_SUMS) * (1u - DIRECT) + DIRECT;
const SQUARE_THREADS: u32 = DIRECT * THREADS_PER_ROW + (1u - DIRECT) * WORKGROUP_SIZE; // have all inputs between them

var<workgroup> xs: array<array<vec4<f32>, XS_STRIDE>, XS_VECS>; // [XS_VECS, XS_STRIDE] vector j of each load of the stage; with INPUT_SUMS also a sum of each
var<private> sum_sq: f32;
var<private> ahead: RowLoads; // with PIPELINE, the first loads of the next block

// Vector j of the inputs of load `load` of the stage.
fn x4(load: u32, j: u32) -> vec4<f32> {
    if (DIRECT == 0u) {
        return xs[j][load];
    }
    if (load >= LOADS_PER_ROW) {
        return vec4<f32>(0.0);
    }
    return input4(load * VECS_PER_LOAD + j); // bf16 alone: as it is
}

// Past a row's end its last load is loaded again: inputs are zero there.
fn in_row(load: u32) -> u32 {
    return min(load, LOADS_PER_ROW - 1u);
}

// The same rows of the next block.
fn in_next_block(rows: vec4<u32>) -> vec4<u32> {
    return min(rows + vec4<u32>(BLOCK_ROWS), vec4<u32>(NUM_ROWS - 1u));
}

// Vector k4 of the inputs as the products want it, zero past the end.
fn staged_input4(k4: u32) -> vec4<f32> {
    if (k4 >= K_PAD / 4u) {
        return vec4<f32>(0.0);
    }
    return scaled_input4(input4(k4));
}

fn stage_inputs(stage: u32, tid: u32) {
    let begin = stage * STAGE_VECS;
    // Two at a time, so that the second load does not wait for the first.
    for (var i = tid; i < STAGE_VECS; i += 2u * WORKGROUP_SIZE) {
        let k = i + WORKGROUP_SIZE;
        let a = staged_input4(begin + i);
        if (k < STAGE_VECS) {
            let b = staged_input4(begin + k);
            xs[k % VECS_PER_LOAD][k / VECS_PER_LOAD] = b;
        }
        xs[i % VECS_PER_LOAD][i / VECS_PER_LOAD] = a;
    }
}

// First row of the workgroup, which owns BLOCKS times BLOCK_ROWS; rows past NUM_ROWS belong to nobody.
fn first_row(group: vec3<u32>, num_groups: vec3<u32>) -> u32 {
    return (group.y * num_groups.x + group.x) * (BLOCKS * BLOCK_ROWS);
}

// Number of blocks, a constant only where it is one: unrolled, the kernels of a layer would not fit into the instruction cache
// together. zero is unknown_zero.
fn num_blocks(zero: u32) -> u32 {
    return select(1u, BLOCKS + zero, BLOCKS > 1u);
}

// A zero that no compiler knows: the grid has two dimensions.
fn unknown_zero(num_groups: vec3<u32>) -> u32 {
    return num_groups.z - 1u;
}

// Computes sum over k of W[row, k] * input[k] for a block of rows; stored_row, row_sum and inv_rms may be called behind it.
// The order of summation is fixed. Blocks are computed in order from 0 on, as inputs that are all in workgroup memory are brought once.
fn matvec(row: u32, tid: u32, block: u32, zero: u32) {
    held = HELD + zero;
    let lane = tid % THREADS_PER_ROW;
    set_lane(lane);
    let r = vec4<u32>(row + tid / THREADS_PER_ROW * ROWS) + vec4<u32>(0u, 1u, 2u, 3u);
    let rows_a = min(r, vec4<u32>(NUM_ROWS - 1u));
    let rows_b = min(r + vec4<u32>(4u), vec4<u32>(NUM_ROWS - 1u));
    let bring = block == 0u || STAGES > 1u || DIRECT == 1u; // inputs anew
    if (bring) {
        sum_sq = 0.0;
    }
    clear_rows();
    if (PIPELINE == 0u) {
        for (var stage = 0u; stage < STAGES; stage++) {
            for (var round = 0u; round < STAGE_ROUNDS; round += UNROLL) {
                let load = round * THREADS_PER_ROW + lane; // of the stage
                let at = stage * STAGE_LOADS + load;
                let w0 = load_rows(rows_a, rows_b, in_row(at));
                var w1: RowLoads;
                var w2: RowLoads;
                var w3: RowLoads;
                if (UNROLL > 1u) {
                    w1 = load_rows(rows_a, rows_b, in_row(at + THREADS_PER_ROW));
                }
                if (UNROLL > 2u) {
                    w2 = load_rows(rows_a, rows_b, in_row(at + 2u * THREADS_PER_ROW));
                }
                if (UNROLL > 3u) {
                    w3 = load_rows(rows_a, rows_b, in_row(at + 3u * THREADS_PER_ROW));
                }
                if (DIRECT == 0u && round == 0u && bring) {
                    // Behind the first loads, which are under way meanwhile.
                    if (stage > 0u || block > 0u) {
                        workgroupBarrier();
                    }
                    stage_inputs(stage, tid);
                    if (stage + 1u == STAGES) {
                        share_squares(tid);
                    }
                    workgroupBarrier();
                    if (INPUT_SUMS == 1u) {
                        sum_inputs(tid);
                        workgroupBarrier();
                    }
                }
                add_products(w0, load);
                if (UNROLL > 1u) {
                    add_products(w1, load + THREADS_PER_ROW);
                }
                if (UNROLL > 2u) {
                    add_products(w2, load + 2u * THREADS_PER_ROW);
                }
                if (UNROLL > 3u) {
                    add_products(w3, load + 3u * THREADS_PER_ROW);
                }
            }
        }
    } else {
        // The next round's loads are under way while one is multiplied, behind the last one those of the next block's first. They stand
        // under conditions, which keeps them together in front of the products: a compiler that spread them over those would have
        // the last one waited for as soon as it is under way. The loop stays a loop (zero): unrolled, the kernels of a layer would
        // not fit into the instruction cache together.
        var next: RowLoads;
        if (BLOCKS == 1u || block == 0u) {
            next = load_rows(rows_a, rows_b, in_row(lane));
        } else {
            next = ahead;
        }
        for (var stage = 0u; stage < STAGES + zero; stage++) {
            if (bring) {
                if (stage > 0u || block > 0u) {
                    workgroupBarrier();
                }
                stage_inputs(stage, tid);
                if (stage + 1u == STAGES) {
                    share_squares(tid);
                }
                workgroupBarrier();
                if (INPUT_SUMS == 1u) {
                    sum_inputs(tid);
                    workgroupBarrier();
                }
            }
            let first = stage * STAGE_ROUNDS;
            let end = min(first + STAGE_ROUNDS, ROUNDS) + zero;
            for (var round = first; round < end; round++) {
                let current = next;
                if (round + 1u < ROUNDS) {
                    next = load_rows(rows_a, rows_b, in_row((round + 1u) * THREADS_PER_ROW + lane));
                } else if (BLOCKS > 1u) {
                    next = load_rows(in_next_block(rows_a), in_next_block(rows_b), in_row(lane));
                }
                add_products(current, (round - first) * THREADS_PER_ROW + lane);
            }
        }
        ahead = next;
    }
    add_shares(tid);
}
