//go:build js

package browser_test

import (
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// TestGolden holds the whole forward pass to transformers' activations. It needs files, so it runs under Node only.
func TestGolden(t *testing.T) {
	goldentest.Run(t, func(t *testing.T, dir string, kv runner.KVDType, numPages int) runner.Runner {
		d := open(t)
		m, err := weights.Open(weights.Dir(dir))
		if err != nil {
			t.Fatal(err)
		}
		r, err := forward.New(d, m, forward.Options{NumPages: numPages, PageSize: kvcache.DefaultPageSize, KVDType: kv})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); m.Close() })
		return r
	})
}
