// Matrix-vector product for decode: THREADS_PER_ROW neighbouring threads share four rows and stride over their 16-byte
// loads. The inputs go through workgroup memory, a stage of STAGE_ROUNDS rounds at a time, so that neighbouring threads
// read neighbouring vectors of them however many weights a load holds. Included after weight_*.wgsl by kernels with the
// overrides WORKGROUP_SIZE, THREADS_PER_ROW and STAGE_ROUNDS and a function input4(i) that gives inputs [4*i, 4*i+4) and
// may add to `sum_sq`; it is called once for every i, from some thread.

const QUADS_PER_GROUP: u32 = WORKGROUP_SIZE / THREADS_PER_ROW;
const STAGE_LOADS: u32 = STAGE_ROUNDS * THREADS_PER_ROW;
const STAGE_VECS: u32 = STAGE_LOADS * VECS_PER_LOAD;
const STAGES: u32 = (LOADS_PER_ROW + STAGE_LOADS - 1u) / STAGE_LOADS;
const XS_STRIDE: u32 = STAGE_LOADS + 1u; // odd, so that both sides spread over the banks
const XS_SIZE: u32 = VECS_PER_LOAD * XS_STRIDE;

var<workgroup> xs: array<vec4<f32>, XS_SIZE>; // [VECS_PER_LOAD, XS_STRIDE] vector j of each load of the stage
var<workgroup> partial_dot: array<vec4<f32>, WORKGROUP_SIZE>;
var<workgroup> partial_sq: array<f32, WORKGROUP_SIZE>;
var<private> sum_sq: f32;

// First of the four rows of this thread, before clamping; rows past NUM_ROWS belong to nobody.
fn quad_row(tid: u32, group: vec3<u32>, num_groups: vec3<u32>) -> u32 {
    return ((group.y * num_groups.x + group.x) * QUADS_PER_GROUP + tid / THREADS_PER_ROW) * 4u;
}

// Vector j of the inputs of a load of the stage.
fn staged4(load: u32, j: u32) -> vec4<f32> {
    return xs[j * XS_STRIDE + load];
}

// Sums over k of W[row..row+3, k] * input[k]; complete in every thread after the call, as is sum_sq. Fixed order: a tree.
fn matvec4(row: u32, tid: u32) -> vec4<f32> {
    let lane = tid % THREADS_PER_ROW;
    let rows = min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(NUM_ROWS - 1u)) * LOADS_PER_ROW;
    var acc = vec4<f32>(0.0);
    sum_sq = 0.0;
    var next = load_weights(rows, min(lane, LOADS_PER_ROW - 1u));
    for (var stage = 0u; stage < STAGES; stage++) {
        if (stage > 0u) {
            workgroupBarrier();
        }
        for (var i = tid; i < STAGE_VECS; i += WORKGROUP_SIZE) {
            let k4 = stage * STAGE_VECS + i;
            var v = vec4<f32>(0.0);
            if (k4 < K_PAD / 4u) {
                v = input4(k4);
            }
            xs[i % VECS_PER_LOAD * XS_STRIDE + i / VECS_PER_LOAD] = v;
        }
        workgroupBarrier();
        for (var round = 0u; round < STAGE_ROUNDS; round++) {
            let load = round * THREADS_PER_ROW + lane; // of the stage
            let w = next;
            // The next weights are under way while these are multiplied; past the end they are not used.
            next = load_weights(rows, min(stage * STAGE_LOADS + load + THREADS_PER_ROW, LOADS_PER_ROW - 1u));
            acc += dot4(w, load);
        }
    }
    partial_dot[tid] = acc;
    partial_sq[tid] = sum_sq;
    workgroupBarrier();
    for (var step = WORKGROUP_SIZE / 2u; step > 0u; step /= 2u) {
        if (lane < step && step < THREADS_PER_ROW) {
            partial_dot[tid] += partial_dot[tid + step];
        }
        if (tid < step) {
            partial_sq[tid] += partial_sq[tid + step];
        }
        workgroupBarrier();
    }
    sum_sq = partial_sq[0];
    return partial_dot[tid - lane];
}
