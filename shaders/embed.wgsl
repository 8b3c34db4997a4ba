// x[t, :] = embed_tokens[tokens[t], :]                                   transformers: Qwen3Model.embed_tokens
// 0 part       uniform   the rows of the table that this dispatch holds; tokens outside are left to another dispatch
// 1 pass_state u32       [0] = T
// 2 tokens     u32       [T]
// 3 weights    vec4<u32> [rows, K_PAD] bf16, q8 or q4
// 4 x          f32       [T, K_PAD]
// 5 scales     u32       f16 pairs, with q8 and q4 only
// Grid: ceil(K_PAD/8/64) x T; a thread copies 8 numbers. Parity test: kerneltest "embed".

override K_PAD: u32 = 1024u;

struct MatrixPart {
    row_start: u32,
    num_rows: u32,
}

@group(0) @binding(0) var<uniform> part: MatrixPart;
@group(0) @binding(1) var<storage, read> pass_state: array<u32>;
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;

//#include weight

@compute @workgroup_size(64)
fn embed(@builtin(global_invocation_id) id: vec3<u32>) {
    let k8 = id.x;
    let t = id.y;
    if (k8 >= K_PAD / 8u || t >= pass_state[0]) {
        return;
    }
    let row = tokens[t] - part.row_start; // wraps to a huge number below row_start
    if (row >= part.num_rows) {
        return;
    }
    let w = weight8(row, k8);
    let out = (t * K_PAD + k8 * 8u) / 4u;
    x[out] = w.lo;
    x[out + 1u] = w.hi;
}
