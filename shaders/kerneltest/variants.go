package kerneltest

import (
	"fmt"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// Variants returns every kernel with its default constants and each number format it can take, once each; labels are
// "kernel/bf16/f16", "kernel/q4/halves", "kernel/q4/f16 attention", ... A device must compile all of them, but for those with more storage buffers than it
// allows a kernel, which are left out.
func Variants(limits gpu.Limits) ([]gpu.KernelDesc, error) {
	var all []gpu.KernelDesc
	var formats []shaders.Options
	for _, weight := range Weights {
		for _, kv := range KVs {
			formats = append(formats, shaders.Options{Weight: weight, KV: kv}, shaders.Options{Weight: weight, KV: kv, Attention: true})
		}
		if weight != "bf16" {
			formats = append(formats, shaders.Options{Weight: weight, Halves: true})
		}
	}
	for _, name := range shaders.Names() {
		texts := map[string]bool{}
		for _, opt := range formats {
			opt.Label = name
			desc, err := shaders.Specialize(name, opt)
			if err != nil {
				return nil, err
			}
			if texts[desc.WGSL] {
				continue
			}
			texts[desc.WGSL] = true
			if desc.NumStorage() > int(limits.MaxStorageBuffersPerStage) {
				continue
			}
			what := opt.KV
			if opt.Halves {
				what = "halves"
			}
			if opt.Attention {
				what += " attention"
			}
			desc.Label = fmt.Sprintf("%s/%s/%s", name, opt.Weight, what)
			all = append(all, desc)
		}
	}
	return all, nil
}

// SubgroupVariants returns likewise every kernel that has a variant with subgroups; labels end in "/subgroups". A device that
// has the feature must compile all of them.
func SubgroupVariants() ([]gpu.KernelDesc, error) {
	var all []gpu.KernelDesc
	for _, name := range shaders.Names() {
		if !shaders.HasSubgroupVariant(name) {
			continue
		}
		for _, weight := range Weights {
			desc, err := shaders.Specialize(name, shaders.Options{Weight: weight, Subgroups: true, Label: fmt.Sprintf("%s/%s/subgroups", name, weight)})
			if err != nil {
				return nil, err
			}
			all = append(all, desc)
		}
	}
	return all, nil
}
