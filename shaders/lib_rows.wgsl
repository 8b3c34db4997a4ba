// Up to eight rows of a matrix at a time: what a thread loads of them and the sums it has. Included after weight_*.wgsl, word_*.wgsl
// and dot_*.wgsl by lib_matvec.wgsl's kernels and, once a product, by layer_products.wgsl. These have THREADS_PER_ROW, the threads
// that share a row, xs, the inputs of STAGE_LOADS loads in workgroup memory by vector and load, x4(load, j), vector j of a load, and
// first_weight() and first_scale(), where in weights and scales the matrix begins.

const SUM_VEC: u32 = VECS_PER_LOAD * INPUT_SUMS; // of xs, with INPUT_SUMS: sums of loads

override ROWS: u32 = 4u; // that a thread works on together, at most 8

var<private> held: u32;        // HELD in a register: as a constant it would be written into an instruction of its own for every weight
var<private> lane_shift: u32;  // see set_lane
var<private> acc_0: vec4<f32>; // a row's sum in four parts: one addition a number, and none across
var<private> acc_1: vec4<f32>;
var<private> acc_2: vec4<f32>;
var<private> acc_3: vec4<f32>;
var<private> acc_4: vec4<f32>;
var<private> acc_5: vec4<f32>;
var<private> acc_6: vec4<f32>;
var<private> acc_7: vec4<f32>;

// Sums of up to eight rows over one load, before their scales.
struct RowSums {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
}

// With INPUT_SUMS: puts what the sums of each load begin with behind the inputs, which a barrier in front has brought; another one
// behind it is needed.
fn sum_inputs(tid: u32) {
    let factor = vec4<f32>(-OFFSET) / scaled_input4(vec4<f32>(1.0)); // powers of two
    for (var load = tid; load < STAGE_LOADS; load += WORKGROUP_SIZE) {
        var sum = vec4<f32>(0.0);
        for (var j = 0u; j < VECS_PER_LOAD; j++) {
            sum += x4(load, j);
        }
        xs[SUM_VEC][load] = sum * factor;
    }
}

// The sums of rows before a load's products.
fn first_sums(load: u32) -> RowSums {
    var s: RowSums;
    if (INPUT_SUMS == 1u) {
        let first = xs[SUM_VEC][load];
        s = RowSums(first, first, first, first, first, first, first, first);
    }
    return s;
}

fn clear_rows() {
    acc_0 = vec4<f32>(0.0);
    acc_1 = vec4<f32>(0.0);
    acc_2 = vec4<f32>(0.0);
    acc_3 = vec4<f32>(0.0);
    acc_4 = vec4<f32>(0.0);
    acc_5 = vec4<f32>(0.0);
    acc_6 = vec4<f32>(0.0);
    acc_7 = vec4<f32>(0.0);
}

// Adds a load's sums with their scales to the rows'; for the quantized formats.
fn add_scaled(s: RowSums, w: RowLoads) {
    let scale_a = scales4(w.scale_a);
    let scale_b = scales4(w.scale_b);
    acc_0 = fma(vec4<f32>(scale_a.x), s.a, acc_0);
    if (ROWS > 1u) {
        acc_1 = fma(vec4<f32>(scale_a.y), s.b, acc_1);
    }
    if (ROWS > 2u) {
        acc_2 = fma(vec4<f32>(scale_a.z), s.c, acc_2);
    }
    if (ROWS > 3u) {
        acc_3 = fma(vec4<f32>(scale_a.w), s.d, acc_3);
    }
    if (ROWS > 4u) {
        acc_4 = fma(vec4<f32>(scale_b.x), s.e, acc_4);
    }
    if (ROWS > 5u) {
        acc_5 = fma(vec4<f32>(scale_b.y), s.f, acc_5);
    }
    if (ROWS > 6u) {
        acc_6 = fma(vec4<f32>(scale_b.z), s.g, acc_6);
    }
    if (ROWS > 7u) {
        acc_7 = fma(vec4<f32>(scale_b.w), s.h, acc_7);
    }
}

// What is loaded for the scale of load `at` of a row: the word that it is in, from bit lane_shift on, and not yet the number: made of the word
// here, it would be waited for before the loads in front are multiplied.
fn scale_bits(row: u32, at: u32) -> u32 {
    if (LOADS_PER_ROW % SCALE_PERIOD == 0u) {
        let word = scale_word(first_scale() + row * (LOADS_PER_ROW / SCALE_PERIOD) + at / SCALE_PERIOD);
        if (THREADS_PER_ROW % SCALE_PERIOD == 0u) {
            return word;
        }
        return word >> scale_shift(at);
    }
    let load = row * LOADS_PER_ROW + at;
    return scale_word(first_scale() + load / SCALE_PERIOD) >> scale_shift(load);
}

// Where the scales of a lane's loads are in their words: in the same place where teams and rows have whole periods, else at bit 0, where
// scale_bits puts them.
fn set_lane(lane: u32) {
    lane_shift = 0u;
    if (LOADS_PER_ROW % SCALE_PERIOD == 0u && THREADS_PER_ROW % SCALE_PERIOD == 0u) {
        lane_shift = scale_shift(lane);
    }
}

fn scales4(bits: vec4<u32>) -> vec4<f32> {
    let b = bits >> vec4<u32>(lane_shift);
    return vec4<f32>(unpack2x16float(b.x).x, unpack2x16float(b.y).x, unpack2x16float(b.z).x, unpack2x16float(b.w).x);
}

// Load `at` of each of the rows rows_a.x to rows_b.w.
fn load_rows(rows_a: vec4<u32>, rows_b: vec4<u32>, at: u32) -> RowLoads {
    var w: RowLoads;
    w.a = weights[first_weight() + rows_a.x * LOADS_PER_ROW + at];
    w.scale_a.x = scale_bits(rows_a.x, at);
    if (ROWS > 1u) {
        w.b = weights[first_weight() + rows_a.y * LOADS_PER_ROW + at];
        w.scale_a.y = scale_bits(rows_a.y, at);
    }
    if (ROWS > 2u) {
        w.c = weights[first_weight() + rows_a.z * LOADS_PER_ROW + at];
        w.scale_a.z = scale_bits(rows_a.z, at);
    }
    if (ROWS > 3u) {
        w.d = weights[first_weight() + rows_a.w * LOADS_PER_ROW + at];
        w.scale_a.w = scale_bits(rows_a.w, at);
    }
    if (ROWS > 4u) {
        w.e = weights[first_weight() + rows_b.x * LOADS_PER_ROW + at];
        w.scale_b.x = scale_bits(rows_b.x, at);
    }
    if (ROWS > 5u) {
        w.f = weights[first_weight() + rows_b.y * LOADS_PER_ROW + at];
        w.scale_b.y = scale_bits(rows_b.y, at);
    }
    if (ROWS > 6u) {
        w.g = weights[first_weight() + rows_b.z * LOADS_PER_ROW + at];
        w.scale_b.z = scale_bits(rows_b.z, at);
    }
    if (ROWS > 7u) {
        w.h = weights[first_weight() + rows_b.w * LOADS_PER_ROW + at];
        w.scale_b.w = scale_bits(rows_b.w, at);
    }
    return w;
}

fn across(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
