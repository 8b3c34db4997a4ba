// attn[t, h] = softmax(q[t, h] k^T * SCALE) v over positions 0..start+t   transformers: Qwen3Attention; online softmax: flash-attention
// All keys and values, those of this pass included, are read from the cache, so the result does not depend on how the
// prompt was cut into passes: it is the same to the last bit.
// 0 pass_state u32 [0] = T, [1] = start
// 1 page_table u32 [pages of the sequence] physical page numbers
// 2 qkv        f32 [T, QKV_STRIDE] q heads first, after norm and RoPE
// 3 k_cache    Kv4 [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD] padding zero
// 4 v_cache    Kv4 likewise
// 5 attn       f32 [T, Q_PAD] columns up to NUM_HEADS*HEAD_DIM; the padding keeps its value
// Grid: ceil(T*GROUP/64) x NUM_KV_HEADS, GROUP = NUM_HEADS/NUM_KV_HEADS. A workgroup owns 64 query rows of one KV head; row
// r is token r/GROUP, head r%GROUP of the group. It goes over the positions in tiles of 64; thread (tx, ty) scores rows
// 4*ty..4*ty+3 against positions tx + 16*i, and owns columns 4*(tx+16*i).. of the same rows' output.
// Accumulates in f32, in order of position. Parity test: kerneltest "attention_prefill".

override NUM_HEADS: u32 = 16u;
override NUM_KV_HEADS: u32 = 8u;
override HEAD_DIM: u32 = 128u;    // even
override HEAD_PAD: u32 = 128u;    // HEAD_DIM rounded up to 8, at most 256
override QKV_STRIDE: u32 = 4096u;
override Q_PAD: u32 = 2048u;
override PAGE_SIZE: u32 = 16u;
override MAX_KV: u32 = 40960u;    // positions of a sequence, bounds the loops
override SCALE: f32 = 0.08838835;

const GROUP: u32 = NUM_HEADS / NUM_KV_HEADS;
const HEAD4: u32 = HEAD_PAD / 4u;
const ROWS: u32 = 64u;
const TILE: u32 = 64u;        // positions a tile
const HALF_TILE: u32 = 32u;   // positions whose weights are in workgroup memory at a time
const CHUNK4: u32 = 8u;       // vectors of a head in workgroup memory at a time, while scoring
const VALUES: u32 = 256u / HEAD4 / 4u * 4u; // positions likewise, while weighting values
const LOWEST: f32 = -1e30;

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> page_table: array<u32>;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> k_cache: array<Kv4>;
@group(0) @binding(4) var<storage, read> v_cache: array<Kv4>;
@group(0) @binding(5) var<storage, read_write> attn: array<f32>;

//#include kv

// While scoring: [ROWS, CHUNK4] queries, swizzled. While weighting: [HALF_TILE, ROWS/4] weights of four rows each, swizzled.
var<workgroup> rows: array<vec4<f32>, 512>;
// While scoring: [TILE, CHUNK4] keys, swizzled. While weighting: [VALUES, HEAD4] values, two buffers of 256.
var<workgroup> columns: array<vec4<f32>, 512>;

// Output of this thread's row i (0..3), vector tx + 16*j: o<i><j>; not normalised until the end.
var<private> o00: vec4<f32>;
var<private> o01: vec4<f32>;
var<private> o02: vec4<f32>;
var<private> o03: vec4<f32>;
var<private> o10: vec4<f32>;
var<private> o11: vec4<f32>;
var<private> o12: vec4<f32>;
var<private> o13: vec4<f32>;
var<private> o20: vec4<f32>;
var<private> o21: vec4<f32>;
var<private> o22: vec4<f32>;
var<private> o23: vec4<f32>;
var<private> o30: vec4<f32>;
var<private> o31: vec4<f32>;
var<private> o32: vec4<f32>;
var<private> o33: vec4<f32>;

// Index of the first vector of a position's head in the caches.
fn cache_index(pos: u32, kv_head: u32) -> u32 {
    return ((page_table[pos / PAGE_SIZE] * NUM_KV_HEADS + kv_head) * PAGE_SIZE + pos % PAGE_SIZE) * HEAD4;
}

// Vector d4 of a query row that starts at base; zero past HEAD_DIM.
fn query4(base: u32, d4: u32) -> vec4<f32> {
    let d = 4u * d4;
    let i = base + d;
    if (d + 4u <= HEAD_DIM) {
        return vec4<f32>(qkv[i], qkv[i + 1u], qkv[i + 2u], qkv[i + 3u]);
    }
    if (d + 2u <= HEAD_DIM) {
        return vec4<f32>(qkv[i], qkv[i + 1u], 0.0, 0.0);
    }
    return vec4<f32>(0.0);
}

// Where row r of the KV head's queries starts in qkv.
fn query_base(r: u32, kv_head: u32) -> u32 {
    return r / GROUP * QKV_STRIDE + (kv_head * GROUP + r % GROUP) * HEAD_DIM;
}

// Where workgroup memory holds the numbers of rows 4*ty..4*ty+3 at index i of TILE (or of the 16 tx): spread over all banks.
fn quad_at(i: u32, ty: u32) -> u32 {
    return i * 16u + (ty ^ (i % 8u));
}

// The scores of four rows against one position, with four more numbers of the heads; q<c> is component c of the rows' queries.
fn add_score(s: vec4<f32>, qx: vec4<f32>, qy: vec4<f32>, qz: vec4<f32>, qw: vec4<f32>, key: vec4<f32>) -> vec4<f32> {
    return (((s + qx * key.x) + qy * key.y) + qz * key.z) + qw * key.w;
}

// Brings positions [first, first+VALUES) of v_cache into buffer `slot` of columns; zero from `end` on.
fn load_values(first: u32, end: u32, kv_head: u32, slot: u32, tid: u32) {
    if (tid < VALUES * HEAD4) {
        let pos = first + tid / HEAD4;
        var v = vec4<f32>(0.0);
        if (pos < end) {
            v = unpack_value4(v_cache[cache_index(pos, kv_head) + tid % HEAD4]);
        }
        columns[slot * 256u + tid] = v;
    }
}

// Adds one position's value, of which the weights of this thread's four rows are w.
fn add_value(w: vec4<f32>, at: u32, tx: u32) {
    let v0 = columns[at + min(tx, HEAD4 - 1u)];
    o00 += w.x * v0;
    o10 += w.y * v0;
    o20 += w.z * v0;
    o30 += w.w * v0;
    if (HEAD4 > 16u) {
        let v1 = columns[at + min(tx + 16u, HEAD4 - 1u)];
        o01 += w.x * v1;
        o11 += w.y * v1;
        o21 += w.z * v1;
        o31 += w.w * v1;
    }
    if (HEAD4 > 32u) {
        let v2 = columns[at + min(tx + 32u, HEAD4 - 1u)];
        o02 += w.x * v2;
        o12 += w.y * v2;
        o22 += w.z * v2;
        o32 += w.w * v2;
    }
    if (HEAD4 > 48u) {
        let v3 = columns[at + min(tx + 48u, HEAD4 - 1u)];
        o03 += w.x * v3;
        o13 += w.y * v3;
        o23 += w.z * v3;
        o33 += w.w * v3;
    }
}

fn rescale(f: vec4<f32>) {
    o00 *= f.x;
    o10 *= f.y;
    o20 *= f.z;
    o30 *= f.w;
    if (HEAD4 > 16u) {
        o01 *= f.x;
        o11 *= f.y;
        o21 *= f.z;
        o31 *= f.w;
    }
    if (HEAD4 > 32u) {
        o02 *= f.x;
        o12 *= f.y;
        o22 *= f.z;
        o32 *= f.w;
    }
    if (HEAD4 > 48u) {
        o03 *= f.x;
        o13 *= f.y;
        o23 *= f.z;
        o33 *= f.w;
    }
}

fn store4(base: u32, d4: u32, v: vec4<f32>) {
    let d = 4u * d4;
    if (d + 2u <= HEAD_DIM) {
        attn[base + d] = v.x;
        attn[base + d + 1u] = v.y;
    }
    if (d + 4u <= HEAD_DIM) {
        attn[base + d + 2u] = v.z;
        attn[base + d + 3u] = v.w;
    }
}

// Stores row r of the KV head's queries, if there is one.
fn store_row(r: u32, num_rows: u32, kv_head: u32, tx: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) {
    if (r < num_rows) {
        let base = r / GROUP * Q_PAD + (kv_head * GROUP + r % GROUP) * HEAD_DIM;
        store4(base, tx, v0);
        store4(base, tx + 16u, v1);
        store4(base, tx + 32u, v2);
        store4(base, tx + 48u, v3);
    }
}

@compute @workgroup_size(256)
fn attention_prefill(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let kv_head = group.y;
    let start = pass_state[1];
    let num_rows = pass_state[0] * GROUP;
    let first_row = (num_groups.x - 1u - group.x) * ROWS; // the longest rows first
    if (first_row >= num_rows) {
        return;
    }
    let last_row = min(first_row + ROWS, num_rows) - 1u;
    let end = min(start + last_row / GROUP + 1u, MAX_KV);

    // A warp of 32 spans 8 (positions, columns) x 4 (rows) threads.
    let tx = (tid / 32u) % 2u * 8u + tid % 8u;
    let ty = tid / 64u * 4u + (tid / 8u) % 4u;
    let first = first_row + 4u * ty;
    let limit = vec4<u32>(start) + min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(last_row)) / GROUP;

    // Loading for the scores: 8 neighbouring threads bring CHUNK4 vectors of a query row (two rows a thread) or of a key.
    let load_d4 = tid % CHUNK4;
    let load_row = tid / CHUNK4; // 0..31
    let query0 = query_base(min(first_row + load_row, last_row), kv_head);
    let query1 = query_base(min(first_row + load_row + 32u, last_row), kv_head);
    let load_rows0 = load_row * CHUNK4 + (load_d4 ^ (load_row / 4u));
    let load_rows1 = load_rows0 + 32u * CHUNK4;
    let load_column = load_row * CHUNK4 + (load_d4 ^ (load_row % 8u));

    var largest = vec4<f32>(LOWEST); // of the scores of this thread's rows so far
    var sum = vec4<f32>(0.0);        // of exp(score - largest) over the positions this thread scored
    for (var pos0 = 0u; pos0 < end; pos0 += TILE) {
        // Scores: s<i> of this thread's rows against position pos0 + tx + 16*i.
        let key_a = cache_index(min(pos0 + load_row, end - 1u), kv_head);
        let key_b = cache_index(min(pos0 + load_row + 32u, end - 1u), kv_head);
        var s0 = vec4<f32>(0.0);
        var s1 = vec4<f32>(0.0);
        var s2 = vec4<f32>(0.0);
        var s3 = vec4<f32>(0.0);
        for (var chunk = 0u; chunk < HEAD4; chunk += CHUNK4) {
            let d4 = chunk + load_d4;
            workgroupBarrier();
            rows[load_rows0] = query4(query0, d4);
            rows[load_rows1] = query4(query1, d4);
            var a4 = vec4<f32>(0.0);
            var b4 = vec4<f32>(0.0);
            if (d4 < HEAD4) {
                a4 = unpack_key4(k_cache[key_a + d4]);
                b4 = unpack_key4(k_cache[key_b + d4]);
            }
            columns[load_column] = a4;
            columns[load_column + 32u * CHUNK4] = b4;
            workgroupBarrier();
            for (var i = 0u; i < min(CHUNK4, HEAD4 - chunk); i++) {
                let at = 4u * ty * CHUNK4 + (i ^ (ty % 8u));
                let q0 = rows[at];
                let q1 = rows[at + CHUNK4];
                let q2 = rows[at + 2u * CHUNK4];
                let q3 = rows[at + 3u * CHUNK4];
                let qx = vec4<f32>(q0.x, q1.x, q2.x, q3.x);
                let qy = vec4<f32>(q0.y, q1.y, q2.y, q3.y);
                let qz = vec4<f32>(q0.z, q1.z, q2.z, q3.z);
                let qw = vec4<f32>(q0.w, q1.w, q2.w, q3.w);
                let column = tx * CHUNK4 + (i ^ (tx % 8u));
                s0 = add_score(s0, qx, qy, qz, qw, columns[column]);
                s1 = add_score(s1, qx, qy, qz, qw, columns[column + 16u * CHUNK4]);
                s2 = add_score(s2, qx, qy, qz, qw, columns[column + 32u * CHUNK4]);
                s3 = add_score(s3, qx, qy, qz, qw, columns[column + 48u * CHUNK4]);
            }
        }
        s0 = select(vec4<f32>(LOWEST), s0 * SCALE, vec4<u32>(pos0 + tx) <= limit);
        s1 = select(vec4<f32>(LOWEST), s1 * SCALE, vec4<u32>(pos0 + tx + 16u) <= limit);
        s2 = select(vec4<f32>(LOWEST), s2 * SCALE, vec4<u32>(pos0 + tx + 32u) <= limit);
        s3 = select(vec4<f32>(LOWEST), s3 * SCALE, vec4<u32>(pos0 + tx + 48u) <= limit);

        // The rows' largest scores, over the 16 threads that share the rows.
        workgroupBarrier();
        columns[256u + quad_at(tx, ty)] = max(max(s0, s1), max(s2, s3));
        workgroupBarrier();
        var new_largest = largest;
        for (var i = 0u; i < 16u; i++) {
            new_largest = max(new_largest, columns[256u + quad_at(i, ty)]);
        }
        let factor = exp(largest - new_largest);
        largest = new_largest;
        rescale(factor);
        sum *= factor;

        for (var half = 0u; half < 2u && pos0 + half * HALF_TILE < end; half++) {
            let half0 = pos0 + half * HALF_TILE;
            let w0 = exp(select(s0, s2, half == 1u) - largest);
            let w1 = exp(select(s1, s3, half == 1u) - largest);
            sum += w0 + w1;
            workgroupBarrier();
            rows[quad_at(tx, ty)] = w0;
            rows[quad_at(tx + 16u, ty)] = w1;
            load_values(half0, end, kv_head, 0u, tid);

            // Weighted values, VALUES positions at a time; the next ones are brought meanwhile.
            for (var j0 = 0u; j0 < HALF_TILE; j0 += VALUES) {
                workgroupBarrier();
                let slot = j0 / VALUES % 2u;
                if (j0 + VALUES < HALF_TILE) {
                    load_values(half0 + j0 + VALUES, end, kv_head, 1u - slot, tid);
                }
                for (var j = 0u; j < min(VALUES, HALF_TILE - j0); j += 4u) {
                    let i = j0 + j;
                    let at = slot * 256u + j * HEAD4;
                    add_value(rows[quad_at(i, ty)], at, tx);
                    add_value(rows[quad_at(i + 1u, ty)], at + HEAD4, tx);
                    add_value(rows[quad_at(i + 2u, ty)], at + 2u * HEAD4, tx);
                    add_value(rows[quad_at(i + 3u, ty)], at + 3u * HEAD4, tx);
                }
            }
        }
    }

    // Sums of the rows' weights, over the threads that share the rows, in order.
    workgroupBarrier();
    rows[quad_at(tx, ty)] = sum;
    workgroupBarrier();
    sum = rows[ty];
    for (var i = 1u; i < 16u; i++) {
        sum += rows[quad_at(i, ty)];
    }
    rescale(1.0 / sum);
    store_row(first, num_rows, kv_head, tx, o00, o01, o02, o03);
    store_row(first + 1u, num_rows, kv_head, tx, o10, o11, o12, o13);
    store_row(first + 2u, num_rows, kv_head, tx, o20, o21, o22, o23);
    store_row(first + 3u, num_rows, kv_head, tx, o30, o31, o32, o33);
}
