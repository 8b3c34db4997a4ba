// Beside attention: the words of an exchange are set to UNSET, in which layer_products, behind it, hands on rows.
// 7 x        u32       [EXCHANGE] something else, [4] words that stay as they are, [CLEARED]

override EXCHANGE: u32 = 1024u;
override CLEARED: u32 = 5120u;

const UNSET: u32 = 0x7fc0a5a5u; // as in layer_products.wgsl
const CLEARING: u32 = THREADS * NUM_KV_HEADS * Q_TILES * BESIDE; // threads

@group(0) @binding(7) var<storage, read_write> x: array<u32>;

fn beside(index: u32, tid: u32) {
    for (var i = index * THREADS + tid; i < CLEARED; i += CLEARING) {
        x[EXCHANGE + 4u + i] = UNSET;
    }
}
