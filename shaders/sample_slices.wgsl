// Statistics of every SLICE neighbouring ids of the vocabulary, the first of two steps of sampling: sample_token then looks
// only into the slices that can hold a candidate.
// 0 params      uniform   Sampling
// 1 logits      f32       [VOCAB]
// 2 vocab_state vec2<u32> [VOCAB] counts and bias
// 3 slices      vec4<f32> [ceil(VOCAB/SLICE)] largest score, largest logit, sum of exp(logit - largest logit), 1 if one is not finite
// Grid: ceil(VOCAB/SLICE) workgroups. Parity test: kerneltest "sample".

override VOCAB: u32 = 151936u;
override SLICE: u32 = 256u;
override THREADS: u32 = 128u; // a power of two, at most SLICE, so that none is idle

@group(0) @binding(0) var<uniform> params: Sampling;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> vocab_state: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> slices: array<vec4<f32>>;

//#include sampling

var<workgroup> part: array<vec3<f32>, THREADS>; // largest score, largest logit, not finite; then sums in x

@compute @workgroup_size(THREADS)
fn sample_slices(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let begin = group.x * SLICE;
    let end = min(begin + SLICE, VOCAB);
    var stat = vec3<f32>(LOWEST, LOWEST, 0.0);
    for (var id = begin + tid; id < end; id += THREADS) {
        let l = logits[id];
        let s = score(id);
        stat = max(stat, vec3<f32>(s, l, select(0.0, 1.0, not_finite(l) || not_finite(s))));
    }
    part[tid] = stat;
    workgroupBarrier();
    for (var step = THREADS / 2u; step > 0u; step /= 2u) {
        if (tid < step) {
            part[tid] = max(part[tid], part[tid + step]);
        }
        workgroupBarrier();
    }
    let largest = part[0];
    workgroupBarrier();
    var sum = 0.0;
    for (var id = begin + tid; id < end; id += THREADS) {
        sum += exp(logits[id] - largest.y);
    }
    part[tid] = vec3<f32>(sum);
    workgroupBarrier();
    for (var step = THREADS / 2u; step > 0u; step /= 2u) {
        if (tid < step) {
            part[tid] += part[tid + step];
        }
        workgroupBarrier();
    }
    if (tid == 0u) {
        slices[group.x] = vec4<f32>(largest.x, largest.y, part[0].x, largest.z);
    }
}
