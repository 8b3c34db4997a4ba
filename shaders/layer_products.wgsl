// All products between two attentions in one dispatch: o_proj, gate_proj and up_proj, down_proj of a layer, then q|k|v of the next,
// with residuals, norms and SiLU as in attn_out, rmsnorm_gate_up, residual_proj and rmsnorm_qkv.
// The grid stays on the device: each workgroup computes its rows of a product, stores them and goes on to the next product, whose
// first weights it loads while it waits for the other workgroups' rows. So all workgroups must run at the same time, which WebGPU
// does not promise: forward tries a grid before it uses it, waiting is bounded, and a row that did not come in time is a NaN,
// which reaches the token drawn; the pass is then repeated without this kernel.
// Rows go through atomics, since WGSL promises nothing else across workgroups: each number of the exchange is UNSET until it is
// stored, so that it needs no flag, barrier or order beside it. Attention, in front of this kernel, clears it (lib_beside_clear.wgsl).
// 0 pass_state vec4<u32> uniform; [0].w = number of splits
// 1 a          f32       [MAX_SPLITS, Q_PAD] attention output of splits, from ML_BASE on [MAX_SPLITS, NUM_HEADS, 2] largest score and
//                        sum of exponentials
// 2 x          u32       bits of f32: [HIDDEN_PAD] residual stream, in place; from EXCHANGE on the exchange: a word that tells that a
//                        wait was given up, and from FIRST on x behind attention, silu(gate)*up, x behind the MLP, and the
//                        attention output [NUM_HEADS*HEAD_DIM], combined from MANY_SPLITS
// 3 norms      f32       [HIDDEN_PAD] post_attention_layernorm; from NEXT_NORM on input_layernorm of the next layer
// 4 qkv        f32       [rows of the next layer's q, k and v]; shorter: there is no next layer
// 5 to 8 weights_attn_out, weights_gate_up, weights_down, weights_qkv: vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 9 to 12 scales of these  u32  f16 pairs, with q8 and q4 only
// Grid: GROUPS workgroups, all at the same time, in x. Accumulates in f32. Parity test: kerneltest "layer_products".

override GROUPS: u32 = 1u;         // workgroups of the grid
override WORKGROUP_SIZE: u32 = 256u;
override HIDDEN: u32 = 1024u;
override INTERMEDIATE: u32 = 3072u;
override NUM_HEADS: u32 = 16u;
override HEAD_DIM: u32 = 128u;
override Q_PAD: u32 = 2048u;
override FUSED_SPLITS: u32 = 4u;   // at most 4
override MANY_SPLITS: u32 = 0u;    // 1: there are more than FUSED_SPLITS; workgroups share out the columns to combine, as they do rows, instead of each combining all
override COMBINERS: u32 = 32u;     // threads that do that, a multiple of 32, at most as many as xs has vectors
override ML_BASE: u32 = 262144u;
override XS_STRIDE: u32 = 33u;     // one more than the loads whose inputs are in workgroup memory together, at most; odd, so that both sides spread over the banks
override XS_VECS: u32 = 9u;        // vectors of a load's inputs there, with INPUT_SUMS one more
override SHARES_SIZE: u32 = 576u;  // vectors of two blocks' shares, at most
override EXCHANGE: u32 = 1024u;    // a multiple of 4
override NEXT_NORM: u32 = 1024u;
override MAX_POLLS: u32 = 32768u;  // of a thread, in all, before it gives up
override EPS: f32 = 1e-6;

const UNSET: u32 = 0x7fc0a5a5u; // a NaN that no arithmetic makes
const FIRST: u32 = EXCHANGE + 4u;
const MLP_AT: u32 = FIRST + HIDDEN;
const OUT_AT: u32 = MLP_AT + INTERMEDIATE;
const ATTENTION_AT: u32 = OUT_AT + HIDDEN;
const COLUMNS: u32 = 32u; // that a workgroup combines at a time
const COMBINED_COLUMNS: u32 = NUM_HEADS * HEAD_DIM;
const LANES: u32 = COMBINERS / COLUMNS;
const LOWEST: f32 = -1e30;
const SQUARE_PARTS: u32 = 32u;
const SQUARE_VECS: u32 = SQUARE_PARTS / 4u;

@group(0) @binding(0) var<uniform> pass_state: array<vec4<u32>, 2>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<atomic<u32>>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(5) var<storage, read> weights_attn_out: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> weights_gate_up: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> weights_down: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read> weights_qkv: array<vec4<u32>>;

var<workgroup> xs: array<array<vec4<f32>, XS_STRIDE>, XS_VECS>; // [XS_VECS, XS_STRIDE] vector j of each load of the stage; with INPUT_SUMS also a sum of each
var<workgroup> shares: array<vec4<f32>, SHARES_SIZE>; // [2, BLOCK_ROWS, SHARE_STRIDE] what threads have of a block's rows
var<workgroup> part_sq: array<f32, WORKGROUP_SIZE>;
var<workgroup> sums_sq: array<vec4<f32>, SQUARE_VECS>;
var<workgroup> coefs: array<vec4<f32>, NUM_HEADS>;    // factors of the splits in a head's output
var<private> squares: f32;
var<private> polls_left: u32;
var<private> given_up: u32; // not 0: a wait was given up, so that none is worth while
var<private> num_splits: u32;
var<private> kept: u32; // the bits of the residual of the row that this thread will store

fn share_squares(tid: u32) {
    part_sq[tid] = squares;
}

// Behind the barrier; the sums are there behind the next one.
fn sum_squares(tid: u32) {
    if (tid < SQUARE_PARTS) {
        var sum = 0.0;
        for (var i = tid; i < WORKGROUP_SIZE; i += SQUARE_PARTS) {
            sum += part_sq[i];
        }
        sums_sq[tid / 4u][tid % 4u] = sum;
    }
}

fn all_squares() -> f32 {
    var sum = sums_sq[0];
    for (var i = 1u; i < SQUARE_PARTS / 4u; i++) {
        sum += sums_sq[i];
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

fn put(at: u32, value: f32) {
    let bits = bitcast<u32>(value);
    atomicStore(&x[at], select(bits, 0x7fc00000u, bits == UNSET));
}

fn poll(at: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(atomicLoad(&x[at.x]), atomicLoad(&x[at.y]), atomicLoad(&x[at.z]), atomicLoad(&x[at.w]));
}

// Polls once more what was not there.
fn poll_again(at: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    if (any(bits == vec4<u32>(UNSET))) {
        return poll(at);
    }
    return bits;
}

// Polls again until all four are there, or gives up.
fn wait(at: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    var v = bits;
    while (any(v == vec4<u32>(UNSET)) && polls_left > 0u) {
        polls_left -= 1u;
        v = poll(at);
        if (polls_left == 0u) {
            atomicStore(&x[EXCHANGE], 1u);
        }
    }
    return v;
}

//#include loads

// The loads under way, as many as the product's DEPTH; behind its last round those of the product that is next.
var<private> loads_0: RowLoads;
var<private> loads_1: RowLoads;
var<private> loads_2: RowLoads;
var<private> loads_3: RowLoads;

//#instance attn_out weight dot rows product
//#instance gate_up weight dot rows product
//#instance down weight dot rows product
//#instance qkv weight dot rows product

// Where statistic `which` of a head is for four splits; past the last the last.
fn statistics4(head: u32, which: u32) -> vec4<f32> {
    let split = min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(num_splits - 1u));
    let at = ML_BASE + 2u * (split * NUM_HEADS + head) + which;
    return vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);
}

// Loops over the splits would be unrolled, and the kernel no longer fit into the instruction cache beside attention.
fn prepare_attn_out(tid: u32) {
    if (MANY_SPLITS == 1u) {
        return;
    }
    given_up = atomicLoad(&x[EXCHANGE]); // behind the first loads, in front of which all would wait for it
    num_splits = clamp(pass_state[0].w, 1u, FUSED_SPLITS);
    if (num_splits > 1u) {
        for (var h = tid; h < NUM_HEADS; h += WORKGROUP_SIZE) {
            let tops = statistics4(h, 0u);
            let factors = exp(tops - max(max(tops.x, tops.y), max(tops.z, tops.w)));
            let in_use = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(num_splits);
            let parts = select(vec4<f32>(0.0), statistics4(h, 1u) * factors, in_use);
            coefs[h] = select(vec4<f32>(0.0), factors, in_use) / ((parts.x + parts.y) + (parts.z + parts.w));
        }
    }
    workgroupBarrier();
}

// Number k of the output: that of split 0 is there already.
fn combined(k: u32, first: f32) -> f32 {
    let last = num_splits - 1u;
    let splits = vec4<f32>(first, a[k + Q_PAD], a[k + min(2u, last) * Q_PAD], a[k + min(3u, last) * Q_PAD]);
    return dot(splits, coefs[min(k / HEAD_DIM, NUM_HEADS - 1u)]);
}

fn inputs_attn_out(k: vec4<u32>) -> vec4<u32> {
    if (MANY_SPLITS == 1u) {
        return poll(ATTENTION_AT + k);
    }
    return bitcast<vec4<u32>>(vec4<f32>(a[k.x], a[k.y], a[k.z], a[k.w]));
}

fn again_attn_out(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    if (MANY_SPLITS == 1u) {
        return poll_again(ATTENTION_AT + k, bits);
    }
    return bits;
}

fn settle_attn_out(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    if (MANY_SPLITS == 1u) {
        return wait(ATTENTION_AT + k, bits);
    }
    if (num_splits == 1u) {
        return bits;
    }
    let first = bitcast<vec4<f32>>(bits);
    return bitcast<vec4<u32>>(vec4<f32>(combined(k.x, first.x), combined(k.y, first.y), combined(k.z, first.z), combined(k.w, first.w)));
}

fn gains_attn_out(k: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn keep_attn_out(row: u32) {
    kept = atomicLoad(&x[row]);
}

fn store_attn_out(row: u32, sum: f32, unused: f32) {
    put(FIRST + row, bitcast<f32>(kept) + sum);
}

fn next_load_attn_out(group: u32, tid: u32, n: u32) -> RowLoads {
    return first_load_gate_up(group, tid, n);
}

fn prepare_gate_up(tid: u32) {
}

fn inputs_gate_up(k: vec4<u32>) -> vec4<u32> {
    return poll(FIRST + k);
}

fn again_gate_up(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return poll_again(FIRST + k, bits);
}

fn settle_gate_up(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return wait(FIRST + k, bits);
}

fn gains_gate_up(k: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(norms[k.x], norms[k.y], norms[k.z], norms[k.w]);
}

fn keep_gate_up(row: u32) {
}

fn store_gate_up(row: u32, gate_sum: f32, up_sum: f32) {
    let scale = inv_rms_gate_up();
    let gate = gate_sum * scale;
    put(MLP_AT + row / 2u, gate / (1.0 + exp(-gate)) * (up_sum * scale));
}

fn next_load_gate_up(group: u32, tid: u32, n: u32) -> RowLoads {
    return first_load_down(group, tid, n);
}

fn prepare_down(tid: u32) {
}

fn inputs_down(k: vec4<u32>) -> vec4<u32> {
    return poll(MLP_AT + k);
}

fn again_down(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return poll_again(MLP_AT + k, bits);
}

fn settle_down(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return wait(MLP_AT + k, bits);
}

fn gains_down(k: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn keep_down(row: u32) {
    kept = atomicLoad(&x[FIRST + row]);
}

// What was kept is there, as a rule, and was only asked for: to wait for it in front of the inputs' polls would hold these up.
fn store_down(row: u32, sum: f32, unused: f32) {
    let v = bitcast<f32>(wait(vec4<u32>(FIRST + row), vec4<u32>(kept)).x) + sum;
    atomicStore(&x[row], bitcast<u32>(v));
    put(OUT_AT + row, v);
}

fn next_load_down(group: u32, tid: u32, n: u32) -> RowLoads {
    return first_load_qkv(group, tid, n);
}

fn prepare_qkv(tid: u32) {
}

fn inputs_qkv(k: vec4<u32>) -> vec4<u32> {
    return poll(OUT_AT + k);
}

fn again_qkv(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return poll_again(OUT_AT + k, bits);
}

fn settle_qkv(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return wait(OUT_AT + k, bits);
}

fn gains_qkv(k: vec4<u32>) -> vec4<f32> {
    let at = k + vec4<u32>(NEXT_NORM);
    return vec4<f32>(norms[at.x], norms[at.y], norms[at.z], norms[at.w]);
}

fn keep_qkv(row: u32) {
}

fn store_qkv(row: u32, sum: f32, unused: f32) {
    qkv[row] = sum * inv_rms_qkv();
}

fn next_load_qkv(group: u32, tid: u32, n: u32) -> RowLoads {
    var none: RowLoads;
    return none;
}

struct Splits { // four of a lane: statistics of the column's head and outputs
    m: vec4<f32>,
    l: vec4<f32>,
    x: vec4<f32>,
}

fn splits4(first: u32, column: u32) -> Splits {
    let s = min(vec4<u32>(first) + LANES * vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(num_splits - 1u));
    let ml = ML_BASE + 2u * (s * NUM_HEADS + column / HEAD_DIM);
    let at = s * Q_PAD + column;
    return Splits(vec4<f32>(a[ml.x], a[ml.y], a[ml.z], a[ml.w]), vec4<f32>(a[ml.x + 1u], a[ml.y + 1u], a[ml.z + 1u], a[ml.w + 1u]),
        vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]));
}

// Largest score, sum of exponentials and output, both by that score, of a column in the splits of two lanes.
fn joined(a_part: vec4<f32>, b_part: vec4<f32>) -> vec4<f32> {
    let m = max(a_part.x, b_part.x);
    return vec4<f32>(m, exp(a_part.x - m) * a_part.yzw + exp(b_part.x - m) * b_part.yzw);
}

// Combines this workgroup's columns of attention, COLUMNS at a time, in order of the splits: lanes of as many threads share these out.
fn combine(group: u32, tid: u32) {
    num_splits = clamp(pass_state[0].w, 1u, ML_BASE / Q_PAD);
    let lane = tid / COLUMNS;
    for (var begin = group * COLUMNS; begin < COMBINED_COLUMNS; begin += GROUPS * COLUMNS) {
        let column = begin + tid % COLUMNS;
        if (tid < COMBINERS) {
            var part = vec4<f32>(LOWEST, 0.0, 0.0, 0.0);
            for (var first = lane; first < num_splits; first += 4u * LANES) {
                let s = splits4(first, min(column, COMBINED_COLUMNS - 1u));
                let in_use = vec4<u32>(first) + LANES * vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(num_splits);
                let m = select(vec4<f32>(LOWEST), s.m, in_use);
                let top = max(max(m.x, m.y), max(m.z, m.w));
                let factors = select(vec4<f32>(0.0), exp(m - top), in_use);
                part = joined(part, vec4<f32>(top, dot(s.l, factors), dot(s.x, factors), 0.0));
            }
            xs[tid / XS_STRIDE][tid % XS_STRIDE] = part;
        }
        workgroupBarrier();
        if (tid < COLUMNS && column < COMBINED_COLUMNS) {
            var all = xs[tid / XS_STRIDE][tid % XS_STRIDE];
            for (var i = tid + COLUMNS; i < COMBINERS; i += COLUMNS) {
                all = joined(all, xs[i / XS_STRIDE][i % XS_STRIDE]);
            }
            put(ATTENTION_AT + column, all.z / all.y);
        }
        workgroupBarrier();
    }
    given_up = atomicLoad(&x[EXCHANGE]);
    polls_left = select(MAX_POLLS, 0u, given_up != 0u);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn layer_products(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let zero = num_groups.z - 1u;
    if (MANY_SPLITS == 1u) {
        combine(group.x, tid);
    }
    run_attn_out(group.x, tid, zero);
    if (MANY_SPLITS == 0u) {
        if (is_idle_attn_out(group.x)) {
            given_up = atomicLoad(&x[EXCHANGE]); // where prepare_attn_out was not called
        }
        polls_left = select(MAX_POLLS, 0u, given_up != 0u);
    }
    run_gate_up(group.x, tid, zero);
    run_down(group.x, tid, zero);
    if (arrayLength(&qkv) >= NUM_ROWS_QKV) {
        run_qkv(group.x, tid, zero);
    }
}
