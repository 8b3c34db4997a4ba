// Draws the next token, greedily or with top-k, and moves the pass's state on to it, so that the next decode pass can follow without the host.
// The order of operations, the draw and its random number are those of engine/sampling (doc.go, philox.go): top-k, top-p,
// min-p, then the first candidate at which the running sum exceeds u times the sum of those kept; ties go to the lower id.
// 0 params      uniform   Sampling
// 1 logits      f32       [VOCAB]
// 2 slices      vec4<f32> [NUM_SLICES] from sample_slices
// 3 vocab_state vec2<u32> [VOCAB] counts and bias; the drawn token is counted
// 4 pass_state  u32       state words of the pass, then at word TOKENS its token ids
// 5 sampled     vec2<u32> [RING] id (0xffffffff where a logit or score is not finite) and the bits of its log-probability
// Grid: 1 workgroup. Candidates are all ids whose score reaches the top_k-th largest of the slices' largest scores: there
// are at least top_k, and seldom many more. Parity test: kerneltest "sample".

override VOCAB: u32 = 151936u;
override SLICE: u32 = 256u;
override NUM_SLICES: u32 = 594u;

const THREADS: u32 = 256u;
const MAX_SLICES: u32 = 1024u;
const MAX_TOP_K: u32 = 128u;
const LIST: u32 = 512u;

@group(0) @binding(0) var<uniform> params: Sampling;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> slices: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> vocab_state: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> pass_state: array<u32>;
@group(0) @binding(5) var<storage, read_write> sampled: array<vec2<u32>>;

//#include sampling
//#include fixed
//#include draw

var<workgroup> largest: array<f32, MAX_SLICES>;   // score of each slice
var<workgroup> wanted: array<u32, MAX_TOP_K>;     // slices that may hold candidates
var<workgroup> first_largest: atomic<u32>;        // greedy: NUM_SLICES - index of the first slice with the largest score
var<workgroup> list_score: array<f32, LIST>;
var<workgroup> list_id: array<u32, LIST>;
var<workgroup> list_size: atomic<u32>;
var<workgroup> reduced: array<array<f32, 3>, THREADS>; // not vec3, which takes 16 bytes: all fits 16 KB
var<workgroup> best_score: array<f32, THREADS>;
var<workgroup> best_id: array<u32, THREADS>;
var<workgroup> top_score: array<f32, MAX_TOP_K>;  // descending
var<workgroup> top_id: array<u32, MAX_TOP_K>;
var<workgroup> top_weight: array<f32, MAX_TOP_K>;
var<workgroup> threshold: f32;
var<workgroup> shared_size: u32;

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

@compute @workgroup_size(THREADS)
fn sample_token(@builtin(local_invocation_index) tid: u32) {
    let top_k = min(params.top_k, MAX_TOP_K);

    // Largest logit, sum of exponentials, and whether all is finite.
    var stat = vec3<f32>(LOWEST, LOWEST, 0.0);
    for (var i = tid; i < NUM_SLICES; i += THREADS) {
        let s = slices[i];
        largest[i] = s.x;
        stat = max(stat, vec3<f32>(s.x, s.y, s.w));
    }
    reduced[tid] = array<f32, 3>(stat.x, stat.y, stat.z);
    if (tid == 0u) {
        atomicStore(&first_largest, 0u);
        atomicStore(&list_size, 0u);
    }
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if (tid < half) {
            reduced[tid][0] = max(reduced[tid][0], reduced[tid + half][0]);
            reduced[tid][1] = max(reduced[tid][1], reduced[tid + half][1]);
            reduced[tid][2] = max(reduced[tid][2], reduced[tid + half][2]);
        }
        workgroupBarrier();
    }
    let top = vec3<f32>(reduced[0][0], reduced[0][1], reduced[0][2]);
    workgroupBarrier();
    var sum = 0.0;
    for (var i = tid; i < NUM_SLICES; i += THREADS) {
        sum += slices[i].z * exp(slices[i].y - top.y);
    }
    reduced[tid][0] = sum;

    // The top_k-th largest slice: no id below its largest score can be among the top_k.
    let num_wanted = min(top_k, NUM_SLICES);
    if (tid == 0u) {
        threshold = select(LOWEST, top.x, top_k == 1u);
    }
    workgroupBarrier();
    for (var i = tid; i < NUM_SLICES; i += THREADS) {
        let mine = largest[i];
        if (top_k == 1u) {
            if (mine == top.x) {
                atomicMax(&first_largest, NUM_SLICES - i);
            }
            continue;
        }
        var rank = 0u;
        for (var j = 0u; j < NUM_SLICES; j++) {
            rank += select(0u, 1u, before(largest[j], j, mine, i));
        }
        if (rank < top_k) {
            wanted[rank] = i;
        }
        if (rank == top_k - 1u) {
            threshold = mine;
        }
    }
    workgroupBarrier();
    if (tid == 0u && top_k == 1u) {
        wanted[0] = NUM_SLICES - atomicLoad(&first_largest);
    }
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if (tid < half) {
            reduced[tid][0] += reduced[tid + half][0];
        }
        workgroupBarrier();
    }

    // Candidates.
    let lowest = threshold;
    let num_ids = num_wanted * SLICE;
    for (var i = tid; i < num_ids; i += THREADS) {
        let id = wanted[i / SLICE] * SLICE + i % SLICE;
        if (id < VOCAB) {
            let s = score(id);
            if (s >= lowest) {
                let at = atomicAdd(&list_size, 1u);
                if (at < LIST) {
                    list_score[at] = s;
                    list_id[at] = id;
                }
            }
        }
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
        for (var place = 0u; place < count; place++) {
            var my_score = LOWEST;
            var my_id = 0xffffffffu;
            for (var i = tid; i < num_ids; i += THREADS) {
                let id = wanted[i / SLICE] * SLICE + i % SLICE;
                if (id < VOCAB) {
                    let s = score(id);
                    let after = place == 0u || before(top_score[max(place, 1u) - 1u], top_id[max(place, 1u) - 1u], s, id);
                    if (after && before(s, id, my_score, my_id)) {
                        my_score = s;
                        my_id = id;
                    }
                }
            }
            best_score[tid] = my_score;
            best_id[tid] = my_id;
            workgroupBarrier();
            for (var half = THREADS / 2u; half > 0u; half /= 2u) {
                if (tid < half && before(best_score[tid + half], best_id[tid + half], best_score[tid], best_id[tid])) {
                    best_score[tid] = best_score[tid + half];
                    best_id[tid] = best_id[tid + half];
                }
                workgroupBarrier();
            }
            if (tid == 0u) {
                top_score[place] = best_score[0];
                top_id[place] = best_id[0];
            }
            workgroupBarrier();
        }
    }
    if (tid < count) {
        top_weight[tid] = exp((top_score[tid] - top_score[0]) * params.inv_temperature);
    }
    workgroupBarrier();
    if (tid != 0u) {
        return;
    }

    var id = top_id[0];
    if (count > 1u) {
        id = top_id[draw(count, f32(random_bits(pass_state[2])) / 16777216.0)];
    }
    id = min(id, VOCAB - 1u);
    advance(id, top.z > 0.0 || top.x == LOWEST, logits[id] - top.y - log(reduced[0][0]));
}
