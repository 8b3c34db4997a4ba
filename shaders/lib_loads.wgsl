// What lib_rows.wgsl loads of a matrix; one type for all of a kernel's matrices. Included once, in front of it.

// One load of up to eight rows, with the scales of its groups.
struct RowLoads {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
    e: vec4<u32>,
    f: vec4<u32>,
    g: vec4<u32>,
    h: vec4<u32>,
    scale_a: vec4<u32>, // see scale_bits
    scale_b: vec4<u32>,
}
