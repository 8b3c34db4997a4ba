// A 16-byte load of 4-bit numbers times its inputs, for lib_rows.wgsl. Included after weight_q4.wgsl and word_q4.wgsl or
// word_q4_halves.wgsl.

const SCALE_PERIOD: u32 = 2u; // loads behind which scale_shift is the same

// Where in its word the scale of a load is, counted from the matrix's first.
fn scale_shift(load: u32) -> u32 {
    return flat_shift(load);
}

// Word i of the scales: those of SCALE_PERIOD loads.
fn scale_word(i: u32) -> u32 {
    return scales[i];
}

// Adds one word of every row.
fn add_words(s: RowSums, a: vec4<u32>, b: vec4<u32>, x_lo: vec4<f32>, x_hi: vec4<f32>) -> RowSums {
    var sum = s;
    sum.a = add_word(s.a, a.x, x_lo, x_hi);
    if (ROWS > 1u) {
        sum.b = add_word(s.b, a.y, x_lo, x_hi);
    }
    if (ROWS > 2u) {
        sum.c = add_word(s.c, a.z, x_lo, x_hi);
    }
    if (ROWS > 3u) {
        sum.d = add_word(s.d, a.w, x_lo, x_hi);
    }
    if (ROWS > 4u) {
        sum.e = add_word(s.e, b.x, x_lo, x_hi);
    }
    if (ROWS > 5u) {
        sum.f = add_word(s.f, b.y, x_lo, x_hi);
    }
    if (ROWS > 6u) {
        sum.g = add_word(s.g, b.z, x_lo, x_hi);
    }
    if (ROWS > 7u) {
        sum.h = add_word(s.h, b.w, x_lo, x_hi);
    }
    return sum;
}

// Adds the products of a load of every row with its inputs, word by word: so few inputs are in registers at a time.
fn add_products(w: RowLoads, load: u32) {
    var s = first_sums(load);
    s = add_words(s, vec4<u32>(w.a.x, w.b.x, w.c.x, w.d.x), vec4<u32>(w.e.x, w.f.x, w.g.x, w.h.x), x4(load, 0u), x4(load, 1u));
    s = add_words(s, vec4<u32>(w.a.y, w.b.y, w.c.y, w.d.y), vec4<u32>(w.e.y, w.f.y, w.g.y, w.h.y), x4(load, 2u), x4(load, 3u));
    s = add_words(s, vec4<u32>(w.a.z, w.b.z, w.c.z, w.d.z), vec4<u32>(w.e.z, w.f.z, w.g.z, w.h.z), x4(load, 4u), x4(load, 5u));
    s = add_words(s, vec4<u32>(w.a.w, w.b.w, w.c.w, w.d.w), vec4<u32>(w.e.w, w.f.w, w.g.w, w.h.w), x4(load, 6u), x4(load, 7u));
    add_scaled(s, w);
}
