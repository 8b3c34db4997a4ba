// KV cache in 16 bits a number, two a u32: keys and values [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD], HEAD_PAD = HEAD_DIM
// rounded up to 8. Included by kernels that declare `k_cache`, `v_cache` as array<Kv4>: one element is 4 neighbouring numbers;
// or as array<Kv8>: 8 of them, 16 bytes.
// Values are float16. Keys lie in [-1, 1], as config.KeyBounds is divided out of the K-norm's gain, and their square roots are
// stored with their signs as snorm16: steps of 2*sqrt(key)/32767, finer than float16's for all keys that move a score.

alias Kv4 = vec2<u32>;
alias Kv8 = vec4<u32>;

fn lower4(x: Kv8) -> Kv4 {
    return x.xy;
}

fn upper4(x: Kv8) -> Kv4 {
    return x.zw;
}

fn join4(lower: Kv4, upper: Kv4) -> Kv8 {
    return Kv8(lower, upper);
}

fn unpack_value4(v: Kv4) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

fn unpack_key4(k: Kv4) -> vec4<f32> {
    let root = vec4<f32>(unpack2x16snorm(k.x), unpack2x16snorm(k.y));
    return root * abs(root);
}

const KEY_UNIT: f32 = 2.16853670e-19; // 1/(65536*32767)^2

// Keys in units of KEY_UNIT, for products that are scaled elsewhere: a half in the upper bits of a whole number is 65536 times what it stands
// for.
fn key_counts4(k: Kv4) -> vec4<f32> {
    let root = vec4<f32>(vec4<i32>(i32(k.x << 16u), i32(k.x & 0xffff0000u), i32(k.y << 16u), i32(k.y & 0xffff0000u)));
    return root * abs(root);
}

fn pack_key4(x: vec4<f32>) -> Kv4 {
    let root = sign(x) * sqrt(abs(x));
    return Kv4(pack2x16snorm(root.xy), pack2x16snorm(root.zw));
}

fn pack_value4(x: vec4<f32>) -> Kv4 {
    return Kv4(pack2x16float(x.xy), pack2x16float(x.zw));
}
