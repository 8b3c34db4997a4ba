// Finds out whether all workgroups of a grid run at the same time: each waits until all have arrived, and says so if it gives up.
// 0 arrived u32 [0] workgroups that began, [1] 1: one gave up; zero before
// Grid: any, in x. Parity test: kerneltest "resident_groups".

override WORKGROUP_SIZE: u32 = 256u;
override MAX_POLLS: u32 = 4096u;

@group(0) @binding(0) var<storage, read_write> arrived: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn resident_groups(@builtin(local_invocation_index) tid: u32, @builtin(num_workgroups) num_groups: vec3<u32>) {
    if (tid == 0u) {
        atomicAdd(&arrived[0], 1u);
        var polls_left = MAX_POLLS;
        while (atomicLoad(&arrived[0]) < num_groups.x && polls_left > 0u) {
            polls_left -= 1u;
        }
        if (polls_left == 0u) {
            atomicStore(&arrived[1], 1u);
        }
    }
    workgroupBarrier(); // a workgroup stays as a whole
}
