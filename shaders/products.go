package shaders

// How layer_products is spread over workgroups that stay on the device, and the constants that follow from it.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// NumProducts is how many products layer_products computes.
const NumProducts = 4

// Product is one of layer_products' matrices.
type Product struct {
	Name  string // as in layer_products.wgsl
	Rows  int
	K     int // numbers of a row
	KPad  int
	Norm  bool // RMSNorm in front
	Pairs bool // two neighbouring rows make one number
}

// Spread is how a product's rows are spread over the threads of a workgroup.
type Spread struct {
	Rows    int `json:"rows"`    // that a thread works on together, 1 to 8
	Threads int `json:"threads"` // neighbouring threads that share them; a multiple of 4 that divides the workgroup's threads
	Depth   int `json:"depth"`   // rounds of loads that are under way together, 1 to 4
}

// ProductsShape is how layer_products runs.
type ProductsShape struct {
	Groups    int                 // workgroups, all at the same time
	Workgroup int                 // threads of each, a multiple of 32
	Spreads   [NumProducts]Spread // by product; all zero: AddTo chooses them by Loads and Team
	Loads     int                 // of 16 bytes that a thread has under way
	Team      int                 // threads of a row, at least
	Halves    bool                // of quantized weights: see Options.Halves
	Ahead     Ahead               // when a product's first loads are asked for
	Apart     bool                // attention is a dispatch of its own
	Together  bool                // a round's loads stay in front of the products beside them, where a compiler would spread them over these
}

// Ahead tells when a product's first loads are asked for.
type Ahead int

const (
	AheadNever  Ahead = iota // as it begins
	AheadBehind              // behind the last round of the product in front
	AheadWithin              // in that product's last rounds, in place of its own
)

// String is "never", "behind" or "within".
func (a Ahead) String() string {
	switch a {
	case AheadNever:
		return "never"
	case AheadBehind:
		return "behind"
	case AheadWithin:
		return "within"
	}
	return fmt.Sprintf("Ahead(%d)", int(a)) // of a damaged tuning file
}

// What a step of a workgroup (each thread multiplies one load of its rows) costs a multiprocessor in clocks, roughly, by the
// machine code for an H200: instructions for a load of weights, at four a clock of 32 threads each; 16-byte reads of workgroup
// memory of as many threads; bytes from memory, at its share, of which about unhidden does not overlap with the rest.
var loadInstructions = map[string]int{"bf16": 24, "q8": 58, "q4": 115}

const (
	stepInstructions = 24 // besides those for the weights
	vectorClocks     = 4
	memoryBytes      = 18.0 // a clock
	memoryClocks     = 900  // from a load to its use, when memory is busy
	unhidden         = 0.6
	blockClocks      = 150 // adding up the shares of a block
	rowClocks        = 8   // of a thread's row
	registers        = 65536

	cachedInstructions = 640 // of a loop, beyond which the first instruction cache is too small
)

const (
	maxProductRows = 8
	fewProductRows = 4 // of a thread, unless measured to be better
	maxDepth       = 4
	squareParts    = 32 // layer_products' SQUARE_PARTS

	combinedColumns = 32  // lib_front_splits' COLUMNS
	maxCombiners    = 288 // of which each has four of 36 splits
)

// productsPlan is a shape with what its spreads come to in workgroup memory.
type productsPlan struct {
	spreads     [NumProducts]Spread
	stageRounds [NumProducts]int // whose inputs are in workgroup memory together
	shareBytes  int
	clocks      float64 // of a workgroup, roughly
}

// block is how many rows a workgroup computes at a time.
func (v Spread) block(workgroup int) int { return v.Rows * (workgroup / v.Threads) }

// fits tells whether the kernel can run so at all. A damaged file might hold any numbers.
func (v Spread) fits(p Product, s ProductsShape, weight string) bool {
	return v.Rows >= 1 && v.Rows <= maxProductRows && v.Threads >= max(v.Rows, 4) && v.Threads%4 == 0 && v.Threads <= s.Workgroup && s.Workgroup%v.Threads == 0 &&
		v.Depth >= 1 && v.Depth <= min(maxDepth, v.rounds(p, weight)) && !(p.Pairs && v.block(s.Workgroup)%2 == 1)
}

// rounds are how many loads of a row a thread has.
func (v Spread) rounds(p Product, weight string) int {
	return (p.KPad/WeightsPerLoad[weight] + v.Threads - 1) / v.Threads
}

// blocks are how many of rows a workgroup computes, at most.
func (v Spread) blocks(p Product, s ProductsShape) int {
	block := v.block(s.Workgroup)
	return ((p.Rows+block-1)/block + s.Groups - 1) / s.Groups
}

// shareBytes is what the shares of a block take, of two where there are more.
func (v Spread) shareBytes(p Product, s ProductsShape) int {
	return min(2, v.blocks(p, s)) * 16 * v.block(s.Workgroup) * (v.Threads/4 + 1)
}

// registers is how many a thread needs, roughly.
func (v Spread) registers(weight string) int {
	if weight == "bf16" {
		return 28 + v.Rows*(4+4*max(v.Depth, 2))
	}
	return 28 + v.Rows*(8+5*max(v.Depth, 2))
}

// cost is what a product costs in clocks with so many bytes of workgroup memory for inputs, and of how many rounds those are there
// together; 0: of none.
func (v Spread) cost(p Product, s ProductsShape, weight string, inputBytes int) (clocks float64, stageRounds int) {
	perLoad, rounds := WeightsPerLoad[weight], v.rounds(p, weight)
	turns := (rounds + v.Depth - 1) / v.Depth
	vectors := loadVectors(weight, s.Halves)
	fit := min((inputBytes/16-vectors)/(v.Threads*vectors)/v.Depth, turns)
	if fit < 1 {
		return 0, 0
	}
	stages := (turns + fit - 1) / fit
	blocks := float64(v.blocks(p, s))
	warps := float64(s.Workgroup) / 32
	step := max(
		warps*float64(v.Rows*loadInstructions[weight]+stepInstructions)/4,
		warps*float64(perLoad/4)*max(1, vectorClocks*float64(min(v.Threads, 32))/32)) + // neighbouring teams read the same
		unhidden*max(float64(s.Workgroup*v.Rows*18)/memoryBytes, memoryClocks/float64(v.Depth))
	clocks = blocks * (float64(rounds)*step + blockClocks + float64((v.Rows+v.Threads/4)*rowClocks))
	if stages > 1 && blocks > 1 {
		clocks *= 1.5 // inputs are brought once a block
	}
	return clocks, (turns + stages - 1) / stages * v.Depth
}

// plan lays out the workgroup memory of spreads in so many bytes, of which at least leastShares are for shares; false where they do not fit.
func (s ProductsShape) plan(products []Product, spreads [NumProducts]Spread, weight string, bytes, leastShares int) (plan productsPlan, ok bool) {
	plan.spreads, plan.shareBytes = spreads, leastShares
	for i, v := range spreads {
		if !v.fits(products[i], s, weight) {
			return plan, false
		}
		plan.shareBytes = max(plan.shareBytes, v.shareBytes(products[i], s))
	}
	for i, v := range spreads {
		clocks, stageRounds := v.cost(products[i], s, weight, bytes-plan.shareBytes)
		if stageRounds == 0 {
			return plan, false
		}
		plan.stageRounds[i], plan.clocks = stageRounds, plan.clocks+clocks
	}
	return plan, true
}

// all are the spreads that fit a product, of any depth or, with s.Loads, of that which Loads and Team allow.
func (s ProductsShape) all(p Product, weight string, anyDepth bool) (spreads []Spread) {
	loads := p.KPad / WeightsPerLoad[weight]
	most := maxProductRows
	if !anyDepth {
		most = fewProductRows
	}
	for rows := 1; rows <= most; rows++ {
		for threads := 4; threads <= s.Workgroup && threads < 2*loads; threads += 4 {
			v := Spread{rows, threads, 0}
			first, last := 1, maxDepth
			if !anyDepth {
				if threads < s.Team {
					continue
				}
				first = max(min(s.Loads/rows, maxDepth, v.rounds(p, weight)), 1)
				last = first
			}
			for v.Depth = first; v.Depth <= last; v.Depth++ {
				if v.fits(p, s, weight) && v.registers(weight) <= registers/s.Workgroup {
					spreads = append(spreads, v)
				}
			}
		}
	}
	return spreads
}

// cheapest chooses spreads by Loads and Team.
func (s ProductsShape) cheapest(products []Product, weight string, bytes, leastShares int) (best productsPlan, ok bool) {
	for part := 1; part < 16; part++ {
		shareBytes := bytes * part / 16
		var spreads [NumProducts]Spread
		for i, p := range products {
			least := 0.0
			for _, v := range s.all(p, weight, false) {
				if v.shareBytes(p, s) > shareBytes {
					continue
				}
				if clocks, _ := v.cost(p, s, weight, bytes-shareBytes); clocks > 0 && (least == 0 || clocks < least) {
					least, spreads[i] = clocks, v
				}
			}
		}
		if plan, fits := s.plan(products, spreads, weight, bytes, leastShares); fits && (!ok || plan.clocks < best.clocks) {
			best, ok = plan, true
		}
	}
	return best, ok
}

// productsBytes is the workgroup memory for inputs and shares, of workgroupBytes, of which frontBytes are for what is in front.
func productsBytes(s ProductsShape, workgroupBytes, frontBytes int) int {
	return workgroupBytes - 4*s.Workgroup - 4*squareParts - frontBytes - 64
}

// attentionThreads are the threads of a workgroup that attend; 0: it has too few.
func (s ProductsShape) attentionThreads() int {
	switch {
	case s.Workgroup >= 512:
		return 512
	case s.Workgroup >= 256:
		return 256
	}
	return 0
}

// AttentionTile is how many positions of the context those attend to at a time.
func (s ProductsShape) AttentionTile(headPad int) int {
	return s.attentionThreads() / attentionLanes(headPad)
}

// attentionLanes is lib_attention's LANES.
func attentionLanes(headPad int) int { return 4 * ((headPad + 127) / 128) }

// attentionBytes is the workgroup memory that attention with those constants, in tiles of so many positions, has for itself: heads, factors
// and what a chunk has.
func attentionBytes(tile int, consts map[string]uint32) int {
	qTile, tiles := int(consts["Q_TILE"]), 1+int(consts["PIPELINED"])
	chunks := tile / 8
	return (qTile+1)*16*9*attentionLanes(int(consts["HEAD_PAD"])) + chunks*(16*tiles*(2*qTile+(qTile+3)/4)+2*4*qTile)
}

// Alternatives are shapes like s, which AddTo has filled in, with other spreads for product i, those first that should cost
// least, at most n, with the same number of rows at most two, which differ in the rounds under way: what these cost is known least.
func (s ProductsShape) Alternatives(products []Product, i int, weight string, workgroupBytes, coefs, n int) []ProductsShape {
	type alternative struct {
		ProductsShape
		clocks float64
	}
	var all []alternative
	for _, v := range s.all(products[i], weight, true) {
		other := s
		other.Spreads[i] = v
		plan, ok := s.plan(products, other.Spreads, weight, productsBytes(s, workgroupBytes, coefs), 0)
		if ok && v != s.Spreads[i] && v.Rows*v.Depth*loadInstructions[weight] <= cachedInstructions {
			all = append(all, alternative{other, plan.clocks})
		}
	}
	slices.SortStableFunc(all, func(a, b alternative) int { return cmp.Compare(a.clocks, b.clocks) })
	var shapes []ProductsShape
	depths := map[int][]int{} // by rows
	for _, a := range all {
		v := a.Spreads[i]
		if d := depths[v.Rows]; len(shapes) < n && len(d) < 2 && !slices.Contains(d, v.Depth) {
			depths[v.Rows] = append(d, v.Depth)
			shapes = append(shapes, a.ProductsShape)
		}
	}
	return shapes
}

// AddTo sets layer_products' constants and variant for a layer's products, in the order of their bindings, with weights of format
// opt.Weight, and gives the shape with its spreads filled in; false when they cannot be spread so in so many bytes of workgroup
// memory, of which coefs bytes are for the factors of splits. With opt.Attention, for which opt.Consts has HEAD_PAD, Q_TILE and PIPELINED,
// attention's take their place.
func (s ProductsShape) AddTo(opt *Options, products []Product, workgroupBytes, coefs int) (filled ProductsShape, ok bool) {
	weight, consts := opt.Weight, opt.Consts
	if s.Ahead < AheadNever || s.Ahead > AheadWithin || s.Groups < 1 || s.Workgroup < 64 || s.Workgroup%32 != 0 || s.Halves && weight == "bf16" {
		return s, false
	}
	opt.Halves = s.Halves
	bytes, leastShares := productsBytes(s, workgroupBytes, coefs), 0
	if opt.Attention {
		headPad := int(consts["HEAD_PAD"])
		threads := s.attentionThreads()
		if threads == 0 {
			return s, false
		}
		bytes, leastShares = productsBytes(s, workgroupBytes, attentionBytes(s.AttentionTile(headPad), consts)), 16*max(threads*int(min(consts["Q_TILE"], 2)), combinedColumns*int(consts["SPLITS"]))
		consts["THREADS"] = uint32(threads)
	}
	plan, ok := s.plan(products, s.Spreads, weight, bytes, leastShares)
	if s.Spreads == [NumProducts]Spread{} && s.Loads >= 1 && s.Team >= 1 {
		plan, ok = s.cheapest(products, weight, bytes, leastShares)
	}
	if !ok {
		return s, false
	}
	s.Spreads, s.Loads, s.Team = plan.spreads, 0, 0 // which the spreads have taken the place of
	stageLoads := 0
	for i, p := range products {
		v := plan.spreads[i]
		stageLoads = max(stageLoads, plan.stageRounds[i]*v.Threads)
		nextDepth, nextFrom := 0, 0
		if s.Ahead != AheadNever && i+1 < len(products) {
			nextDepth = plan.spreads[i+1].Depth
		}
		if s.Ahead == AheadWithin {
			nextFrom = min(v.Depth, nextDepth)
		}
		for name, value := range map[string]uint32{
			"BROUGHT": bit(s.Ahead != AheadNever && i > 0), "NEXT_DEPTH": uint32(nextDepth), "NEXT_FROM": uint32(nextFrom), "TOGETHER": bit(s.Together),
			"K_PAD": uint32(p.KPad), "K": uint32(p.K), "NUM_ROWS": uint32(p.Rows), "ROWS": uint32(v.Rows), "THREADS_PER_ROW": uint32(v.Threads),
			"DEPTH": uint32(v.Depth), "STAGE_ROUNDS": uint32(plan.stageRounds[i]), "NORM": bit(p.Norm), "PAIRS": bit(p.Pairs),
		} {
			consts[name+"_"+strings.ToUpper(p.Name)] = value
		}
	}
	consts["GROUPS"], consts["WORKGROUP_SIZE"], consts["SCRATCH_SIZE"] = uint32(s.Groups), uint32(s.Workgroup), uint32(plan.shareBytes/16)
	vectors := loadVectors(weight, s.Halves)
	stride := max(stageLoads, combinedColumns/vectors) + 1 // combine has its columns there
	consts["XS_STRIDE"], consts["XS_VECS"] = uint32(stride), uint32(vectors)
	if opt.Attention {
		return s, true
	}
	consts["COMBINERS"] = uint32(min(s.Workgroup, maxCombiners, stride*vectors) / combinedColumns * combinedColumns)
	return s, true
}
