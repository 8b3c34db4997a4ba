// In front of layer_products' o_proj: the splits of attention, which the dispatch before has computed, are combined.
// 6 a          f32       [MAX_SPLITS, Q_PAD] attention output of splits, from ML_BASE on [MAX_SPLITS, NUM_HEADS, 2] largest score and
//                        sum of exponentials

override Q_PAD: u32 = 2048u;
override FUSED_SPLITS: u32 = 4u;   // at most 4
override MANY_SPLITS: u32 = 0u;    // 1: there are more than FUSED_SPLITS; workgroups share out the columns to combine, as they do rows, instead of each combining all
override ML_BASE: u32 = 262144u;
override COMBINERS: u32 = 32u; // threads that do that, a multiple of 32, at most as many as xs has vectors

const COLUMNS: u32 = 32u; // columns, of a workgroup
const COMBINED_COLUMNS: u32 = NUM_HEADS * HEAD_DIM;
const LANES: u32 = COMBINERS / COLUMNS;
const LOWEST: f32 = -1e30;

@group(0) @binding(6) var<storage, read> a: array<f32>;

var<workgroup> coefs: array<vec4<f32>, NUM_HEADS>; // factors of the splits in a head's output
var<private> num_splits: u32;

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
    given_up = atomicLoad(&exchange[0]); // behind the first loads, in front of which all would wait for it
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

struct Splits { // four of a lane: statistics of the column's head and outputs
    m: vec4<f32>,
    l: vec4<f32>,
    x: vec4<f32>,
}

// Splits first, first+LANES and so on of a column; past the last the last.
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
fn combine(group: u32, tid: u32, num_splits: u32) {
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
}

fn num_layers() -> u32 {
    return 1u;
}

fn clears() -> vec2<u32> {
    return layers[SPLITS_VEC].yz;
}

fn front(group: u32, tid: u32, zero: u32) {
    if (MANY_SPLITS == 1u) {
        num_splits = clamp(pass_state[0].w, 1u, ML_BASE / Q_PAD);
        combine(group, tid, num_splits);
        look_back();
    }
}

fn behind_attn_out(group: u32) {
    if (MANY_SPLITS == 0u) {
        if (is_idle_attn_out(group)) {
            given_up = atomicLoad(&exchange[0]); // where prepare_attn_out was not called
        }
        polls_left = select(MAX_POLLS, 0u, given_up != 0u);
    }
}
