// Decode attention of one token over one split of its context, with QK-norm, RoPE and the KV write fused in.
// q, k = rope(rmsnorm(q) * q_gain), rope(rmsnorm(k) * k_gain); out = softmax(q k^T / sqrt(HEAD_DIM)) v   transformers: Qwen3Attention
// RoPE is rotate_half: pairs (d, d + HEAD_DIM/2). The online softmax is flash-attention's; splits are combined in
// attn_out, many of them in combine_splits before it.
// 0 pass_state u32       [1] position of the token, [3] number of splits; from PAGE_TABLE on: physical page numbers
// 1 qk_norms   f32       [2, HEAD_DIM] q_norm, k_norm
// 2 rope       vec2<f32> [positions, HEAD_DIM/2] cos, sin
// 3 qkv        f32       [QDim + 2*KVDim] projections of the token
// 4 k_cache    Kv8       [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD]
// 5 v_cache    Kv4       likewise
// 6 part_out   f32       [MAX_SPLITS, Q_PAD] output, unnormalised where there are several splits, then [MAX_SPLITS, NUM_HEADS, 2] largest score, sum of exponentials
// 7 is for the workgroups beside: see lib_beside_*.wgsl
// Grid: NUM_KV_HEADS*Q_TILES x (splits + BESIDE); a workgroup serves Q_TILE query heads of one KV head over one split: every
// num_splits-th tile of TILE positions, so that what it loads first depends on its place in the grid alone.
// How: lib_attention.wgsl. The workgroups of the last BESIDE rows do something else.
// Accumulates in f32. Parity test: kerneltest "attention+attn_out".

override NUM_HEADS: u32 = 16u;
override HEAD_DIM: u32 = 128u;
override Q_PAD: u32 = 2048u;     // NUM_HEADS*HEAD_DIM rounded up to 32
override ML_BASE: u32 = 262144u; // MAX_SPLITS*Q_PAD
override BESIDE: u32 = 0u;       // rows of workgroups
override EPS: f32 = 1e-6;

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> qk_norms: array<f32>;
@group(0) @binding(2) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> qkv: array<f32>;
@group(0) @binding(4) var<storage, read_write> k_cache: array<Kv8>;
@group(0) @binding(5) var<storage, read_write> v_cache: array<Kv4>;
@group(0) @binding(6) var<storage, read_write> part_out: array<f32>;

//#include kv
//#include attention
//#include beside

var<workgroup> xs: array<vec4<f32>, SCRATCH>;

fn put_attention(at: u32, value: f32) {
    part_out[at] = value;
}

@compute @workgroup_size(THREADS)
fn attention(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    if (BESIDE > 0u && group.y >= num_groups.y - BESIDE) {
        beside((group.y + BESIDE - num_groups.y) * num_groups.x + group.x, tid);
        return;
    }
    attend(tid, group.x / Q_TILES, group.x % Q_TILES, group.y);
}
