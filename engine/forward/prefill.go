package forward

// Prefill: the dispatches of a layer over many tokens, the copy-on-write of pages, and the final norm.

import (
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

func (r *Runner) recordPrefill(out *layer, w *layerWeights) error    { return nil }
func (r *Runner) recordCopy(w *layerWeights) error                   { return nil }
func (r *Runner) finalNormSteps(norm gpu.Buffer) ([]dispatch, error) { return nil, nil }
func (r *Runner) copyOnWrite(copies []kvcache.PageCopy) error        { return nil }
