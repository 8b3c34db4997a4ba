// q = rope(rmsnorm(q) * q_norm) in place; k_cache[slot] = rope(rmsnorm(k) * k_norm); v_cache[slot] = v
//                                                                        transformers: Qwen3Attention, apply_rotary_pos_emb
// RoPE is rotate_half: pairs (d, d + HEAD_DIM/2). Token t stands at position start + t.
// 0 pass_state u32       [0] = T, [1] = start
// 1 page_table u32       [pages of the sequence] physical page numbers
// 2 norms      f32       [2, HEAD_DIM] q_norm, k_norm
// 3 rope       vec2<f32> [positions, HEAD_DIM/2] cos, sin
// 4 qkv        f32       [T, QKV_STRIDE] projections: q heads, k heads, v heads; the q heads are replaced
// 5 k_cache    Kv4       [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD] padding written as zero
// 6 v_cache    Kv4       likewise
// Grid: ceil((NUM_HEADS + 2*NUM_KV_HEADS)/4) x T; a workgroup owns four heads of a token, 32 threads each.
// Accumulates in f32, fixed order. Parity test: kerneltest "qk_norm_rope".

override NUM_HEADS: u32 = 16u;
override NUM_KV_HEADS: u32 = 8u;
override HEAD_DIM: u32 = 128u;     // even
override HEAD_PAD: u32 = 128u;     // HEAD_DIM rounded up to 8
override QKV_STRIDE: u32 = 4096u;
override PAGE_SIZE: u32 = 16u;
override MAX_PAGES: u32 = 2560u;   // of a sequence
override EPS: f32 = 1e-6;

const HEADS_PER_GROUP: u32 = 4u;
const LANES: u32 = 32u;
const HALF: u32 = HEAD_DIM / 2u;
const HEAD4: u32 = HEAD_PAD / 4u;
const STAGE: u32 = HEADS_PER_GROUP * HEAD_PAD;

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> page_table: array<u32>;
@group(0) @binding(2) var<storage, read> norms: array<f32>;
@group(0) @binding(3) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(5) var<storage, read_write> k_cache: array<Kv4>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<Kv4>;

//#include kv

var<workgroup> sums: array<f32, 128>;
var<workgroup> stage: array<f32, STAGE>; // [HEADS_PER_GROUP, HEAD_PAD] keys and values on their way to the cache

@compute @workgroup_size(128)
fn qk_norm_rope(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let t = group.y;
    if (t >= pass_state[0]) {
        return;
    }
    let pos = min(pass_state[1] + t, MAX_PAGES * PAGE_SIZE - 1u);
    let row = tid / LANES;
    let lane = tid % LANES;
    let head = group.x * HEADS_PER_GROUP + row; // q heads, then k, then v
    let is_q = head < NUM_HEADS;
    let is_k = head >= NUM_HEADS && head < NUM_HEADS + NUM_KV_HEADS;
    let is_v = head >= NUM_HEADS + NUM_KV_HEADS && head < NUM_HEADS + 2u * NUM_KV_HEADS;
    let base = t * QKV_STRIDE + head * HEAD_DIM;
    let staged = row * HEAD_PAD;

    var sum = 0.0;
    if (is_q || is_k) {
        for (var d = lane; d < HEAD_DIM; d += LANES) {
            let v = qkv[base + d];
            sum += v * v;
        }
    }
    sums[tid] = sum;
    for (var d = HEAD_DIM + lane; d < HEAD_PAD; d += LANES) {
        stage[staged + d] = 0.0;
    }
    workgroupBarrier();

    if (is_q || is_k) {
        sum = 0.0;
        for (var i = 0u; i < LANES; i++) {
            sum += sums[row * LANES + i];
        }
        let inv_rms = 1.0 / sqrt(sum / f32(HEAD_DIM) + EPS);
        let gain = select(0u, HEAD_DIM, is_k);
        for (var d = lane; d < HALF; d += LANES) {
            let a = qkv[base + d] * inv_rms * norms[gain + d];
            let b = qkv[base + d + HALF] * inv_rms * norms[gain + d + HALF];
            let cs = rope[pos * HALF + d];
            let lo = a * cs.x - b * cs.y;
            let hi = b * cs.x + a * cs.y;
            if (is_q) {
                qkv[base + d] = lo;
                qkv[base + d + HALF] = hi;
            } else {
                stage[staged + d] = lo;
                stage[staged + d + HALF] = hi;
            }
        }
    }
    if (is_v) {
        for (var d = lane; d < HEAD_DIM; d += LANES) {
            stage[staged + d] = qkv[base + d];
        }
    }
    workgroupBarrier();

    if (is_k || is_v) {
        let kv_head = select(head - NUM_HEADS - NUM_KV_HEADS, head - NUM_HEADS, is_k);
        let slot = ((page_table[pos / PAGE_SIZE] * NUM_KV_HEADS + kv_head) * PAGE_SIZE + pos % PAGE_SIZE) * HEAD4;
        for (var d4 = lane; d4 < HEAD4; d4 += LANES) {
            let i = staged + 4u * d4;
            let numbers = vec4<f32>(stage[i], stage[i + 1u], stage[i + 2u], stage[i + 3u]);
            if (is_k) {
                k_cache[slot + d4] = pack_key4(numbers);
            } else {
                v_cache[slot + d4] = pack_value4(numbers);
            }
        }
    }
}
