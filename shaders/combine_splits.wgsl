// attn[h] = sum_s part_out[s, h] * exp(m[s,h] - M[h]) / sum_s l[s,h] * exp(m[s,h] - M[h]), M[h] = max_s m[s,h]   (flash-decoding)
// For a context in many splits, which every workgroup of attn_out would otherwise read again.
// 0 pass_state u32       [3] = number of splits
// 1 part_out   f32       [MAX_SPLITS, Q_PAD] unnormalised attention output
// 2 part_ml    vec2<f32> [MAX_SPLITS, NUM_HEADS] largest score m and sum of exponentials l
// 3 attn       f32       [Q_PAD] padding stays as it is
// Grid: NUM_HEADS workgroups. Parity test: kerneltest "attention+combine_splits+residual_proj".

override NUM_HEADS: u32 = 16u;
override HEAD_DIM: u32 = 128u;
override Q_PAD: u32 = 2048u;
override MAX_SPLITS: u32 = 128u;

const THREADS: u32 = 128u; // at least MAX_SPLITS

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> part_out: array<f32>;
@group(0) @binding(2) var<storage, read> part_ml: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> attn: array<f32>;

var<workgroup> part: array<f32, THREADS>;
var<workgroup> coefs: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn combine_splits(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let head = group.x;
    let num_splits = clamp(pass_state[3], 1u, MAX_SPLITS);
    var ml = vec2<f32>(-1e30, 0.0);
    if (tid < num_splits) {
        ml = part_ml[tid * NUM_HEADS + head];
    }
    part[tid] = ml.x;
    workgroupBarrier();
    for (var step = THREADS / 2u; step > 0u; step /= 2u) {
        if (tid < step) {
            part[tid] = max(part[tid], part[tid + step]);
        }
        workgroupBarrier();
    }
    let factor = exp(ml.x - part[0]);
    coefs[tid] = factor;
    workgroupBarrier();
    part[tid] = ml.y * factor;
    workgroupBarrier();
    for (var step = THREADS / 2u; step > 0u; step /= 2u) {
        if (tid < step) {
            part[tid] += part[tid + step];
        }
        workgroupBarrier();
    }
    let scale = 1.0 / part[0];
    for (var d = tid; d < HEAD_DIM; d += THREADS) {
        let at = head * HEAD_DIM + d;
        var sum = 0.0;
        for (var s = 0u; s < num_splits; s++) {
            sum += part_out[s * Q_PAD + at] * coefs[s];
        }
        attn[at] = sum * scale;
    }
}
