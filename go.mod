module github.com/qwen-wgpu/qwen-wgpu

go 1.26.0

require (
	github.com/cogentcore/webgpu v0.23.0
	golang.org/x/text v0.30.0
)
