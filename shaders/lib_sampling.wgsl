// Scores of a row of logits, as engine/sampling defines them: penalties and bias applied, forbidden tokens lowest.
// Included by kernels that declare `VOCAB`, `params: Sampling`, `logits: array<f32>` and `vocab_state: array<vec2<u32>>`.

struct Sampling {
    seed_lo: u32,
    seed_hi: u32,
    top_k: u32,          // candidates kept, 1 for greedy; not read where all ids may be drawn
    allowed: u32,        // ids from it up are never sampled
    inv_temperature: f32,
    top_p: f32,
    min_p: f32,
    repetition: f32,
    presence: f32,
    frequency: f32,
    adjust: u32,         // 1: vocab_state counts
    // Draws from the whole vocabulary, see engine/sampling.FullDraw.
    scale: f32,
    top_p_bits: u32,     // top_p * 2^32, 0: off
    min_weight_lo: u32,
    min_weight_hi: u32,
    shift: u32,
}

const LOWEST: f32 = -3.4028234e38;
const SEEN: u32 = 0x80000000u;

// vocab_state[id]: x = how often generated, with SEEN set if it stands anywhere in the text; y = bits of the logit bias,
// those of -infinity forbid the token.
fn adjusted(id: u32, logit: f32, st: vec2<u32>) -> f32 {
    if (id >= params.allowed) {
        return LOWEST;
    }
    var s = logit;
    if (params.adjust != 0u) {
        if ((st.x & SEEN) != 0u) {
            s = select(s * params.repetition, s / params.repetition, s > 0.0);
        }
        let count = st.x & ~SEEN;
        if (count > 0u) {
            s -= f32(count) * params.frequency + params.presence;
        }
        if (st.y == 0xff800000u) {
            return LOWEST;
        }
        s += bitcast<f32>(st.y);
    }
    return s;
}

fn score(id: u32) -> f32 {
    var st = vec2<u32>(0u);
    if (params.adjust != 0u) {
        st = vocab_state[id];
    }
    return adjusted(id, logits[id], st);
}

// Of four ids, for which all loads are under way before one is used; what lies behind the vocabulary gets the last id's.
fn logits4(ids: vec4<u32>) -> vec4<f32> {
    let at = min(ids, vec4<u32>(VOCAB - 1u));
    return vec4<f32>(logits[at.x], logits[at.y], logits[at.z], logits[at.w]);
}

fn scores4(ids: vec4<u32>, l: vec4<f32>) -> vec4<f32> {
    let at = min(ids, vec4<u32>(VOCAB - 1u));
    var a = vec2<u32>(0u);
    var b = vec2<u32>(0u);
    var c = vec2<u32>(0u);
    var d = vec2<u32>(0u);
    if (params.adjust != 0u) {
        a = vocab_state[at.x];
        b = vocab_state[at.y];
        c = vocab_state[at.z];
        d = vocab_state[at.w];
    }
    return vec4<f32>(adjusted(ids.x, l.x, a), adjusted(ids.y, l.y, b), adjusted(ids.z, l.z, c), adjusted(ids.w, l.w, d));
}

// By bits, because compilers may assume that there is no NaN.
fn not_finite(v: f32) -> bool {
    return (bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u;
}
