// KV cache in 16 bits a number, two a u32: keys and values [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD], HEAD_PAD = HEAD_DIM
// rounded up to 8. Included by kernels that declare `k_cache`, `v_cache` as array<Kv4>: one element is 4 neighbouring numbers.
// Values are float16. Keys lie in [-1, 1], as config.KeyBounds is divided out of the K-norm's gain, and their square roots are
// stored with their signs as snorm16: steps of 2*sqrt(key)/32767, finer than float16's for all keys that move a score.

alias Kv4 = vec2<u32>;

fn unpack_value4(v: Kv4) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

fn unpack_key4(k: Kv4) -> vec4<f32> {
    let root = vec4<f32>(unpack2x16snorm(k.x), unpack2x16snorm(k.y));
    return root * abs(root);
}

fn pack_key4(x: vec4<f32>) -> Kv4 {
    let root = sign(x) * sqrt(abs(x));
    return Kv4(pack2x16snorm(root.xy), pack2x16snorm(root.zw));
}

fn pack_value4(x: vec4<f32>) -> Kv4 {
    return Kv4(pack2x16float(x.xy), pack2x16float(x.zw));
}
