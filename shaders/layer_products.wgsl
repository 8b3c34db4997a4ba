// All products between two attentions in one dispatch: o_proj, gate_proj and up_proj, down_proj of a layer, then q|k|v of the next,
// with residuals, norms and SiLU as in attn_out, rmsnorm_gate_up, residual_proj and rmsnorm_qkv.
// The grid stays on the device: each workgroup computes its rows of a product, stores them and goes on to the next product, whose
// first weights it loads while it waits for the other workgroups' rows. So all workgroups must run at the same time, which WebGPU
// does not promise: forward tries a grid before it uses it, waiting is bounded, and a row that did not come in time is a NaN,
// which reaches the token drawn; the pass is then repeated without this kernel.
// Rows go through atomics, since WGSL promises nothing else across workgroups: each number of `now` is UNSET until it is stored,
// so that it needs no flag, barrier or order beside it. Each layer clears what the layer before has used, `spent`.
// 0 pass_state u32       [3] = number of splits
// 1 a          f32       [MAX_SPLITS, Q_PAD] attention output of splits, from ML_BASE on [MAX_SPLITS, NUM_HEADS, 2] largest score and
//                        sum of exponentials; more than FUSED_SPLITS were combined before, to [Q_PAD]
// 2 x          f32       [HIDDEN_PAD] residual stream, in place
// 3 post_norm  f32       [HIDDEN_PAD] post_attention_layernorm
// 4 next_norm  f32       [HIDDEN_PAD] input_layernorm of the next layer
// 5 now        u32       [EXCHANGED] word 0: a wait was given up; from FIRST on x behind attention, silu(gate)*up, x behind the MLP
// 6 spent      u32       [EXCHANGED] likewise, of the layer before
// 7 qkv        f32       [rows of the next layer's q, k and v]; shorter: there is no next layer
// 8 to 11 weights_attn_out, weights_gate_up, weights_down, weights_qkv: vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 12 to 15 scales of these  u32  f16 pairs, with q8 and q4 only
// Grid: GROUPS workgroups, all at the same time, in x. Accumulates in f32. Parity test: kerneltest "layer_products".

override GROUPS: u32 = 1u;         // workgroups of the grid
override WORKGROUP_SIZE: u32 = 256u;
override HIDDEN: u32 = 1024u;
override INTERMEDIATE: u32 = 3072u;
override NUM_HEADS: u32 = 16u;
override HEAD_DIM: u32 = 128u;
override Q_PAD: u32 = 2048u;
override FUSED_SPLITS: u32 = 4u;
override ML_BASE: u32 = 262144u;
override COEFS: u32 = 64u;         // FUSED_SPLITS*NUM_HEADS
override XS_SIZE: u32 = 520u;      // vectors of inputs that the products have in workgroup memory, at most
override SHARES_SIZE: u32 = 576u;  // vectors of two blocks' shares, at most
override MAX_POLLS: u32 = 32768u;  // of a thread, in all, before it gives up
override EPS: f32 = 1e-6;

const UNSET: u32 = 0x7fc0a5a5u; // a NaN that no arithmetic makes
const FIRST: u32 = 4u;
const MLP_AT: u32 = FIRST + HIDDEN;
const OUT_AT: u32 = MLP_AT + INTERMEDIATE;
const EXCHANGED: u32 = OUT_AT + HIDDEN;
const SQUARE_PARTS: u32 = 32u;

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read> post_norm: array<f32>;
@group(0) @binding(4) var<storage, read> next_norm: array<f32>;
@group(0) @binding(5) var<storage, read_write> now: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> spent: array<atomic<u32>>;
@group(0) @binding(7) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(8) var<storage, read> weights_attn_out: array<vec4<u32>>;
@group(0) @binding(9) var<storage, read> weights_gate_up: array<vec4<u32>>;
@group(0) @binding(10) var<storage, read> weights_down: array<vec4<u32>>;
@group(0) @binding(11) var<storage, read> weights_qkv: array<vec4<u32>>;

var<workgroup> xs: array<vec4<f32>, XS_SIZE>;         // [VECS_PER_LOAD, XS_STRIDE] vector j of each load of the stage; with INPUT_SUMS also a sum of each
var<workgroup> shares: array<vec4<f32>, SHARES_SIZE>; // [2, BLOCK_ROWS, SHARE_STRIDE] what threads have of a block's rows
var<workgroup> part_sq: array<f32, WORKGROUP_SIZE>;
var<workgroup> sums_sq: array<f32, SQUARE_PARTS>;
var<workgroup> coefs: array<f32, COEFS>;              // [NUM_HEADS, FUSED_SPLITS] factor of a split in its head's output
var<private> squares: f32;
var<private> polls_left: u32;
var<private> num_splits: u32;
var<private> kept: f32; // the residual of the row that this thread will store

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
        sums_sq[tid] = sum;
    }
}

fn all_squares() -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < SQUARE_PARTS; i++) {
        sum += sums_sq[i];
    }
    return sum;
}

fn put(at: u32, value: f32) {
    let bits = bitcast<u32>(value);
    atomicStore(&now[at], select(bits, 0x7fc00000u, bits == UNSET));
}

fn poll(at: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(atomicLoad(&now[at.x]), atomicLoad(&now[at.y]), atomicLoad(&now[at.z]), atomicLoad(&now[at.w]));
}

// Polls again until all four are there, or gives up.
fn wait(at: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    var v = bits;
    while (any(v == vec4<u32>(UNSET)) && polls_left > 0u) {
        polls_left -= 1u;
        v = poll(at);
        if (polls_left == 0u) {
            atomicStore(&now[0], 1u);
            atomicStore(&spent[0], 1u);
        }
    }
    return v;
}

//#instance attn_out weight dot rows product
//#instance gate_up weight dot rows product
//#instance down weight dot rows product
//#instance qkv weight dot rows product

fn ml(split: u32, head: u32) -> vec2<f32> {
    let at = ML_BASE + 2u * (split * NUM_HEADS + head);
    return vec2<f32>(a[at], a[at + 1u]);
}

fn prepare_attn_out(tid: u32) {
    num_splits = select(pass_state[3], 1u, pass_state[3] > FUSED_SPLITS);
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

fn coef4(split: u32, k: vec4<u32>) -> vec4<f32> {
    let at = min(k / HEAD_DIM, vec4<u32>(NUM_HEADS - 1u)) * FUSED_SPLITS + split;
    return vec4<f32>(coefs[at.x], coefs[at.y], coefs[at.z], coefs[at.w]);
}

fn inputs_attn_out(k: vec4<u32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(split4(0u, k));
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

fn gains_attn_out(k: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn keep_attn_out(row: u32) {
    kept = x[row];
}

fn store_attn_out(row: u32, sum: f32, unused: f32) {
    put(FIRST + row, kept + sum);
}

fn prepare_gate_up(tid: u32) {
}

fn inputs_gate_up(k: vec4<u32>) -> vec4<u32> {
    return poll(FIRST + k);
}

fn settle_gate_up(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return wait(FIRST + k, bits);
}

fn gains_gate_up(k: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(post_norm[k.x], post_norm[k.y], post_norm[k.z], post_norm[k.w]);
}

fn keep_gate_up(row: u32) {
}

fn store_gate_up(row: u32, gate_sum: f32, up_sum: f32) {
    let scale = inv_rms_gate_up();
    let gate = gate_sum * scale;
    put(MLP_AT + row / 2u, gate / (1.0 + exp(-gate)) * (up_sum * scale));
}

fn prepare_down(tid: u32) {
}

fn inputs_down(k: vec4<u32>) -> vec4<u32> {
    return poll(MLP_AT + k);
}

fn settle_down(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return wait(MLP_AT + k, bits);
}

fn gains_down(k: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn keep_down(row: u32) {
    let at = vec4<u32>(FIRST + row);
    kept = bitcast<f32>(wait(at, vec4<u32>(atomicLoad(&now[at.x]))).x);
}

fn store_down(row: u32, sum: f32, unused: f32) {
    let v = kept + sum;
    x[row] = v;
    put(OUT_AT + row, v);
}

fn prepare_qkv(tid: u32) {
}

fn inputs_qkv(k: vec4<u32>) -> vec4<u32> {
    return poll(OUT_AT + k);
}

fn settle_qkv(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return wait(OUT_AT + k, bits);
}

fn gains_qkv(k: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(next_norm[k.x], next_norm[k.y], next_norm[k.z], next_norm[k.w]);
}

fn keep_qkv(row: u32) {
}

fn store_qkv(row: u32, sum: f32, unused: f32) {
    qkv[row] = sum * inv_rms_qkv();
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn layer_products(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let zero = num_groups.z - 1u;
    polls_left = select(MAX_POLLS, 0u, (atomicLoad(&now[0]) | atomicLoad(&spent[0])) != 0u);
    for (var i = FIRST + group.x * WORKGROUP_SIZE + tid; i < EXCHANGED; i += GROUPS * WORKGROUP_SIZE) {
        atomicStore(&spent[i], UNSET);
    }
    run_attn_out(group.x, tid, zero);
    run_gate_up(group.x, tid, zero);
    run_down(group.x, tid, zero);
    if (arrayLength(&qkv) >= NUM_ROWS_QKV) {
        run_qkv(group.x, tid, zero);
    }
}
