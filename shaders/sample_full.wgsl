// Draws the next token from the whole vocabulary and moves the pass's state on to it: the third of three steps, behind
// sample_slices and sample_weights. The arithmetic is engine/sampling's (full.go): in order of distance and id, the first
// token at which the running sum of integer weights exceeds u times the sum of those that top-p and min-p keep.
// 0 params      uniform   Sampling
// 1 logits      f32       [VOCAB]
// 2 slices      vec4<u32> [NUM_SLICES] from sample_slices
// 3 ids         u32       [2, VOCAB] distances from sample_weights, and scratch: the ids of one bucket
// 4 sums        u32       [2048 + 1, 2] from sample_weights; left zero
// 5 vocab_state vec2<u32> [VOCAB] counts and bias; the drawn token is counted if params.adjust says so
// 6 pass_state  u32       state words of the pass, then at word TOKENS its token ids
// 7 sampled     vec2<u32> [RING] id (0xffffffff where a logit or score is not finite) and the bits of its log-probability
// Grid: 1 workgroup. Parity test: kerneltest "sample".

override VOCAB: u32 = 151936u; // at most 2^20
override SLICE: u32 = 256u;
override NUM_SLICES: u32 = 594u;

const THREADS: u32 = 256u;
const MAX_SLICES: u32 = 1024u;
const BUCKETS: u32 = 2048u;
const BINS: u32 = 1024u;
const BIN_WORDS: u32 = 2048u;
const STATISTICS: u32 = 64u; // 256 would not fit 16 KB

@group(0) @binding(0) var<uniform> params: Sampling;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> slices: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> sums: array<u32>;
@group(0) @binding(5) var<storage, read_write> vocab_state: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> pass_state: array<u32>;
@group(0) @binding(7) var<storage, read_write> sampled: array<vec2<u32>>;

//#include sampling
//#include statistics
//#include fixed
//#include draw

var<workgroup> part: array<vec2<u32>, THREADS>;     // running sums
var<workgroup> bins: array<atomic<u32>, BIN_WORDS>; // [BINS, 2] weights by ten bits of distance or id
var<workgroup> wanted: array<u32, MAX_SLICES>;      // slices that may hold ids of the bucket
var<workgroup> num_wanted: atomic<u32>;
var<workgroup> num_members: atomic<u32>;            // ids of the bucket
var<workgroup> found: u32;
var<workgroup> found_before: vec2<u32>;

// Running sums of `mine` over the threads, in part.
fn scan(tid: u32, mine: vec2<u32>) {
    part[tid] = mine;
    workgroupBarrier();
    for (var step = 1u; step < THREADS; step *= 2u) {
        var left = vec2<u32>(0u);
        if (tid >= step) {
            left = part[tid - step];
        }
        workgroupBarrier();
        part[tid] = add64(part[tid], left);
        workgroupBarrier();
    }
}

fn bucket_sum(i: u32) -> vec2<u32> { return vec2<u32>(sums[2u * i], sums[2u * i + 1u]); }

fn bin_sum(i: u32) -> vec2<u32> { return vec2<u32>(atomicLoad(&bins[2u * i]), atomicLoad(&bins[2u * i + 1u])); }

// Running sums of eight buckets a thread.
fn scan_buckets(tid: u32) {
    var mine = vec2<u32>(0u);
    for (var i = 0u; i < BUCKETS / THREADS; i++) {
        mine = add64(mine, bucket_sum(tid * (BUCKETS / THREADS) + i));
    }
    scan(tid, mine);
}

// Where this thread's part of the running sums begins, behind `before`.
fn begin_of(tid: u32, before: vec2<u32>) -> vec2<u32> {
    if (tid == 0u) {
        return before;
    }
    return add64(before, part[tid - 1u]);
}

struct Found {
    id: u32,
    end: vec2<u32>, // the running sum with this token
}

// The first token at which the running sum exceeds target; the sum of all does.
fn find(tid: u32, target_sum: vec2<u32>, top: f32) -> Found {
    scan_buckets(tid);
    var running = begin_of(tid, vec2<u32>(0u));
    if (!less64(target_sum, running) && less64(target_sum, part[tid])) {
        for (var i = tid * (BUCKETS / THREADS); i < (tid + 1u) * (BUCKETS / THREADS); i++) {
            let next = add64(running, bucket_sum(i));
            if (less64(target_sum, next)) {
                found = i;
                found_before = running;
                break;
            }
            running = next;
        }
    }
    if (tid == 0u) {
        atomicStore(&num_wanted, 0u);
        atomicStore(&num_members, 0u);
    }
    workgroupBarrier();
    let bucket = found;
    var before = found_before;

    // The bucket's ids, from slices whose best is not behind it.
    for (var i = tid; i < NUM_SLICES; i += THREADS) {
        if (distance_from(top, bitcast<f32>(slices[i].x)) >> 20u <= bucket) {
            wanted[atomicAdd(&num_wanted, 1u)] = i;
        }
    }
    workgroupBarrier();
    let num_ids = atomicLoad(&num_wanted) * SLICE;
    for (var i = tid; i < num_ids; i += THREADS) {
        let id = wanted[i / SLICE] * SLICE + i % SLICE;
        if (id < VOCAB) {
            if (ids[id] >> 20u == bucket) {
                ids[VOCAB + atomicAdd(&num_members, 1u)] = id;
            }
        }
    }
    storageBarrier();
    workgroupBarrier();
    let count = atomicLoad(&num_members);

    // Ten bits at a time: the rest of the distance, then the id.
    var distance = bucket;
    var id = 0u;
    for (var level = 0u; level < 4u; level++) {
        for (var i = tid; i < BIN_WORDS; i += THREADS) {
            atomicStore(&bins[i], 0u);
        }
        workgroupBarrier();
        for (var i = tid; i < count; i += THREADS) {
            let other = ids[VOCAB + i];
            let x = ids[other];
            var inside = true;
            var bin = (x >> 10u) % BINS;
            if (level == 1u) {
                inside = x >> 10u == distance;
                bin = x % BINS;
            } else if (level == 2u) {
                inside = x == distance;
                bin = other >> 10u;
            } else if (level == 3u) {
                inside = x == distance && other >> 10u == id;
                bin = other % BINS;
            }
            if (inside) {
                let w = weight(x);
                let old = atomicAdd(&bins[2u * bin], w.x);
                let high = w.y + select(0u, 1u, old + w.x < old);
                if (high > 0u) {
                    atomicAdd(&bins[2u * bin + 1u], high);
                }
            }
        }
        workgroupBarrier();
        var mine = vec2<u32>(0u);
        for (var i = 0u; i < BINS / THREADS; i++) {
            mine = add64(mine, bin_sum(tid * (BINS / THREADS) + i));
        }
        scan(tid, mine);
        running = begin_of(tid, before);
        if (!less64(target_sum, running) && less64(target_sum, add64(before, part[tid]))) {
            for (var i = tid * (BINS / THREADS); i < (tid + 1u) * (BINS / THREADS); i++) {
                let next = add64(running, bin_sum(i));
                if (less64(target_sum, next)) {
                    found = i;
                    found_before = running;
                    break;
                }
                running = next;
            }
        }
        workgroupBarrier();
        before = found_before;
        if (level < 2u) {
            distance = distance * BINS + found;
        } else {
            id = id * BINS + found;
        }
        workgroupBarrier();
    }
    return Found(id, add64(before, weight(distance)));
}

@compute @workgroup_size(THREADS)
fn sample_full(@builtin(local_invocation_index) tid: u32, @builtin(num_workgroups) num_groups: vec3<u32>) {
    var mine = nothing();
    if (tid < STATISTICS) {
        for (var i = tid; i < NUM_SLICES; i += 3u * STATISTICS) {
            mine = merge(mine, slice_at(i), slice_at(i + STATISTICS), slice_at(i + 2u * STATISTICS));
        }
    }
    let all = merged_all(tid, mine, num_groups.z - 1u);
    let top = bitcast<f32>(all.x); // score

    // What top-p keeps and what min-p keeps both begin at the top: the smaller sum is that of their intersection.
    scan_buckets(tid);
    let total = part[THREADS - 1u];
    var kept = total;
    workgroupBarrier();
    if ((params.min_weight_lo | params.min_weight_hi) != 0u) {
        kept = bucket_sum(BUCKETS);
    }
    if (params.top_p_bits != 0u) {
        var reached = fraction(total, params.top_p_bits);
        if ((reached.x | reached.y) != 0u) { // reached by the first token whose running sum exceeds one less
            reached = vec2<u32>(reached.x - 1u, reached.y - select(0u, 1u, reached.x == 0u));
        }
        let last = find(tid, reached, top);
        kept = min64(kept, last.end);
    }
    let drawn = find(tid, fraction(kept, random_bits(pass_state[2]) << 8u), top);

    storageBarrier();
    workgroupBarrier();
    for (var i = tid; i < 2u * (BUCKETS + 1u); i += THREADS) {
        sums[i] = 0u;
    }
    if (tid == 0u) {
        let id = min(drawn.id, VOCAB - 1u);
        let log_prob = logits[id] - bitcast<f32>(all.y) - log(bitcast<f32>(all.z));
        let number = pass_state[5];
        step_pass(pass_state[2], number);
        deliver(id, number, all.w == NOT_FINITE || top == LOWEST, log_prob);
    }
}
