// KV cache in float16, two a u32: keys and values [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD], HEAD_PAD = HEAD_DIM rounded up
// to 8. Included by kernels that declare `k_cache`, `v_cache` as array<Kv4>: one element is 4 neighbouring numbers.

alias Kv4 = vec2<u32>;

fn unpack_kv4(v: Kv4) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

fn pack_kv4(x: vec4<f32>) -> Kv4 {
    return Kv4(pack2x16float(x.xy), pack2x16float(x.zw));
}
