module github.com/qwen-wgpu/qwen-wgpu

go 1.26.0
