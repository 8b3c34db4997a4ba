// In front of layer_products' o_proj: the layer's attention. To a short context one workgroup attends with a query head (SPLITS is 1); else each
// with some or all query heads of a KV head to one of SPLITS splits, which are handed on and combined.
// 6 step_state u32       [1] position of the token; from PAGE_TABLE on: physical page numbers
// 7 rope       vec2<f32> [positions, HEAD_DIM/2] cos, sin
// 8 k_cache    Kv8       of each layer [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD]
// 9 v_cache    Kv4       likewise

override SPLITS: u32 = 1u;

const UNITS: u32 = NUM_KV_HEADS * Q_TILES * SPLITS; // of workgroups
const PARTS_AT: u32 = ATTENTION_AT + NUM_HEADS * HEAD_DIM; // in a layer's place: outputs of splits, behind them their statistics
const STATISTICS_AT: u32 = PARTS_AT + SPLITS * NUM_HEADS * HEAD_DIM;
const COMBINED: u32 = 32u; // columns that a workgroup combines at a time: one thread a column and split, then one a column

@group(0) @binding(6) var<storage, read> step_state: array<u32>;
@group(0) @binding(7) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(8) var<storage, read_write> k_cache: array<Kv8>;
@group(0) @binding(9) var<storage, read_write> v_cache: array<Kv4>;

const HANDED_ON: u32 = 1u;

fn first_gain() -> u32 {
    return layers[layer_at + NORMS_VEC].z;
}

fn first_key() -> u32 {
    return layers[layer_at + CACHE_VEC].x;
}

fn first_value() -> u32 {
    return layers[layer_at + CACHE_VEC].y;
}

fn projections4(i: vec4<u32>) -> vec4<f32> {
    let n = i + layers[layer_at + PLACE_VEC].z;
    return bitcast<vec4<f32>>(wait(n, poll(n)));
}

fn head_pairs(head_base: u32, d: vec4<u32>) -> HeadPairs {
    var p: HeadPairs;
    if (PAIRS > 2u) {
        let lower = d + (layers[layer_at + PLACE_VEC].z + head_base);
        let upper = lower + HALF;
        let bits = poll(upper);
        p.a = bitcast<vec4<f32>>(wait(lower, poll(lower)));
        p.b = bitcast<vec4<f32>>(wait(upper, bits));
    } else {
        let both = projections4(vec4<u32>(d.xy, d.xy + HALF) + head_base);
        p.a = vec4<f32>(both.xy, 0.0, 0.0);
        p.b = vec4<f32>(both.zw, 0.0, 0.0);
    }
    return p;
}

fn put_attention(q: u32, head: u32, d: u32, sum: f32, split: u32, num_splits: u32) {
    if (SPLITS == 1u) {
        put(ATTENTION_AT + head * HEAD_DIM + d, sum / total(q));
        return;
    }
    put(PARTS_AT + (split * NUM_HEADS + head) * HEAD_DIM + d, sum);
    if (d == 0u) {
        let statistics = STATISTICS_AT + 2u * (split * NUM_HEADS + head);
        put(statistics, largest(q));
        put(statistics + 1u, total(q));
    }
}

// Combines this workgroup's columns from the splits, in their order, and hands them on.
fn combine(group: u32, tid: u32, zero: u32) {
    for (var begin = group * COMBINED; begin < NUM_HEADS * HEAD_DIM; begin += GROUPS * COMBINED) {
        for (var i = tid; i < COMBINED * SPLITS; i += WORKGROUP_SIZE) {
            let column = min(begin + i % COMBINED, NUM_HEADS * HEAD_DIM - 1u);
            let statistics = STATISTICS_AT + 2u * (i / COMBINED * NUM_HEADS + column / HEAD_DIM);
            let part = vec4<u32>(statistics, statistics + 1u, vec2<u32>(PARTS_AT + i / COMBINED * (NUM_HEADS * HEAD_DIM) + column));
            scratch[i] = bitcast<vec4<f32>>(wait(part, poll(part)));
        }
        workgroupBarrier();
        let column = begin + tid;
        if (tid < COMBINED && column < NUM_HEADS * HEAD_DIM) {
            var top = LOWEST;
            var sums = vec2<f32>(0.0);
            for (var i = tid; i < COMBINED * SPLITS + zero; i += COMBINED) {
                let part = scratch[i];
                let next = max(top, part.x);
                sums = exp(top - next) * sums + exp(part.x - next) * part.yz;
                top = next;
            }
            put(ATTENTION_AT + column, sums.y / sums.x);
        }
        workgroupBarrier();
    }
}

fn num_layers() -> u32 {
    return layers[RUN_VEC].x;
}

fn clears() -> vec2<u32> {
    return layers[RUN_VEC].yz;
}

fn front(group: u32, tid: u32, zero: u32) {
    if (layer_at == 0u) {
        look_back();
    }
    for (var unit = group; unit < UNITS; unit += GROUPS) {
        attend(tid, unit / SPLITS / Q_TILES, unit / SPLITS % Q_TILES, unit % SPLITS, SPLITS, 0u);
        workgroupBarrier();
    }
    if (SPLITS > 1u) {
        combine(group, tid, zero);
    }
}

fn prepare_attn_out(tid: u32) {
}

fn inputs_attn_out(k: vec4<u32>) -> vec4<u32> {
    return poll(ATTENTION_AT + k);
}

fn again_attn_out(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return poll_again(ATTENTION_AT + k, bits);
}

fn settle_attn_out(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return wait(ATTENTION_AT + k, bits);
}

fn behind_attn_out(group: u32) {
}
