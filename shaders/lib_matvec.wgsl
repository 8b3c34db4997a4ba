// Matrix-vector product for decode: THREADS_PER_ROW neighbouring threads share four rows and stride over their 16-byte
// loads, UNROLL of them in flight. Included after weight_*.wgsl by kernels with the overrides WORKGROUP_SIZE, THREADS_PER_ROW
// and UNROLL (1, 2 or 4) and a function input4(i) that gives inputs [4*i, 4*i+4) and may add to `sum_sq`.

const QUADS_PER_GROUP: u32 = WORKGROUP_SIZE / THREADS_PER_ROW;
const LOADS_PER_ROUND: u32 = THREADS_PER_ROW * UNROLL;
const ROUNDS: u32 = LOADS_PER_ROW / LOADS_PER_ROUND;

var<workgroup> partial_dot: array<vec4<f32>, WORKGROUP_SIZE>;
var<workgroup> partial_sq: array<f32, WORKGROUP_SIZE>;
var<private> sum_sq: f32;

// First of the four rows of this thread, before clamping; rows past num_rows belong to nobody.
fn quad_row(tid: u32, group: vec3<u32>, num_groups: vec3<u32>) -> u32 {
    return ((group.y * num_groups.x + group.x) * QUADS_PER_GROUP + tid / THREADS_PER_ROW) * 4u;
}

// The four rows from `row` on, clamped to the last one so that every load is in range.
fn clamp_rows(row: u32, num_rows: u32) -> vec4<u32> {
    return min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(num_rows - 1u));
}

// Sums over k of W[rows, k] * input[k]; complete in every thread after the call, as is sum_sq. Fixed order: a tree.
fn matvec4(rows: vec4<u32>, tid: u32) -> vec4<f32> {
    let lane = tid % THREADS_PER_ROW;
    var acc = vec4<f32>(0.0);
    sum_sq = 0.0;
    for (var round = 0u; round < ROUNDS; round++) { // a constant number, so that compilers can unroll further
        let load = round * LOADS_PER_ROUND + lane;
        acc += dot4(rows, load);
        if (UNROLL > 1u) {
            acc += dot4(rows, load + THREADS_PER_ROW);
        }
        if (UNROLL > 2u) {
            acc += dot4(rows, load + 2u * THREADS_PER_ROW);
            acc += dot4(rows, load + 3u * THREADS_PER_ROW);
        }
    }
    if (ROUNDS * LOADS_PER_ROUND < LOADS_PER_ROW) {
        for (var load = ROUNDS * LOADS_PER_ROUND + lane; load < LOADS_PER_ROW; load += THREADS_PER_ROW) {
            acc += dot4(rows, load);
        }
    }
    partial_dot[tid] = acc;
    partial_sq[tid] = sum_sq;
    workgroupBarrier();
    for (var step = THREADS_PER_ROW / 2u; step > 0u; step /= 2u) {
        if (lane < step) {
            partial_dot[tid] += partial_dot[tid + step];
            partial_sq[tid] += partial_sq[tid + step];
        }
        workgroupBarrier();
    }
    sum_sq = partial_sq[tid - lane];
    return partial_dot[tid - lane];
}
