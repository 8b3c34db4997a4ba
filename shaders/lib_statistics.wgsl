// Statistics of sets of ids, of which those of the union follow: vec4<u32>(bits of the largest score, bits of the largest
// logit, bits of sum exp(logit - largest logit), first id with the largest score or NOT_FINITE if a logit or score is not
// finite). A workgroup merges STATISTICS of them, 64 or 256, in flat steps, always in the same order.
// Included behind lib_sampling by kernels that declare `STATISTICS`.

const NOT_FINITE: u32 = 0xffffffffu;
const NO_ID: u32 = 0xfffffffeu;
const GROUPS: u32 = 16u;

var<workgroup> statistics: array<vec4<u32>, STATISTICS>;
var<workgroup> groups: array<vec4<u32>, GROUPS>;

// Of no ids.
fn nothing() -> vec4<u32> {
    return vec4<u32>(bitcast<u32>(LOWEST), bitcast<u32>(LOWEST), 0u, NO_ID);
}

fn merge(a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>) -> vec4<u32> {
    let scores = bitcast<vec4<f32>>(vec4<u32>(a.x, b.x, c.x, d.x));
    let tops = bitcast<vec4<f32>>(vec4<u32>(a.y, b.y, c.y, d.y));
    let sums = bitcast<vec4<f32>>(vec4<u32>(a.z, b.z, c.z, d.z));
    let ids = vec4<u32>(a.w, b.w, c.w, d.w);
    let score = max(max(scores.x, scores.y), max(scores.z, scores.w));
    let top = max(max(tops.x, tops.y), max(tops.z, tops.w));
    let parts = sums * exp(tops - vec4<f32>(top));
    let first = select(vec4<u32>(NOT_FINITE), ids, scores == vec4<f32>(score));
    let id = min(min(first.x, first.y), min(first.z, first.w));
    let last_id = max(max(ids.x, ids.y), max(ids.z, ids.w));
    let sum = (parts.x + parts.y) + (parts.z + parts.w);
    return vec4<u32>(bitcast<u32>(score), bitcast<u32>(top), bitcast<u32>(sum), select(id, NOT_FINITE, last_id == NOT_FINITE));
}

// Four of the workgroup's statistics.
fn merge_column(i: u32) -> vec4<u32> {
    return merge(statistics[i], statistics[i + GROUPS], statistics[i + 2u * GROUPS], statistics[i + 3u * GROUPS]);
}

fn merge_row(i: u32) -> vec4<u32> {
    return merge(groups[i], groups[i + 1u], groups[i + 2u], groups[i + 3u]);
}

// Merges those of the first STATISTICS threads into groups; returns that of thread tid to it, if it has one.
fn to_groups(tid: u32, mine: vec4<u32>) -> vec4<u32> {
    if (tid < STATISTICS) {
        statistics[tid] = mine;
    }
    workgroupBarrier();
    var group = nothing();
    if (tid < GROUPS) {
        group = merge_column(tid);
        if (STATISTICS == 256u) {
            group = merge(group, merge_column(tid + 4u * GROUPS), merge_column(tid + 8u * GROUPS), merge_column(tid + 12u * GROUPS));
        }
        groups[tid] = group;
    }
    return group;
}

// All groups, for every thread that asks; a barrier stands between to_groups and this.
fn merged_groups() -> vec4<u32> {
    return merge(merge_row(0u), merge_row(4u), merge_row(8u), merge_row(12u));
}
