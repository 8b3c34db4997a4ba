// One product of layer_products.wgsl, pasted once a product behind weight_*.wgsl, word_*.wgsl, dot_*.wgsl and lib_rows.wgsl, every name with
// the product's behind it. Teams of THREADS_PER_ROW neighbouring threads share ROWS rows and stride over their 16-byte loads; a
// workgroup takes every GROUPS-th block of rows. The first loads are under way before the inputs are there, those of the
// next round while a round is multiplied, and behind the last round those of the next product, which its own run takes over.
// The kernel has, by product: inputs(k), the bits of four inputs or UNSET where they are not there yet, again(k, bits), which asks for
// those once more, and settle(k, bits), which waits for them; prepare(tid), called between the first of these; gains(k), what they are
// multiplied by after their squares were summed up; keep(row), called as a block begins by the thread that will store(row, sum, sum of row+1
// with PAIRS); next_load(group, tid, n), first_load of the next product; and loads_0 to loads_3, those under way.

override K_PAD: u32 = 1024u;
override K: u32 = 1024u;             // numbers of a row; behind them padding
override NUM_ROWS: u32 = 1024u;
override THREADS_PER_ROW: u32 = 32u; // a multiple of 4, at least ROWS, that divides WORKGROUP_SIZE
override DEPTH: u32 = 1u;            // rounds whose loads are under way together, at most 4
override BROUGHT: u32 = 0u;          // 1: the first DEPTH loads are under way as the product begins
override NEXT_DEPTH: u32 = 0u;       // of the next product, if this one asks for its first loads
override NEXT_FROM: u32 = 0u;        // those below are asked for in the last rounds, the others behind them
override TOGETHER: u32 = 0u;         // 1: what is asked for while a round is multiplied is asked for in front of it, else wherever the compiler puts it
override STAGE_ROUNDS: u32 = 1u;     // whose inputs are in workgroup memory together; a multiple of DEPTH
override NORM: u32 = 0u;             // 1: the mean of the inputs' squares is wanted, see inv_rms
override PAIRS: u32 = 0u;            // 1: a thread stores two neighbouring rows

const BLOCK_ROWS: u32 = ROWS * (WORKGROUP_SIZE / THREADS_PER_ROW);
const NUM_BLOCKS: u32 = (NUM_ROWS + BLOCK_ROWS - 1u) / BLOCK_ROWS;
const BLOCKS: u32 = (NUM_BLOCKS + GROUPS - 1u) / GROUPS; // of a workgroup, at most
const ROUNDS: u32 = (LOADS_PER_ROW + THREADS_PER_ROW - 1u) / THREADS_PER_ROW;
const TURNS: u32 = (ROUNDS + DEPTH - 1u) / DEPTH * DEPTH; // rounds, and those that are only for the count
const LAST_TURN: u32 = TURNS - DEPTH;
const STAGES: u32 = (ROUNDS + STAGE_ROUNDS - 1u) / STAGE_ROUNDS;
const STAGE_LOADS: u32 = STAGE_ROUNDS * THREADS_PER_ROW;
const STAGE_NUMBERS: u32 = STAGE_LOADS * WEIGHTS_PER_LOAD;
const WORDS: u32 = (STAGE_NUMBERS + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; // of a stage, that a thread brings
const TURN_WORDS: u32 = 24u; // of those, that are under way together
const SHARE_STRIDE: u32 = THREADS_PER_ROW / 4u + 1u;

// Vector j of the inputs of load `load` of the stage.
fn x4(load: u32, j: u32) -> vec4<f32> {
    return xs[j][load];
}

// Load `load` of the rows from `row` on. Past the last row, and past a row's end, where inputs are zero, the last is loaded again.
fn load_step(row: u32, load: u32) -> RowLoads {
    var rows_a = vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u);
    var rows_b = rows_a + vec4<u32>(4u);
    var at = load;
    if (NUM_ROWS % BLOCK_ROWS != 0u) {
        rows_a = min(rows_a, vec4<u32>(NUM_ROWS - 1u));
        rows_b = min(rows_b, vec4<u32>(NUM_ROWS - 1u));
    }
    if (LOADS_PER_ROW % THREADS_PER_ROW != 0u) {
        at = min(load, LOADS_PER_ROW - 1u);
    }
    return load_rows(rows_a, rows_b, at);
}

// What the thread's inputs are multiplied by: one of four, since all that it brings have the same place in their vectors.
fn input_unit(tid: u32) -> f32 {
    let units = scaled_input4(vec4<f32>(1.0));
    return select(select(units.x, units.y, (tid & 1u) == 1u), select(units.z, units.w, (tid & 1u) == 1u), (tid & 2u) == 2u);
}

// Whether number first + i*WORKGROUP_SIZE of a stage is one.
fn in_stage(first: u32, i: u32) -> bool {
    return (WORDS <= TURN_WORDS && STAGE_NUMBERS % WORKGROUP_SIZE == 0u) || (first + i * WORKGROUP_SIZE < STAGE_NUMBERS);
}

// What the inputs are multiplied by waits for them in their places: in registers it would not be there when they are. `to` is
// where number `first` is in xs: its vector among the load's, and the load.
fn put_gain(to: vec2<u32>, first: u32, i: u32, gain: f32) {
    if (WORDS > i && in_stage(first, i)) {
        xs[to.x][to.y + i * (WORKGROUP_SIZE / WEIGHTS_PER_LOAD)][first % 4u] = gain;
    }
}

fn put_gains(to: vec2<u32>, first: u32, i: u32, k: vec4<u32>, unit: f32) {
    if (NORM == 1u && WORDS > i) {
        let gain = gains(k) * unit;
        put_gain(to, first, i, gain.x);
        put_gain(to, first, i + 1u, gain.y);
        put_gain(to, first, i + 2u, gain.z);
        put_gain(to, first, i + 3u, gain.w);
    }
}

fn put_input(to: vec2<u32>, first: u32, i: u32, begin: u32, bits: u32, unit: f32) {
    if (WORDS > i && in_stage(first, i)) {
        var x = bitcast<f32>(bits);
        if (STAGES * STAGE_NUMBERS != K && begin + first + i * WORKGROUP_SIZE >= K) {
            x = 0.0;
        }
        let at = to.y + i * (WORKGROUP_SIZE / WEIGHTS_PER_LOAD);
        if (NORM == 1u) {
            squares += x * x;
            xs[to.x][at][first % 4u] *= x;
        } else {
            xs[to.x][at][first % 4u] = x * unit;
        }
    }
}

// Numbers i to i+3 of those of a turn: their squares are added up, and they go to workgroup memory.
fn put_inputs(to: vec2<u32>, first: u32, i: u32, begin: u32, bits: vec4<u32>, unit: f32) {
    put_input(to, first, i, begin, bits.x, unit);
    put_input(to, first, i + 1u, begin, bits.y, unit);
    put_input(to, first, i + 2u, begin, bits.z, unit);
    put_input(to, first, i + 3u, begin, bits.w, unit);
}

// Where those are among all inputs; past the end the last.
fn inputs_at(first: u32, i: u32, begin: u32) -> vec4<u32> {
    let k = vec4<u32>(begin + first + i * WORKGROUP_SIZE) + WORKGROUP_SIZE * vec4<u32>(0u, 1u, 2u, 3u);
    if (STAGES * STAGE_NUMBERS == K && WORDS * WORKGROUP_SIZE == STAGE_NUMBERS && WORDS % 4u == 0u && WORDS <= TURN_WORDS) {
        return k;
    }
    return min(k, vec4<u32>(K - 1u));
}

// Brings a stage's inputs. All loads of a turn are under way before the first is waited for; what was not there is asked for again
// together, behind the first four.
fn stage_inputs(stage: u32, tid: u32) {
    let begin = stage * STAGE_NUMBERS;
    let unit = input_unit(tid);
    for (var i = 0u; i < WORDS; i += TURN_WORDS) {
        let first = tid + i * WORKGROUP_SIZE;
        let to = vec2<u32>(first % WEIGHTS_PER_LOAD / 4u, first / WEIGHTS_PER_LOAD);
        let k_a = inputs_at(first, 0u, begin);
        let k_b = inputs_at(first, 4u, begin);
        let k_c = inputs_at(first, 8u, begin);
        let k_d = inputs_at(first, 12u, begin);
        let k_e = inputs_at(first, 16u, begin);
        let k_f = inputs_at(first, 20u, begin);
        put_gains(to, first, 0u, k_a, unit);
        put_gains(to, first, 4u, k_b, unit);
        put_gains(to, first, 8u, k_c, unit);
        put_gains(to, first, 12u, k_d, unit);
        put_gains(to, first, 16u, k_e, unit);
        put_gains(to, first, 20u, k_f, unit);
        let bits_a = inputs(k_a);
        var bits_b = vec4<u32>(0u);
        var bits_c = vec4<u32>(0u);
        var bits_d = vec4<u32>(0u);
        var bits_e = vec4<u32>(0u);
        var bits_f = vec4<u32>(0u);
        if (WORDS > 4u) {
            bits_b = inputs(k_b);
        }
        if (WORDS > 8u) {
            bits_c = inputs(k_c);
        }
        if (WORDS > 12u) {
            bits_d = inputs(k_d);
        }
        if (WORDS > 16u) {
            bits_e = inputs(k_e);
        }
        if (WORDS > 20u) {
            bits_f = inputs(k_f);
        }
        if (stage == 0u && i == 0u) {
            prepare(tid);
        }
        let settled = settle(k_a, bits_a);
        if (WORDS > 4u) {
            bits_b = again(k_b, bits_b);
        }
        if (WORDS > 8u) {
            bits_c = again(k_c, bits_c);
        }
        if (WORDS > 12u) {
            bits_d = again(k_d, bits_d);
        }
        if (WORDS > 16u) {
            bits_e = again(k_e, bits_e);
        }
        if (WORDS > 20u) {
            bits_f = again(k_f, bits_f);
        }
        put_inputs(to, first, 0u, begin, settled, unit);
        if (WORDS > 4u) {
            put_inputs(to, first, 4u, begin, settle(k_b, bits_b), unit);
        }
        if (WORDS > 8u) {
            put_inputs(to, first, 8u, begin, settle(k_c, bits_c), unit);
        }
        if (WORDS > 12u) {
            put_inputs(to, first, 12u, begin, settle(k_d, bits_d), unit);
        }
        if (WORDS > 16u) {
            put_inputs(to, first, 16u, begin, settle(k_e, bits_e), unit);
        }
        if (WORDS > 20u) {
            put_inputs(to, first, 20u, begin, settle(k_f, bits_f), unit);
        }
    }
}

fn put_share(row: u32, lane: u32, share: f32) {
    scratch[row * SHARE_STRIDE + lane / 4u][lane % 4u] = share;
}

// Hands in what a thread has of its team's rows, counted from the half of `scratch` that is this block's turn.
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
    var sum = scratch[row * SHARE_STRIDE];
    for (var i = 1u; i < THREADS_PER_ROW / 4u; i++) {
        sum += scratch[row * SHARE_STRIDE + i];
    }
    return across(sum);
}

// 1 / sqrt(mean of the squares of the inputs + EPS), what RMSNorm divides by; for store.
fn inv_rms() -> f32 {
    return 1.0 / sqrt(all_squares() / f32(K) + EPS);
}

// Whether a workgroup has no block.
fn is_idle(group: u32) -> bool {
    return NUM_BLOCKS < GROUPS && group >= NUM_BLOCKS;
}

// Load n of those with which a workgroup begins.
fn first_load(group: u32, tid: u32, n: u32) -> RowLoads {
    var w: RowLoads;
    if (n < ROUNDS && ((TOGETHER == 0u && NUM_BLOCKS >= GROUPS) || group < NUM_BLOCKS)) {
        w = load_step(group * BLOCK_ROWS + tid / THREADS_PER_ROW * ROWS, n * THREADS_PER_ROW + tid % THREADS_PER_ROW);
    }
    return w;
}

// What takes the place of load n of those under way, where this workgroup is in the product.
struct Place {
    group: u32,
    tid: u32,
    row: u32,   // the first of the thread's team
    more: bool, // there is another block
}

// Asks for round `round` of this block; behind ROUNDS there is nothing, and *w stays what it was. zero is one that no compiler knows: with
// TOGETHER the loads stand under a condition, so that they are not spread over the products; what stands against them is never asked for.
fn load_round(w: ptr<private, RowLoads>, p: Place, round: u32, zero: u32) {
    if (TOGETHER == 0u || round + zero < TURNS) {
        if (ROUNDS == TURNS || round < ROUNDS) {
            *w = load_step(p.row, round * THREADS_PER_ROW + p.tid % THREADS_PER_ROW);
        }
    } else {
        *w = next_load(p.group, p.tid, 0u);
    }
}

// Asks for round n of the next block, or behind the last block for load n of the next product.
fn load_beyond(w: ptr<private, RowLoads>, p: Place, n: u32) {
    if (BLOCKS > 1u && p.more) {
        if (n < ROUNDS) {
            *w = load_step(p.row + GROUPS * BLOCK_ROWS, n * THREADS_PER_ROW + p.tid % THREADS_PER_ROW);
        }
    } else if (n < NEXT_FROM) {
        *w = next_load(p.group, p.tid, n);
    }
}

// Asks for the next product's first loads from n on.
fn ask_ahead(group: u32, tid: u32, n: u32) {
    if (n == 0u && NEXT_DEPTH > 0u) {
        loads_0 = next_load(group, tid, 0u);
    }
    if (n <= 1u && NEXT_DEPTH > 1u) {
        loads_1 = next_load(group, tid, 1u);
    }
    if (n <= 2u && NEXT_DEPTH > 2u) {
        loads_2 = next_load(group, tid, 2u);
    }
    if (n <= 3u && NEXT_DEPTH > 3u) {
        loads_3 = next_load(group, tid, 3u);
    }
}

// Computes sum over k of W[row, k] * input[k] for this workgroup's blocks of rows. zero is one that no compiler knows: loops
// over rounds stay loops, for the instruction cache's sake. The order of summation is fixed.
fn run(group: u32, tid: u32, zero: u32) {
    if (is_idle(group)) {
        ask_ahead(group, tid, 0u);
        return;
    }
    held = HELD + zero;
    let lane = tid % THREADS_PER_ROW;
    set_lane(lane);
    let team_row = tid / THREADS_PER_ROW * ROWS;
    let stored = select(tid, 2u * tid, PAIRS == 1u);
    if (BROUGHT == 0u) {
        loads_0 = first_load(group, tid, 0u);
        if (DEPTH > 1u) {
            loads_1 = first_load(group, tid, 1u);
        }
        if (DEPTH > 2u) {
            loads_2 = first_load(group, tid, 2u);
        }
        if (DEPTH > 3u) {
            loads_3 = first_load(group, tid, 3u);
        }
    }
    var turn = 0u; // the first row's place in scratch
    for (var i = 0u; i < select(1u, BLOCKS + zero, BLOCKS > 1u); i++) {
        let block = group + i * GROUPS;
        if (BLOCKS > 1u && block >= NUM_BLOCKS) {
            break;
        }
        let place = Place(group, tid, block * BLOCK_ROWS + team_row, block + GROUPS < NUM_BLOCKS);
        let store_row = block * BLOCK_ROWS + stored;
        let stores = stored < BLOCK_ROWS && store_row < NUM_ROWS;
        if (stores) {
            keep(store_row);
        }
        clear_rows();
        for (var stage = 0u; stage < STAGES; stage++) {
            if (STAGES > 1u || i == 0u) {
                if (STAGES > 1u && (stage > 0u || i > 0u)) {
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
                if (INPUT_SUMS == 1u) {
                    sum_inputs(tid);
                    workgroupBarrier();
                }
                if (NORM == 1u && stage + 1u == STAGES) {
                    sum_squares(tid);
                }
            }
            // The next loads are asked for in front of the products, which read what was there before.
            let first = stage * STAGE_ROUNDS;
            let end = min(first + STAGE_ROUNDS, LAST_TURN) + select(0u, zero, LAST_TURN > DEPTH);
            for (var round = first; round < end; round += DEPTH) {
                let load = (round - first) * THREADS_PER_ROW + lane; // of the stage
                let current_0 = loads_0;
                load_round(&loads_0, place, round + DEPTH, zero);
                add_products(current_0, load);
                if (DEPTH > 1u) {
                    let current_1 = loads_1;
                    load_round(&loads_1, place, round + DEPTH + 1u, zero);
                    add_products(current_1, load + THREADS_PER_ROW);
                }
                if (DEPTH > 2u) {
                    let current_2 = loads_2;
                    load_round(&loads_2, place, round + DEPTH + 2u, zero);
                    add_products(current_2, load + 2u * THREADS_PER_ROW);
                }
                if (DEPTH > 3u) {
                    let current_3 = loads_3;
                    load_round(&loads_3, place, round + DEPTH + 3u, zero);
                    add_products(current_3, load + 3u * THREADS_PER_ROW);
                }
            }
        }
        // The last rounds stand by themselves: at the end of a loop what was asked for in it may be moved to other registers, and waited for.
        let load = (LAST_TURN - (STAGES - 1u) * STAGE_ROUNDS) * THREADS_PER_ROW + lane;
        let current_0 = loads_0;
        load_beyond(&loads_0, place, 0u);
        add_products(current_0, load);
        if (DEPTH > 1u) {
            let current_1 = loads_1;
            load_beyond(&loads_1, place, 1u);
            if (LAST_TURN + 1u < ROUNDS) {
                add_products(current_1, load + THREADS_PER_ROW);
            }
        }
        if (DEPTH > 2u) {
            let current_2 = loads_2;
            load_beyond(&loads_2, place, 2u);
            if (LAST_TURN + 2u < ROUNDS) {
                add_products(current_2, load + 2u * THREADS_PER_ROW);
            }
        }
        if (DEPTH > 3u) {
            let current_3 = loads_3;
            load_beyond(&loads_3, place, 3u);
            if (LAST_TURN + 3u < ROUNDS) {
                add_products(current_3, load + 3u * THREADS_PER_ROW);
            }
        }
        if (BLOCKS == 1u || !place.more) {
            ask_ahead(group, tid, NEXT_FROM);
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
    // What this workgroup stored is stored before it waits for it: its threads need not run at the same time.
    workgroupBarrier();
}
