package shaders

// How the decode matrix-vector kernels (lib_matvec.wgsl) are spread over threads, and the constants that follow from it.

import (
	"fmt"
	"strings"
)

// MatvecShape spreads a matrix-vector product over threads.
type MatvecShape struct {
	Workgroup     int  `json:"workgroup"`        // threads a workgroup
	ThreadsPerRow int  `json:"threads_per_row"`  // neighbouring threads that share Rows rows
	Rows          int  `json:"rows"`             // 1, 2, 4 or 8
	Direct        bool `json:"direct"`           // inputs do not go through workgroup memory
	Halves        bool `json:"halves,omitempty"` // of quantized weights: see Options.Halves
	Blocks        int  `json:"blocks,omitempty"` // of rows that a workgroup computes one after the other; 0: one
	// Prefetch is how many rows of workgroups attention has more to read the first of the next weights (0: none).
	Prefetch int `json:"prefetch,omitempty"`
	// Groups is of layer_products alone, whose ThreadsPerRow is the least: how many workgroups stay on the device (0: it is not used).
	Groups   int   `json:"groups,omitempty"`
	Loads    int   `json:"loads,omitempty"`    // of 16 bytes that a thread of layer_products has under way
	Ahead    Ahead `json:"ahead,omitempty"`    // of layer_products
	Together bool  `json:"together,omitempty"` // of layer_products: see ProductsShape
	Apart    bool  `json:"apart,omitempty"`    // likewise
	// Spreads are those of layer_products' products; all zero: chosen by Loads and ThreadsPerRow.
	Spreads [NumProducts]Spread `json:"spreads,omitzero"`
}

const (
	maxStageVectors = 1024 // inputs in workgroup memory at a time, in 16 bytes: all of a hidden_size of 4,096
	maxUnroll       = 4
	maxSumParts     = 16
	maxBlocks       = 1024
	maxPrefetch     = 1024
)

// WeightsPerLoad is the number of weights in 16 bytes of a number format.
var WeightsPerLoad = map[string]int{"bf16": 8, "q8": 16, "q4": 32}

// loadsInFlight is how many loads of a thread are under way together at most, without PIPELINE.
var loadsInFlight = map[string]int{"bf16": 8, "q8": 8, "q4": 4}

// GroupRows is how many rows a workgroup owns.
func (v MatvecShape) GroupRows() int { return max(v.Blocks, 1) * v.blockRows() }

func (v MatvecShape) blockRows() int { return v.Rows * v.Workgroup / v.ThreadsPerRow }

// schedule is how a row of kPad numbers is gone through.
type schedule struct {
	unroll   int  // rounds of loads that are under way together
	pipeline bool // one round while the next one's are instead
	stage    int  // rounds whose inputs are in workgroup memory together; 0: not even one fits
}

func (v MatvecShape) schedule(kPad int, weight string, workgroupBytes int) schedule {
	perLoad := WeightsPerLoad[weight]
	rounds := (kPad/perLoad + v.ThreadsPerRow - 1) / v.ThreadsPerRow
	s := schedule{unroll: min(maxUnroll, max(loadsInFlight[weight]/v.Rows, 1), rounds)}
	if v.Direct {
		s.stage = (rounds + s.unroll - 1) / s.unroll * s.unroll
		return s
	}
	perLoadVectors := loadVectors(weight, v.Halves)
	vectors := min(maxStageVectors, (workgroupBytes-v.sumBytes())/16-perLoadVectors)
	fit := max(vectors, 0) / (v.ThreadsPerRow * perLoadVectors)
	if fit == 0 {
		return s
	}
	// Whole groups of rounds, shared out evenly over the stages.
	group := min(s.unroll, fit)
	if weight != "bf16" && rounds > group && fit > 1 {
		s.pipeline, group = true, 1
	}
	groups := (rounds + group - 1) / group
	stages := (groups + fit/group - 1) / (fit / group)
	s.unroll, s.stage = group, (groups+stages-1)/stages*group
	return s
}

// loadVectors is how many vectors of four numbers a load's inputs take in workgroup memory.
func loadVectors(weight string, halves bool) int {
	n := WeightsPerLoad[weight] / 4
	if halves {
		n++ // their sum
	}
	return n
}

// sumBytes is the workgroup memory of lib_matvec.wgsl but for the inputs.
func (v MatvecShape) sumBytes() int {
	return 4*v.Rows*(v.Workgroup+v.parts()) + 4*v.Workgroup + 4*v.parts()*v.blockRows() + 4*maxSumParts
}

func powerOfTwo(n int) bool { return n > 0 && n&(n-1) == 0 }

// parts is how many threads add up one row.
func (v MatvecShape) parts() int { return min(maxSumParts, v.ThreadsPerRow/v.Rows) }

// Fits tells whether the kernels can run in this shape on rows of kPad numbers, with so many bytes of workgroup memory and
// so many threads a workgroup. A damaged file might hold any numbers.
func (v MatvecShape) Fits(kPad int, weight string, workgroupBytes, maxWorkgroup int) bool {
	if !powerOfTwo(v.Workgroup) || !powerOfTwo(v.ThreadsPerRow) || !powerOfTwo(v.Rows) || v.Rows > 8 ||
		v.Workgroup < 64 || v.Workgroup > maxWorkgroup || v.ThreadsPerRow > v.Workgroup || v.ThreadsPerRow < v.Rows ||
		v.blockRows() < 2 || // gate and up stay together
		v.Blocks < 0 || v.Blocks > maxBlocks || v.Prefetch < 0 || v.Prefetch > maxPrefetch {
		return false
	}
	if v.Direct && (weight != "bf16" || v.ThreadsPerRow < maxSumParts) || v.Halves && weight == "bf16" {
		return false
	}
	return v.schedule(kPad, weight, workgroupBytes).stage > 0 && (!v.Direct || v.sumBytes()+16 <= workgroupBytes)
}

// AddTo sets the constants and the variant of a matrix-vector kernel over rows of kPad numbers of format opt.Weight, in a shape that
// Fits.
func (v MatvecShape) AddTo(opt *Options, kPad, workgroupBytes int) {
	s, consts := v.schedule(kPad, opt.Weight, workgroupBytes), opt.Consts
	opt.Halves = v.Halves
	for name, value := range map[string]int{
		"K_PAD": kPad, "WORKGROUP_SIZE": v.Workgroup, "THREADS_PER_ROW": v.ThreadsPerRow, "ROWS": v.Rows, "BLOCKS": max(v.Blocks, 1), "PARTS": v.parts(), "UNROLL": s.unroll, "STAGE_ROUNDS": s.stage,
	} {
		consts[name] = uint32(value)
	}
	consts["DIRECT"], consts["PIPELINE"] = bit(v.Direct), bit(s.pipeline)
}

func bit(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}

// UseSubgroups has a matrix-vector kernel with these options, whose shape AddTo has set, add up its sums by subgroups of
// size threads, if it can; 0: there are none. On anything else it does nothing. Device and WGSL compiler must know subgroups
// (wgpu's does not), and their size must be a constant.
func (o *Options) UseSubgroups(size int) {
	threads := o.Consts["THREADS_PER_ROW"]
	lanes := min(uint32(size), threads)
	if size < 2 || size&(size-1) != 0 || threads == 0 || o.Consts["WORKGROUP_SIZE"] < uint32(size) || lanes < o.Consts["ROWS"] {
		return
	}
	o.Subgroups = true
	o.Consts["SUBGROUP_SIZE"], o.Consts["LANES"] = uint32(size), lanes
}

// String is the shape in few letters, for names and tables: "8x64/256 direct" are 8 rows for every 64 of 256 threads;
// of layer_products "132x512 2x32^1 ..." are 132 workgroups of 512 threads, and for each product 2 rows for every 32 of them, with one
// round of loads under way.
func (v MatvecShape) String() string {
	var parts []string
	if v.Rows > 0 {
		parts = append(parts, fmt.Sprintf("%dx%d/%d", v.Rows, v.ThreadsPerRow, v.Workgroup))
	}
	if v.Direct {
		parts = append(parts, "direct")
	}
	if v.Halves {
		parts = append(parts, "halves")
	}
	if v.Blocks > 1 {
		parts = append(parts, fmt.Sprintf("%d blocks", v.Blocks))
	}
	switch {
	case v.Groups > 0:
		parts = append(parts, fmt.Sprintf("%dx%d", v.Groups, v.Workgroup))
		for _, s := range v.Spreads {
			parts = append(parts, fmt.Sprintf("%dx%d^%d", s.Rows, s.Threads, s.Depth))
		}
		if v.Ahead != AheadNever {
			parts = append(parts, "ahead "+v.Ahead.String())
		}
		if v.Together {
			parts = append(parts, "together")
		}
		if v.Apart {
			parts = append(parts, "apart")
		}
	case v.Prefetch > 0 || v.Rows == 0:
		parts = append(parts, fmt.Sprintf("prefetch %d", v.Prefetch))
	}
	return strings.Join(parts, " ")
}
