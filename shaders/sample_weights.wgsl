// Distance of every id's score from the largest and the sums of weights by the distance's first 11 bits: the second of three
// steps of drawing from the whole vocabulary, behind sample_slices.
// 0 params      uniform   Sampling
// 1 logits      f32       [VOCAB]
// 2 vocab_state vec2<u32> [VOCAB] counts and bias
// 3 slices      vec4<u32> [ceil(VOCAB/SLICE)] from sample_slices
// 4 ids         u32       [2, VOCAB] distances in the first row; the second is sample_full's
// 5 sums        u32       [2048 + 1, 2] 64-bit sums of weights by bucket, zero before; the last of those that min-p keeps
// Grid: ceil(VOCAB/SLICE) workgroups. Parity test: kerneltest "sample".

override VOCAB: u32 = 151936u;
override SLICE: u32 = 256u;
override NUM_SLICES: u32 = 594u;
override THREADS: u32 = 128u; // a power of two, at most SLICE, so that none is idle

const BUCKETS: u32 = 2048u;

@group(0) @binding(0) var<uniform> params: Sampling;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> vocab_state: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> slices: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;
@group(0) @binding(5) var<storage, read_write> sums: array<atomic<u32>>;

//#include sampling
//#include fixed

var<workgroup> part: array<f32, THREADS>;

fn add_to(bucket: u32, w: vec2<u32>) {
    let old = atomicAdd(&sums[2u * bucket], w.x);
    let high = w.y + select(0u, 1u, old + w.x < old);
    if (high > 0u) {
        atomicAdd(&sums[2u * bucket + 1u], high);
    }
}

@compute @workgroup_size(THREADS)
fn sample_weights(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    var top = LOWEST;
    for (var i = tid; i < NUM_SLICES; i += THREADS) {
        top = max(top, bitcast<f32>(slices[i].x));
    }
    part[tid] = top;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if (tid < half) {
            part[tid] = max(part[tid], part[tid + half]);
        }
        workgroupBarrier();
    }
    top = part[0];
    let min_weight = vec2<u32>(params.min_weight_lo, params.min_weight_hi);
    let has_min = (min_weight.x | min_weight.y) != 0u;
    let end = min(group.x * SLICE + SLICE, VOCAB);
    for (var id = group.x * SLICE + tid; id < end; id += THREADS) {
        let distance = distance_from(top, score(id));
        ids[id] = distance;
        let w = weight(distance);
        if ((w.x | w.y) != 0u) {
            add_to(distance >> 20u, w);
            if (has_min && !less64(w, min_weight)) {
                add_to(BUCKETS, w);
            }
        }
    }
}
