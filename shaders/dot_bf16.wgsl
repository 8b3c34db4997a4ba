// A 16-byte load of bfloat16 times its inputs, for lib_rows.wgsl. Included after weight_bf16.wgsl and word_bf16.wgsl.

// bf16 has no scales.
const SCALE_PERIOD: u32 = 1u;

fn scale_shift(load: u32) -> u32 {
    return 0u;
}

fn scale_word(i: u32) -> u32 {
    return 0u;
}

fn add_load(acc: vec4<f32>, w: vec4<u32>, x0: vec4<f32>, x1: vec4<f32>) -> vec4<f32> {
    return fma(widen_bf16(w.z, w.w), x1, fma(widen_bf16(w.x, w.y), x0, acc));
}

// Adds the products of a load of every row with its inputs.
fn add_products(w: RowLoads, load: u32) {
    let x0 = x4(load, 0u);
    let x1 = x4(load, 1u);
    acc_0 = add_load(acc_0, w.a, x0, x1);
    if (ROWS > 1u) {
        acc_1 = add_load(acc_1, w.b, x0, x1);
    }
    if (ROWS > 2u) {
        acc_2 = add_load(acc_2, w.c, x0, x1);
    }
    if (ROWS > 3u) {
        acc_3 = add_load(acc_3, w.d, x0, x1);
    }
    if (ROWS > 4u) {
        acc_4 = add_load(acc_4, w.e, x0, x1);
    }
    if (ROWS > 5u) {
        acc_5 = add_load(acc_5, w.f, x0, x1);
    }
    if (ROWS > 6u) {
        acc_6 = add_load(acc_6, w.g, x0, x1);
    }
    if (ROWS > 7u) {
        acc_7 = add_load(acc_7, w.h, x0, x1);
    }
}
