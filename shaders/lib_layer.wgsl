// What layer_products.wgsl and decode_layer.wgsl have in common: the products between two attentions, with residuals, norms and SiLU, and the
// exchange through which workgroups that stay on the device hand each other their rows. Included behind these kernels' bindings x, norms
// and qkv (as in layer_products.wgsl); they declare FIRST, where their exchange begins in x, and how attn_out has its inputs.

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
override XS_SIZE: u32 = 300u;      // vectors of inputs that the products have in workgroup memory, at most
override SHARES_SIZE: u32 = 576u;  // vectors of two blocks' shares, at most
override EXCHANGE: u32 = 1024u;    // a multiple of 4
override NEXT_NORM: u32 = 1024u;
override MAX_POLLS: u32 = 32768u;  // of a thread, in all, before it gives up
override EPS: f32 = 1e-6;
override QKV_OUT: u32 = 0u;        // where the next layer's projections begin

const UNSET: u32 = 0x7fc0a5a5u; // a NaN that no arithmetic makes
const MLP_AT: u32 = FIRST + HIDDEN;
const OUT_AT: u32 = MLP_AT + INTERMEDIATE;
const SQUARE_PARTS: u32 = 32u;
const SQUARE_VECS: u32 = SQUARE_PARTS / 4u;

var<workgroup> xs: array<vec4<f32>, XS_SIZE>;         // [VECS_PER_LOAD, XS_STRIDE] vector j of each load of the stage; with INPUT_SUMS also a sum of each
var<workgroup> shares: array<vec4<f32>, SHARES_SIZE>; // [2, BLOCK_ROWS, SHARE_STRIDE] what threads have of a block's rows
var<workgroup> part_sq: array<f32, WORKGROUP_SIZE>;
var<workgroup> sums_sq: array<vec4<f32>, SQUARE_VECS>;
var<workgroup> coefs: array<f32, COEFS>;              // [NUM_HEADS, FUSED_SPLITS] factor of a split in its head's output
var<private> squares: f32;
var<private> polls_left: u32;
var<private> num_splits: u32;
var<private> touched: u32; // of what was asked for early and nobody wants: a compiler must not see that
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

fn coef4(split: u32, k: vec4<u32>) -> vec4<f32> {
    let at = min(k / HEAD_DIM, vec4<u32>(NUM_HEADS - 1u)) * FUSED_SPLITS + split;
    return vec4<f32>(coefs[at.x], coefs[at.y], coefs[at.z], coefs[at.w]);
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

// Makes as if something depended on what was touched; zero is one that no compiler knows.
fn use_touched(zero: u32) {
    if (zero == 1u && touched == UNSET) {
        atomicStore(&x[EXCHANGE], 1u);
    }
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

fn gains_attn_out(k: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn keep_attn_out(row: u32) {
    kept = bitcast<f32>(atomicLoad(&x[row]));
}

fn store_attn_out(row: u32, sum: f32, unused: f32) {
    put(FIRST + row, kept + sum);
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
    let at = vec4<u32>(FIRST + row);
    kept = bitcast<f32>(wait(at, vec4<u32>(atomicLoad(&x[at.x]))).x);
}

fn store_down(row: u32, sum: f32, unused: f32) {
    let v = kept + sum;
    atomicStore(&x[row], bitcast<u32>(v));
    put(OUT_AT + row, v);
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
    qkv[QKV_OUT + row] = sum * inv_rms_qkv();
}
