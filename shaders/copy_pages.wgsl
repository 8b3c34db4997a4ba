// k_cache[dst], v_cache[dst] = k_cache[src], v_cache[src] for each pair: copy-on-write of pages of one layer.
// 0 pairs   vec2<u32> [pairs] source page, destination page; no destination is another pair's source or destination
// 1 k_cache Kv4       [pages, NUM_KV_HEADS, PAGE_SIZE, HEAD_PAD]
// 2 v_cache Kv4       likewise
// Grid: pairs x any number (ceil(PAGE_VECTORS/256) gives each thread one vector); workgroups (p, *) own pair p.
// Parity test: kerneltest "copy_pages".

override PAGE_VECTORS: u32 = 4096u; // NUM_KV_HEADS*PAGE_SIZE*HEAD_PAD/4

@group(0) @binding(0) var<storage, read> pairs: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> k_cache: array<Kv4>;
@group(0) @binding(2) var<storage, read_write> v_cache: array<Kv4>;

//#include kv

@compute @workgroup_size(256)
fn copy_pages(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let src = pairs[group.x].x * PAGE_VECTORS;
    let dst = pairs[group.x].y * PAGE_VECTORS;
    for (var i = group.y * 256u + tid; i < PAGE_VECTORS; i += num_groups.y * 256u) {
        k_cache[dst + i] = k_cache[src + i];
        v_cache[dst + i] = v_cache[src + i];
    }
}
