// One product of layer_products.wgsl, pasted once a product behind weight_*.wgsl, dot_*.wgsl and lib_rows.wgsl, every name with
// the product's behind it. Teams of THREADS_PER_ROW neighbouring threads share ROWS rows and stride over their 16-byte loads; a
// workgroup takes every num_groups-th block of rows. The first loads are under way before the inputs are there, those of the
// next round while a round is multiplied.
// The kernel has, by product: prepare(tid) before the inputs are brought; inputs(k), the bits of four inputs or UNSET where they
// are not there yet, and settle(k, bits), which waits for those; gains(k), what they are multiplied by after their squares were
// summed up; keep(row), called as a block begins by the thread that will store(row, sum, sum of row+1 with PAIRS).

override K_PAD: u32 = 1024u;
override K: u32 = 1024u;             // numbers of a row; behind them padding
override NUM_ROWS: u32 = 1024u;
override THREADS_PER_ROW: u32 = 32u; // a power of two, at least 4 and ROWS
override STAGE_ROUNDS: u32 = 1u;     // whose inputs are in workgroup memory together
override NORM: u32 = 0u;             // 1: the mean of the inputs' squares is wanted, see inv_rms
override PAIRS: u32 = 0u;            // 1: a thread stores two neighbouring rows

const BLOCK_ROWS: u32 = ROWS * (WORKGROUP_SIZE / THREADS_PER_ROW);
const NUM_BLOCKS: u32 = (NUM_ROWS + BLOCK_ROWS - 1u) / BLOCK_ROWS;
const ROUNDS: u32 = (LOADS_PER_ROW + THREADS_PER_ROW - 1u) / THREADS_PER_ROW;
const STAGES: u32 = (ROUNDS + STAGE_ROUNDS - 1u) / STAGE_ROUNDS;
const STAGE_LOADS: u32 = STAGE_ROUNDS * THREADS_PER_ROW;
const STAGE_NUMBERS: u32 = STAGE_LOADS * WEIGHTS_PER_LOAD;
const WORDS: u32 = (STAGE_NUMBERS + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; // of a stage, that a thread brings
const XS_STRIDE: u32 = STAGE_LOADS + 1u;                                   // odd, so that both sides spread over the banks
const SHARE_STRIDE: u32 = THREADS_PER_ROW / 4u + 1u;

// Vector j of the inputs of load `load` of the stage.
fn x4(load: u32, j: u32) -> vec4<f32> {
    return xs[j * XS_STRIDE + load];
}

fn load_block(row: u32, load: u32) -> RowLoads {
    let r = vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u);
    return load_rows(min(r, vec4<u32>(NUM_ROWS - 1u)) * LOADS_PER_ROW, min(r + vec4<u32>(4u), vec4<u32>(NUM_ROWS - 1u)) * LOADS_PER_ROW, load);
}

fn put_input(at: u32, x: f32) {
    if (at < STAGE_NUMBERS) {
        xs[at % WEIGHTS_PER_LOAD / 4u * XS_STRIDE + at / WEIGHTS_PER_LOAD][at % 4u] = x;
    }
}

// Numbers `at` of the stage that begins at number `begin`: their squares are added up, and they go to workgroup memory.
fn put_inputs(at: vec4<u32>, begin: u32, bits: vec4<u32>, gain: vec4<f32>, unit: f32) {
    let known = at + begin < vec4<u32>(K) & at < vec4<u32>(STAGE_NUMBERS);
    let x = select(vec4<f32>(0.0), bitcast<vec4<f32>>(bits), known);
    if (NORM == 1u) {
        squares += dot(x, x);
    }
    let v = x * gain * unit;
    put_input(at.x, v.x);
    if (WORDS > 1u) {
        put_input(at.y, v.y);
    }
    if (WORDS > 2u) {
        put_input(at.z, v.z);
        put_input(at.w, v.w);
    }
}

fn gains_of(k: vec4<u32>) -> vec4<f32> {
    if (NORM == 1u) {
        return gains(k);
    }
    return vec4<f32>(1.0);
}

// Brings a stage's inputs. All loads of a turn are under way before the first is waited for.
fn stage_inputs(stage: u32, tid: u32) {
    let begin = stage * STAGE_NUMBERS;
    let unit = scaled_input4(vec4<f32>(1.0))[tid % 4u];
    for (var i = 0u; i < WORDS; i += 16u) {
        let a = vec4<u32>(tid + i * WORKGROUP_SIZE) + WORKGROUP_SIZE * vec4<u32>(0u, 1u, 2u, 3u);
        let b = a + vec4<u32>(4u * WORKGROUP_SIZE);
        let c = a + vec4<u32>(8u * WORKGROUP_SIZE);
        let d = a + vec4<u32>(12u * WORKGROUP_SIZE);
        let last = vec4<u32>(K - 1u);
        let k_a = min(a + begin, last);
        let k_b = min(b + begin, last);
        let k_c = min(c + begin, last);
        let k_d = min(d + begin, last);
        let gain_a = gains_of(k_a);
        var gain_b = vec4<f32>(1.0);
        var gain_c = vec4<f32>(1.0);
        var gain_d = vec4<f32>(1.0);
        let bits_a = inputs(k_a);
        var bits_b = vec4<u32>(0u);
        var bits_c = vec4<u32>(0u);
        var bits_d = vec4<u32>(0u);
        if (WORDS > 4u) {
            gain_b = gains_of(k_b);
            bits_b = inputs(k_b);
        }
        if (WORDS > 8u) {
            gain_c = gains_of(k_c);
            bits_c = inputs(k_c);
        }
        if (WORDS > 12u) {
            gain_d = gains_of(k_d);
            bits_d = inputs(k_d);
        }
        put_inputs(a, begin, settle(k_a, bits_a), gain_a, unit);
        if (WORDS > 4u) {
            put_inputs(b, begin, settle(k_b, bits_b), gain_b, unit);
        }
        if (WORDS > 8u) {
            put_inputs(c, begin, settle(k_c, bits_c), gain_c, unit);
        }
        if (WORDS > 12u) {
            put_inputs(d, begin, settle(k_d, bits_d), gain_d, unit);
        }
    }
}

fn put_share(row: u32, lane: u32, share: f32) {
    shares[row * SHARE_STRIDE + lane / 4u][lane % 4u] = share;
}

// Hands in what a thread has of its team's rows, counted from the half of `shares` that is this block's turn.
fn put_shares(row: u32, lane: u32) {
    put_share(row, lane, across(acc_0));
    if (ROWS > 1u) {
        put_share(row + 1u, lane, across(acc_1));
    }
    if (ROWS > 2u) {
        put_share(row + 2u, lane, across(acc_2));
    }
    if (ROWS > 3u) {
        put_share(row + 3u, lane, across(acc_3));
    }
    if (ROWS > 4u) {
        put_share(row + 4u, lane, across(acc_4));
    }
    if (ROWS > 5u) {
        put_share(row + 5u, lane, across(acc_5));
    }
    if (ROWS > 6u) {
        put_share(row + 6u, lane, across(acc_6));
    }
    if (ROWS > 7u) {
        put_share(row + 7u, lane, across(acc_7));
    }
}

fn row_sum(row: u32) -> f32 {
    var sum = shares[row * SHARE_STRIDE];
    for (var i = 1u; i < THREADS_PER_ROW / 4u; i++) {
        sum += shares[row * SHARE_STRIDE + i];
    }
    return across(sum);
}

// 1 / sqrt(mean of the squares of the inputs + EPS), what RMSNorm divides by; for store.
fn inv_rms() -> f32 {
    return 1.0 / sqrt(all_squares() / f32(K) + EPS);
}

// Computes sum over k of W[row, k] * input[k] for this workgroup's blocks of rows. zero is one that no compiler knows: loops
// over rounds stay loops, for the instruction cache's sake. The order of summation is fixed.
fn run(group: u32, num_groups: u32, tid: u32, zero: u32) {
    if (group >= NUM_BLOCKS) {
        return;
    }
    two_23 = 0x4b000000u + zero;
    let lane = tid % THREADS_PER_ROW;
    let team_row = tid / THREADS_PER_ROW * ROWS;
    let stored = select(tid, 2u * tid, PAIRS == 1u);
    var w = load_block(group * BLOCK_ROWS + team_row, lane);
    prepare(tid);
    var turn = 0u; // the first row's place in shares
    for (var block = group; block < NUM_BLOCKS; block += num_groups) {
        let row = block * BLOCK_ROWS + team_row;
        let store_row = block * BLOCK_ROWS + stored;
        let stores = stored < BLOCK_ROWS && store_row < NUM_ROWS;
        if (stores) {
            keep(store_row);
        }
        acc_0 = vec4<f32>(0.0);
        acc_1 = vec4<f32>(0.0);
        acc_2 = vec4<f32>(0.0);
        acc_3 = vec4<f32>(0.0);
        acc_4 = vec4<f32>(0.0);
        acc_5 = vec4<f32>(0.0);
        acc_6 = vec4<f32>(0.0);
        acc_7 = vec4<f32>(0.0);
        for (var stage = 0u; stage < STAGES; stage++) {
            if (STAGES > 1u || block == group) {
                if (STAGES > 1u && (stage > 0u || block != group)) {
                    workgroupBarrier();
                }
                if (stage == 0u) {
                    squares = 0.0;
                }
                stage_inputs(stage, tid);
                if (NORM == 1u && stage + 1u == STAGES) {
                    share_squares(tid);
                }
                workgroupBarrier();
                if (NORM == 1u && stage + 1u == STAGES) {
                    sum_squares(tid);
                }
            }
            let rounds = min(STAGE_ROUNDS, ROUNDS - stage * STAGE_ROUNDS);
            for (var round = 0u; round < rounds + zero; round++) {
                let current = w;
                let next = stage * STAGE_ROUNDS + round + 1u;
                if (next < ROUNDS) {
                    w = load_block(row, next * THREADS_PER_ROW + lane);
                } else if (block + num_groups < NUM_BLOCKS) {
                    w = load_block(row + num_groups * BLOCK_ROWS, lane);
                }
                add_products(current, round * THREADS_PER_ROW + lane);
            }
        }
        put_shares(turn + team_row, lane);
        workgroupBarrier();
        if (stores) {
            let sum = row_sum(turn + stored);
            if (PAIRS == 1u) {
                store(store_row, sum, row_sum(turn + stored + 1u));
            } else {
                store(store_row, sum, 0.0);
            }
        }
        turn = BLOCK_ROWS - turn; // two blocks share a barrier
    }
}
