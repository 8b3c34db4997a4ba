// Statistics of every SLICE neighbouring ids of the vocabulary, the first of two steps of sampling: sample_token then looks
// only into the slices that can hold a candidate.
// 0 params      uniform   Sampling
// 1 logits      f32       [VOCAB]
// 2 vocab_state vec2<u32> [VOCAB] counts and bias
// 3 slices      vec4<u32> [ceil(VOCAB/SLICE)] see lib_statistics
// Grid: ceil(VOCAB/SLICE) workgroups. Parity test: kerneltest "sample".

override VOCAB: u32 = 151936u;
override SLICE: u32 = 256u;

const THREADS: u32 = 64u; // of four ids each; those of smaller slices leave some out
const STATISTICS: u32 = THREADS;

@group(0) @binding(0) var<uniform> params: Sampling;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> vocab_state: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> slices: array<vec4<u32>>;

//#include sampling
//#include statistics

fn of_one(id: u32, end: u32, l: f32, s: f32) -> vec4<u32> {
    let first = select(id, NOT_FINITE, not_finite(l) || not_finite(s));
    return select(nothing(), vec4<u32>(bitcast<u32>(s), bitcast<u32>(l), bitcast<u32>(1.0f), first), id < end);
}

// Of four ids that lie THREADS apart, as far as they are below end.
fn of_four(first: u32, end: u32) -> vec4<u32> {
    let ids = vec4<u32>(first, first + THREADS, first + 2u * THREADS, first + 3u * THREADS);
    let l = logits4(ids);
    let s = scores4(ids, l);
    return merge(of_one(ids.x, end, l.x, s.x), of_one(ids.y, end, l.y, s.y), of_one(ids.z, end, l.z, s.z), of_one(ids.w, end, l.w, s.w));
}

@compute @workgroup_size(THREADS)
fn sample_slices(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let begin = group.x * SLICE;
    let end = min(begin + SLICE, VOCAB);
    var mine = of_four(begin + tid, end);
    for (var first = begin + 4u * THREADS; first < end; first += 4u * THREADS) {
        mine = merge(mine, of_four(first + tid, end), nothing(), nothing());
    }
    let all = merged_all(tid, mine, num_groups.z - 1u);
    if (tid == 0u) {
        slices[group.x] = all;
    }
}
