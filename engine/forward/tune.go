package forward

// Autotuning: how each decode matrix-vector kernel is best spread over threads is measured on the device, on the model's
// own matrices, so that a candidate reads its weights from memory as it will while decoding.

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// TuneRow is one candidate's measurement.
type TuneRow struct {
	Kernel string `json:"kernel"`
	MatvecShape
	Seconds        float64 `json:"seconds"` // of one layer's dispatch (of lm_head: of the whole), launch included
	BytesPerSecond float64 `json:"bytes_per_second"`
	Chosen         bool    `json:"chosen"`
}

// tuneCandidates are the shapes that Tune tries for a matrix, the default first: those that were among the best for some
// matrix in its number format when all were measured (docs/performance.md).
func tuneCandidates(m *matrix, limits gpu.Limits) []MatvecShape {
	shapes := []MatvecShape{defaultMatvecShape(m)}
	loads := m.kPad / shaders.WeightsPerLoad[string(m.dtype)]
	for _, v := range candidateShapes[m.dtype] {
		if v != shapes[0] && v.ThreadsPerRow < 2*loads && fitsMatvec(v, m, limits) {
			shapes = append(shapes, v)
		}
	}
	return shapes
}

var candidateShapes = map[weights.DType][]MatvecShape{
	weights.BF16: append(staged("2x16/128 2x64/256 4x64/256"),
		direct("2x64/128 2x64/256 2x128/128 2x128/256 2x256/256 4x64/128 4x128/128")...),
	weights.Q8: staged("1x64/256 2x16/256 2x32/256 2x64/256 2x128/256 4x32/256 4x64/256 8x16/256 2x32/512 4x16/512 4x32/512"),
	weights.Q4: staged("1x32/256 1x64/256 2x16/256 2x32/256 2x64/256 4x8/256 4x16/256 4x32/256 4x64/256 8x16/128 2x16/512 4x8/512 4x16/512 4x32/512"),
}

func staged(list string) []MatvecShape { return parseShapes(list, false) }
func direct(list string) []MatvecShape { return parseShapes(list, true) }

// parseShapes reads shapes as MatvecShape.String writes them.
func parseShapes(list string, direct bool) []MatvecShape {
	var shapes []MatvecShape
	for _, text := range strings.Fields(list) {
		v := MatvecShape{Direct: direct}
		if _, err := fmt.Sscanf(text, "%dx%d/%d", &v.Rows, &v.ThreadsPerRow, &v.Workgroup); err != nil {
			panic("forward: " + text + " is no matrix-vector shape: " + err.Error())
		}
		shapes = append(shapes, v)
	}
	return shapes
}

// Tuning is what this model runs with beyond the defaults, to be kept for Options.Tuning: by kernel, number format and
// matrix shape. It depends on the adapter and its driver.
func (r *Runner) Tuning() map[string]MatvecShape { return maps.Clone(r.tuned) }

// Tuned tells whether every kernel that Tune would measure has its shape.
func (r *Runner) Tuned() bool {
	for _, name := range tunedKernels() {
		if v, ok := r.tuned[tuningKey(name, r.tunedMatrix(name))]; !ok || !fitsMatvec(v, r.tunedMatrix(name), r.dev.Limits()) {
			return false
		}
	}
	v, ok := r.tuned[r.productsKey()]
	if noSpreads := v.Spreads == [shaders.NumProducts]shaders.Spread{}; r.fuses() && (!ok || v.Groups > 0 && noSpreads) {
		return false // not measured, or before spreads were
	}
	return true
}

func tunedKernels() []string {
	return append(slices.Sorted(maps.Keys(decodeMatvecs)), lmHead)
}

// Tune measures every candidate for every decode matrix-vector kernel, keeps the fastest and returns all measurements. A
// candidate whose result differs from the default's by more than rounding is an error that names the kernel.
//
// Candidates are compiled and checked first, then those of a kernel are timed in turns: a GPU that waits for a compiler lowers
// its clocks. Promising ones are then tried with several blocks of rows a workgroup, and of quantized weights with halves. Where
// layer_products takes the place of a layer's products and is faster by far, only lm_head is left to measure.
func (r *Runner) Tune(rounds int) ([]TuneRow, error) {
	const muchFaster = 1.15 // than default shapes: more than other shapes are worth
	names := tunedKernels()
	for _, name := range names {
		if _, _, err := r.recordTuned(name, defaultMatvecShape(r.tunedMatrix(name))); err != nil {
			return nil, err
		}
	}
	products, rows, err := r.tuneProducts(rounds)
	if err != nil {
		return rows, err
	}
	fused := products != nil && rows[0].Seconds > muchFaster*fastest(rows)
	if fused {
		names = []string{lmHead}
	}
	more, err := r.tuneMatvecs(names, rounds)
	rows = append(rows, more...)
	if err != nil {
		return rows, err
	}
	if products != nil && !fused {
		products, more, err = r.timeProducts([]*layerProducts{nil, products}, rounds, 1)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	delete(r.tuned, r.productsKey())
	delete(r.tuned, r.longProductsKey())
	if r.fuses() {
		r.tuned[r.productsKey()] = products.tuned()
		if products != nil && r.hasLong(products.shape) {
			r.tuned[r.longProductsKey()] = tunedProducts(products.long)
		}
	}
	if products == nil {
		more, err = r.tunePrefetch(rounds)
		rows = append(rows, more...)
	}
	return rows, cmp.Or(err, r.useProducts(products)) // which forgets passes that were recorded before
}

func fastest(rows []TuneRow) float64 {
	return slices.MinFunc(rows, func(a, b TuneRow) int { return cmp.Compare(a.Seconds, b.Seconds) }).Seconds
}

// tuneMatvecs measures the candidates of the named kernels and records the fastest.
func (r *Runner) tuneMatvecs(names []string, rounds int) ([]TuneRow, error) {
	var contests []*contest
	for _, name := range names {
		c := &contest{r: r, name: name}
		contests = append(contests, c)
		if err := c.add(tuneCandidates(r.tunedMatrix(name), r.dev.Limits())...); err != nil {
			return nil, err
		}
	}
	if err := timeContests(contests, rounds); err != nil {
		return nil, err
	}
	for _, variants := range []func(*contest) []MatvecShape{(*contest).inBlocks, (*contest).inHalves} {
		var again []*contest
		for _, c := range contests {
			shapes := variants(c)
			if len(shapes) == 0 {
				continue
			}
			again = append(again, c)
			if err := c.add(shapes...); err != nil {
				return nil, err
			}
		}
		if err := timeContests(again, rounds); err != nil {
			return nil, err
		}
	}
	var rows []TuneRow
	for _, c := range contests {
		best := c.ranking()[0]
		c.rows[best].Chosen = true
		rows = append(rows, c.rows...)
		if _, _, err := r.recordTuned(c.name, c.rows[best].MatvecShape); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// tunePrefetch finds out how much of gate_up's weights attention had better bring into the cache: none, unless a decode step of a
// short context in five dispatches a layer gets faster by minPrefetchGain. A row's time is that of a step without lm_head; Prefetch alone is set.
func (r *Runner) tunePrefetch(rounds int) ([]TuneRow, error) {
	const minPrefetchGain = 0.01
	m := r.layers[0].weights.gateUp
	key := tuningKey("gate_up", m)
	groups := r.shape.NumKeyValueHeads * r.shape.qTiles(min(shortQTile, r.shape.qTile))
	choices := []int{0}
	for _, bytes := range []int{4 << 20, 8 << 20, 16 << 20} {
		if n := bytes / (prefetchBytes * groups); n > 0 && uint64(bytes) <= m.bytes() {
			choices = append(choices, n)
		}
	}
	record := func(prefetch int) (*timing, error) {
		v := r.tuned[key]
		v.Prefetch = prefetch
		r.tuned[key] = v
		for i := range r.layers {
			if err := r.recordAttention(&r.layers[i]); err != nil {
				return nil, err
			}
		}
		return r.timing(dispatchesOf(r.decodeSegments(passSize{tokens: 1, splits: 1}, nil)), passSize{tokens: 1, splits: 1}), nil
	}
	best := 0
	var rows []TuneRow
	if len(choices) > 1 {
		var timings []*timing
		for _, n := range choices {
			t, err := record(n)
			if err != nil {
				return nil, fmt.Errorf("forward: tuning the prefetch: %w", err)
			}
			t.before = func() error { return r.tuneInput(1) }
			timings = append(timings, t)
		}
		if err := timings[0].raiseClocks(); err != nil {
			return nil, err
		}
		if err := timeInTurns(timings, 2*rounds); err != nil {
			return nil, err
		}
		bytes := r.layerBytes()
		for i, t := range timings {
			seconds := t.median()
			rows = append(rows, TuneRow{Kernel: "decode step", MatvecShape: MatvecShape{Prefetch: choices[i]}, Seconds: seconds, BytesPerSecond: float64(bytes) / seconds})
			if seconds < (1-minPrefetchGain)*rows[0].Seconds && seconds < rows[best].Seconds {
				best = i
			}
		}
		rows[best].Chosen = true
	}
	_, err := record(choices[best])
	return rows, err
}

// prefetchBytes is what a workgroup of attention prefetches.
const prefetchBytes = 32 << 10

// contest is the candidates of one kernel. A timing is a pass over the kernel's dispatches of all layers.
type contest struct {
	r       *Runner
	name    string
	want    []float32 // the first candidate's result
	rows    []TuneRow
	bytes   uint64 // of weights that a pass reads
	timings []*timing
}

func (c *contest) add(shapes ...MatvecShape) error {
	r := c.r
	out, numOut := r.tunedOutput(c.name)
	recorded := make([][]dispatch, len(shapes))
	err := r.inParallel(func() (err error) {
		for i, shape := range shapes {
			if recorded[i], c.bytes, err = r.recordTuned(c.name, shape); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forward: tuning %s: %w", c.name, err)
	}
	for i, shape := range shapes {
		steps := recorded[i]
		got, err := r.outputOf(steps[:1], out, numOut)
		if err != nil {
			return fmt.Errorf("forward: tuning %s: %w", c.name, err)
		}
		if c.want == nil {
			c.want = got
		} else if err := closeTo(c.want, got); err != nil {
			return fmt.Errorf("forward: tuning %s: %s: %w", c.name, shape, err)
		}
		c.rows = append(c.rows, TuneRow{Kernel: c.name, MatvecShape: shape})
		c.timings = append(c.timings, r.timing(steps, passSize{tokens: 1, splits: 1}))
	}
	return nil
}

// timeContests times every candidate, those of earlier contests anew, and notes the medians.
func timeContests(contests []*contest, rounds int) error {
	if len(contests) == 0 {
		return nil
	}
	r := contests[0].r
	if err := r.tuneInput(1); err != nil {
		return err
	}
	if err := r.timing(r.lmHeadSteps, passSize{tokens: 1, splits: 1}).raiseClocks(); err != nil {
		return err
	}
	for _, c := range contests {
		if err := r.tuneInput(1); err != nil {
			return err
		}
		for _, t := range c.timings {
			t.seconds = nil
		}
		if err := timeContenders(c.timings, rounds); err != nil {
			return err
		}
		count := float64(len(r.layers))
		if c.name == lmHead {
			count = 1
		}
		for i, t := range c.timings {
			seconds := t.median()
			c.rows[i].Seconds, c.rows[i].BytesPerSecond = seconds/count, float64(c.bytes)/seconds
		}
	}
	return nil
}

// ranking is the candidates' indices, the fastest first.
func (c *contest) ranking() []int {
	order := make([]int, len(c.rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(c.rows[a].Seconds, c.rows[b].Seconds) })
	return order
}

// promising are the two fastest shapes, and of lm_head, which reads most, the fastest of those with the most threads a workgroup.
func (c *contest) promising() (shapes []MatvecShape) {
	order := c.ranking()
	most := slices.MaxFunc(c.rows, func(a, b TuneRow) int { return cmp.Compare(a.Workgroup, b.Workgroup) }).Workgroup
	widest := slices.IndexFunc(order, func(i int) bool { return c.rows[i].Workgroup == most })
	for place, i := range order {
		if place < 2 || place == widest && c.name == lmHead {
			shapes = append(shapes, c.rows[i].MatvecShape)
		}
	}
	return shapes
}

// inBlocks are the promising shapes with several blocks of rows a workgroup, so that inputs are brought less often and no few
// workgroups are left over at the end, while there are at least minBlockGroups workgroups.
func (c *contest) inBlocks() []MatvecShape {
	const maxBlockGroups = 1600
	minBlockGroups := 128
	if p := c.r.numProcessors; p > 0 {
		minBlockGroups = min(minBlockGroups, p*9/10)
	}
	rows := 0
	for _, p := range c.r.tunedMatrix(c.name).parts {
		rows = max(rows, p.rows)
	}
	var shapes []MatvecShape
	for _, v := range c.promising() {
		groups := (rows + v.GroupRows() - 1) / v.GroupRows()
		tried := []int{2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64}
		for each := 1; each <= 4 && c.r.numProcessors > 0; each++ { // as many blocks for every processor
			if n := (groups + each*c.r.numProcessors - 1) / (each * c.r.numProcessors); n > 1 && !slices.Contains(tried, n) {
				tried = append(tried, n)
			}
		}
		for _, v.Blocks = range tried {
			if n := groups / v.Blocks; n >= minBlockGroups && n <= maxBlockGroups {
				shapes = append(shapes, v)
			}
		}
	}
	return shapes
}

// inHalves are the promising shapes with halves, where the weights are quantized and the device can.
func (c *contest) inHalves() (shapes []MatvecShape) {
	m := c.r.tunedMatrix(c.name)
	for _, v := range c.promising() {
		if v.Halves = true; fitsMatvec(v, m, c.r.dev.Limits()) && c.r.halves() {
			shapes = append(shapes, v)
		}
	}
	return shapes
}

func (r *Runner) tunedMatrix(name string) *matrix {
	if name == lmHead {
		return r.head
	}
	return decodeMatvecs[name].matrix(&r.layers[0].weights)
}

// tunedOutput is the buffer that the kernel writes and how many float32 numbers of it.
func (r *Runner) tunedOutput(name string) (gpu.Buffer, int) {
	s := &r.shape
	switch name {
	case lmHead:
		return r.act[bufLogits], s.VocabSize
	case "qkv":
		return r.act[bufQKV], s.QDim() + 2*s.KVDim()
	case "gate_up":
		return r.act[bufMLP], s.IntermediateSize
	}
	return r.act[bufX], s.HiddenSize
}

// recordTuned records the kernel in a shape for all layers and returns its dispatches and the weight bytes they read.
func (r *Runner) recordTuned(name string, shape MatvecShape) (steps []dispatch, bytes uint64, err error) {
	r.tuned[tuningKey(name, r.tunedMatrix(name))] = shape
	if name == lmHead {
		err := r.recordHead()
		return r.lmHeadSteps, r.head.bytes(), err
	}
	d := decodeMatvecs[name]
	for i := range r.layers {
		l := &r.layers[i]
		if err := r.recordMatvec(l, name); err != nil {
			return nil, 0, err
		}
		steps = append(steps, *d.variants[0].recorded(l)...)
		bytes += d.matrix(&l.weights).bytes()
	}
	return steps, bytes, nil
}

// outputOf runs steps on a fixed input and reads what they wrote.
func (r *Runner) outputOf(steps []dispatch, out gpu.Buffer, n int) ([]float32, error) {
	if err := r.tuneInput(1); err != nil {
		return nil, err
	}
	if err := r.dev.Submit(joinSegments([]segment{{dispatches: steps}}, passSize{tokens: 1, splits: 1}, "tune")); err != nil {
		return nil, err
	}
	return r.readTap(tapPoint{buffer: out, cols: n, stride: n}, 1)
}

// tuneInput fills the buffers that the kernels read with numbers of a decode step's size, of a context of one token in so many splits.
func (r *Runner) tuneInput(numSplits int) error {
	s := &r.shape
	fill := func(buf, n int) error { return r.dev.Write(r.act[buf], 0, floatBytes(tuneNumbers(n))) }
	if err := fill(bufX, s.HiddenSize); err != nil {
		return err
	}
	if err := fill(bufMLP, s.IntermediateSize); err != nil {
		return err
	}
	if err := fill(bufSplits, s.QDim()); err != nil {
		return err
	}
	if err := fill(bufQKV, s.QDim()+2*s.KVDim()); err != nil {
		return err
	}
	ml := make([]float32, 2*s.NumAttentionHeads) // one split: m = 0, l = 1
	for i := range s.NumAttentionHeads {
		ml[2*i+1] = 1
	}
	if err := r.dev.Write(r.act[bufSplits], uint64(4*maxSplits*s.qPad), floatBytes(ml)); err != nil {
		return err
	}
	var state [32]byte
	binary.LittleEndian.PutUint32(state[4*stateNumTokens:], 1)
	binary.LittleEndian.PutUint32(state[4*stateKVLen:], 1)
	binary.LittleEndian.PutUint32(state[4*stateNumSplits:], uint32(numSplits))
	return r.dev.Write(r.act[bufStep], 0, state[:])
}

// tuneNumbers are n inputs of a kernel.
func tuneNumbers(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.Sin(float64(i) * 0.7))
	}
	return v
}

// closeTo compares two results up to the rounding of another order of summation.
func closeTo(want, got []float32) error {
	largest := 0.0
	for _, v := range want {
		largest = math.Max(largest, math.Abs(float64(v)))
	}
	for i := range want {
		if diff := math.Abs(float64(got[i]) - float64(want[i])); !(diff <= 1e-5*largest) {
			return fmt.Errorf("output %d is %g instead of %g", i, got[i], want[i])
		}
	}
	return nil
}
