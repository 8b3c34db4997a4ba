// Decode attention of one token over one split of its context, with QK-norm, RoPE and the KV write fused in.
// q, k = rope(rmsnorm(q) * q_gain), rope(rmsnorm(k) * k_gain); out = softmax(q k^T / sqrt(HEAD_DIM)) v   transformers: Qwen3Attention
// RoPE is rotate_half: pairs (d, d + HEAD_DIM/2). The online softmax is flash-attention's; splits are combined in attn_out.
// 0 pass_state u32       [1] position of the token, [3] number of splits
// 1 page_table u32       [pages of the sequence] physical page numbers
// 2 norms      f32       [2, HEAD_DIM] q_norm, k_norm
// 3 rope       vec2<f32> [positions, HEAD_DIM/2] cos, sin
// 4 qkv        f32       [QDim + 2*KVDim] projections of the token
// 5 k_cache    Kv4       [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD]
// 6 v_cache    Kv4       likewise
// 7 part_out   f32       [MAX_SPLITS, Q_PAD] unnormalised output, then [MAX_SPLITS, NUM_HEADS, 2] largest score, sum of exponentials
// Grid: NUM_KV_HEADS*Q_TILES x splits; a workgroup serves Q_TILE query heads of one KV head over one split. The split that
// holds the token itself writes its key and value, and uses them (rounded like the cache) from workgroup memory.
// Accumulates in f32. Parity test: kerneltest "attention+attn_out".

override NUM_HEADS: u32 = 16u;
override NUM_KV_HEADS: u32 = 8u;
override HEAD_DIM: u32 = 128u;
override HEAD_PAD: u32 = 128u;   // HEAD_DIM rounded up to 8
override PAGE_SIZE: u32 = 16u;
override Q_PAD: u32 = 2048u;     // NUM_HEADS*HEAD_DIM rounded up to 32
override ML_BASE: u32 = 65536u;  // MAX_SPLITS*Q_PAD
override MAX_PAGES: u32 = 2560u; // of a sequence
override Q_TILE: u32 = 2u;       // a power of two, at most 8; Q_TILE*HEAD_PAD at most 2048
override Q_TILES: u32 = 1u;      // ceil(query heads of a KV head / Q_TILE)
override LANES: u32 = 32u;       // 128 / (power of two above Q_TILE): threads that normalise one head
override Q_SHARED: u32 = 387u;   // (Q_TILE+1)*(HEAD_PAD+1)
override SCALE: f32 = 0.08838835;
override EPS: f32 = 1e-6;

const THREADS: u32 = 128u;
const TILE: u32 = THREADS / Q_TILE; // positions a round
const HALF: u32 = HEAD_DIM / 2u;
const HEAD4: u32 = HEAD_PAD / 4u;
const Q_STRIDE: u32 = HEAD_PAD + 1u;
const GROUP: u32 = NUM_HEADS / NUM_KV_HEADS;
const LOWEST: f32 = -1e30;

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> page_table: array<u32>;
@group(0) @binding(2) var<storage, read> norms: array<f32>;
@group(0) @binding(3) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> qkv: array<f32>;
@group(0) @binding(5) var<storage, read_write> k_cache: array<Kv4>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<Kv4>;
@group(0) @binding(7) var<storage, read_write> part_out: array<f32>;

//#include kv

var<workgroup> heads: array<f32, Q_SHARED>;    // [Q_TILE+1, Q_STRIDE] queries, scaled; last row the new key
var<workgroup> new_value: array<f32, HEAD_PAD>;
var<workgroup> sums: array<f32, 128>;
var<workgroup> scores: array<f32, 128>;        // [Q_TILE, TILE]
var<workgroup> weights: array<f32, 128>;       // [Q_TILE, TILE] exp(score - largest)
var<workgroup> rescale: array<f32, 8>;         // [Q_TILE] factor for what was summed before this round

fn cache_index(pos: u32, kv_head: u32) -> u32 {
    let page = page_table[pos / PAGE_SIZE];
    return ((page * NUM_KV_HEADS + kv_head) * PAGE_SIZE + pos % PAGE_SIZE) * HEAD4;
}

fn head4(row: u32, d4: u32) -> vec4<f32> {
    let i = row * Q_STRIDE + 4u * d4;
    return vec4<f32>(heads[i], heads[i + 1u], heads[i + 2u], heads[i + 3u]);
}

fn value4(d4: u32) -> vec4<f32> {
    return vec4<f32>(new_value[4u * d4], new_value[4u * d4 + 1u], new_value[4u * d4 + 2u], new_value[4u * d4 + 3u]);
}

// The sum over this round's positions of weight * value for output vector o = head * HEAD4 + d4.
fn weighted_values(o: u32, kv_head: u32, first: u32, count: u32, token_pos: u32) -> vec4<f32> {
    let row = o / HEAD4;
    let d4 = o % HEAD4;
    var acc = vec4<f32>(0.0);
    for (var j = 0u; j < count; j++) {
        let pos = first + j;
        var v: vec4<f32>;
        if (pos == token_pos) {
            v = unpack_kv4(pack_kv4(value4(d4)));
        } else {
            v = unpack_kv4(v_cache[cache_index(pos, kv_head) + d4]);
        }
        acc += weights[row * TILE + j] * v;
    }
    return acc;
}

fn store_out(o: u32, split: u32, first_head: u32, num_q: u32, value: vec4<f32>) {
    let row = o / HEAD4;
    let d = 4u * (o % HEAD4);
    if (row < num_q) {
        let base = split * Q_PAD + (first_head + row) * HEAD_DIM + d;
        for (var c = 0u; c < 4u; c++) {
            if (d + c < HEAD_DIM) {
                part_out[base + c] = value[c];
            }
        }
    }
}

@compute @workgroup_size(128)
fn attention(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let kv_head = group.x / Q_TILES;
    let q_tile = group.x % Q_TILES;
    let split = group.y;
    let first_head = kv_head * GROUP + q_tile * Q_TILE;
    let num_q = min(Q_TILE, GROUP - q_tile * Q_TILE);

    let token_pos = min(pass_state[1], MAX_PAGES * PAGE_SIZE - 1u);
    let num_splits = max(pass_state[3], 1u);
    let num_pages = token_pos / PAGE_SIZE + 1u;
    let split_pages = (num_pages + num_splits - 1u) / num_splits;
    let begin = min(split * split_pages * PAGE_SIZE, token_pos + 1u);
    let end = min(begin + split_pages * PAGE_SIZE, token_pos + 1u);

    // QK-norm and RoPE: LANES threads a head, row Q_TILE is the key.
    let row = tid / LANES;
    let lane = tid % LANES;
    let is_key = row >= Q_TILE;
    let q_dim = NUM_HEADS * HEAD_DIM;
    let base = select((first_head + min(row, num_q - 1u)) * HEAD_DIM, q_dim + kv_head * HEAD_DIM, is_key);
    var sq = 0.0;
    for (var d = lane; d < HEAD_DIM; d += LANES) {
        let v = qkv[base + d];
        sq += v * v;
    }
    sums[tid] = sq;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
        if (lane < step) {
            sums[tid] += sums[tid + step];
        }
        workgroupBarrier();
    }
    if (row <= Q_TILE) {
        let inv_rms = 1.0 / sqrt(sums[tid - lane] / f32(HEAD_DIM) + EPS);
        let gain = select(0u, HEAD_DIM, is_key);
        let scale = select(SCALE, 1.0, is_key);
        for (var d = lane; d < HALF; d += LANES) {
            let a = qkv[base + d] * inv_rms * norms[gain + d];
            let b = qkv[base + d + HALF] * inv_rms * norms[gain + d + HALF];
            let cs = rope[token_pos * HALF + d];
            heads[row * Q_STRIDE + d] = (a * cs.x - b * cs.y) * scale;
            heads[row * Q_STRIDE + d + HALF] = (b * cs.x + a * cs.y) * scale;
        }
    }
    for (var d = tid; d < HEAD_DIM; d += THREADS) {
        new_value[d] = qkv[q_dim + (NUM_KV_HEADS + kv_head) * HEAD_DIM + d];
    }
    workgroupBarrier();

    if (q_tile == 0u && begin <= token_pos && token_pos < end) {
        let slot = cache_index(token_pos, kv_head);
        for (var d4 = tid; d4 < HEAD4; d4 += THREADS) {
            k_cache[slot + d4] = pack_kv4(head4(Q_TILE, d4));
            v_cache[slot + d4] = pack_kv4(value4(d4));
        }
    }

    // Online softmax: thread (q, j) scores query q against position first+j; output vectors o = tid + n*THREADS.
    let q = tid % Q_TILE;
    let j = tid / Q_TILE;
    var largest = LOWEST;
    var sum = 0.0;
    var acc0 = vec4<f32>(0.0);
    var acc1 = vec4<f32>(0.0);
    var acc2 = vec4<f32>(0.0);
    var acc3 = vec4<f32>(0.0);
    for (var first = begin; first < end; first += TILE) {
        let pos = first + j;
        var score = LOWEST;
        if (pos < end) {
            score = 0.0;
            if (pos == token_pos) {
                for (var d4 = 0u; d4 < HEAD4; d4++) {
                    score += dot(head4(q, d4), unpack_kv4(pack_kv4(head4(Q_TILE, d4))));
                }
            } else {
                let key = cache_index(pos, kv_head);
                for (var d4 = 0u; d4 < HEAD4; d4++) {
                    score += dot(head4(q, d4), unpack_kv4(k_cache[key + d4]));
                }
            }
        }
        scores[q * TILE + j] = score;
        workgroupBarrier();
        var new_largest = largest;
        for (var i = 0u; i < TILE; i++) {
            new_largest = max(new_largest, scores[q * TILE + i]);
        }
        let factor = exp(largest - new_largest);
        let weight = select(0.0, exp(score - new_largest), pos < end);
        largest = new_largest;
        sum = sum * factor + weight;
        weights[q * TILE + j] = weight;
        if (j == 0u) {
            rescale[q] = factor;
        }
        workgroupBarrier();
        let count = min(TILE, end - first);
        acc0 = acc0 * rescale[min(tid / HEAD4, Q_TILE - 1u)];
        if (tid < Q_TILE * HEAD4) {
            acc0 += weighted_values(tid, kv_head, first, count, token_pos);
        }
        if (THREADS < Q_TILE * HEAD4 && tid + THREADS < Q_TILE * HEAD4) {
            acc1 = acc1 * rescale[(tid + THREADS) / HEAD4] + weighted_values(tid + THREADS, kv_head, first, count, token_pos);
        }
        if (2u * THREADS < Q_TILE * HEAD4 && tid + 2u * THREADS < Q_TILE * HEAD4) {
            acc2 = acc2 * rescale[(tid + 2u * THREADS) / HEAD4] + weighted_values(tid + 2u * THREADS, kv_head, first, count, token_pos);
        }
        if (3u * THREADS < Q_TILE * HEAD4 && tid + 3u * THREADS < Q_TILE * HEAD4) {
            acc3 = acc3 * rescale[(tid + 3u * THREADS) / HEAD4] + weighted_values(tid + 3u * THREADS, kv_head, first, count, token_pos);
        }
    }
    workgroupBarrier();

    if (tid < Q_TILE * HEAD4) {
        store_out(tid, split, first_head, num_q, acc0);
    }
    if (tid + THREADS < Q_TILE * HEAD4) {
        store_out(tid + THREADS, split, first_head, num_q, acc1);
    }
    if (tid + 2u * THREADS < Q_TILE * HEAD4) {
        store_out(tid + 2u * THREADS, split, first_head, num_q, acc2);
    }
    if (tid + 3u * THREADS < Q_TILE * HEAD4) {
        store_out(tid + 3u * THREADS, split, first_head, num_q, acc3);
    }
    scores[q * TILE + j] = sum;
    workgroupBarrier();
    if (j == 0u && q < num_q) {
        var total = 0.0;
        for (var i = 0u; i < TILE; i++) {
            total += scores[q * TILE + i];
        }
        let ml = ML_BASE + 2u * (split * NUM_HEADS + first_head + q);
        part_out[ml] = largest;
        part_out[ml + 1u] = total;
    }
}
