package shaders

// How layer_products is spread over workgroups that stay on the device, and the constants that follow from it.

import (
	"strings"
)

// Product is one of layer_products' matrices, and how its rows are spread over threads.
type Product struct {
	Name  string // as in layer_products.wgsl
	Rows  int
	K     int // numbers of a row
	KPad  int
	Norm  bool // RMSNorm in front
	Pairs bool // two neighbouring rows make one number

	rows, threadsPerRow, depth, stageRounds int
}

// ProductsShape is how layer_products runs.
type ProductsShape struct {
	Groups    int // workgroups, all at the same time
	Workgroup int // threads of each
	Loads     int // of 16 bytes that a thread has under way
	Team      int // threads of a row, at least
}

// What a step of a workgroup (each thread multiplies one load of its rows) costs a multiprocessor in clocks, roughly, by the
// machine code for an H200: instructions for a load of weights, at four a clock of 32 threads each; 16-byte reads of workgroup
// memory of as many threads; bytes from memory, at its share.
var loadInstructions = map[string]int{"bf16": 24, "q8": 58, "q4": 115}

const (
	stepInstructions = 24 // besides those for the weights
	vectorClocks     = 4
	memoryBytes      = 18.0 // a clock
	memoryClocks     = 900  // from a load to its use, when memory is busy
	blockClocks      = 150  // adding up the shares of a block
	rowClocks        = 8    // of a thread's row
)

const (
	maxProductRows = 4
	maxDepth       = 4
	squareParts    = 32 // layer_products' SQUARE_PARTS
)

// spread chooses the rows of a thread and the threads of a row that cost least, with so many bytes of workgroup memory for inputs
// and for shares, and returns the cost in clocks; 0: none fits.
func (p *Product) spread(s ProductsShape, weight string, inputBytes, shareBytes int) float64 {
	perLoad := WeightsPerLoad[weight]
	loads := p.KPad / perLoad
	warps := float64(s.Workgroup) / 32
	best := 0.0
	for rows := 1; rows <= maxProductRows; rows++ {
		for threads := max(s.Team, 4); threads <= s.Workgroup && threads < 2*loads; threads *= 2 {
			block := rows * (s.Workgroup / threads)
			if threads < rows || p.Pairs && block%2 == 1 || p.shareBytes(s, rows, threads) > shareBytes {
				continue
			}
			rounds := (loads + threads - 1) / threads
			depth := max(min(s.Loads/rows, maxDepth, rounds), 1)
			turns := (rounds + depth - 1) / depth
			fit := min((inputBytes/16-perLoad/4)/(threads*perLoad/4)/depth, turns) // whose inputs are there together
			if fit < 1 {
				continue
			}
			stages := (turns + fit - 1) / fit
			blocks := float64(((p.Rows+block-1)/block + s.Groups - 1) / s.Groups)
			step := max(
				warps*float64(rows*loadInstructions[weight]+stepInstructions)/4,
				warps*float64(perLoad/4)*max(1, vectorClocks*float64(min(threads, 32))/32), // neighbouring teams read the same
				float64(s.Workgroup*rows*18)/memoryBytes,
				memoryClocks/float64(depth))
			cost := blocks * (float64(rounds)*step + blockClocks + float64((rows+threads/4)*rowClocks))
			if stages > 1 && blocks > 1 {
				cost *= 1.5 // inputs are brought once a block
			}
			if best == 0 || cost < best {
				best = cost
				p.rows, p.threadsPerRow, p.depth, p.stageRounds = rows, threads, depth, (turns+stages-1)/stages*depth
			}
		}
	}
	return best
}

// shareBytes is what the shares of a block take, of two where there are more.
func (p *Product) shareBytes(s ProductsShape, rows, threads int) int {
	block := rows * (s.Workgroup / threads)
	return min(2, (p.Rows+block*s.Groups-1)/(block*s.Groups)) * 16 * block * (threads/4 + 1)
}

// LayerProducts gives layer_products' constants of a layer's products, in the order of their bindings; false when they
// cannot be spread so in so many bytes of workgroup memory, of which coefs bytes are for the factors of splits.
func LayerProducts(consts map[string]uint32, products []Product, s ProductsShape, weight string, workgroupBytes, coefs int) bool {
	if s.Groups < 1 || s.Loads < 1 || s.Workgroup < 64 || !powerOfTwo(s.Workgroup) || !powerOfTwo(s.Team) {
		return false
	}
	left := workgroupBytes - 4*s.Workgroup - 4*squareParts - coefs - 64
	best, shareBytes := 0.0, 0
	spread := func(shareBytes int) (cost float64) {
		for i := range products {
			c := products[i].spread(s, weight, left-shareBytes, shareBytes)
			if c == 0 {
				return 0
			}
			cost += c
		}
		return cost
	}
	for part := 1; part < 16; part++ {
		if cost := spread(left * part / 16); cost > 0 && (best == 0 || cost < best) {
			best, shareBytes = cost, left*part/16
		}
	}
	if best == 0 {
		return false
	}
	spread(shareBytes)
	xs, shares := 0, 0
	for _, p := range products {
		perLoad := WeightsPerLoad[weight]
		xs = max(xs, perLoad/4*(p.stageRounds*p.threadsPerRow+1))
		shares = max(shares, p.shareBytes(s, p.rows, p.threadsPerRow)/16)
		norm, pairs := uint32(0), uint32(0)
		if p.Norm {
			norm = 1
		}
		if p.Pairs {
			pairs = 1
		}
		for name, value := range map[string]uint32{
			"K_PAD": uint32(p.KPad), "K": uint32(p.K), "NUM_ROWS": uint32(p.Rows), "ROWS": uint32(p.rows), "THREADS_PER_ROW": uint32(p.threadsPerRow),
			"DEPTH": uint32(p.depth), "STAGE_ROUNDS": uint32(p.stageRounds), "NORM": norm, "PAIRS": pairs,
		} {
			consts[name+"_"+strings.ToUpper(p.Name)] = value
		}
	}
	consts["GROUPS"], consts["WORKGROUP_SIZE"], consts["XS_SIZE"], consts["SHARES_SIZE"] = uint32(s.Groups), uint32(s.Workgroup), uint32(xs), uint32(shares)
	return true
}
