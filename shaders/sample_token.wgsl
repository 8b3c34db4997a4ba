// Draws the next token, greedily or with top-k, and moves the pass's state on to it, so that the next decode pass can follow without the host.
// The order of operations, the draw and its random number are those of engine/sampling (doc.go, philox.go): top-k, top-p,
// min-p, then the first candidate at which the running sum exceeds u times the sum of those kept; ties go to the lower id.
// 0 params      uniform   Sampling
// 1 logits      f32       [VOCAB]
// 2 slices      vec4<u32> [NUM_SLICES] from sample_slices
// 3 vocab_state vec2<u32> [VOCAB] counts and bias; the drawn token is counted if params.adjust says so
// 4 pass_state  u32       state words of the pass, then at word TOKENS its token ids
// 5 sampled     vec2<u32> [RING] id (0xffffffff where a logit or score is not finite) and the bits of its log-probability
// Grid: 1 workgroup. The best id of each thread's slices is one of at least top_k, and those that do not stand behind the
// top_k-th of them, seldom many more, are the candidates; the best of all is the greedy token. Parity test: kerneltest "sample".

override VOCAB: u32 = 151936u;
override SLICE: u32 = 256u;
override NUM_SLICES: u32 = 594u;

const THREADS: u32 = 256u;
const MAX_SLICES: u32 = 1024u;
const MAX_TOP_K: u32 = 128u;
const LIST: u32 = 512u;
const STATISTICS: u32 = THREADS;

@group(0) @binding(0) var<uniform> params: Sampling;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> slices: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> vocab_state: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> pass_state: array<u32>;
@group(0) @binding(5) var<storage, read_write> sampled: array<vec2<u32>>;

//#include sampling
//#include statistics
//#include fixed
//#include draw

var<workgroup> bound_score: f32;                 // of the last thread's best that counts
var<workgroup> bound_id: u32;
var<workgroup> wanted: array<u32, MAX_SLICES>;   // slices that may hold candidates
var<workgroup> num_wanted: atomic<u32>;
var<workgroup> list_score: array<f32, LIST>;
var<workgroup> list_id: array<u32, LIST>;
var<workgroup> list_size: atomic<u32>;
var<workgroup> top_score: array<f32, MAX_TOP_K>; // descending
var<workgroup> top_id: array<u32, MAX_TOP_K>;
var<workgroup> top_weight: array<f32, MAX_TOP_K>;
var<workgroup> shared_size: u32;
var<workgroup> number: u32;                      // of this draw
var<workgroup> random: f32;

// a stands before b in the order of drawing.
fn before(a_score: f32, a_id: u32, b_score: f32, b_id: u32) -> bool {
    return a_score > b_score || (a_score == b_score && a_id < b_id);
}

// The drawn candidate's place among `count`, by the weights that stay after top-p and min-p.
fn draw(count: u32, u: f32) -> u32 {
    var sum = 0.0;
    for (var i = 0u; i < count; i++) {
        sum += top_weight[i];
    }
    var kept = 0.0;
    var keep = 0u;
    while (keep < count) {
        let w = top_weight[keep];
        if ((params.top_p < 1.0 && kept >= params.top_p * sum) || w < params.min_p || w <= 0.0) {
            break;
        }
        kept += w;
        keep++;
    }
    var running = 0.0;
    for (var i = 0u; i < keep; i++) {
        running += top_weight[i];
        if (running > u * kept) {
            return i;
        }
    }
    return max(keep, 1u) - 1u;
}

// Slice i is wanted unless its best stands behind the bound.
fn want(i: u32, slice: vec4<u32>) {
    if (i < NUM_SLICES && !before(bound_score, bound_id, bitcast<f32>(slice.x), slice.w)) {
        wanted[atomicAdd(&num_wanted, 1u)] = i;
    }
}

// The i-th id of the wanted slices, or VOCAB if there is none.
fn wanted_id(i: u32, num_ids: u32) -> u32 {
    let id = wanted[min(i / SLICE, MAX_SLICES - 1u)] * SLICE + i % SLICE;
    return select(VOCAB, min(id, VOCAB), i < num_ids);
}

fn list(id: u32, s: f32) {
    if (id < VOCAB && !before(bound_score, bound_id, s, id)) {
        let at = atomicAdd(&list_size, 1u);
        if (at < LIST) {
            list_score[at] = s;
            list_id[at] = id;
        }
    }
}

@compute @workgroup_size(THREADS)
fn sample_token(@builtin(local_invocation_index) tid: u32, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let zero = num_groups.z - 1u;
    let top_k = min(params.top_k, MAX_TOP_K);
    var state = vec2<u32>(0u); // position and number of this draw, in the last thread
    if (tid == THREADS - 1u) {
        state = vec2<u32>(pass_state[2], pass_state[5]);
    }
    let a = slice_at(tid);
    let b = slice_at(tid + THREADS);
    let c = slice_at(tid + 2u * THREADS);
    let d = slice_at(tid + 3u * THREADS);
    let best = merge(a, b, c, d);
    if (tid == THREADS - 1u) { // its warp has nothing else to do
        number = state.y;
        if (top_k != 1u) {
            random = f32(random_bits(state.x)) / 16777216.0;
        }
        step_pass(state.x, state.y);
    }
    if (tid == 0u) {
        bound_score = LOWEST;
        bound_id = NO_ID;
        atomicStore(&num_wanted, 0u);
        atomicStore(&list_size, 0u);
    }
    let all = merged_all(tid, best, zero);
    let failed = all.w == NOT_FINITE || bitcast<f32>(all.x) == LOWEST;
    let top_logit = bitcast<f32>(all.y);
    let log_sum = log(bitcast<f32>(all.z));
    if (top_k == 1u) {
        if (tid == 0u) {
            let id = min(all.w, VOCAB - 1u);
            var logit = bitcast<f32>(all.x); // its score
            if (params.adjust != 0u) {
                logit = logits[id];
            }
            deliver(id, number, failed, logit - top_logit - log_sum);
        }
        return;
    }

    // The threads' bests are ids of top_k slices at least: none that stands behind the top_k-th of them can be among the top_k.
    if (tid < NUM_SLICES) {
        var rank = 0u;
        for (var i = 0u; i < THREADS; i++) {
            let other = statistics[i];
            rank += select(0u, 1u, before(bitcast<f32>(other.x), other.w, bitcast<f32>(best.x), best.w));
        }
        if (rank == top_k - 1u) {
            bound_score = bitcast<f32>(best.x);
            bound_id = best.w;
        }
    }
    workgroupBarrier();
    want(tid, a);
    want(tid + THREADS, b);
    want(tid + 2u * THREADS, c);
    want(tid + 3u * THREADS, d);
    workgroupBarrier();

    // Candidates.
    let num_ids = atomicLoad(&num_wanted) * SLICE;
    for (var i = tid; i < num_ids; i += 4u * THREADS) {
        let ids = vec4<u32>(wanted_id(i, num_ids), wanted_id(i + THREADS, num_ids), wanted_id(i + 2u * THREADS, num_ids), wanted_id(i + 3u * THREADS, num_ids));
        let s = scores4(ids, logits4(ids));
        list(ids.x, s.x);
        list(ids.y, s.y);
        list(ids.z, s.z);
        list(ids.w, s.w);
    }
    workgroupBarrier();
    if (tid == 0u) {
        shared_size = atomicLoad(&list_size);
    }
    let size = workgroupUniformLoad(&shared_size);
    let count = min(size, top_k);
    if (size <= LIST) {
        for (var i = tid; i < size; i += THREADS) {
            var rank = 0u;
            for (var j = 0u; j < size; j++) {
                rank += select(0u, 1u, before(list_score[j], list_id[j], list_score[i], list_id[i]));
            }
            if (rank < top_k) {
                top_score[rank] = list_score[i];
                top_id[rank] = list_id[i];
            }
        }
        workgroupBarrier();
    } else { // many equal or rising scores: one after the other
        var last_score = 0.0;
        var last_id = 0u;
        for (var place = 0u; place < count; place++) {
            var my_score = LOWEST;
            var my_id = NO_ID;
            for (var i = tid; i < num_ids; i += THREADS) {
                let id = wanted_id(i, num_ids);
                if (id < VOCAB) {
                    let s = score(id);
                    let after = place == 0u || before(last_score, last_id, s, id);
                    if (after && before(s, id, my_score, my_id)) {
                        my_score = s;
                        my_id = id;
                    }
                }
            }
            let next = merged_all(tid, vec4<u32>(bitcast<u32>(my_score), bitcast<u32>(LOWEST), 0u, my_id), zero);
            last_score = bitcast<f32>(next.x);
            last_id = next.w;
            if (tid == 0u) {
                top_score[place] = last_score;
                top_id[place] = last_id;
            }
        }
        workgroupBarrier();
    }
    if (tid < count) {
        top_weight[tid] = exp((top_score[tid] - top_score[0]) * params.inv_temperature);
    }
    workgroupBarrier();
    if (tid == 0u) {
        var id = top_id[0];
        if (count > 1u) {
            id = top_id[draw(count, random)];
        }
        id = min(id, VOCAB - 1u);
        deliver(id, number, failed, logits[id] - top_logit - log_sum);
    }
}
