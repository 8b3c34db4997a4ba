// Decode attention of one token over one split of its context, with QK-norm, RoPE and the KV write fused in.
// q, k = rope(rmsnorm(q) * q_gain), rope(rmsnorm(k) * k_gain); out = softmax(q k^T / sqrt(HEAD_DIM)) v   transformers: Qwen3Attention
// RoPE is rotate_half: pairs (d, d + HEAD_DIM/2). The online softmax is flash-attention's; splits are combined in
// attn_out, many of them in combine_splits before it.
// 0 pass_state u32       [1] position of the token, [3] number of splits; from PAGE_TABLE on: physical page numbers
// 1 norms      f32       [2, HEAD_DIM] q_norm, k_norm
// 2 rope       vec2<f32> [positions, HEAD_DIM/2] cos, sin
// 3 qkv        f32       [QDim + 2*KVDim] projections of the token
// 4 k_cache    Kv4       [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD]
// 5 v_cache    Kv4       likewise
// 6 part_out   f32       [MAX_SPLITS, Q_PAD] output, unnormalised where there are several splits, then [MAX_SPLITS, NUM_HEADS, 2] largest score, sum of exponentials
// Grid: NUM_KV_HEADS*Q_TILES x splits; a workgroup serves Q_TILE query heads of one KV head over one split. The split that
// holds the token itself writes its key and value, and uses them (rounded like the cache) from workgroup memory.
// A round is TILE cached positions: a thread scores one position for all queries, then the threads share out the columns of
// the values. Accumulates in f32. Parity test: kerneltest "attention+attn_out".

override NUM_HEADS: u32 = 16u;
override NUM_KV_HEADS: u32 = 8u;
override HEAD_DIM: u32 = 128u;
override HEAD_PAD: u32 = 128u;   // HEAD_DIM rounded up to 8
override PAGE_SIZE: u32 = 16u;
override Q_PAD: u32 = 2048u;     // NUM_HEADS*HEAD_DIM rounded up to 32
override ML_BASE: u32 = 262144u; // MAX_SPLITS*Q_PAD
override PAGE_TABLE: u32 = 64u;   // words of the step buffer before the page table
override MAX_PAGES: u32 = 2560u; // of a sequence
override Q_TILE: u32 = 2u;       // a power of two, at most 8; Q_TILE*HEAD_PAD at most 2048
override Q_TILES: u32 = 1u;      // ceil(query heads of a KV head / Q_TILE)
override LANES: u32 = 32u;       // 64 / Q_TILE: threads that normalise one head
override HEAD_VECS: u32 = 96u;   // (Q_TILE+1)*HEAD_PAD/4
override RED_B: u32 = 1u;      // 128 where Q_TILE is more than 4, else 1
override SCALE: f32 = 0.08838835;
override EPS: f32 = 1e-6;

const THREADS: u32 = 128u;
const TILE: u32 = THREADS;          // positions a round
const HALF: u32 = HEAD_DIM / 2u;
const HEAD4: u32 = HEAD_PAD / 4u;
const COLUMNS: u32 = THREADS / HEAD4; // groups of threads that share out the positions of a round for the values
const GROUP: u32 = NUM_HEADS / NUM_KV_HEADS;
const LOWEST: f32 = -1e30;

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> norms: array<f32>;
@group(0) @binding(2) var<storage, read> rope: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> qkv: array<f32>;
@group(0) @binding(4) var<storage, read_write> k_cache: array<Kv4>;
@group(0) @binding(5) var<storage, read_write> v_cache: array<Kv4>;
@group(0) @binding(6) var<storage, read_write> part_out: array<f32>;

//#include kv

var<workgroup> heads: array<vec4<f32>, HEAD_VECS>;    // [Q_TILE+1, HEAD4] queries, scaled; last row the new key
var<workgroup> sums: array<f32, THREADS>;
var<workgroup> red_a: array<vec4<f32>, THREADS>;      // scores of queries 0 to 3, for reductions
var<workgroup> red_b: array<vec4<f32>, RED_B>;        // queries 4 to 7
var<workgroup> weight_a: array<vec4<f32>, THREADS>;   // [TILE] exp(score - largest) of queries 0 to 3
var<workgroup> weight_b: array<vec4<f32>, RED_B>;
var<workgroup> slots: array<u32, THREADS>;            // [TILE] where a position's key and value start in the cache

fn cache_index(pos: u32, kv_head: u32) -> u32 {
    let page = pass_state[PAGE_TABLE + pos / PAGE_SIZE];
    return ((page * NUM_KV_HEADS + kv_head) * PAGE_SIZE + pos % PAGE_SIZE) * HEAD4;
}

fn value4(kv_head: u32, d4: u32) -> vec4<f32> {
    let base = (NUM_HEADS + NUM_KV_HEADS + kv_head) * HEAD_DIM;
    var v = vec4<f32>(0.0);
    for (var c = 0u; c < 4u; c++) {
        if (4u * d4 + c < HEAD_DIM) {
            v[c] = qkv[base + 4u * d4 + c];
        }
    }
    return v;
}

// Sums one query's output over the groups of threads and stores it.
fn store_out(acc: vec4<f32>, q: u32, num_q: u32, tid: u32, base: u32) {
    red_a[tid] = acc;
    workgroupBarrier();
    if (tid < HEAD4 && q < num_q) {
        var sum = red_a[tid];
        for (var g = 1u; g < COLUMNS; g++) {
            sum += red_a[g * HEAD4 + tid];
        }
        for (var c = 0u; c < 4u; c++) {
            if (4u * tid + c < HEAD_DIM) {
                part_out[base + q * HEAD_DIM + 4u * tid + c] = sum[c];
            }
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS)
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
    let past_end = begin + split_pages * PAGE_SIZE;
    let end = min(past_end, token_pos); // of the cached positions
    let has_token = begin <= token_pos && token_pos < past_end;

    // QK-norm and RoPE: LANES threads a head, row Q_TILE is the key.
    let row = tid / LANES;
    let lane = tid % LANES;
    let is_key = row >= Q_TILE;
    let key_base = (NUM_HEADS + kv_head) * HEAD_DIM;
    let base = select((first_head + min(row, num_q - 1u)) * HEAD_DIM, key_base, is_key);
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
            let e = d + HALF;
            heads[row * HEAD4 + d / 4u][d % 4u] = (a * cs.x - b * cs.y) * scale;
            heads[row * HEAD4 + e / 4u][e % 4u] = (b * cs.x + a * cs.y) * scale;
        }
    }
    workgroupBarrier();

    // The token itself: score 0 to Q_TILE-1 in sums[q * LANES], the first values of the online softmax.
    let d4 = tid % HEAD4;
    let column = tid / HEAD4;
    var largest_a = vec4<f32>(LOWEST);
    var largest_b = vec4<f32>(LOWEST);
    var sum_a = vec4<f32>(0.0);
    var sum_b = vec4<f32>(0.0);
    var own = vec4<f32>(0.0);
    if (has_token) {
        var s = 0.0;
        if (row < Q_TILE) {
            for (var i = lane; i < HEAD4; i += LANES) {
                s += dot(heads[row * HEAD4 + i], unpack_key4(pack_key4(heads[Q_TILE * HEAD4 + i])));
            }
        }
        sums[tid] = s;
        workgroupBarrier();
        for (var step = LANES / 2u; step > 0u; step /= 2u) {
            if (lane < step) {
                sums[tid] += sums[tid + step];
            }
            workgroupBarrier();
        }
        largest_a.x = sums[0];
        if (Q_TILE > 1u) {
            largest_a.y = sums[LANES % THREADS];
        }
        if (Q_TILE > 2u) {
            largest_a.z = sums[2u * LANES % THREADS];
            largest_a.w = sums[3u * LANES % THREADS];
        }
        if (Q_TILE > 4u) {
            largest_b = vec4<f32>(sums[4u * LANES % THREADS], sums[5u * LANES % THREADS], sums[6u * LANES % THREADS], sums[7u * LANES % THREADS]);
        }
        if (tid == 0u) {
            sum_a = vec4<f32>(1.0);
            sum_b = vec4<f32>(1.0);
        }
        if (column == 0u) {
            let value = pack_value4(value4(kv_head, d4));
            own = unpack_value4(value);
            if (q_tile == 0u) {
                let slot = cache_index(token_pos, kv_head);
                k_cache[slot + d4] = pack_key4(heads[Q_TILE * HEAD4 + d4]);
                v_cache[slot + d4] = value;
            }
        }
    }
    var acc0 = own;
    var acc1 = own;
    var acc2 = own;
    var acc3 = own;
    var acc4 = own;
    var acc5 = own;
    var acc6 = own;
    var acc7 = own;

    for (var first = begin; first < end; first += TILE) {
        let pos = first + tid;
        var score_a = vec4<f32>(LOWEST);
        var score_b = vec4<f32>(LOWEST);
        var key = 0u;
        if (pos < end) {
            score_a = vec4<f32>(0.0);
            score_b = vec4<f32>(0.0);
            key = cache_index(pos, kv_head);
            for (var i = 0u; i < HEAD4; i++) {
                let k = unpack_key4(k_cache[key + i]);
                score_a.x += dot(heads[i], k);
                if (Q_TILE > 1u) {
                    score_a.y += dot(heads[HEAD4 + i], k);
                }
                if (Q_TILE > 2u) {
                    score_a.z += dot(heads[2u * HEAD4 % HEAD_VECS + i], k);
                    score_a.w += dot(heads[3u * HEAD4 % HEAD_VECS + i], k);
                }
                if (Q_TILE > 4u) {
                    score_b += vec4<f32>(dot(heads[4u * HEAD4 % HEAD_VECS + i], k), dot(heads[5u * HEAD4 % HEAD_VECS + i], k),
                        dot(heads[6u * HEAD4 % HEAD_VECS + i], k), dot(heads[7u * HEAD4 % HEAD_VECS + i], k));
                }
            }
        }
        red_a[tid] = score_a;
        if (Q_TILE > 4u) {
            red_b[tid % RED_B] = score_b;
        }
        workgroupBarrier();
        for (var step = THREADS / 2u; step > 0u; step /= 2u) {
            if (tid < step) {
                red_a[tid] = max(red_a[tid], red_a[tid + step]);
                if (Q_TILE > 4u) {
                    red_b[tid % RED_B] = max(red_b[tid % RED_B], red_b[(tid + step) % RED_B]);
                }
            }
            workgroupBarrier();
        }
        let new_a = max(largest_a, red_a[0]);
        let factor_a = exp(largest_a - new_a);
        let w_a = select(vec4<f32>(0.0), exp(score_a - new_a), pos < end);
        largest_a = new_a;
        sum_a = sum_a * factor_a + w_a;
        weight_a[tid] = w_a;
        slots[tid] = key;
        var factor_b = vec4<f32>(1.0);
        if (Q_TILE > 4u) {
            let new_b = max(largest_b, red_b[0]);
            factor_b = exp(largest_b - new_b);
            let w_b = select(vec4<f32>(0.0), exp(score_b - new_b), pos < end);
            largest_b = new_b;
            sum_b = sum_b * factor_b + w_b;
            weight_b[tid % RED_B] = w_b;
        }
        workgroupBarrier();

        acc0 *= factor_a.x;
        acc1 *= factor_a.y;
        acc2 *= factor_a.z;
        acc3 *= factor_a.w;
        acc4 *= factor_b.x;
        acc5 *= factor_b.y;
        acc6 *= factor_b.z;
        acc7 *= factor_b.w;
        let count = min(TILE, end - first);
        if (column < COLUMNS) {
            for (var j = column; j < count; j += 4u * COLUMNS) {
                let last = count - 1u;
                let j1 = min(j + COLUMNS, last);
                let j2 = min(j + 2u * COLUMNS, last);
                let j3 = min(j + 3u * COLUMNS, last);
                let v0 = unpack_value4(v_cache[slots[j] + d4]);
                let v1 = unpack_value4(v_cache[slots[j1] + d4]);
                let v2 = unpack_value4(v_cache[slots[j2] + d4]);
                let v3 = unpack_value4(v_cache[slots[j3] + d4]);
                let in1 = f32(j + COLUMNS <= last);
                let in2 = f32(j + 2u * COLUMNS <= last);
                let in3 = f32(j + 3u * COLUMNS <= last);
                let w0 = weight_a[j];
                let w1 = weight_a[j1] * in1;
                let w2 = weight_a[j2] * in2;
                let w3 = weight_a[j3] * in3;
                acc0 += (w0.x * v0 + w1.x * v1) + (w2.x * v2 + w3.x * v3);
                if (Q_TILE > 1u) {
                    acc1 += (w0.y * v0 + w1.y * v1) + (w2.y * v2 + w3.y * v3);
                }
                if (Q_TILE > 2u) {
                    acc2 += (w0.z * v0 + w1.z * v1) + (w2.z * v2 + w3.z * v3);
                    acc3 += (w0.w * v0 + w1.w * v1) + (w2.w * v2 + w3.w * v3);
                }
                if (Q_TILE > 4u) {
                    let u0 = weight_b[j % RED_B];
                    let u1 = weight_b[j1 % RED_B] * in1;
                    let u2 = weight_b[j2 % RED_B] * in2;
                    let u3 = weight_b[j3 % RED_B] * in3;
                    acc4 += (u0.x * v0 + u1.x * v1) + (u2.x * v2 + u3.x * v3);
                    acc5 += (u0.y * v0 + u1.y * v1) + (u2.y * v2 + u3.y * v3);
                    acc6 += (u0.z * v0 + u1.z * v1) + (u2.z * v2 + u3.z * v3);
                    acc7 += (u0.w * v0 + u1.w * v1) + (u2.w * v2 + u3.w * v3);
                }
            }
        }
    }
    workgroupBarrier();

    // Sums of exponentials over the threads; the output of a single split is normalised here.
    red_a[tid] = sum_a;
    if (Q_TILE > 4u) {
        red_b[tid % RED_B] = sum_b;
    }
    workgroupBarrier();
    for (var step = THREADS / 2u; step > 0u; step /= 2u) {
        if (tid < step) {
            red_a[tid] += red_a[tid + step];
            if (Q_TILE > 4u) {
                red_b[tid % RED_B] += red_b[(tid + step) % RED_B];
            }
        }
        workgroupBarrier();
    }
    var total_a = red_a[0];
    var total_b = vec4<f32>(1.0);
    if (Q_TILE > 4u) {
        total_b = red_b[0];
    }
    workgroupBarrier();
    if (num_splits == 1u) {
        acc0 /= total_a.x;
        acc1 /= total_a.y;
        acc2 /= total_a.z;
        acc3 /= total_a.w;
        acc4 /= total_b.x;
        acc5 /= total_b.y;
        acc6 /= total_b.z;
        acc7 /= total_b.w;
        total_a = vec4<f32>(1.0);
        total_b = vec4<f32>(1.0);
    }
    if (tid < num_q) {
        let ml = ML_BASE + 2u * (split * NUM_HEADS + first_head + tid);
        var m = largest_a;
        var l = total_a;
        if (Q_TILE > 4u && tid >= 4u) {
            m = largest_b;
            l = total_b;
        }
        part_out[ml] = m[tid % 4u];
        part_out[ml + 1u] = l[tid % 4u];
    }
    let out = split * Q_PAD + first_head * HEAD_DIM;
    store_out(acc0, 0u, num_q, tid, out);
    if (Q_TILE > 1u) {
        store_out(acc1, 1u, num_q, tid, out);
    }
    if (Q_TILE > 2u) {
        store_out(acc2, 2u, num_q, tid, out);
        store_out(acc3, 3u, num_q, tid, out);
    }
    if (Q_TILE > 4u) {
        store_out(acc4, 4u, num_q, tid, out);
        store_out(acc5, 5u, num_q, tid, out);
        store_out(acc6, 6u, num_q, tid, out);
        store_out(acc7, 7u, num_q, tid, out);
    }
}
