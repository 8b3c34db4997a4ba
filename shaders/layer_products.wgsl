// Layers from their attention, or from behind it, on: o_proj, gate_proj and up_proj, down_proj, then q|k|v of the next layer, with residuals,
// norms and SiLU as in attn_out, rmsnorm_gate_up, residual_proj and rmsnorm_qkv. What is in front of them is lib_front_attention.wgsl,
// attention, so that a dispatch goes from layer to layer, or lib_front_splits.wgsl, what joins the splits of the dispatch before.
// The grid stays on the device: each workgroup computes its rows of a product, stores them and goes on to the next product, whose
// first weights it loads while it waits for the other workgroups' rows. So all workgroups must run at the same time, which WebGPU
// does not promise: forward tries a grid before it uses it, waiting is bounded, and a row that did not come in time is a NaN,
// which reaches the token drawn; the pass is then repeated without this kernel.
// Rows go through atomics, since WGSL promises nothing else across workgroups: each number of the exchange is UNSET until it is
// stored, so that it needs no flag, barrier or order beside it. A layer has a place of its own there, and each dispatch clears those of
// the dispatch before, but for the q, k and v that it reads itself.
// 0 pass_state vec4<u32> uniform; [0].w = number of splits
// 1 layers     vec4<u32> uniform; [layers of the dispatch, LAYER_VECS] see the constants *_VEC
// 2 x          u32       bits of f32: [HIDDEN_PAD] residual stream, in place
// 3 exchange   u32       [0] tells that a wait was given up; at a layer's place bits of f32: x behind attention, silu(gate)*up, x behind the
//                        MLP, attention output [NUM_HEADS*HEAD_DIM] and its splits, from QKV_AT on the next layer's q, k and v
// 4 norms      f32       gains of all norms
// 5 weights    vec4<u32> bf16, q8 or q4 [rows, K_PAD] of each matrix
// From 6 on what is in front needs; the last: scales of the weights  u32  f16 pairs, with q8 and q4 only
// Grid: GROUPS workgroups, all at the same time, in x. Accumulates in f32. Parity test: kerneltest "layer_products".

override GROUPS: u32 = 1u;         // workgroups of the grid
override WORKGROUP_SIZE: u32 = 256u;
override HIDDEN: u32 = 1024u;
override INTERMEDIATE: u32 = 3072u;
override NUM_HEADS: u32 = 16u;
override HEAD_DIM: u32 = 128u;
override XS_STRIDE: u32 = 33u;     // one more than the loads whose inputs are in workgroup memory together, at most; odd, so that both sides spread over the banks
override XS_VECS: u32 = 9u;        // vectors of a load's inputs there, with INPUT_SUMS one more
override SCRATCH_SIZE: u32 = 512u; // vectors of two blocks' shares, at most, or of what attention needs
override QKV_AT: u32 = 7168u;      // in a layer's place, behind the attention output
override ALL_VECS: u32 = 16u;      // of layers: LAYER_VECS for each layer of the longest dispatch
override MAX_POLLS: u32 = 32768u;  // of a thread, in all, before it gives up
override EPS: f32 = 1e-6;

const UNSET: u32 = 0x7fc0a5a5u; // a NaN that no arithmetic makes
const MLP_AT: u32 = HIDDEN; // in a layer's place, as the next two
const OUT_AT: u32 = MLP_AT + INTERMEDIATE;
const ATTENTION_AT: u32 = OUT_AT + HIDDEN;
const LAYER_VECS: u32 = 16u;
const PLACE_VEC: u32 = 0u;   // its place; where from there, modulo 2^32, x of the layer before and this layer's q, k and v are; 1: there is a next layer
const WEIGHTS_VEC: u32 = 1u; // where in weights o_proj, gate_up_proj, down_proj and the next layer's qkv_proj are
const SCALES_VEC: u32 = 2u;  // likewise in scales
const NORMS_VEC: u32 = 3u;   // where in norms post_attention_layernorm, the next layer's input_layernorm and this layer's q_norm and k_norm are
const CACHE_VEC: u32 = 4u;   // where in k_cache and v_cache the layer's are
const RUN_VEC: u32 = 5u;     // layers of the dispatch, with its first; from where to where it clears the exchange: with attention in front,
const SPLITS_VEC: u32 = 6u;  // with splits
const SQUARE_PARTS: u32 = 32u;
const SQUARE_VECS: u32 = SQUARE_PARTS / 4u;

@group(0) @binding(0) var<uniform> pass_state: array<vec4<u32>, 2>;
@group(0) @binding(1) var<uniform> layers: array<vec4<u32>, ALL_VECS>;
@group(0) @binding(2) var<storage, read_write> x: array<atomic<u32>>;
@group(0) @binding(3) var<storage, read_write> exchange: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read> norms: array<f32>;
@group(0) @binding(5) var<storage, read> weights: array<vec4<u32>>;

var<workgroup> xs: array<array<vec4<f32>, XS_STRIDE>, XS_VECS>; // [XS_VECS, XS_STRIDE] vector j of each load of the stage; with INPUT_SUMS also a sum of each
var<workgroup> scratch: array<vec4<f32>, SCRATCH_SIZE>; // [2, BLOCK_ROWS, SHARE_STRIDE] what threads have of a block's rows; before, attention's
var<workgroup> part_sq: array<f32, WORKGROUP_SIZE>;
var<workgroup> sums_sq: array<vec4<f32>, SQUARE_VECS>;
var<private> layer_at: u32; // the layer in layers
var<private> squares: f32;
var<private> polls_left: u32;
var<private> given_up: u32; // not 0: a wait was given up, so that none is worth while
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

// Number n of the layer's place.
fn put(n: u32, value: f32) {
    let bits = bitcast<u32>(value);
    atomicStore(&exchange[layers[layer_at + PLACE_VEC].x + n], select(bits, 0x7fc00000u, bits == UNSET));
}

fn poll(numbers: vec4<u32>) -> vec4<u32> {
    let n = numbers + layers[layer_at + PLACE_VEC].x;
    return vec4<u32>(atomicLoad(&exchange[n.x]), atomicLoad(&exchange[n.y]), atomicLoad(&exchange[n.z]), atomicLoad(&exchange[n.w]));
}

// Polls once more what was not there.
fn poll_again(numbers: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    if (any(bits == vec4<u32>(UNSET))) {
        return poll(numbers);
    }
    return bits;
}

// Polls again until all four are there, or gives up.
fn wait(numbers: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    var v = bits;
    while (any(v == vec4<u32>(UNSET)) && polls_left > 0u) {
        polls_left -= 1u;
        v = poll(numbers);
        if (polls_left == 0u) {
            atomicStore(&exchange[0], 1u);
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

// Whether a wait was given up before, when there is no use in waiting.
fn look_back() {
    given_up = atomicLoad(&exchange[0]);
    polls_left = select(MAX_POLLS, 0u, given_up != 0u);
}

// The places of the dispatch before are UNSET again: nobody reads or stores what is there before the next pass.
fn clear_places(range: vec2<u32>, group: u32, tid: u32) {
    for (var i = range.x + group * WORKGROUP_SIZE + tid; i < range.y; i += GROUPS * WORKGROUP_SIZE) {
        atomicStore(&exchange[i], UNSET);
    }
}

//#include front

//#instance attn_out weight dot rows product
//#instance gate_up weight dot rows product
//#instance down weight dot rows product
//#instance qkv weight dot rows product

fn first_weight_attn_out() -> u32 {
    return layers[layer_at + WEIGHTS_VEC].x;
}

fn first_scale_attn_out() -> u32 {
    return layers[layer_at + SCALES_VEC].x;
}

fn gains_attn_out(k: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn keep_attn_out(row: u32) {
    if (layer_at == 0u) {
        kept = atomicLoad(&x[row]);
    } else {
        kept = poll(vec4<u32>(layers[layer_at + PLACE_VEC].y + row)).x;
    }
}

fn store_attn_out(row: u32, sum: f32, unused: f32) {
    var before = kept;
    if (layer_at > 0u) {
        before = wait(vec4<u32>(layers[layer_at + PLACE_VEC].y + row), vec4<u32>(kept)).x;
    }
    put(row, bitcast<f32>(before) + sum);
}

fn next_load_attn_out(group: u32, tid: u32, n: u32) -> RowLoads {
    return first_load_gate_up(group, tid, n);
}

fn first_weight_gate_up() -> u32 {
    return layers[layer_at + WEIGHTS_VEC].y;
}

fn first_scale_gate_up() -> u32 {
    return layers[layer_at + SCALES_VEC].y;
}

fn prepare_gate_up(tid: u32) {
}

fn inputs_gate_up(k: vec4<u32>) -> vec4<u32> {
    return poll(k);
}

fn again_gate_up(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return poll_again(k, bits);
}

fn settle_gate_up(k: vec4<u32>, bits: vec4<u32>) -> vec4<u32> {
    return wait(k, bits);
}

fn gains_gate_up(k: vec4<u32>) -> vec4<f32> {
    let n = k + layers[layer_at + NORMS_VEC].x;
    return vec4<f32>(norms[n.x], norms[n.y], norms[n.z], norms[n.w]);
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

fn first_weight_down() -> u32 {
    return layers[layer_at + WEIGHTS_VEC].z;
}

fn first_scale_down() -> u32 {
    return layers[layer_at + SCALES_VEC].z;
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
    kept = poll(vec4<u32>(row)).x;
}

// What was kept is there, as a rule, and was only asked for: to wait for it in front of the inputs' polls would hold these up.
fn store_down(row: u32, sum: f32, unused: f32) {
    let v = bitcast<f32>(wait(vec4<u32>(row), vec4<u32>(kept)).x) + sum;
    if (layer_at + LAYER_VECS == num_layers() * LAYER_VECS) {
        atomicStore(&x[row], bitcast<u32>(v)); // for the next dispatch
    }
    put(OUT_AT + row, v);
}

fn next_load_down(group: u32, tid: u32, n: u32) -> RowLoads {
    return first_load_qkv(group, tid, n);
}

fn first_weight_qkv() -> u32 {
    return layers[layer_at + WEIGHTS_VEC].w;
}

fn first_scale_qkv() -> u32 {
    return layers[layer_at + SCALES_VEC].w;
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
    let n = k + layers[layer_at + NORMS_VEC].y;
    return vec4<f32>(norms[n.x], norms[n.y], norms[n.z], norms[n.w]);
}

fn keep_qkv(row: u32) {
}

fn store_qkv(row: u32, sum: f32, unused: f32) {
    put(QKV_AT + row, sum * inv_rms_qkv());
}

fn next_load_qkv(group: u32, tid: u32, n: u32) -> RowLoads {
    var none: RowLoads;
    return none;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn layer_products(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let zero = num_groups.z - 1u;
    clear_places(clears(), group.x, tid);
    for (var layer = 0u; layer < num_layers(); layer++) {
        layer_at = layer * LAYER_VECS;
        front(group.x, tid, zero);
        run_attn_out(group.x, tid, zero);
        behind_attn_out(group.x);
        run_gate_up(group.x, tid, zero);
        run_down(group.x, tid, zero);
        if (layers[layer * LAYER_VECS + PLACE_VEC].w == 1u) {
            run_qkv(group.x, tid, zero);
        }
    }
}
