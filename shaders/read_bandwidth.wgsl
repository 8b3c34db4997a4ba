// out[w] = sum over this workgroup's stripe of data: nothing but reading, the roofline that benchmarks compare with.
// 0 data vec4<u32> [VECTORS]
// 1 out  f32       [workgroups]
// Grid: any number of workgroups; workgroup w reads VECTORS/workgroups neighbouring 16-byte vectors, 8 in flight a thread.

override VECTORS: u32 = 16777216u;

@group(0) @binding(0) var<storage, read> data: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;

var<workgroup> partial: array<u32, 256>;

@compute @workgroup_size(256)
fn read_bandwidth(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) num_groups: vec3<u32>) {
    let stripe = VECTORS / num_groups.x;
    let begin = group.x * stripe;
    var acc = vec4<u32>(0u);
    for (var i = tid; i + 1792u < stripe; i += 2048u) {
        let a = data[begin + i];
        let b = data[begin + i + 256u];
        let c = data[begin + i + 512u];
        let d = data[begin + i + 768u];
        let e = data[begin + i + 1024u];
        let f = data[begin + i + 1280u];
        let g = data[begin + i + 1536u];
        let h = data[begin + i + 1792u];
        acc += (a ^ b) + (c ^ d) + (e ^ f) + (g ^ h);
    }
    partial[tid] = acc.x + acc.y + acc.z + acc.w;
    workgroupBarrier();
    if (tid == 0u) {
        var sum = 0u;
        for (var i = 0u; i < 256u; i++) {
            sum += partial[i];
        }
        out[group.x] = sum;
    }
}
