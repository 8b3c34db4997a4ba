//go:build !js

package shaders_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
	"github.com/qwen-wgpu/qwen-wgpu/shaders/kerneltest"
)

// TestCompile compiles every kernel with default constants and each number format, within WebGPU's default limits.
func TestCompile(t *testing.T) {
	dev := testdevice.Open(t)
	variants, err := kerneltest.Variants(dev.Limits())
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range variants {
		kernel, err := dev.NewKernel(desc)
		if err != nil {
			t.Error(err)
			continue
		}
		kernel.Release()
		if n := desc.NumStorage(); n > 8 && !strings.HasPrefix(desc.Label, "layer_products/") { // which is used where there are more
			t.Errorf("%s has %d storage buffers, WebGPU promises 8", desc.Label, n)
		}
	}
}

func TestSpecializeErrors(t *testing.T) {
	for _, c := range []struct {
		kernel string
		opt    shaders.Options
		want   string
	}{
		{"no_such", shaders.Options{}, `no kernel "no_such"`},
		{"kv_f16", shaders.Options{}, `no kernel "kv_f16"`},
		{"lib_matmul", shaders.Options{}, `no kernel "lib_matmul"`},
		{"matmul", shaders.Options{Weight: "q5"}, "no include file weight_q5.wgsl"},
		{"matmul", shaders.Options{Consts: map[string]uint32{"K": 1}}, "has no constant K"},
		{"row_rms", shaders.Options{Floats: map[string]float32{"E": 1}}, "has no constant E"},
		{"row_rms", shaders.Options{Consts: map[string]uint32{"EPS": 1}}, "EPS is f32, not u32"},
		{"row_rms", shaders.Options{Floats: map[string]float32{"HIDDEN": 1}}, "HIDDEN is u32, not f32"},
	} {
		_, err := shaders.Specialize(c.kernel, c.opt)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %+v: error %v, want one that says %q", c.kernel, c.opt, err, c.want)
		}
	}
}

// TestPrefillChunks cuts a prompt into passes in different ways: attention must give the same bits.
func TestPrefillChunks(t *testing.T) {
	runner := kerneltest.NewRunner(testdevice.Open(t))
	defer runner.Close()
	setup, stride := kerneltest.AttentionChunk(0, 90)
	whole, err := runner.Execute(setup, "attn")
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range [][2]int{{0, 1}, {1, 40}, {41, 49}} {
		setup, _ := kerneltest.AttentionChunk(cut[0], cut[1])
		got, err := runner.Execute(setup, "attn")
		if err != nil {
			t.Fatal(err)
		}
		want := whole[0][cut[0]*stride*4 : (cut[0]+cut[1])*stride*4]
		if !bytes.Equal(got[0][:len(want)], want) {
			t.Errorf("tokens [%d, %d) alone differ from the same tokens in a pass from 0 on", cut[0], cut[0]+cut[1])
		}
	}
}

// TestUseSubgroups: a team's rows are spread over the lanes of one subgroup, so there must be as many lanes as rows.
func TestUseSubgroups(t *testing.T) {
	for _, c := range []struct {
		shape shaders.MatvecShape
		size  int
		lanes uint32 // 0: without subgroups
	}{
		{shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 32, Rows: 4}, 32, 32},
		{shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 8, Rows: 4}, 32, 8},
		{shaders.MatvecShape{Workgroup: 256, ThreadsPerRow: 256, Rows: 8}, 16, 16},
		{shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 64, Rows: 8}, 4, 0},
		{shaders.MatvecShape{Workgroup: 64, ThreadsPerRow: 64, Rows: 1}, 128, 0},
		{shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 32, Rows: 4}, 0, 0},
		{shaders.MatvecShape{Workgroup: 128, ThreadsPerRow: 32, Rows: 4}, 24, 0},
	} {
		opt := shaders.Options{Weight: "bf16", Consts: map[string]uint32{}}
		c.shape.AddTo(&opt, 1024, 16<<10)
		opt.UseSubgroups(c.size)
		if opt.Consts["LANES"] != c.lanes || opt.Subgroups != (c.lanes > 0) {
			t.Errorf("%s, subgroups of %d: %v, %d lanes", c.shape, c.size, opt.Subgroups, opt.Consts["LANES"])
		}
		desc, err := shaders.Specialize("residual_proj", opt)
		if err != nil || strings.HasPrefix(desc.WGSL, "enable subgroups;") != (c.lanes > 0) {
			t.Errorf("%s, subgroups of %d: %v, %.20q", c.shape, c.size, err, desc.WGSL)
		}
		if bytes, ok := gpu.ReadWGSL(desc.WGSL).WorkgroupBytes(); !ok || bytes > 16<<10 {
			t.Errorf("%s, subgroups of %d: %d bytes of workgroup memory, %v", c.shape, c.size, bytes, ok)
		}
	}
}
