// Package shaders holds the WGSL kernels, one .wgsl file each, and turns a file into a complete kernel description.
//
// It owns the kernels' text and their specialization; the engine decides which constants, buffers and grids they get.
// A kernel file is standard WGSL with `override` constants that have working defaults. Specialize rewrites each to a
// `const` with the model's value (wgpu 0.19 has no override; every compiler then sees constants) and pastes the include
// files that the number formats choose.
package shaders

import (
	"embed"
	"fmt"
	"hash/crc32"
	"io/fs"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

//go:embed *.wgsl
var files embed.FS

// Options choose a kernel's number formats and constants.
type Options struct {
	Label  string // for errors; default: the kernel's name
	Weight string // "bf16", "q8" or "q4": which weight_*.wgsl, word_*.wgsl and dot_*.wgsl `//#include weight` and `dot` paste; default bf16
	KV     string // "f16" or "f32": which kv_*.wgsl `//#include kv` pastes; default f16
	// Subgroups chooses lib_*_subgroups.wgsl where there is one; see UseSubgroups.
	Subgroups bool
	Halves    bool              // chooses word_*_halves.wgsl, for quantized weights; only where HalvesExact
	Attention bool              // has attention in front of layer_products: lib_front_attention.wgsl instead of lib_front_splits.wgsl
	Consts    map[string]uint32 // values of u32 overrides; those not named keep their defaults
	Floats    map[string]float32
}

var (
	overrideRE = regexp.MustCompile(`(?m)^override ([A-Z][A-Z0-9_]*): (u32|f32) = ([0-9.eE+-]+u?);`)
	instanceRE = regexp.MustCompile(`(?m)^//#instance ([a-z_]+) ([a-z_ ]+)$`)
	declaredRE = regexp.MustCompile(`(?m)^(?:@.* )?(?:fn|const|override|struct|var<[a-z_, ]+>) (\w+)`)
	includeRE  = regexp.MustCompile(`(?m)^//#include ([a-z_]+)$`)
	scalesRE   = regexp.MustCompile(`(?m)^@group\(0\) @binding\(SCALES_BINDING\) .*\n`)
	bindingRE  = regexp.MustCompile(`(?m)^@group\(0\) @binding\((\d+)\) var<(uniform|storage, read|storage, read_write)> `)
)

// Names lists the kernels (without the include files), sorted.
func Names() []string {
	var names []string
	entries, _ := fs.ReadDir(files, ".")
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".wgsl")
		if !isInclude(name) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// Version changes with every kernel's text, eight hexadecimal digits: what was measured with other kernels is not worth keeping.
func Version() string { return version() }

var version = sync.OnceValue(func() string {
	sum := crc32.NewIEEE()
	entries, _ := fs.ReadDir(files, ".")
	for _, e := range entries {
		text, _ := files.ReadFile(e.Name())
		fmt.Fprintf(sum, "%s %d ", e.Name(), len(text))
		sum.Write(text)
	}
	return fmt.Sprintf("%08x", sum.Sum32())
})

func isInclude(name string) bool {
	return strings.HasPrefix(name, "weight_") || strings.HasPrefix(name, "word_") || strings.HasPrefix(name, "dot_") || strings.HasPrefix(name, "kv_") || strings.HasPrefix(name, "lib_")
}

// Specialize returns the kernel `name` (the file's name and entry point) with opt's constants in place.
// It fails on an unknown kernel, an unknown constant, or bindings that are not numbered 0..n-1.
func Specialize(name string, opt Options) (gpu.KernelDesc, error) {
	src, err := read(name)
	if err != nil || isInclude(name) {
		return gpu.KernelDesc{}, fmt.Errorf("shaders: no kernel %q (there are %s)", name, strings.Join(Names(), ", "))
	}
	enable := ""
	if opt.Subgroups && strings.Contains(src, includeSums) {
		enable = "enable subgroups;\n"
	}
	if src, err = instances(name, src, opt); err != nil {
		return gpu.KernelDesc{}, err
	}
	if src, err = expand(name, src, opt); err != nil {
		return gpu.KernelDesc{}, err
	}
	if src, err = constants(name, src, opt); err != nil {
		return gpu.KernelDesc{}, err
	}
	src = numberScales(src)
	kinds, err := bindings(name, src)
	if err != nil {
		return gpu.KernelDesc{}, err
	}
	label := opt.Label
	if label == "" {
		label = name
	}
	return gpu.KernelDesc{Label: label, WGSL: enable + src, Entry: name, Bindings: kinds}, nil
}

// includeSums pastes what has a variant with subgroups.
const includeSums = "\n//#include matvec_sums\n"

// HasSubgroupVariant tells whether a kernel changes with Options.Subgroups.
func HasSubgroupVariant(name string) bool {
	src, err := read(name)
	return err == nil && strings.Contains(src, includeSums)
}

func read(name string) (string, error) {
	b, err := files.ReadFile(name + ".wgsl")
	return string(b), err
}

// expand replaces each `//#include what` line by weight_<dtype>.wgsl, word_<dtype>.wgsl and dot_<dtype>.wgsl, kv_<dtype>.wgsl or
// lib_<what>.wgsl.
func expand(name, src string, opt Options) (string, error) {
	var firstErr error
	out := includeRE.ReplaceAllStringFunc(src, func(line string) string {
		what := includeRE.FindStringSubmatch(line)[1]
		weight := orDefault(opt.Weight, "bf16")
		pasted := []string{"lib_" + what}
		switch what {
		case "matvec_sums":
			if opt.Subgroups {
				pasted[0] += "_subgroups"
			}
		case "weight":
			pasted[0] = "weight_" + weight
		case "dot":
			pasted = []string{"word_" + weight, "dot_" + weight}
			if opt.Halves {
				pasted[0] += "_halves"
			}
		case "front":
			if opt.Attention {
				pasted = []string{"kv_" + orDefault(opt.KV, "f16"), "lib_attention", "lib_front_attention"}
			} else {
				pasted[0] += "_splits"
			}
		case "kv":
			pasted[0] = "kv_" + orDefault(opt.KV, "f16")
		}
		text := ""
		for _, file := range pasted {
			more, err := read(file)
			if err != nil && firstErr == nil {
				firstErr = fmt.Errorf("shaders: %s: no include file %s.wgsl", name, file)
			}
			text += more
		}
		return text
	})
	return out, firstErr
}

// ownNames are what a kernel declares anew for every instance of lib_product.wgsl, with the instance's name behind it.
var ownNames = []string{"first_weight", "first_scale", "prepare", "inputs", "settle", "again", "gains", "keep", "store", "next_load"}

// instances replaces each `//#instance name what what` line by the include files, every name that they declare, and those of
// ownNames, followed by _name, or _NAME if it is all capitals: the same code over several matrices, each with constants of its own. The
// scales of quantized weights are declared once.
func instances(name, src string, opt Options) (string, error) {
	var firstErr error
	scales := ""
	out := instanceRE.ReplaceAllStringFunc(src, func(line string) string {
		m := instanceRE.FindStringSubmatch(line)
		text, err := expand(name, "//#include "+strings.ReplaceAll(m[2], " ", "\n//#include ")+"\n", opt)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		text = scalesRE.ReplaceAllStringFunc(text, func(declaration string) string {
			scales = declaration
			return ""
		})
		names := slices.Clone(ownNames)
		for _, d := range declaredRE.FindAllStringSubmatch(text, -1) {
			names = append(names, d[1])
		}
		return regexp.MustCompile(`\b(?:`+strings.Join(names, "|")+`)\b`).ReplaceAllStringFunc(text, func(id string) string {
			if id == strings.ToUpper(id) {
				return id + "_" + strings.ToUpper(m[1])
			}
			return id + "_" + m[1]
		})
	})
	return out + scales, firstErr
}

// numberScales numbers the binding of quantized weights' scales, which are declared with the weights, behind all others.
func numberScales(src string) string {
	const scales = "@binding(SCALES_BINDING)"
	for n := len(bindingRE.FindAllString(src, -1)); strings.Contains(src, scales); n++ {
		src = strings.Replace(src, scales, fmt.Sprintf("@binding(%d)", n), 1)
	}
	return src
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// constants turns every override into a const, with opt's value where it names one.
func constants(name, src string, opt Options) (string, error) {
	seen := map[string]bool{}
	var firstErr error
	out := overrideRE.ReplaceAllStringFunc(src, func(line string) string {
		m := overrideRE.FindStringSubmatch(line)
		id, typ, value := m[1], m[2], m[3]
		seen[id] = true
		if v, ok := opt.Consts[id]; ok {
			if typ != "u32" {
				firstErr = fmt.Errorf("shaders: %s: constant %s is %s, not u32", name, id, typ)
			}
			value = strconv.FormatUint(uint64(v), 10) + "u"
		}
		if v, ok := opt.Floats[id]; ok {
			if typ != "f32" {
				firstErr = fmt.Errorf("shaders: %s: constant %s is %s, not f32", name, id, typ)
			}
			value = wgslFloat(v)
		}
		return "const " + id + ": " + typ + " = " + value + ";"
	})
	if firstErr != nil {
		return "", firstErr
	}
	for id := range opt.Consts {
		if !seen[id] {
			return "", fmt.Errorf("shaders: %s has no constant %s", name, id)
		}
	}
	for id := range opt.Floats {
		if !seen[id] {
			return "", fmt.Errorf("shaders: %s has no constant %s", name, id)
		}
	}
	if strings.Contains(out, "\noverride ") {
		return "", fmt.Errorf("shaders: %s: an override declaration is not of the form `override NAME: u32 = 1u;`", name)
	}
	return out, nil
}

// wgslFloat writes v so that WGSL reads back exactly v.
func wgslFloat(v float32) string {
	s := strconv.FormatFloat(float64(v), 'e', -1, 32)
	return s + "f"
}

func bindings(name, src string) ([]gpu.BindingKind, error) {
	matches := bindingRE.FindAllStringSubmatch(src, -1)
	kinds := make([]gpu.BindingKind, len(matches))
	seen := make([]bool, len(matches))
	for _, m := range matches {
		n, err := strconv.Atoi(m[1])
		if err != nil || n >= len(kinds) || seen[n] {
			return nil, fmt.Errorf("shaders: %s: binding %s is out of order: number them 0..%d, each once", name, m[1], len(kinds)-1)
		}
		seen[n] = true
		switch m[2] {
		case "uniform":
			kinds[n] = gpu.BindUniform
		case "storage, read":
			kinds[n] = gpu.BindStorageRead
		default:
			kinds[n] = gpu.BindStorage
		}
	}
	if len(kinds) == 0 {
		return nil, fmt.Errorf("shaders: %s declares no bindings", name)
	}
	return kinds, nil
}
