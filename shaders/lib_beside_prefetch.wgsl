// Beside attention: the first of the next weights are read, so that they are in the device's cache when they are needed. While the few
// workgroups of a short context compute, the memory has nothing else to do.
// 7 next     vec4<u32> [NEXT_VECS] weights of a product behind attention

override NEXT_VECS: u32 = 1u;

const PREFETCH_VECS: u32 = 8u * THREADS; // of a workgroup

@group(0) @binding(7) var<storage, read> next: array<vec4<u32>>;

fn next_vec(i: u32) -> vec4<u32> {
    return next[min(i, NEXT_VECS - 1u)];
}

// Reads PREFETCH_VECS of the next weights. No compiler can know that what would be stored is never found.
fn beside(index: u32, tid: u32) {
    let i = index * PREFETCH_VECS + tid;
    let a = next_vec(i) ^ next_vec(i + THREADS) ^ next_vec(i + 2u * THREADS) ^ next_vec(i + 3u * THREADS);
    let b = next_vec(i + 4u * THREADS) ^ next_vec(i + 5u * THREADS) ^ next_vec(i + 6u * THREADS) ^ next_vec(i + 7u * THREADS);
    if (all((a ^ b) == vec4<u32>(0x9e3779b9u, 0x7f4a7c15u, 0xf39cc060u, 0x5cedc834u))) {
        part_out[arrayLength(&part_out) - 1u] = 0.0;
    }
}
