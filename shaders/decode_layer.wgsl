// A decode layer in one dispatch: attention as in attention.wgsl, of few splits, and all products behind it as in layer_products.wgsl.
// Workgroups share out the attention tasks, hand their outputs on through the exchange as they do rows, and go on to the products.
// The exchanges of even and odd layers take turns: a layer clears the next one's.
// 0 pass_state u32       [1] position of the token, [3] number of splits, at most FUSED_SPLITS; from PAGE_TABLE on: physical page numbers
// 1 qk_norms   f32       [2, HEAD_DIM] q_norm, k_norm
// 2 rope       vec2<f32> [positions, HEAD_DIM/2] cos, sin
// 3 k_cache    Kv8       [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD]
// 4 v_cache    Kv4       likewise
// 5 x          u32       bits of f32: [HIDDEN_PAD] residual stream, in place; from EXCHANGE on a word that tells that a wait was given
//                        up, and from FIRST on what layer_products.wgsl has there, behind it attention outputs of splits, [FUSED_SPLITS,
//                        Q_PAD], and their largest scores and sums of exponentials, [FUSED_SPLITS, NUM_HEADS, 2]
// 6 norms      f32       [HIDDEN_PAD] post_attention_layernorm; from NEXT_NORM on input_layernorm of the next layer; shorter: there is none
// 7 qkv        f32       from QKV_IN on this layer's projections of the token, from QKV_OUT on the next one's
// 8 to 11 weights_attn_out, weights_gate_up, weights_down, weights_qkv: vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 12 to 15 scales of these  u32  f16 pairs, with q8 and q4 only
// Grid: GROUPS workgroups, all at the same time, in x. Accumulates in f32. Parity test: kerneltest "decode_layer".

override FIRST: u32 = 1028u;       // of this layer's exchange
override CLEAR_FROM: u32 = 70000u; // the next layer's
override CLEARED: u32 = 0u;        // words

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> qk_norms: array<f32>;
@group(0) @binding(2) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> k_cache: array<Kv8>;
@group(0) @binding(4) var<storage, read_write> v_cache: array<Kv4>;
@group(0) @binding(5) var<storage, read_write> x: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read> norms: array<f32>;
@group(0) @binding(7) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(8) var<storage, read> weights_attn_out: array<vec4<u32>>;
@group(0) @binding(9) var<storage, read> weights_gate_up: array<vec4<u32>>;
@group(0) @binding(10) var<storage, read> weights_down: array<vec4<u32>>;
@group(0) @binding(11) var<storage, read> weights_qkv: array<vec4<u32>>;

//#include layer

//#instance attn_out weight dot rows product
//#instance gate_up weight dot rows product
//#instance down weight dot rows product
//#instance qkv weight dot rows product

//#include kv
//#include attention

const ATTENTION_AT: u32 = OUT_AT + HIDDEN;
const COLUMN_TASKS: u32 = NUM_KV_HEADS * Q_TILES; // of a split

fn put_attention(at: u32, value: f32) {
    put(ATTENTION_AT + at, value);
}

fn splits_of_pass() -> u32 {
    return clamp(pass_state[3], 1u, FUSED_SPLITS);
}

// Where statistic `which` of a head is for four splits; past the last the last.
fn statistics_at(head: u32, which: u32) -> vec4<u32> {
    let split = min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(num_splits - 1u));
    return ATTENTION_AT + ML_BASE + 2u * (split * NUM_HEADS + head) + which;
}

fn prepare_attn_out(tid: u32) {
    num_splits = splits_of_pass();
    if (num_splits > 1u) {
        for (var h = tid; h < NUM_HEADS; h += WORKGROUP_SIZE) {
            let tops_at = statistics_at(h, 0u);
            let sums_at = statistics_at(h, 1u);
            let polled_tops = poll(tops_at);
            let polled_sums = poll(sums_at);
            let tops = bitcast<vec4<f32>>(wait(tops_at, polled_tops));
            let sums = bitcast<vec4<f32>>(wait(sums_at, polled_sums));
            let factors = exp(tops - max(max(tops.x, tops.y), max(tops.z, tops.w)));
            let parts = select(vec4<f32>(0.0), sums * factors, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(num_splits));
            let all = (parts.x + parts.y) + (parts.z + parts.w);
            for (var s = 0u; s < num_splits; s++) {
                coefs[h * FUSED_SPLITS + s] = factors[s] / all;
            }
        }
    }
    workgroupBarrier();
}

fn inputs_attn_out(k: vec4<u32>) -> vec4<u32> {
    return poll(ATTENTION_AT + k);
}

fn again_attn_out(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return poll_again(ATTENTION_AT + k, bits);
}

// Splits are one, two or four.
fn settle_attn_out(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    let at = ATTENTION_AT + k;
    if (num_splits == 1u) {
        return wait(at, bits);
    }
    let second = poll(at + Q_PAD);
    var third = vec4<u32>(0u);
    var fourth = vec4<u32>(0u);
    if (num_splits > 2u) {
        third = poll(at + 2u * Q_PAD);
        fourth = poll(at + 3u * Q_PAD);
    }
    var v = bitcast<vec4<f32>>(wait(at, bits)) * coef4(0u, k) + bitcast<vec4<f32>>(wait(at + Q_PAD, second)) * coef4(1u, k);
    if (num_splits > 2u) {
        v += bitcast<vec4<f32>>(wait(at + 2u * Q_PAD, third)) * coef4(2u, k);
        v += bitcast<vec4<f32>>(wait(at + 3u * Q_PAD, fourth)) * coef4(3u, k);
    }
    return bitcast<vec4<u32>>(v);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn decode_layer(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let zero = num_groups.z - 1u;
    polls_left = select(MAX_POLLS, 0u, atomicLoad(&x[EXCHANGE]) != 0u);
    for (var task = group.x; task < COLUMN_TASKS * splits_of_pass(); task += GROUPS) {
        let column = task % COLUMN_TASKS;
        attend(tid, column / Q_TILES, column % Q_TILES, task / COLUMN_TASKS);
        // The next task has the same workgroup memory; what this one stored is stored before this workgroup waits for it.
        workgroupBarrier();
    }
    for (var i = group.x * WORKGROUP_SIZE + tid; i < CLEARED; i += GROUPS * WORKGROUP_SIZE) {
        atomicStore(&x[CLEAR_FROM + i], UNSET);
    }
    run_attn_out(group.x, tid, zero);
    run_gate_up(group.x, tid, zero);
    run_down(group.x, tid, zero);
    if (arrayLength(&norms) > NEXT_NORM) {
        run_qkv(group.x, tid, zero);
    }
    use_touched(zero);
}
