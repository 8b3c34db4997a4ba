// Matrix-vector product for decode: teams of THREADS_PER_ROW neighbouring threads share ROWS rows and stride over their
// 16-byte loads, the loads of UNROLL rounds under way together. Included after weight_*.wgsl and dot_*.wgsl by kernels that declare the
// overrides used here, HAS_NORM, PAIRS, and a function input4(i) that gives inputs [4*i, 4*i+4) and, with HAS_NORM, adds their
// squares to sum_sq. What the threads of a team have is added up in lib_matvec_sums.wgsl or lib_matvec_sums_subgroups.wgsl.
// Inputs come through workgroup memory, STAGE_ROUNDS rounds at a time, so that neighbouring threads read neighbouring
// vectors however many weights a load holds. With DIRECT each team reads them itself: no barrier before the products, but
// strided reads, which only bf16's two vectors a load bear.
// WORKGROUP_SIZE, THREADS_PER_ROW and ROWS are powers of two, ROWS at most 8 and at most THREADS_PER_ROW; UNROLL is at most 4
// and divides STAGE_ROUNDS. matvec.go chooses the rest for them.

const TEAMS: u32 = WORKGROUP_SIZE / THREADS_PER_ROW;
const GROUP_ROWS: u32 = ROWS * TEAMS; // rows of a workgroup
const STAGE_LOADS: u32 = STAGE_ROUNDS * THREADS_PER_ROW;
const STAGE_VECS: u32 = STAGE_LOADS * VECS_PER_LOAD;
const STAGES: u32 = (LOADS_PER_ROW + STAGE_LOADS - 1u) / STAGE_LOADS;
const XS_STRIDE: u32 = STAGE_LOADS + 1u; // odd, so that both sides spread over the banks
const XS_SIZE: u32 = VECS_PER_LOAD * XS_STRIDE * (1u - DIRECT) + DIRECT;
const SQUARE_THREADS: u32 = DIRECT * THREADS_PER_ROW + (1u - DIRECT) * WORKGROUP_SIZE; // have all inputs between them

var<workgroup> xs: array<vec4<f32>, XS_SIZE>;     // [VECS_PER_LOAD, XS_STRIDE] vector j of each load of the stage
var<private> sum_sq: f32;
var<private> acc_a: vec4<f32>; // rows 0 to 3 of the team
var<private> acc_b: vec4<f32>; // rows 4 to 7

// One load of up to eight rows, with the scales of its groups.
struct RowLoads {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
    e: vec4<u32>,
    f: vec4<u32>,
    g: vec4<u32>,
    h: vec4<u32>,
    scale_a: vec4<f32>,
    scale_b: vec4<f32>,
}

// Load `load` of the rows that start at loads from_a.x to from_b.w.
fn load_rows(from_a: vec4<u32>, from_b: vec4<u32>, load: u32) -> RowLoads {
    let at = min(load, LOADS_PER_ROW - 1u); // past the end inputs are zero
    var w: RowLoads;
    w.a = weights[from_a.x + at];
    w.scale_a.x = load_scale(from_a.x + at);
    if (ROWS > 1u) {
        w.b = weights[from_a.y + at];
        w.scale_a.y = load_scale(from_a.y + at);
    }
    if (ROWS > 2u) {
        w.c = weights[from_a.z + at];
        w.d = weights[from_a.w + at];
        w.scale_a.z = load_scale(from_a.z + at);
        w.scale_a.w = load_scale(from_a.w + at);
    }
    if (ROWS > 4u) {
        w.e = weights[from_b.x + at];
        w.f = weights[from_b.y + at];
        w.g = weights[from_b.z + at];
        w.h = weights[from_b.w + at];
        w.scale_b = vec4<f32>(load_scale(from_b.x + at), load_scale(from_b.y + at), load_scale(from_b.z + at), load_scale(from_b.w + at));
    }
    return w;
}

// Vector j of the inputs of load `load` of the stage.
fn x4(load: u32, j: u32) -> vec4<f32> {
    if (DIRECT == 0u) {
        return xs[j * XS_STRIDE + load];
    }
    if (load >= LOADS_PER_ROW) {
        return vec4<f32>(0.0);
    }
    return input4(load * VECS_PER_LOAD + j);
}

// Adds the products of a load of the stage with its inputs.
fn add_products(w: RowLoads, load: u32) {
    let x = load_inputs(load);
    acc_a.x += w.scale_a.x * dot_load(w.a, x);
    if (ROWS > 1u) {
        acc_a.y += w.scale_a.y * dot_load(w.b, x);
    }
    if (ROWS > 2u) {
        acc_a.z += w.scale_a.z * dot_load(w.c, x);
        acc_a.w += w.scale_a.w * dot_load(w.d, x);
    }
    if (ROWS > 4u) {
        acc_b += w.scale_b * vec4<f32>(dot_load(w.e, x), dot_load(w.f, x), dot_load(w.g, x), dot_load(w.h, x));
    }
}

fn stage_inputs(stage: u32, tid: u32) {
    for (var i = tid; i < STAGE_VECS; i += WORKGROUP_SIZE) {
        let k4 = stage * STAGE_VECS + i;
        var v = vec4<f32>(0.0);
        if (k4 < K_PAD / 4u) {
            v = input4(k4);
        }
        xs[i % VECS_PER_LOAD * XS_STRIDE + i / VECS_PER_LOAD] = v;
    }
}

// First row of the workgroup, before any end; rows past NUM_ROWS belong to nobody.
fn first_row(group: vec3<u32>, num_groups: vec3<u32>) -> u32 {
    return (group.y * num_groups.x + group.x) * GROUP_ROWS;
}

// Computes sum over k of W[row, k] * input[k] for the workgroup's rows; stored_row, row_sum and inv_rms may be called
// behind it. The order of summation is fixed.
fn matvec(row: u32, tid: u32) {
    let lane = tid % THREADS_PER_ROW;
    let r = vec4<u32>(row + tid / THREADS_PER_ROW * ROWS) + vec4<u32>(0u, 1u, 2u, 3u);
    let from_a = min(r, vec4<u32>(NUM_ROWS - 1u)) * LOADS_PER_ROW;
    let from_b = min(r + vec4<u32>(4u), vec4<u32>(NUM_ROWS - 1u)) * LOADS_PER_ROW;
    sum_sq = 0.0;
    acc_a = vec4<f32>(0.0);
    acc_b = vec4<f32>(0.0);
    for (var stage = 0u; stage < STAGES; stage++) {
        for (var round = 0u; round < STAGE_ROUNDS; round += UNROLL) {
            let load = round * THREADS_PER_ROW + lane; // of the stage
            let at = stage * STAGE_LOADS + load;
            let w0 = load_rows(from_a, from_b, at);
            var w1: RowLoads;
            var w2: RowLoads;
            var w3: RowLoads;
            if (UNROLL > 1u) {
                w1 = load_rows(from_a, from_b, at + THREADS_PER_ROW);
            }
            if (UNROLL > 2u) {
                w2 = load_rows(from_a, from_b, at + 2u * THREADS_PER_ROW);
            }
            if (UNROLL > 3u) {
                w3 = load_rows(from_a, from_b, at + 3u * THREADS_PER_ROW);
            }
            if (DIRECT == 0u && round == 0u) {
                // Behind the first loads, which are under way meanwhile.
                if (stage > 0u) {
                    workgroupBarrier();
                }
                stage_inputs(stage, tid);
                if (stage + 1u == STAGES) {
                    share_squares(tid);
                }
                workgroupBarrier();
            }
            add_products(w0, load);
            if (UNROLL > 1u) {
                add_products(w1, load + THREADS_PER_ROW);
            }
            if (UNROLL > 2u) {
                add_products(w2, load + 2u * THREADS_PER_ROW);
            }
            if (UNROLL > 3u) {
                add_products(w3, load + 3u * THREADS_PER_ROW);
            }
        }
    }
    add_shares(tid);
}
