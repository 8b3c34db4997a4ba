// KV cache in float32: keys and values [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD], HEAD_PAD = HEAD_DIM rounded up to 8.
// Included by kernels that declare `k_cache`, `v_cache` as array<Kv4>: one element is 4 neighbouring numbers; or as
// array<Kv8>: 8 of them.

alias Kv4 = vec4<u32>;

struct Kv8 {
    lower: vec4<u32>,
    upper: vec4<u32>,
}

fn lower4(x: Kv8) -> Kv4 {
    return x.lower;
}

fn upper4(x: Kv8) -> Kv4 {
    return x.upper;
}

fn join4(lower: Kv4, upper: Kv4) -> Kv8 {
    return Kv8(lower, upper);
}

fn unpack_key4(k: Kv4) -> vec4<f32> {
    return bitcast<vec4<f32>>(k);
}

const KEY_UNIT: f32 = 1.0;

// Keys in units of KEY_UNIT.
fn key_counts4(k: Kv4) -> vec4<f32> {
    return bitcast<vec4<f32>>(k);
}

fn pack_key4(x: vec4<f32>) -> Kv4 {
    return bitcast<vec4<u32>>(x);
}

fn unpack_value4(v: Kv4) -> vec4<f32> {
    return bitcast<vec4<f32>>(v);
}

fn pack_value4(x: vec4<f32>) -> Kv4 {
    return bitcast<vec4<u32>>(x);
}
