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
//                        sum of exponentials; more than FUSED_SPLITS were combined before, to [Q_PAD]
// 2 x          u32       bits of f32: [HIDDEN_PAD] residual stream, in place; from EXCHANGE on the exchange: a word that tells that a
//                        wait was given up, and from FIRST on x behind attention, silu(gate)*up, x behind the MLP
// 3 norms      f32       [HIDDEN_PAD] post_attention_layernorm; from NEXT_NORM on input_layernorm of the next layer
// 4 qkv        f32       [rows of the next layer's q, k and v]; shorter: there is no next layer
// 5 to 8 weights_attn_out, weights_gate_up, weights_down, weights_qkv: vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 9 to 12 scales of these  u32  f16 pairs, with q8 and q4 only
// Grid: GROUPS workgroups, all at the same time, in x. Accumulates in f32. Parity test: kerneltest "layer_products".

@group(0) @binding(0) var<uniform> pass_state: array<vec4<u32>, 2>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<atomic<u32>>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(5) var<storage, read> weights_attn_out: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> weights_gate_up: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> weights_down: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read> weights_qkv: array<vec4<u32>>;

const FIRST: u32 = EXCHANGE + 4u;

//#include layer

//#instance attn_out weight dot rows product
//#instance gate_up weight dot rows product
//#instance down weight dot rows product
//#instance qkv weight dot rows product

fn ml(split: u32, head: u32) -> vec2<f32> {
    let at = ML_BASE + 2u * (split * NUM_HEADS + head);
    return vec2<f32>(a[at], a[at + 1u]);
}

fn prepare_attn_out(tid: u32) {
    num_splits = select(pass_state[0].w, 1u, pass_state[0].w > FUSED_SPLITS);
    if (num_splits > 1u) {
        for (var h = tid; h < NUM_HEADS; h += WORKGROUP_SIZE) {
            var largest = ml(0u, h).x;
            for (var s = 1u; s < num_splits; s++) {
                largest = max(largest, ml(s, h).x);
            }
            var sum = 0.0;
            for (var s = 0u; s < num_splits; s++) {
                let part = ml(s, h);
                sum += part.y * exp(part.x - largest);
            }
            for (var s = 0u; s < num_splits; s++) {
                coefs[h * FUSED_SPLITS + s] = exp(ml(s, h).x - largest) / sum;
            }
        }
    }
    workgroupBarrier();
}

fn split4(split: u32, k: vec4<u32>) -> vec4<f32> {
    let at = k + vec4<u32>(split * Q_PAD);
    return vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);
}

fn inputs_attn_out(k: vec4<u32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(split4(0u, k));
}

fn again_attn_out(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return bits;
}

fn settle_attn_out(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    var v = bitcast<vec4<f32>>(bits);
    if (num_splits > 1u) {
        v *= coef4(0u, k);
        for (var s = 1u; s < num_splits; s++) {
            v += split4(s, k) * coef4(s, k);
        }
    }
    return bitcast<vec4<u32>>(v);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn layer_products(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let zero = num_groups.z - 1u;
    polls_left = select(MAX_POLLS, 0u, atomicLoad(&x[EXCHANGE]) != 0u);
    run_attn_out(group.x, tid, zero);
    run_gate_up(group.x, tid, zero);
    run_down(group.x, tid, zero);
    if (arrayLength(&qkv) >= NUM_ROWS_QKV) {
        run_qkv(group.x, tid, zero);
    }
    use_touched(zero);
}
