// Integer arithmetic of draws from the whole vocabulary, as engine/sampling defines it (full.go): exact, so that sums do not
// depend on the order of addition. 64-bit numbers are vec2<u32>(low, high).
// Included by kernels that declare `params: Sampling`.

const TOO_FAR: u32 = 0xffffffffu; // distance of what is not drawn
const DISTANCE_BITS: u32 = 25u;

// High half of a 32x32-bit product.
fn mul_hi(a: u32, b: u32) -> u32 {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    let mid = ah * bl + ((al * bl) >> 16u);
    let low = al * bh + (mid & 0xffffu);
    return ah * bh + (mid >> 16u) + (low >> 16u);
}

fn add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn less64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn min64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    if (less64(a, b)) {
        return a;
    }
    return b;
}

// q/2^32 * sum, rounded down.
fn fraction(sum: vec2<u32>, q: u32) -> vec2<u32> {
    return add64(vec2<u32>(sum.y * q, mul_hi(sum.y, q)), vec2<u32>(mul_hi(sum.x, q), 0u));
}

// (top - score)/T in powers of two, to 25 bits behind the point.
fn distance_from(top: f32, score: f32) -> u32 {
    let x = min(top - score, 1e6) * params.scale;
    if (score == LOWEST || !(x < 64.0)) {
        return TOO_FAR;
    }
    return min(u32(x * 33554432.0), 0x7fffffffu);
}

// 2^-distance; the Taylor polynomial of 2^-f for the fraction f.
fn weight(distance: u32) -> vec2<u32> {
    if (distance == TOO_FAR) {
        return vec2<u32>(0u);
    }
    let f = distance << (32u - DISTANCE_BITS);
    var r = 0x162cu - mul_hi(0x1b5u, f);
    r = 0xffe6u - mul_hi(r, f);
    r = 0xa1849u - mul_hi(r, f);
    r = 0x576200u - mul_hi(r, f);
    r = 0x276556eu - mul_hi(r, f);
    r = 0xe35846cu - mul_hi(r, f);
    r = 0x3d7f7bffu - mul_hi(r, f);
    r = 0xb17217f8u - mul_hi(r, f);
    r = 0xffffffffu - mul_hi(r, f);
    let down = distance >> DISTANCE_BITS;
    if (down <= params.shift) {
        let up = params.shift - down;
        return vec2<u32>(r << up, (r >> 1u) >> (31u - up));
    }
    let by = down - params.shift;
    return vec2<u32>(select(r >> min(by, 31u), 0u, by > 31u), 0u);
}
