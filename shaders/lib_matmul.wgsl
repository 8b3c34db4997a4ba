// What the prefill's matrix products share: overrides and bindings (matmul.wgsl's header has their shapes), reading 4x4 blocks
// of inputs and weights, and the three epilogues. Included after weight_*.wgsl. Blocks are transposed on their way to workgroup
// memory, so that four neighbouring rows (tokens or matrix rows) at one k are one vector.

override K_PAD: u32 = 1024u;      // a multiple of 32
override A_STRIDE: u32 = 1024u;   // a multiple of 4, at least K_PAD
override OUT_STRIDE: u32 = 4096u; // a multiple of 4
override NORM: u32 = 0u;
override EPILOGUE: u32 = 0u;

struct MatrixPart {
    row_start: u32,
    num_rows: u32,
}

@group(0) @binding(0) var<uniform> part: MatrixPart;
@group(0) @binding(1) var<storage, read> pass_state: array<u32>;
@group(0) @binding(2) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> inv_rms: array<f32>;
@group(0) @binding(5) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

const A_STRIDE4: u32 = A_STRIDE / 4u;
const OUT_STRIDE4: u32 = OUT_STRIDE / 4u;

// Rows r..r+3 at four neighbouring k: component i of k0 is row r+i at the first k.
struct Block {
    k0: vec4<f32>,
    k1: vec4<f32>,
    k2: vec4<f32>,
    k3: vec4<f32>,
}

fn transposed(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Block {
    return Block(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y),
        vec4<f32>(a.z, b.z, c.z, d.z), vec4<f32>(a.w, b.w, c.w, d.w));
}

// Inputs of tokens t..t+3 at [4*k4, 4*k4+4), times the gain. Tokens past the last one repeat it.
fn input_block(t: u32, last_t: u32, k4: u32) -> Block {
    var g = vec4<f32>(1.0);
    if (NORM == 1u) {
        g = gain[k4];
    }
    let r = min(vec4<u32>(t, t + 1u, t + 2u, t + 3u), vec4<u32>(last_t)) * A_STRIDE4 + k4;
    return transposed(a[r.x] * g, a[r.y] * g, a[r.z] * g, a[r.w] * g);
}

// Weights of rows n..n+3 at [4*k4, 4*k4+4). Rows past the last one repeat it.
fn weight_block(n: u32, k4: u32) -> Block {
    let r = min(vec4<u32>(n, n + 1u, n + 2u, n + 3u), vec4<u32>(part.num_rows - 1u));
    return transposed(weight4(r.x, k4), weight4(r.y, k4), weight4(r.z, k4), weight4(r.w, k4));
}

// Puts the first `count` numbers of v at out[i], in place; the rest keep what is there.
fn put(i: u32, v: vec4<f32>, count: u32) {
    if (EPILOGUE == 1u || count < 4u) {
        let old = out[i];
        var new_value = v;
        if (EPILOGUE == 1u) {
            new_value += old;
        }
        out[i] = select(old, new_value, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count));
    } else {
        out[i] = v;
    }
}

// Stores the sums of token t with rows n..n+7 of the part (n a multiple of 8).
fn store8(t: u32, n: u32, lo: vec4<f32>, hi: vec4<f32>) {
    if (t >= pass_state[0] || n >= part.num_rows) {
        return;
    }
    var u = lo;
    var v = hi;
    if (NORM == 1u) {
        let scale = inv_rms[t];
        u *= scale;
        v *= scale;
    }
    let count = part.num_rows - n;
    if (EPILOGUE == 2u) {
        let gate = vec4<f32>(u.xz, v.xz);
        let up = vec4<f32>(u.yw, v.yw);
        put(t * OUT_STRIDE4 + (part.row_start + n) / 8u, gate / (1.0 + exp(-gate)) * up, count / 2u);
    } else {
        let i = t * OUT_STRIDE4 + (part.row_start + n) / 4u;
        put(i, u, count);
        if (count > 4u) {
            put(i + 1u, v, count - 4u);
        }
    }
}
