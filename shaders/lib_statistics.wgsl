// Statistics of sets of ids, of which those of the union follow: vec4<u32>(bits of the largest score, bits of the largest
// logit, bits of sum exp(logit - largest logit), first id with the largest score or NOT_FINITE if a logit or score is not
// finite). A workgroup merges STATISTICS of them, 64 or 256, four at a time, always in the same order.
// Included behind lib_sampling by kernels that declare `STATISTICS`.

const NOT_FINITE: u32 = 0xffffffffu;
const NO_ID: u32 = 0xfffffffeu;
const STATISTICS_SPACE: u32 = STATISTICS + STATISTICS / 4u;

var<workgroup> statistics: array<vec4<u32>, STATISTICS_SPACE>;

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

// Merges those of the first STATISTICS threads, for all threads. zero is one that no compiler knows: the loop stays one, since a kernel that
// runs once a token brings its instructions from memory. What the threads had stays in statistics[0] to statistics[STATISTICS-1].
fn merged_all(tid: u32, mine: vec4<u32>, zero: u32) -> vec4<u32> {
    if (tid < STATISTICS) {
        statistics[tid] = mine;
    }
    var first = 0u;
    for (var n = STATISTICS / 4u; n > zero; n /= 4u) {
        workgroupBarrier();
        if (tid < n) {
            let at = first + tid;
            statistics[STATISTICS + tid] = merge(statistics[at], statistics[at + n], statistics[at + 2u * n], statistics[at + 3u * n]);
        }
        first = STATISTICS;
    }
    workgroupBarrier();
    return statistics[STATISTICS];
}
