// attn[h] = sum_s part_out[s, h] * exp(m[s,h] - M[h]) / sum_s l[s,h] * exp(m[s,h] - M[h]), M[h] = max_s m[s,h]   (flash-decoding)
// For a context in many splits, which every workgroup of attn_out would otherwise read again. layer_products has the same for itself.
// 0 pass_state u32       [3] = number of splits
// 1 part_out   f32       [MAX_SPLITS, Q_PAD] unnormalised attention output
// 2 part_ml    vec2<f32> [MAX_SPLITS, NUM_HEADS] largest score m and sum of exponentials l
// 3 attn       f32       [Q_PAD] padding stays as it is
// Grid: NUM_HEADS x ceil(HEAD_DIM/COLUMNS) workgroups. COLUMNS neighbouring threads are a lane; the lanes share out the
// splits, each with a largest score of its own, so that one barrier is enough. The first splits of a lane are read before
// their number is known. Accumulates in f32. Parity test: kerneltest "attention+combine_splits+residual_proj".

override NUM_HEADS: u32 = 16u;
override HEAD_DIM: u32 = 128u;
override Q_PAD: u32 = 2048u;
override MAX_SPLITS: u32 = 128u;

const THREADS: u32 = 256u;
const COLUMNS: u32 = 32u;
const LANES: u32 = 8u;
const LOWEST: f32 = -1e30;

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> part_out: array<f32>;
@group(0) @binding(2) var<storage, read> part_ml: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> attn: array<f32>;

var<workgroup> sums: array<f32, THREADS>;          // [LANES, COLUMNS]
var<workgroup> lane_max: array<vec4<f32>, 2>;      // [LANES] largest score
var<workgroup> lane_sum: array<vec4<f32>, 2>;      // [LANES] sum of exponentials

struct Splits { // four of a lane: statistics of the head and outputs of the column
    m: vec4<f32>,
    l: vec4<f32>,
    x: vec4<f32>,
}

fn load(first: vec4<u32>, head: u32, column: u32) -> Splits {
    let s = min(first, vec4<u32>(MAX_SPLITS - 1u));
    let h = s * NUM_HEADS + head;
    let a = part_ml[h.x];
    let b = part_ml[h.y];
    let c = part_ml[h.z];
    let d = part_ml[h.w];
    let at = s * Q_PAD + column;
    return Splits(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y),
        vec4<f32>(part_out[at.x], part_out[at.y], part_out[at.z], part_out[at.w]));
}

@compute @workgroup_size(THREADS)
fn combine_splits(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let head = group.x;
    let lane = tid / COLUMNS;
    let d = group.y * COLUMNS + tid % COLUMNS;
    let column = head * HEAD_DIM + min(d, HEAD_DIM - 1u);
    var split = vec4<u32>(lane) + LANES * vec4<u32>(0u, 1u, 2u, 3u);
    var s = load(split, head, column);
    let num_splits = clamp(pass_state[3], 1u, MAX_SPLITS);
    var largest = LOWEST;
    var l = 0.0;
    var sum = 0.0;
    for (var first = 0u; first < num_splits; first += 4u * LANES) {
        let is_split = split < vec4<u32>(num_splits);
        let m = select(vec4<f32>(LOWEST), s.m, is_split);
        let new_largest = max(largest, max(max(m.x, m.y), max(m.z, m.w)));
        let weight = exp(m - new_largest);
        let keep = exp(largest - new_largest);
        let ls = select(vec4<f32>(0.0), s.l * weight, is_split);
        let xs = select(vec4<f32>(0.0), s.x * weight, is_split);
        largest = new_largest;
        l = l * keep + ((ls.x + ls.y) + (ls.z + ls.w));
        sum = sum * keep + ((xs.x + xs.y) + (xs.z + xs.w));
        split += 4u * LANES;
        if (first + 4u * LANES < num_splits) {
            s = load(split, head, column);
        }
    }
    sums[tid] = sum;
    if (tid % COLUMNS == 0u) {
        lane_max[lane / 4u][lane % 4u] = largest;
        lane_sum[lane / 4u][lane % 4u] = l;
    }
    workgroupBarrier();
    if (tid < COLUMNS && d < HEAD_DIM) {
        let top = max(lane_max[0], lane_max[1]);
        let m = max(max(top.x, top.y), max(top.z, top.w));
        let a = exp(lane_max[0] - m);
        let b = exp(lane_max[1] - m);
        let total = dot(lane_sum[0], a) + dot(lane_sum[1], b);
        let x = vec4<f32>(sums[tid], sums[COLUMNS + tid], sums[2u * COLUMNS + tid], sums[3u * COLUMNS + tid]);
        let y = vec4<f32>(sums[4u * COLUMNS + tid], sums[5u * COLUMNS + tid], sums[6u * COLUMNS + tid], sums[7u * COLUMNS + tid]);
        attn[column] = (dot(x, a) + dot(y, b)) / total;
    }
}
