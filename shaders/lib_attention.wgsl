// Decode attention of one token over one split of its context: its body, of attention and of layer_products.
// The kernel declares step_state, rope, norms, k_cache and v_cache, with first_gain, first_key and first_value, where in these the layer's are; the
// workgroup memory scratch; head_pairs and projections4, which bring q, k and v, late where HANDED_ON is 1, since they are not there as it
// begins; put_attention, which stores a number of the output; and how many threads a workgroup has: those behind THREADS have nothing to do.
//
// A round is a tile. LANES threads share a key, each with a part of the dot products for all queries, and have the next key's between them:
// two neighbours read the same 16 bytes of a query, which workgroup memory gives to both in one access. Eight
// neighbouring positions are a chunk with an online softmax of its own: one thread a chunk and query adds the parts up and
// makes the weights; COLUMNS threads add up the chunk's values, four columns each. Chunks are merged behind the last round.
// Loads run ahead of all that: the first tile's before the query is known, a later one's as soon as registers are free.
// Where it is PIPELINED, a round takes the scores of one tile, the weights of the one before and the sums of the one before that, and has
// one barrier instead of two.
// The split that holds the token writes its key and value, and takes both, rounded as the cache rounds, from the workgroup.
// Accumulates in f32.

override NUM_KV_HEADS: u32 = 8u;
override HEAD_PAD: u32 = 128u;   // HEAD_DIM rounded up to 8, at most 256
override PAGE_SIZE: u32 = 16u;
override PAGE_TABLE: u32 = 64u;  // words of the step buffer before the page table
override MAX_PAGES: u32 = 2560u; // of a sequence
override Q_TILE: u32 = 1u;       // a power of two, at most 8; Q_TILE*HEAD_PAD at most 1024
override Q_TILES: u32 = 2u;      // ceil(query heads of a KV head / Q_TILE)
override PIPELINED: u32 = 0u;    // 1 for many rounds, with a Q_TILE of at most 4
override SCALE: f32 = 0.08838835;
override THREADS: u32 = 256u;    // or 512

const HALF: u32 = HEAD_DIM / 2u;
const HEAD4: u32 = HEAD_PAD / 4u;
const HEAD8: u32 = HEAD_PAD / 8u;
const GROUP: u32 = NUM_HEADS / NUM_KV_HEADS;
const LANES: u32 = 4u * ((HEAD_PAD + 127u) / 128u); // threads that share a key: four Kv8 each at most
const TILE: u32 = THREADS / LANES;                  // positions a round
const TILE4: u32 = TILE / 4u;
const SHIFT4: u32 = 8u / LANES;
const COLUMNS: u32 = 8u * LANES;                    // threads that share a chunk's values
const CHUNKS: u32 = TILE / 8u;                      // of a round
const CHUNKS4: u32 = CHUNKS / 4u;
const ROWS: u32 = Q_TILE + 1u;                      // the queries and the new key
const ROW_LANES: u32 = 32u / (1u + Q_TILE / 8u);    // threads that norm and rotate a row, up to four pairs each
const PAIRS: u32 = (HALF + ROW_LANES - 1u) / ROW_LANES;
const MERGED: u32 = 2u - 1u / Q_TILE;               // queries whose chunks are merged at a time
const SCRATCH: u32 = THREADS * MERGED;
const PARTS: u32 = Q_TILE * LANES * TILE4;          // of a tile's scores: where PIPELINED, SCRATCH holds two tiles'
const TILES: u32 = 1u + PIPELINED;                  // whose weights are kept
const CHUNK_WEIGHTS: u32 = 2u * Q_TILE;
const CHUNK_KEEPS: u32 = (Q_TILE + 3u) / 4u;
const FACTORS: u32 = TILES * CHUNKS;
const CHUNK_VECS: u32 = Q_TILE * CHUNKS4;
const LOWEST: f32 = -1e30;

// Kv8 number i of a row is vectors 2*(i/LANES) and 2*(i/LANES)+1 of lane i%LANES; the ninth keeps lanes on different banks.
var<workgroup> heads: array<array<array<vec4<f32>, 9>, LANES>, ROWS>; // queries, scaled; last row the new key, rounded, in KEY_UNIT
// scratch: squares of the norms, then [TILES, Q_TILE, LANES, TILE] parts of scores, of which lane l's lie 32/LANES*l positions further
// (banks again), then [MERGED, CHUNKS, HEAD_PAD] outputs.
var<workgroup> factors: array<Factors, FACTORS>; // [TILES, CHUNKS]
var<workgroup> chunk_max: array<vec4<f32>, CHUNK_VECS>;  // [Q_TILE, CHUNKS] largest score so far
var<workgroup> chunk_sum: array<vec4<f32>, CHUNK_VECS>;  // sum of exponentials

struct Factors { // of a chunk
    weights: array<vec4<f32>, CHUNK_WEIGHTS>, // [Q_TILE, 8] exp(score - largest of the chunk)
    keep: array<vec4<f32>, CHUNK_KEEPS>,      // [Q_TILE] factor of what it has added up before this round
}

struct HeadPairs { // of a row of q or k: up to four numbers of its lower half, and of its upper half
    a: vec4<f32>,
    b: vec4<f32>,
}

struct Keys { // of one position, this lane's
    a: Kv8,
    b: Kv8,
    c: Kv8,
    d: Kv8,
}

struct Numbers { // of Keys or Values
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
}

struct Values { // of a chunk's positions, four columns
    a: Kv4,
    b: Kv4,
    c: Kv4,
    d: Kv4,
    e: Kv4,
    f: Kv4,
    g: Kv4,
    h: Kv4,
}

struct Sums { // of values times their weights, a query each, four columns
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
}

// Positions behind the token find what the page table held before: a page that exists, whose numbers are not used.
fn page_of(pos: u32) -> u32 {
    return step_state[PAGE_TABLE + min(pos / PAGE_SIZE, MAX_PAGES - 1u)];
}

fn slot_of(page: u32, pos: u32, kv_head: u32) -> u32 {
    return (page * NUM_KV_HEADS + kv_head) * PAGE_SIZE + pos % PAGE_SIZE;
}

fn key8(slot: u32, i: u32) -> Kv8 {
    if (HEAD8 == 4u * LANES) {
        return k_cache[first_key() + slot * HEAD8 + i];
    }
    return k_cache[first_key() + slot * HEAD8 + min(i, HEAD8 - 1u)]; // the query is zero there
}

fn load_keys(page: u32, pos: u32, kv_head: u32, lane: u32) -> Keys {
    let slot = slot_of(page, pos, kv_head);
    var k: Keys;
    k.a = key8(slot, lane);
    if (HEAD8 > LANES) {
        k.b = key8(slot, lane + LANES);
    }
    if (HEAD8 > 2u * LANES) {
        k.c = key8(slot, lane + 2u * LANES);
    }
    if (HEAD8 > 3u * LANES) {
        k.d = key8(slot, lane + 3u * LANES);
    }
    return k;
}

fn load_values(page: u32, pos: u32, kv_head: u32, column: u32) -> Values {
    if (PAGE_SIZE % 8u == 0u) {
        let v = first_value() + slot_of(page, pos, kv_head) * HEAD4 + column;
        return Values(v_cache[v], v_cache[v + HEAD4], v_cache[v + 2u * HEAD4], v_cache[v + 3u * HEAD4],
            v_cache[v + 4u * HEAD4], v_cache[v + 5u * HEAD4], v_cache[v + 6u * HEAD4], v_cache[v + 7u * HEAD4]);
    }
    return Values(value4(pos, kv_head, column), value4(pos + 1u, kv_head, column), value4(pos + 2u, kv_head, column), value4(pos + 3u, kv_head, column),
        value4(pos + 4u, kv_head, column), value4(pos + 5u, kv_head, column), value4(pos + 6u, kv_head, column), value4(pos + 7u, kv_head, column));
}

fn value4(pos: u32, kv_head: u32, column: u32) -> Kv4 {
    return v_cache[first_value() + slot_of(page_of(pos), pos, kv_head) * HEAD4 + column];
}

fn known(v: Kv4, own: Kv4, pos: u32, token_pos: u32) -> Kv4 {
    return select(select(Kv4(), v, pos < token_pos), own, pos == token_pos);
}

fn put_head(row: u32, d: u32, x: f32) {
    heads[row][d / 8u % LANES][2u * (d / 8u / LANES) + d % 8u / 4u][d % 4u] = x;
}

fn numbers(k: Keys) -> Numbers {
    return Numbers(key_counts4(lower4(k.a)), key_counts4(upper4(k.a)), key_counts4(lower4(k.b)), key_counts4(upper4(k.b)),
        key_counts4(lower4(k.c)), key_counts4(upper4(k.c)), key_counts4(lower4(k.d)), key_counts4(upper4(k.d)));
}

// This lane's part of a score.
fn score_part(q: u32, lane: u32, k: Numbers) -> f32 {
    var s = heads[q][lane][0] * k.a + heads[q][lane][1] * k.b;
    if (HEAD8 > LANES) {
        s = s + heads[q][lane][2] * k.c + heads[q][lane][3] * k.d;
    }
    if (HEAD8 > 2u * LANES) {
        s = s + heads[q][lane][4] * k.e + heads[q][lane][5] * k.f;
    }
    if (HEAD8 > 3u * LANES) {
        s = s + heads[q][lane][6] * k.g + heads[q][lane][7] * k.h;
    }
    return (s.x + s.y) + (s.z + s.w);
}

// Scores of positions 4*i to 4*i+3 of a tile: the lanes' sum.
fn scores4(tile: u32, q: u32, i: u32) -> vec4<f32> {
    let at = tile * PARTS + q * LANES * TILE4;
    var s = (scratch[at + i] + scratch[at + TILE4 + (i + SHIFT4) % TILE4])
        + (scratch[at + 2u * TILE4 + (i + 2u * SHIFT4) % TILE4] + scratch[at + 3u * TILE4 + (i + 3u * SHIFT4) % TILE4]);
    if (LANES > 4u) {
        s += (scratch[at + 4u * TILE4 + (i + 4u * SHIFT4) % TILE4] + scratch[at + 5u * TILE4 + (i + 5u * SHIFT4) % TILE4])
            + (scratch[at + 6u * TILE4 + (i + 6u * SHIFT4) % TILE4] + scratch[at + 7u * TILE4 + (i + 7u * SHIFT4) % TILE4]);
    }
    return s;
}

fn largest(q: u32) -> f32 {
    var m = chunk_max[q * CHUNKS4];
    if (CHUNKS > 4u) {
        m = max(m, chunk_max[q * CHUNKS4 + 1u]);
    }
    if (CHUNKS > 8u) {
        m = max(m, max(chunk_max[q * CHUNKS4 + 2u], chunk_max[q * CHUNKS4 + 3u]));
    }
    return max(max(m.x, m.y), max(m.z, m.w));
}

fn total(q: u32) -> f32 {
    var l = chunk_sum[q * CHUNKS4];
    if (CHUNKS > 4u) {
        l += chunk_sum[q * CHUNKS4 + 1u];
    }
    if (CHUNKS > 8u) {
        l += chunk_sum[q * CHUNKS4 + 2u] + chunk_sum[q * CHUNKS4 + 3u];
    }
    return (l.x + l.y) + (l.z + l.w);
}

// A chunk's factor in the output of the split; its sum of exponentials is scaled by one of its threads.
fn chunk_factor(q: u32, chunk: u32, column: u32) -> f32 {
    let at = q * CHUNKS + chunk;
    let factor = exp(chunk_max[at / 4u][at % 4u] - largest(q));
    if (column == 0u) {
        chunk_sum[at / 4u][at % 4u] *= factor;
    }
    return factor;
}

fn weighted(acc: vec4<f32>, at: u32, q: u32, v: Numbers) -> vec4<f32> {
    let w = factors[at].weights[2u * q];
    let u = factors[at].weights[2u * q + 1u];
    let kept = acc * factors[at].keep[q / 4u][q % 4u];
    return kept + w.x * v.a + w.y * v.b + w.z * v.c + w.w * v.d + u.x * v.e + u.y * v.f + u.z * v.g + u.w * v.h;
}

// Values of a chunk from position pos on; in the token's chunk its own value, nothing behind it.
fn value_numbers(loaded: Values, own: Kv4, pos: u32, token_pos: u32) -> Numbers {
    var v = loaded;
    if (pos + 7u >= token_pos) {
        v = Values(known(v.a, own, pos, token_pos), known(v.b, own, pos + 1u, token_pos), known(v.c, own, pos + 2u, token_pos),
            known(v.d, own, pos + 3u, token_pos), known(v.e, own, pos + 4u, token_pos), known(v.f, own, pos + 5u, token_pos),
            known(v.g, own, pos + 6u, token_pos), known(v.h, own, pos + 7u, token_pos));
    }
    return Numbers(unpack_value4(v.a), unpack_value4(v.b), unpack_value4(v.c), unpack_value4(v.d),
        unpack_value4(v.e), unpack_value4(v.f), unpack_value4(v.g), unpack_value4(v.h));
}

// Adds a chunk's values times their weights.
fn add_values(before: Sums, tile: u32, chunk: u32, v: Numbers) -> Sums {
    var acc = before;
    let at = tile * CHUNKS + chunk;
    acc.a = weighted(acc.a, at, 0u, v);
    if (Q_TILE > 1u) {
        acc.b = weighted(acc.b, at, 1u, v);
    }
    if (Q_TILE > 2u) {
        acc.c = weighted(acc.c, at, 2u, v);
        acc.d = weighted(acc.d, at, 3u, v);
    }
    if (Q_TILE > 4u) {
        acc.e = weighted(acc.e, at, 4u, v);
        acc.f = weighted(acc.f, at, 5u, v);
        acc.g = weighted(acc.g, at, 6u, v);
        acc.h = weighted(acc.h, at, 7u, v);
    }
    return acc;
}

fn merged(i: u32, chunk: u32, d: u32) -> f32 {
    return scratch[i * THREADS + chunk * COLUMNS + d / 4u][d % 4u];
}

// Sums the chunks' outputs of queries q and, where MERGED is 2, q+1, and stores them.
fn store_out(acc: vec4<f32>, next_acc: vec4<f32>, q: u32, num_q: u32, tid: u32, first_head: u32, split: u32, num_splits: u32) {
    if (serves(tid)) {
        scratch[tid] = acc;
        if (MERGED == 2u) {
            scratch[THREADS + tid] = next_acc;
        }
    }
    workgroupBarrier();
    for (var e = tid; e < MERGED * HEAD_DIM; e += THREADS) {
        let i = e / HEAD_DIM;
        let d = e % HEAD_DIM;
        if (q + i < num_q) {
            var sum = (merged(i, 0u, d) + merged(i, 1u, d)) + (merged(i, 2u, d) + merged(i, 3u, d));
            if (CHUNKS > 4u) {
                sum += (merged(i, 4u, d) + merged(i, 5u, d)) + (merged(i, 6u, d) + merged(i, 7u, d));
            }
            if (CHUNKS > 8u) {
                sum += ((merged(i, 8u, d) + merged(i, 9u, d)) + (merged(i, 10u, d) + merged(i, 11u, d)))
                    + ((merged(i, 12u, d) + merged(i, 13u, d)) + (merged(i, 14u, d) + merged(i, 15u, d)));
            }
            put_attention(q + i, first_head + q + i, d, sum, split, num_splits);
        }
    }
}

fn serves(tid: u32) -> bool {
    return WORKGROUP_SIZE == THREADS || tid < THREADS;
}

// Attends with Q_TILE query heads from q_tile*Q_TILE on of a KV head to one of num_splits splits of the context: every num_splits-th
// tile. All threads of the workgroup call it. zero may be one that no compiler knows, see where it is used.
fn attend(tid: u32, kv_head: u32, q_tile: u32, split: u32, num_splits: u32, zero: u32) {
    let first_head = kv_head * GROUP + q_tile * Q_TILE;
    let num_q = min(Q_TILE, GROUP - q_tile * Q_TILE);
    let place = select(0u, tid, serves(tid));
    let lane = place / 2u % LANES;
    let key_pos = place / (2u * LANES) * 2u + place % 2u; // in a tile
    let chunk = place / COLUMNS;
    let column = select(COLUMNS, tid % COLUMNS, serves(tid));
    let value_column = min(column, HEAD4 - 1u);

    // The rows to norm and to rotate first, which need nothing known, in front of what the first tile's loads need. They stand under a
    // condition: elsewhere the compiler would ask for them where they are used, behind the tile's and behind a barrier.
    let row = min(tid / ROW_LANES, Q_TILE);
    let in_rows = tid < ROWS * ROW_LANES;
    let is_key = row == Q_TILE;
    let head_base = select((first_head + min(row, num_q - 1u)) * HEAD_DIM, (NUM_HEADS + kv_head) * HEAD_DIM, is_key);
    let gain_base = select(0u, HEAD_DIM, is_key);
    let pair = vec4<u32>(tid % ROW_LANES) + ROW_LANES * vec4<u32>(0u, 1u, 2u, 3u);
    let in_row = pair < vec4<u32>(HALF);
    let d = min(pair, vec4<u32>(HALF - 1u));
    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    var gain_a = vec4<f32>(0.0);
    var gain_b = vec4<f32>(0.0);
    if (in_rows) {
        if (HANDED_ON == 0u) {
            let pairs = head_pairs(head_base, d);
            a = pairs.a;
            b = pairs.b;
        }
        gain_a.x = norms[first_gain() + gain_base + d.x];
        gain_b.x = norms[first_gain() + gain_base + HALF + d.x];
        if (PAIRS > 1u) {
            gain_a.y = norms[first_gain() + gain_base + d.y];
            gain_b.y = norms[first_gain() + gain_base + HALF + d.y];
        }
        if (PAIRS > 2u) {
            gain_a.z = norms[first_gain() + gain_base + d.z];
            gain_b.z = norms[first_gain() + gain_base + HALF + d.z];
        }
        if (PAIRS > 3u) {
            gain_a.w = norms[first_gain() + gain_base + d.w];
            gain_b.w = norms[first_gain() + gain_base + HALF + d.w];
        }
    }
    let begin = split * TILE;
    let first_key_page = page_of(begin + key_pos);
    let first_value_page = page_of(begin + 8u * chunk);
    let token_pos = min(step_state[1], MAX_PAGES * PAGE_SIZE - 1u);
    var keys = load_keys(first_key_page, begin + key_pos, kv_head, lane);
    var values = load_values(first_value_page, begin + 8u * chunk, kv_head, value_column);

    let angle = token_pos * HALF;
    var turn_x = vec2<f32>(0.0);
    var turn_y = vec2<f32>(0.0);
    var turn_z = vec2<f32>(0.0);
    var turn_w = vec2<f32>(0.0);
    if (in_rows) {
        turn_x = rope[angle + d.x];
        if (PAIRS > 1u) {
            turn_y = rope[angle + d.y];
        }
        if (PAIRS > 2u) {
            turn_z = rope[angle + d.z];
        }
        if (PAIRS > 3u) {
            turn_w = rope[angle + d.w];
        }
    }
    let stride = num_splits * TILE;
    var key_page = page_of(begin + stride + key_pos);
    var value_page = page_of(begin + stride + 8u * chunk);
    let token_page = page_of(token_pos);
    let token_tile_pos = token_pos % TILE;
    let has_token = (token_pos / TILE) % num_splits == split;
    let has_value = has_token && chunk == token_tile_pos / 8u;
    var own = vec4<f32>(0.0); // value of the token
    if (has_value) {
        let c = 4u * value_column;
        let v = (NUM_HEADS + NUM_KV_HEADS + kv_head) * HEAD_DIM + c;
        own = projections4(v + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(HEAD_DIM - 1u - c)));
    }

    // QK-norm and RoPE.
    if (HANDED_ON == 1u && in_rows) {
        let pairs = head_pairs(head_base, d);
        a = pairs.a;
        b = pairs.b;
    }
    a = select(vec4<f32>(0.0), a, in_row);
    b = select(vec4<f32>(0.0), b, in_row);
    if (in_rows) {
        let sq = a * a + b * b;
        scratch[tid / 4u][tid % 4u] = (sq.x + sq.y) + (sq.z + sq.w);
    }
    if (tid < Q_TILE * CHUNKS) {
        chunk_max[tid / 4u][tid % 4u] = LOWEST; // of a split without a position
    }
    workgroupBarrier();
    if (in_rows) {
        let at = row * (ROW_LANES / 4u);
        var sq = (scratch[at] + scratch[at + 1u]) + (scratch[at + 2u] + scratch[at + 3u]);
        if (ROW_LANES > 16u) {
            sq += (scratch[at + 4u] + scratch[at + 5u]) + (scratch[at + 6u] + scratch[at + 7u]);
        }
        let inv_rms = 1.0 / sqrt(((sq.x + sq.y) + (sq.z + sq.w)) / f32(HEAD_DIM) + EPS);
        a *= inv_rms * gain_a;
        b *= inv_rms * gain_b;
        let cosine = vec4<f32>(turn_x.x, turn_y.x, turn_z.x, turn_w.x);
        let sine = vec4<f32>(turn_x.y, turn_y.y, turn_z.y, turn_w.y);
        var lower = a * cosine - b * sine;
        var upper = b * cosine + a * sine;
        if (is_key) {
            lower = unpack_key4(pack_key4(lower)) / KEY_UNIT;
            upper = unpack_key4(pack_key4(upper)) / KEY_UNIT;
        } else {
            lower *= SCALE * KEY_UNIT;
            upper *= SCALE * KEY_UNIT;
        }
        if (in_row.x) {
            put_head(row, d.x, lower.x);
            put_head(row, d.x + HALF, upper.x);
        }
        if (PAIRS > 1u && in_row.y) {
            put_head(row, d.y, lower.y);
            put_head(row, d.y + HALF, upper.y);
        }
        if (PAIRS > 2u && in_row.z) {
            put_head(row, d.z, lower.z);
            put_head(row, d.z + HALF, upper.z);
        }
        if (PAIRS > 3u && in_row.w) {
            put_head(row, d.w, lower.w);
            put_head(row, d.w + HALF, upper.w);
        }
    }
    workgroupBarrier();

    // The token itself: its key and value go to the cache.
    var own_value = Kv4();
    if (has_token) {
        let slot = slot_of(token_page, token_pos, kv_head);
        if (has_value) {
            own_value = pack_value4(select(vec4<f32>(0.0), own, 4u * value_column + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(HEAD_DIM)));
            if (q_tile == 0u && column < HEAD4) {
                v_cache[first_value() + slot * HEAD4 + column] = own_value;
            }
        }
        let i = THREADS - 1u - tid;
        if (q_tile == 0u && i < HEAD8) {
            let at = i / LANES * 2u;
            k_cache[first_key() + slot * HEAD8 + i] = join4(pack_key4(heads[Q_TILE][i % LANES][at] * KEY_UNIT), pack_key4(heads[Q_TILE][i % LANES][at + 1u] * KEY_UNIT));
        }
    }

    let part_pos = (key_pos + 32u / LANES * lane) % TILE;
    let part = lane * TILE4 + part_pos / 4u;
    let none = vec4<f32>(0.0);
    var acc = Sums(none, none, none, none, none, none, none, none);
    var m = LOWEST; // of the chunk whose scores this thread adds up
    var l = 0.0;
    // Loads that are PIPELINED stand under no condition: with one, the driver copies what they bring at a round's end, where it waits for
    // it. Behind the last tile they read one row of page 0 again and again. With such a zero the values' place depends on the values before, so that
    // they are not asked for in front of these, into registers of their own that are copied too.
    var first = begin; // of the tile whose scores are taken
    for (var round = 0u; begin <= token_pos && (round < 2u * PIPELINED || first - 2u * PIPELINED * stride <= token_pos); round++) {
        let tile = round % TILES;
        if (PIPELINED == 1u && round > 1u) {
            let v = value_numbers(values, own_value, first - 2u * stride + 8u * chunk, token_pos);
            acc = add_values(acc, tile, chunk, v);
            let more = first - stride <= token_pos;
            values = load_values(select(0u, value_page, more), select(0u, first - stride + 8u * chunk, more), kv_head, value_column + (bitcast<u32>(v.h.w) & zero));
            value_page = page_of(first + 8u * chunk);
        }

        if (PIPELINED == 0u || first <= token_pos) {
            var k = numbers(keys);
            if (first + key_pos == token_pos) {
                k = Numbers(heads[Q_TILE][lane][0], heads[Q_TILE][lane][1], heads[Q_TILE][lane][2], heads[Q_TILE][lane][3],
                    heads[Q_TILE][lane][4], heads[Q_TILE][lane][5], heads[Q_TILE][lane][6], heads[Q_TILE][lane][7]);
            }
            if (serves(tid)) {
                scratch[tile * PARTS + part][part_pos % 4u] = score_part(0u, lane, k);
            }
            if (Q_TILE > 1u) {
                scratch[tile * PARTS + LANES * TILE4 + part][part_pos % 4u] = score_part(1u, lane, k);
            }
            if (Q_TILE > 2u) {
                scratch[tile * PARTS + 2u * LANES * TILE4 + part][part_pos % 4u] = score_part(2u, lane, k);
                scratch[tile * PARTS + 3u * LANES * TILE4 + part][part_pos % 4u] = score_part(3u, lane, k);
            }
            if (Q_TILE > 4u) {
                scratch[tile * PARTS + 4u * LANES * TILE4 + part][part_pos % 4u] = score_part(4u, lane, k);
                scratch[tile * PARTS + 5u * LANES * TILE4 + part][part_pos % 4u] = score_part(5u, lane, k);
                scratch[tile * PARTS + 6u * LANES * TILE4 + part][part_pos % 4u] = score_part(6u, lane, k);
                scratch[tile * PARTS + 7u * LANES * TILE4 + part][part_pos % 4u] = score_part(7u, lane, k);
            }
            let more = first + stride <= token_pos;
            if (PIPELINED == 1u || more) {
                keys = load_keys(select(0u, key_page, more), select(0u, first + stride + key_pos, more), kv_head, lane);
                key_page = page_of(first + 2u * stride + key_pos);
            }
        }
        if (PIPELINED == 0u) {
            workgroupBarrier();
        }

        if (PIPELINED == 0u || (round > 0u && first - stride <= token_pos)) {
            if (tid < Q_TILE * CHUNKS) {
                let scored = PIPELINED - tile;
                let i = tid % CHUNKS;
                let pos = vec4<u32>(first - PIPELINED * stride + 8u * i) + vec4<u32>(0u, 1u, 2u, 3u);
                let in_s = pos <= vec4<u32>(token_pos);
                let in_t = pos + 4u <= vec4<u32>(token_pos);
                let s = select(vec4<f32>(LOWEST), scores4(scored, tid / CHUNKS, 2u * i), in_s);
                let t = select(vec4<f32>(LOWEST), scores4(scored, tid / CHUNKS, 2u * i + 1u), in_t);
                let top = max(s, t);
                let new_m = max(m, max(max(top.x, top.y), max(top.z, top.w)));
                let w = select(vec4<f32>(0.0), exp(s - new_m), in_s);
                let u = select(vec4<f32>(0.0), exp(t - new_m), in_t);
                let keep = exp(m - new_m);
                let sum = w + u;
                m = new_m;
                l = l * keep + ((sum.x + sum.y) + (sum.z + sum.w));
                let at = scored * CHUNKS + i;
                let q = tid / CHUNKS;
                factors[at].weights[2u * q] = w;
                factors[at].weights[2u * q + 1u] = u;
                factors[at].keep[q / 4u][q % 4u] = keep;
                chunk_max[tid / 4u][tid % 4u] = m;
                chunk_sum[tid / 4u][tid % 4u] = l;
            }
        }
        workgroupBarrier();

        if (PIPELINED == 0u) {
            let v = value_numbers(values, own_value, first + 8u * chunk, token_pos);
            if (first + stride <= token_pos) {
                values = load_values(value_page, first + stride + 8u * chunk, kv_head, value_column);
                value_page = page_of(first + 2u * stride + 8u * chunk);
            }
            acc = add_values(acc, 0u, chunk, v);
        }
        first += stride;
    }

    acc.a *= chunk_factor(0u, chunk, column);
    if (Q_TILE > 1u) {
        acc.b *= chunk_factor(1u, chunk, column);
    }
    if (Q_TILE > 2u) {
        acc.c *= chunk_factor(2u, chunk, column);
        acc.d *= chunk_factor(3u, chunk, column);
    }
    if (Q_TILE > 4u) {
        acc.e *= chunk_factor(4u, chunk, column);
        acc.f *= chunk_factor(5u, chunk, column);
        acc.g *= chunk_factor(6u, chunk, column);
        acc.h *= chunk_factor(7u, chunk, column);
    }
    store_out(acc.a, acc.b, 0u, num_q, tid, first_head, split, num_splits);
    if (Q_TILE > 2u) {
        workgroupBarrier();
        store_out(acc.c, acc.d, 2u, num_q, tid, first_head, split, num_splits);
    }
    if (Q_TILE > 4u) {
        workgroupBarrier();
        store_out(acc.e, acc.f, 4u, num_q, tid, first_head, split, num_splits);
        workgroupBarrier();
        store_out(acc.g, acc.h, 6u, num_q, tid, first_head, split, num_splits);
    }
}
