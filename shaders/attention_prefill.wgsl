// attn[t, h] = softmax(q[t, h] k^T * SCALE) v over positions 0..start+t   transformers: Qwen3Attention; online softmax: flash-attention
// All keys and values, those of this pass included, are read from the cache, so the result does not depend on how the
// prompt was cut into passes: it is the same to the last bit.
// 0 pass_state u32       [0] = T, [1] = start
// 1 page_table u32       [pages of the sequence] physical page numbers
// 2 qkv        vec4<f32> [T, QKV_STRIDE] q heads first, after norm and RoPE
// 3 k_cache    Kv8       [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD] padding zero
// 4 v_cache    Kv8       likewise
// 5 attn       vec2<f32> [T, Q_PAD] columns up to NUM_HEADS*HEAD_DIM; the padding keeps its value
// Grid: NUM_KV_HEADS x ceil(T*GROUP/64) x ceil(HEAD_PAD/128), GROUP = NUM_HEADS/NUM_KV_HEADS. A workgroup owns 128 columns of
// 64 query rows of one KV head; row r is token r/GROUP, head r%GROUP of the group. It goes over the positions in tiles of 64:
// a thread scores 4 rows against 8 positions, 16 numbers of the heads a round, and then owns 8x8 of the output, 8 positions a
// round. Workgroup memory has two halves: while one is multiplied, the next round's numbers are under way to the other, so
// that a round has one barrier. Accumulates in f32, in order of position. Parity test: kerneltest "attention_prefill".

override NUM_HEADS: u32 = 16u;
override NUM_KV_HEADS: u32 = 8u;
override HEAD_DIM: u32 = 128u;    // even
override HEAD_PAD: u32 = 128u;    // HEAD_DIM rounded up to 8
override QKV_STRIDE: u32 = 4096u; // a multiple of 4
override Q_PAD: u32 = 2048u;      // even
override PAGE_SIZE: u32 = 16u;
override MAX_KV: u32 = 40960u;    // positions of a sequence, bounds the loops
override SCALE: f32 = 0.08838835;

const GROUP: u32 = NUM_HEADS / NUM_KV_HEADS;
const HEAD8: u32 = HEAD_PAD / 8u;
const ROWS: u32 = 64u;
const TILE: u32 = 64u;                      // positions a tile
const CHUNKS: u32 = (HEAD8 + 3u) / 4u * 2u; // of 16 numbers of a head; even, so that the last one lies in the second half
const LOWEST: f32 = -1e30;

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> page_table: array<u32>;
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> k_cache: array<Kv8>;
@group(0) @binding(4) var<storage, read> v_cache: array<Kv8>;
@group(0) @binding(5) var<storage, read_write> attn: array<vec2<f32>>;

//#include kv

// Two halves of 8 KiB: [half][2][16][16]. Compilers that check bounds clamp every index that is no constant, so what differs
// between the accesses of a thread is an index of its own and constant, where it can be. Half of a tile's indices:
//   queries [0][4*(row%4) + d4][row/4 ^ 2*d4]            vector d4 (0..3) of the chunk
//   keys    [1][4*(slot/16) + d4][slot%16 ^ 2*d4]        slot 8*i + tx holds position 8*i + place(tx)
//   values  [pos/4][2*(pos%4) + upper][i]                numbers 8*i..8*i+3 of a head, or 4 more with upper = 1
//   weights [pos/4][8 + pos%4][quad ^ swizzle(pos)]      of rows 4*quad.., the position pos = place(tx) of a round
// LARGEST of rows lie 4 behind the weights, in the first half, FACTORS in the second.
// The xors spread what a quarter of a warp stores, or half of one reads, over all banks.
const LARGEST: u32 = 12u;
const FACTORS: u32 = 12u;
var<workgroup> memory: array<array<array<array<vec4<f32>, 16>, 16>, 2>, 2>;

// Scores of this thread's four rows, 4*ty.., against position 8*i + place(tx) of the tile: s<i>.
var<private> s0: vec4<f32>;
var<private> s1: vec4<f32>;
var<private> s2: vec4<f32>;
var<private> s3: vec4<f32>;
var<private> s4: vec4<f32>;
var<private> s5: vec4<f32>;
var<private> s6: vec4<f32>;
var<private> s7: vec4<f32>;

// Output of this thread's row i (4*oy + i, from 4 on 32 + 4*oy + i-4), columns 8*ox..8*ox+3 (lo) and 8*ox+4..8*ox+7 (hi); not
// normalised until the end.
//#include outer

// Index of the first vector of a position's head in the caches.
fn cache_index(pos: u32, kv_head: u32) -> u32 {
    return ((page_table[pos / PAGE_SIZE] * NUM_KV_HEADS + kv_head) * PAGE_SIZE + pos % PAGE_SIZE) * HEAD8;
}

// Where row r of the KV head's queries starts in qkv, in numbers.
fn query_base(r: u32, kv_head: u32) -> u32 {
    return r / GROUP * QKV_STRIDE + (kv_head * GROUP + r % GROUP) * HEAD_DIM;
}

// Numbers d..d+3 of a query row that starts at base, an even number; zero past HEAD_DIM.
fn query4(base: u32, d: u32) -> vec4<f32> {
    if (d >= HEAD_DIM) {
        return vec4<f32>(0.0);
    }
    let i = (base + d) / 4u;
    var q = qkv[i];
    if (HEAD_DIM % 4u != 0u) {
        if (base % 4u != 0u) {
            q = vec4<f32>(q.zw, qkv[i + 1u].xy);
        }
        if (d + 4u > HEAD_DIM) {
            q = vec4<f32>(q.xy, 0.0, 0.0);
        }
    }
    return q;
}

// The position (0..7) of a thread or slot: neighbouring ones lie four apart.
fn place(tx: u32) -> u32 {
    return tx % 2u * 4u + tx / 2u;
}

// The scores of four rows against one position, with four more numbers of the heads; q<c> is component c of the rows' queries.
fn add_score(s: vec4<f32>, qx: vec4<f32>, qy: vec4<f32>, qz: vec4<f32>, qw: vec4<f32>, key: vec4<f32>) -> vec4<f32> {
    return (((s + qx * key.x) + qy * key.y) + qz * key.z) + qw * key.w;
}

// Vector d4 of the chunk for all scores of this thread.
fn add_scores(half: u32, d4: u32, tx: u32, ty: u32) {
    let q = ty ^ (2u * d4);
    let q0 = memory[half][0][d4][q];
    let q1 = memory[half][0][4u + d4][q];
    let q2 = memory[half][0][8u + d4][q];
    let q3 = memory[half][0][12u + d4][q];
    let qx = vec4<f32>(q0.x, q1.x, q2.x, q3.x);
    let qy = vec4<f32>(q0.y, q1.y, q2.y, q3.y);
    let qz = vec4<f32>(q0.z, q1.z, q2.z, q3.z);
    let qw = vec4<f32>(q0.w, q1.w, q2.w, q3.w);
    let k = tx ^ (2u * d4);
    s0 = add_score(s0, qx, qy, qz, qw, memory[half][1][d4][k]);
    s1 = add_score(s1, qx, qy, qz, qw, memory[half][1][d4][k + 8u]);
    s2 = add_score(s2, qx, qy, qz, qw, memory[half][1][4u + d4][k]);
    s3 = add_score(s3, qx, qy, qz, qw, memory[half][1][4u + d4][k + 8u]);
    s4 = add_score(s4, qx, qy, qz, qw, memory[half][1][8u + d4][k]);
    s5 = add_score(s5, qx, qy, qz, qw, memory[half][1][8u + d4][k + 8u]);
    s6 = add_score(s6, qx, qy, qz, qw, memory[half][1][12u + d4][k]);
    s7 = add_score(s7, qx, qy, qz, qw, memory[half][1][12u + d4][k + 8u]);
}

// Scores against position pos are the lowest for rows whose limit it is past.
fn masked(s: vec4<f32>, pos: u32, limit: vec4<u32>) -> vec4<f32> {
    return select(vec4<f32>(LOWEST), s, vec4<u32>(pos) <= limit);
}

// Adds a round's eight positions.
fn add_values(half: u32, ox: u32, oy: u32) {
    for (var g = 0u; g < 2u; g++) {
        let w = oy ^ (2u * g);
        let x = w ^ 4u;
        add_outer(memory[half][g][8][w], memory[half][g][8][w + 8u], memory[half][g][0][ox], memory[half][g][1][ox]);
        add_outer(memory[half][g][9][x], memory[half][g][9][x + 8u], memory[half][g][2][ox], memory[half][g][3][ox]);
        add_outer(memory[half][g][10][w], memory[half][g][10][w + 8u], memory[half][g][4][ox], memory[half][g][5][ox]);
        add_outer(memory[half][g][11][x], memory[half][g][11][x + 8u], memory[half][g][6][ox], memory[half][g][7][ox]);
    }
}

// Multiplies the output's rows.
fn rescale(f_lo: vec4<f32>, f_hi: vec4<f32>) {
    lo0 *= f_lo.x;
    hi0 *= f_lo.x;
    lo1 *= f_lo.y;
    hi1 *= f_lo.y;
    lo2 *= f_lo.z;
    hi2 *= f_lo.z;
    lo3 *= f_lo.w;
    hi3 *= f_lo.w;
    lo4 *= f_hi.x;
    hi4 *= f_hi.x;
    lo5 *= f_hi.y;
    hi5 *= f_hi.y;
    lo6 *= f_hi.z;
    hi6 *= f_hi.z;
    lo7 *= f_hi.w;
    hi7 *= f_hi.w;
}

// The sums of weights of rows 4*quad.., added up over the eight threads that share them, in order of their positions.
fn total(quad: u32) -> vec4<f32> {
    let a = quad;
    let b = quad ^ 4u;
    let lower = ((memory[0][0][LARGEST][a] + memory[0][0][LARGEST + 1u][b]) + memory[0][0][LARGEST + 2u][a]) + memory[0][0][LARGEST + 3u][b];
    let c = quad ^ 2u;
    let d = quad ^ 6u;
    return (((lower + memory[0][1][LARGEST][c]) + memory[0][1][LARGEST + 1u][d]) + memory[0][1][LARGEST + 2u][c]) + memory[0][1][LARGEST + 3u][d];
}

// The largest of them, likewise.
fn largest_of(quad: u32) -> vec4<f32> {
    let a = quad;
    let b = quad ^ 4u;
    let lower = max(max(memory[0][0][LARGEST][a], memory[0][0][LARGEST + 1u][b]), max(memory[0][0][LARGEST + 2u][a], memory[0][0][LARGEST + 3u][b]));
    let c = quad ^ 2u;
    let d = quad ^ 6u;
    return max(lower, max(max(memory[0][1][LARGEST][c], memory[0][1][LARGEST + 1u][d]), max(memory[0][1][LARGEST + 2u][c], memory[0][1][LARGEST + 3u][d])));
}

// Stores columns d..d+7 of row r of the KV head's queries, if there are such.
fn store_row(r: u32, num_rows: u32, kv_head: u32, d: u32, lo: vec4<f32>, hi: vec4<f32>) {
    if (r < num_rows) {
        let i = (r / GROUP * Q_PAD + (kv_head * GROUP + r % GROUP) * HEAD_DIM + d) / 2u;
        if (d + 2u <= HEAD_DIM) {
            attn[i] = lo.xy;
        }
        if (d + 4u <= HEAD_DIM) {
            attn[i + 1u] = lo.zw;
        }
        if (d + 6u <= HEAD_DIM) {
            attn[i + 2u] = hi.xy;
        }
        if (d + 8u <= HEAD_DIM) {
            attn[i + 3u] = hi.zw;
        }
    }
}

@compute @workgroup_size(128)
fn attention_prefill(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let kv_head = group.x;
    let start = pass_state[1];
    let num_rows = pass_state[0] * GROUP;
    let first_row = (num_groups.y - 1u - group.y) * ROWS; // the longest rows of all heads first
    if (first_row >= num_rows) {
        return;
    }
    let last_row = min(first_row + ROWS, num_rows) - 1u;
    let end = min(start + last_row / GROUP + 1u, MAX_KV);
    let unit = SCALE * KEY_UNIT * 1.44269504; // of a score, in powers of 2

    // Computing: a warp of 32 spans 8 x 4 threads. Neighbouring threads differ in y, the pairs next to each other in x: so
    // whichever of the two a vector depends on, half a warp asks for eight different vectors at most, which is one access.
    let x = tid / 2u % 8u;
    let y = tid / 16u % 2u * 2u + tid % 2u;
    let tx = x;                       // scores: positions 8*i + place(tx)
    let ty = tid / 32u % 4u * 4u + y; // and rows 4*ty..
    let ox = tid / 32u % 2u * 8u + x; // output: columns 8*ox..
    let oy = tid / 64u % 2u * 4u + y; // and rows 4*oy.., 32 + 4*oy..

    // Loading for the scores: four neighbouring threads bring 16 numbers of a query row, each of two rows; two bring those of
    // a key. Loading values: 16 neighbouring threads bring a position's. What lies past the head or the last position repeats it.
    let q_d4 = tid % 4u;
    let q_quad = tid / 4u % 16u;
    let q_row = first_row + 4u * q_quad + tid / 64u % 2u; // and two further
    let query_a = query_base(min(q_row, last_row), kv_head);
    let query_b = query_base(min(q_row + 2u, last_row), kv_head);
    let q_at = tid / 64u % 2u * 4u + q_d4;
    let q_swizzled = q_quad ^ (2u * q_d4);
    let k_d8 = tid % 2u;
    let k_pos = tid / 16u * 8u + place(tid / 2u % 8u);
    let k_at = tid / 32u % 4u * 4u + 2u * k_d8;
    let k_swizzled = (tid / 2u % 16u) ^ (4u * k_d8);
    let v_pos = tid / 16u % 8u;
    let v_i = tid % 16u;
    let v_d8 = min(group.z * 16u + v_i, HEAD8 - 1u);
    let w_at = 8u + tx / 2u;
    let w_swizzled = ty ^ (tx % 2u * 2u + tx / 2u % 2u * 4u);

    var largest = vec4<f32>(LOWEST); // of the scores of this thread's rows so far, in powers of 2
    var sum = vec4<f32>(0.0);        // of 2^(score - largest) over the positions this thread scored
    var key = cache_index(min(k_pos, end - 1u), kv_head);
    var q_a = query4(query_a, 4u * q_d4);
    var q_b = query4(query_b, 4u * q_d4);
    var cached = k_cache[key + min(k_d8, HEAD8 - 1u)];
    for (var pos0 = 0u; pos0 < end; pos0 += TILE) {
        s0 = vec4<f32>(0.0);
        s1 = vec4<f32>(0.0);
        s2 = vec4<f32>(0.0);
        s3 = vec4<f32>(0.0);
        s4 = vec4<f32>(0.0);
        s5 = vec4<f32>(0.0);
        s6 = vec4<f32>(0.0);
        s7 = vec4<f32>(0.0);
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            let half = chunk % 2u;
            memory[half][0][q_at][q_swizzled] = q_a;
            memory[half][0][q_at + 8u][q_swizzled] = q_b;
            memory[half][1][k_at][k_swizzled] = key_counts4(lower4(cached));
            memory[half][1][k_at + 1u][k_swizzled ^ 2u] = key_counts4(upper4(cached));
            workgroupBarrier();
            if (chunk + 1u < CHUNKS) {
                q_a = query4(query_a, 16u * chunk + 16u + 4u * q_d4);
                q_b = query4(query_b, 16u * chunk + 16u + 4u * q_d4);
                cached = k_cache[key + min(2u * chunk + 2u + k_d8, HEAD8 - 1u)];
            } else {
                cached = v_cache[cache_index(min(pos0 + v_pos, end - 1u), kv_head) + v_d8];
            }
            add_scores(half, 0u, tx, ty);
            add_scores(half, 1u, tx, ty);
            add_scores(half, 2u, tx, ty);
            add_scores(half, 3u, tx, ty);
        }
        if (pos0 + TILE > start + first_row / GROUP + 1u) { // some row does not see all of the tile
            let first = first_row + 4u * ty;
            let limit = vec4<u32>(start) + min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(last_row)) / GROUP;
            let pos = pos0 + place(tx);
            s0 = masked(s0, pos, limit);
            s1 = masked(s1, pos + 8u, limit);
            s2 = masked(s2, pos + 16u, limit);
            s3 = masked(s3, pos + 24u, limit);
            s4 = masked(s4, pos + 32u, limit);
            s5 = masked(s5, pos + 40u, limit);
            s6 = masked(s6, pos + 48u, limit);
            s7 = masked(s7, pos + 56u, limit);
        }

        // The rows' largest scores, over the eight threads that share the rows.
        memory[0][tx % 2u][LARGEST - 8u + w_at][w_swizzled] = max(max(max(s0, s1), max(s2, s3)), max(max(s4, s5), max(s6, s7))) * unit;
        workgroupBarrier();
        let previous = largest;
        largest = max(largest, largest_of(ty));
        let factor = exp2(previous - largest);
        sum *= factor;
        if (tx == 0u) {
            memory[1][0][FACTORS][ty] = factor;
        }

        // Weighted values, eight positions a round.
        for (var half_tile = 0u; half_tile < 2u && pos0 + half_tile * 32u < end; half_tile++) {
            let next = pos0 + half_tile * 32u + 8u + v_pos;
            let w0 = exp2(s0 * unit - largest);
            sum += w0;
            memory[0][tx % 2u][w_at][w_swizzled] = w0;
            memory[0][v_pos / 4u][v_pos % 4u * 2u][v_i] = unpack_value4(lower4(cached));
            memory[0][v_pos / 4u][v_pos % 4u * 2u + 1u][v_i] = unpack_value4(upper4(cached));
            workgroupBarrier();
            cached = v_cache[cache_index(min(next, end - 1u), kv_head) + v_d8];
            if (half_tile == 0u) {
                rescale(memory[1][0][FACTORS][oy], memory[1][0][FACTORS][oy + 8u]);
            }
            add_values(0u, ox, oy);

            let w1 = exp2(s1 * unit - largest);
            sum += w1;
            memory[1][tx % 2u][w_at][w_swizzled] = w1;
            memory[1][v_pos / 4u][v_pos % 4u * 2u][v_i] = unpack_value4(lower4(cached));
            memory[1][v_pos / 4u][v_pos % 4u * 2u + 1u][v_i] = unpack_value4(upper4(cached));
            workgroupBarrier();
            cached = v_cache[cache_index(min(next + 8u, end - 1u), kv_head) + v_d8];
            add_values(1u, ox, oy);

            let w2 = exp2(s2 * unit - largest);
            sum += w2;
            memory[0][tx % 2u][w_at][w_swizzled] = w2;
            memory[0][v_pos / 4u][v_pos % 4u * 2u][v_i] = unpack_value4(lower4(cached));
            memory[0][v_pos / 4u][v_pos % 4u * 2u + 1u][v_i] = unpack_value4(upper4(cached));
            workgroupBarrier();
            cached = v_cache[cache_index(min(next + 16u, end - 1u), kv_head) + v_d8];
            add_values(0u, ox, oy);

            let w3 = exp2(s3 * unit - largest);
            sum += w3;
            memory[1][tx % 2u][w_at][w_swizzled] = w3;
            memory[1][v_pos / 4u][v_pos % 4u * 2u][v_i] = unpack_value4(lower4(cached));
            memory[1][v_pos / 4u][v_pos % 4u * 2u + 1u][v_i] = unpack_value4(upper4(cached));
            workgroupBarrier();
            if (half_tile == 0u) {
                cached = v_cache[cache_index(min(next + 24u, end - 1u), kv_head) + v_d8];
            } else { // the next tile's first chunk
                key = cache_index(min(pos0 + TILE + k_pos, end - 1u), kv_head);
                q_a = query4(query_a, 4u * q_d4);
                q_b = query4(query_b, 4u * q_d4);
                cached = k_cache[key + min(k_d8, HEAD8 - 1u)];
            }
            add_values(1u, ox, oy);
            s0 = s4;
            s1 = s5;
            s2 = s6;
            s3 = s7;
        }
    }

    workgroupBarrier();
    memory[0][tx % 2u][LARGEST - 8u + w_at][w_swizzled] = sum;
    workgroupBarrier();
    rescale(1.0 / total(oy), 1.0 / total(oy + 8u));
    let r = first_row + 4u * oy;
    let d = 128u * group.z + 8u * ox;
    store_row(r, num_rows, kv_head, d, lo0, hi0);
    store_row(r + 1u, num_rows, kv_head, d, lo1, hi1);
    store_row(r + 2u, num_rows, kv_head, d, lo2, hi2);
    store_row(r + 3u, num_rows, kv_head, d, lo3, hi3);
    store_row(r + 32u, num_rows, kv_head, d, lo4, hi4);
    store_row(r + 33u, num_rows, kv_head, d, lo5, hi5);
    store_row(r + 34u, num_rows, kv_head, d, lo6, hi6);
    store_row(r + 35u, num_rows, kv_head, d, lo7, hi7);
}
