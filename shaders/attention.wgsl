// Decode attention of one token over one split of its context, with QK-norm, RoPE and the KV write fused in.
// q, k = rope(rmsnorm(q) * q_gain), rope(rmsnorm(k) * k_gain); out = softmax(q k^T / sqrt(HEAD_DIM)) v   transformers: Qwen3Attention
// RoPE is rotate_half: pairs (d, d + HEAD_DIM/2). The online softmax is flash-attention's; splits are combined in
// attn_out, many of them in combine_splits before it.
// 0 step_state u32       [1] position of the token, [3] number of splits; from PAGE_TABLE on: physical page numbers
// 1 norms      f32       [2, HEAD_DIM] q_norm, k_norm
// 2 rope       vec2<f32> [positions, HEAD_DIM/2] cos, sin
// 3 projections f32      [QDim + 2*KVDim] projections of the token
// 4 k_cache    Kv8       [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD]
// 5 v_cache    Kv4       likewise
// 6 part_out   f32       [MAX_SPLITS, Q_PAD] output, unnormalised where there are several splits, then [MAX_SPLITS, NUM_HEADS, 2] largest score, sum of exponentials
// 7 is for the workgroups beside: see lib_beside_prefetch.wgsl
// Grid: NUM_KV_HEADS*Q_TILES x (splits + BESIDE); a workgroup serves Q_TILE query heads of one KV head over one split: every
// num_splits-th tile of TILE positions, so that what it loads first depends on its place in the grid alone (attend).
// The workgroups of the last BESIDE rows do something else.
// Parity test: kerneltest "attention+attn_out".

override NUM_HEADS: u32 = 16u;
override HEAD_DIM: u32 = 128u;
override Q_PAD: u32 = 2048u;     // NUM_HEADS*HEAD_DIM rounded up to 32
override ML_BASE: u32 = 262144u; // MAX_SPLITS*Q_PAD
override BESIDE: u32 = 0u;       // rows of workgroups
override EPS: f32 = 1e-6;

const WORKGROUP_SIZE: u32 = THREADS;
const HANDED_ON: u32 = 0u;

@group(0) @binding(0) var<storage, read> step_state: array<u32>;
@group(0) @binding(1) var<storage, read> norms: array<f32>;
@group(0) @binding(2) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> projections: array<f32>;
@group(0) @binding(4) var<storage, read_write> k_cache: array<Kv8>;
@group(0) @binding(5) var<storage, read_write> v_cache: array<Kv4>;
@group(0) @binding(6) var<storage, read_write> part_out: array<f32>;

//#include kv
//#include attention
//#include beside_prefetch

var<workgroup> scratch: array<vec4<f32>, SCRATCH>;

fn first_gain() -> u32 {
    return 0u;
}

fn first_key() -> u32 {
    return 0u;
}

fn first_value() -> u32 {
    return 0u;
}

fn projections4(i: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(projections[i.x], projections[i.y], projections[i.z], projections[i.w]);
}

fn head_pairs(head_base: u32, d: vec4<u32>) -> HeadPairs {
    var p: HeadPairs;
    p.a.x = projections[head_base + d.x];
    p.b.x = projections[head_base + HALF + d.x];
    if (PAIRS > 1u) {
        p.a.y = projections[head_base + d.y];
        p.b.y = projections[head_base + HALF + d.y];
    }
    if (PAIRS > 2u) {
        p.a.z = projections[head_base + d.z];
        p.b.z = projections[head_base + HALF + d.z];
    }
    if (PAIRS > 3u) {
        p.a.w = projections[head_base + d.w];
        p.b.w = projections[head_base + HALF + d.w];
    }
    return p;
}

// Number d of the output of query q, which is head `head`.
fn put_attention(q: u32, head: u32, d: u32, total_out: f32, split: u32, num_splits: u32) {
    var sum = total_out;
    var l = total(q);
    if (num_splits == 1u) {
        sum /= l;
        l = 1.0;
    }
    part_out[split * Q_PAD + head * HEAD_DIM + d] = sum;
    if (d == 0u) {
        let ml = ML_BASE + 2u * (split * NUM_HEADS + head);
        part_out[ml] = largest(q);
        part_out[ml + 1u] = l;
    }
}

@compute @workgroup_size(THREADS)
fn attention(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    if (BESIDE > 0u && group.y >= num_groups.y - BESIDE) {
        beside((group.y + BESIDE - num_groups.y) * num_groups.x + group.x, tid);
        return;
    }
    attend(tid, group.x / Q_TILES, group.x % Q_TILES, group.y, max(step_state[3], 1u), group.z);
}
