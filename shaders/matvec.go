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
	maxStageVectors  = 512 // inputs in workgroup memory at a time, in 16 bytes
	maxLoadsInFlight = 8   // of a thread
	maxUnroll        = 4
	maxSumParts      = 16
)

// WeightsPerLoad is the number of weights in 16 bytes of a number format.
var WeightsPerLoad = map[string]int{"bf16": 8, "q8": 16, "q4": 32}

// GroupRows is how many rows a workgroup owns.
func (v MatvecShape) GroupRows() int { return v.Rows * v.Workgroup / v.ThreadsPerRow }

// rounds of 16-byte loads of a row, how many of them are under way together, and how many have their inputs in workgroup
// memory together.
func (v MatvecShape) rounds(kPad int, weight string) (rounds, unroll, stageRounds int) {
	perLoad := WeightsPerLoad[weight]
	rounds = (kPad/perLoad + v.ThreadsPerRow - 1) / v.ThreadsPerRow
	unroll = min(maxUnroll, maxLoadsInFlight/v.Rows, rounds)
	stage := rounds
	if !v.Direct {
		stage = min(stage, max(maxStageVectors/(v.ThreadsPerRow*perLoad/4), 1))
		unroll = min(unroll, stage)
	}
	// A stage is whole groups of rounds: rounded up where all is one stage, down where it would not fit.
	if stage == rounds && (v.Direct || v.stageVectors((stage+unroll-1)/unroll*unroll, perLoad) <= maxStageVectors) {
		return rounds, unroll, (stage + unroll - 1) / unroll * unroll
	}
	return rounds, unroll, stage / unroll * unroll
}

func (v MatvecShape) stageVectors(stageRounds, perLoad int) int {
	return stageRounds * v.ThreadsPerRow * perLoad / 4
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
	if !v.Direct && v.ThreadsPerRow*WeightsPerLoad[weight]/4 > maxStageVectors {
		return false
	}
	return v.workgroupBytes(kPad, weight) <= workgroupBytes
}

// workgroupBytes is the workgroup memory that lib_matvec.wgsl declares.
func (v MatvecShape) workgroupBytes(kPad int, weight string) int {
	_, _, stage := v.rounds(kPad, weight)
	vectors := 1
	if !v.Direct {
		vectors = WeightsPerLoad[weight] / 4 * (stage*v.ThreadsPerRow + 1)
	}
	return 16*vectors + 4*v.Rows*(v.Workgroup+v.parts()) + 4*v.Workgroup + 4*v.parts()*v.GroupRows() + 4*maxSumParts
}

// AddConsts sets the constants of a matrix-vector kernel over rows of kPad numbers.
func (v MatvecShape) AddConsts(consts map[string]uint32, kPad int, weight string) {
	_, unroll, stage := v.rounds(kPad, weight)
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

// UseSubgroups has a matrix-vector kernel with these options, whose shape AddConsts has set, add up its sums by subgroups of
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

// String is the shape in few letters, for names and tables: "8x64/256 direct" are 8 rows for every 64 of 256 threads.
func (v MatvecShape) String() string {
	s := fmt.Sprintf("%dx%d/%d", v.Rows, v.ThreadsPerRow, v.Workgroup)
	if v.Direct {
		s += " direct"
	}
	return s
}
