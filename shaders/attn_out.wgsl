// x[n] += sum_k W[n, k] * a[k], a = the splits of the context combined   transformers: Qwen3Attention.o_proj, residual
// a[h] = sum_s part_out[s, h] * exp(m[s,h] - M[h]) / sum_s l[s,h] * exp(m[s,h] - M[h]), M[h] = max_s m[s,h]   (flash-decoding)
// 0 pass_state u32       [3] = number of splits
// 1 part_out   f32       [MAX_SPLITS, K_PAD] unnormalised attention output, padding zero
// 2 part_ml    vec2<f32> [MAX_SPLITS, NUM_HEADS] largest score m and sum of exponentials l
// 3 weights    vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 4 x          f32       [rows of all parts] residual stream, in place
// 5 scales     u32       f16 pairs, with q8 and q4 only
// Grid: ceil(rows / (BLOCKS*BLOCK_ROWS)) workgroups, folded into x and y; BLOCK_ROWS = ROWS*WORKGROUP_SIZE/THREADS_PER_ROW.
// Accumulates in f32. Parity test: kerneltest "attention+attn_out".

override K_PAD: u32 = 2048u; // NUM_HEADS*HEAD_DIM rounded up to 32
override NUM_HEADS: u32 = 16u;
override HEAD_DIM: u32 = 128u;
override MAX_SPLITS: u32 = 4u;    // more are combined by combine_splits before residual_proj, which serves a single one too
override COEFS: u32 = 64u;        // MAX_SPLITS*NUM_HEADS

@group(0) @binding(0) var<storage, read> pass_state: array<u32>;
@group(0) @binding(1) var<storage, read> part_out: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> part_ml: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> x: array<f32>;

var<workgroup> coefs: array<f32, COEFS>; // [NUM_HEADS, MAX_SPLITS] factor of a split in its head's output
var<private> num_splits: u32;

fn coef4(i: u32, split: u32) -> vec4<f32> {
    if (HEAD_DIM % 4u == 0u) {
        return vec4<f32>(coefs[min(4u * i / HEAD_DIM, NUM_HEADS - 1u) * MAX_SPLITS + split]);
    }
    let h = min(vec4<u32>(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) / HEAD_DIM, vec4<u32>(NUM_HEADS - 1u));
    return vec4<f32>(coefs[h.x * MAX_SPLITS + split], coefs[h.y * MAX_SPLITS + split],
        coefs[h.z * MAX_SPLITS + split], coefs[h.w * MAX_SPLITS + split]);
}

fn input4(i: u32) -> vec4<f32> {
    var v = part_out[i] * coef4(i, 0u);
    for (var s = 1u; s < num_splits; s++) {
        v += part_out[s * (K_PAD / 4u) + i] * coef4(i, s);
    }
    return v;
}

const HAS_NORM: bool = false;
const PAIRS: bool = false;

//#include weight
//#include dot
//#include loads
//#include rows
//#include matvec
//#include matvec_sums

@compute @workgroup_size(WORKGROUP_SIZE)
fn attn_out(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    num_splits = clamp(pass_state[3], 1u, MAX_SPLITS);
    for (var h = tid; h < NUM_HEADS; h += WORKGROUP_SIZE) {
        var largest = part_ml[h].x;
        for (var s = 1u; s < num_splits; s++) {
            largest = max(largest, part_ml[s * NUM_HEADS + h].x);
        }
        var sum = 0.0;
        for (var s = 0u; s < num_splits; s++) {
            let ml = part_ml[s * NUM_HEADS + h];
            sum += ml.y * exp(ml.x - largest);
        }
        for (var s = 0u; s < num_splits; s++) {
            coefs[h * MAX_SPLITS + s] = exp(part_ml[s * NUM_HEADS + h].x - largest) / sum;
        }
    }
    workgroupBarrier();
    let zero = unknown_zero(num_groups);
    let first = first_row(group, num_groups);
    for (var block = 0u; block < num_blocks(zero) && first + block * BLOCK_ROWS < NUM_ROWS; block++) {
        let row = first + block * BLOCK_ROWS;
        matvec(row, tid, block, zero);
        let n = stored_row(tid);
        if (n < BLOCK_ROWS && row + n < NUM_ROWS) {
            x[ROW_START + row + n] += row_sum(n);
        }
    }
}
