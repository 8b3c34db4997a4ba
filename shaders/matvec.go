package shaders

// How the decode matrix-vector kernels (lib_matvec.wgsl) are spread over threads, and the constants that follow from it.

import "fmt"

// MatvecShape spreads a matrix-vector product over threads.
type MatvecShape struct {
	Workgroup     int  `json:"workgroup"`       // threads a workgroup
	ThreadsPerRow int  `json:"threads_per_row"` // neighbouring threads that share Rows rows
	Rows          int  `json:"rows"`            // 1, 2, 4 or 8
	Direct        bool `json:"direct"`          // inputs do not go through workgroup memory
}

const (
	maxStageVectors  = 1024 // inputs in workgroup memory at a time, in 16 bytes: all of a hidden_size of 4,096
	maxLoadsInFlight = 8    // of a thread
	maxUnroll        = 4
	maxSumParts      = 16
)

// WeightsPerLoad is the number of weights in 16 bytes of a number format.
var WeightsPerLoad = map[string]int{"bf16": 8, "q8": 16, "q4": 32}

// GroupRows is how many rows a workgroup owns.
func (v MatvecShape) GroupRows() int { return v.Rows * v.Workgroup / v.ThreadsPerRow }

// rounds is how a row of kPad numbers is gone through: rounds of loads that are under way together, and rounds that have
// their inputs in workgroup memory together, where no more than workgroupBytes are used. stage is 0 where not even one fits.
func (v MatvecShape) rounds(kPad int, weight string, workgroupBytes int) (unroll, stage int) {
	perLoad := WeightsPerLoad[weight]
	rounds := (kPad/perLoad + v.ThreadsPerRow - 1) / v.ThreadsPerRow
	unroll = min(maxUnroll, maxLoadsInFlight/v.Rows, rounds)
	if v.Direct {
		return unroll, (rounds + unroll - 1) / unroll * unroll
	}
	vectors := min(maxStageVectors, (workgroupBytes-v.sumBytes())/16-perLoad/4)
	stage = max(vectors, 0) / (v.ThreadsPerRow * perLoad / 4)
	if stage == 0 {
		return unroll, 0
	}
	// Whole groups of rounds, shared out evenly over the stages.
	unroll = min(unroll, stage)
	groups := (rounds + unroll - 1) / unroll
	stages := (groups + stage/unroll - 1) / (stage / unroll)
	return unroll, (groups + stages - 1) / stages * unroll
}

// sumBytes is the workgroup memory of lib_matvec.wgsl but for the inputs.
func (v MatvecShape) sumBytes() int {
	return 4*v.Rows*(v.Workgroup+v.parts()) + 4*v.Workgroup + 4*v.parts()*v.GroupRows() + 4*maxSumParts
}

// parts is how many threads add up one row.
func (v MatvecShape) parts() int { return min(maxSumParts, v.ThreadsPerRow/v.Rows) }

// Fits tells whether the kernels can run in this shape on rows of kPad numbers, with so many bytes of workgroup memory and
// so many threads a workgroup. A damaged file might hold any numbers.
func (v MatvecShape) Fits(kPad int, weight string, workgroupBytes, maxWorkgroup int) bool {
	powerOfTwo := func(n int) bool { return n > 0 && n&(n-1) == 0 }
	if !powerOfTwo(v.Workgroup) || !powerOfTwo(v.ThreadsPerRow) || !powerOfTwo(v.Rows) || v.Rows > 8 ||
		v.Workgroup < 64 || v.Workgroup > maxWorkgroup || v.ThreadsPerRow > v.Workgroup || v.ThreadsPerRow < v.Rows ||
		v.GroupRows() < 2 { // gate and up stay together
		return false
	}
	if v.Direct && (weight != "bf16" || v.ThreadsPerRow < maxSumParts) {
		return false
	}
	_, stage := v.rounds(kPad, weight, workgroupBytes)
	return stage > 0 && (!v.Direct || v.sumBytes()+16 <= workgroupBytes)
}

// AddConsts sets the constants of a matrix-vector kernel over rows of kPad numbers, in a shape that Fits.
func (v MatvecShape) AddConsts(consts map[string]uint32, kPad int, weight string, workgroupBytes int) {
	unroll, stage := v.rounds(kPad, weight, workgroupBytes)
	for name, value := range map[string]int{
		"K_PAD": kPad, "WORKGROUP_SIZE": v.Workgroup, "THREADS_PER_ROW": v.ThreadsPerRow, "ROWS": v.Rows, "PARTS": v.parts(), "UNROLL": unroll, "STAGE_ROUNDS": stage,
	} {
		consts[name] = uint32(value)
	}
	consts["DIRECT"] = 0
	if v.Direct {
		consts["DIRECT"] = 1
	}
}

// String is the shape in few letters, for names and tables: "8x64/256 direct" are 8 rows for every 64 of 256 threads.
func (v MatvecShape) String() string {
	s := fmt.Sprintf("%dx%d/%d", v.Rows, v.ThreadsPerRow, v.Workgroup)
	if v.Direct {
		s += " direct"
	}
	return s
}
