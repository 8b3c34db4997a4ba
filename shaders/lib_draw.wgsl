// The random number of a token, and the step of the pass on to what was drawn. Included by kernels that draw, behind
// lib_sampling, lib_statistics and lib_fixed; they declare NUM_SLICES, `params`, `slices`, `vocab_state`, `pass_state` and `sampled`.

override SHORT_SPLIT: u32 = 64u;    // positions of a split, up to FUSED_SPLITS of them
override FUSED_SPLITS: u32 = 4u;
override FUSED_LENGTH: u32 = 1024u; // a longer context is in more of them, of at most LONG_SPLIT positions, or in LONG_SPLITS
override LONG_SPLIT: u32 = 64u;
override LONG_SPLITS: u32 = 33u;
override RING: u32 = 64u;
override TOKENS: u32 = 64u;

// Statistics of a slice, of no ids behind the last.
fn slice_at(i: u32) -> vec4<u32> {
    return select(nothing(), slices[min(i, NUM_SLICES - 1u)], i < NUM_SLICES);
}

// Philox4x32-10 of (position, 0, 0, 0) and the seed: the upper 24 bits of its first word.
fn random_bits(position: u32) -> u32 {
    var c = vec4<u32>(position, 0u, 0u, 0u);
    var k = vec2<u32>(params.seed_lo, params.seed_hi);
    for (var round = 0u; round < 10u; round++) {
        c = vec4<u32>(mul_hi(0xCD9E8D57u, c.z) ^ c.y ^ k.x, 0xCD9E8D57u * c.z, mul_hi(0xD2511F53u, c.x) ^ c.w ^ k.y, 0xD2511F53u * c.x);
        k += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c.x >> 8u;
}

// Leaves the state of the next decode pass, behind `position` tokens and `number` draws, but for its token.
fn step_pass(position: u32, number: u32) {
    let length = position + 1u;
    var splits = 1u;
    while (splits < FUSED_SPLITS && length > SHORT_SPLIT * splits) {
        splits *= 2u;
    }
    if (length > FUSED_LENGTH) {
        splits = LONG_SPLITS;
        while (splits / 2u >= FUSED_SPLITS && length <= LONG_SPLIT * (splits / 2u)) {
            splits /= 2u;
        }
    }
    pass_state[0] = 1u;
    pass_state[1] = position;
    pass_state[2] = length;
    pass_state[3] = splits;
    pass_state[4] = 0u;
    pass_state[5] = number + 1u;
}

// Hands the token to the host as draw `number` and to the next pass, and counts it where counts are used.
fn deliver(id: u32, number: u32, failed: bool, log_prob: f32) {
    sampled[number % RING] = vec2<u32>(select(id, 0xffffffffu, failed), bitcast<u32>(log_prob));
    pass_state[TOKENS] = id;
    if (params.adjust != 0u) {
        vocab_state[id].x = (vocab_state[id].x | SEEN) + 1u;
    }
}
