package forward

// Autotuning: how each decode matrix-vector kernel is best spread over threads is measured on the device, on the model's
// own matrices, so that a candidate reads its weights from memory as it will while decoding.

import (
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
	weights.BF16: append(staged("2x16/128 2x32/256 2x64/256 4x64/256 8x128/256"),
		direct("2x64/128 2x64/256 2x128/128 2x128/256 2x256/256 4x64/128 4x128/128")...),
	weights.Q8: staged("1x32/256 1x64/256 2x16/128 2x32/256 2x64/256 2x128/256 4x32/256 4x64/128 4x64/256 4x128/128 8x16/256 8x64/128"),
	weights.Q4: staged("1x32/128 1x32/256 1x64/256 2x32/128 2x32/256 2x64/256 4x8/256 4x16/256 4x32/256 4x64/256 8x16/128 8x32/256 8x64/128"),
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
	return true
}

func tunedKernels() []string {
	return append(slices.Sorted(maps.Keys(decodeMatvecs)), lmHead)
}

// Tune measures every candidate for every decode matrix-vector kernel, keeps the fastest and returns all measurements. A
// candidate whose result differs from the default's by more than rounding is an error that names the kernel.
func (r *Runner) Tune(rounds int) ([]TuneRow, error) {
	var rows []TuneRow
	if err := r.raiseClocks(); err != nil {
		return nil, err
	}
	for _, name := range tunedKernels() {
		tuned, err := r.tuneKernel(name, rounds)
		if err != nil {
			return rows, fmt.Errorf("forward: tuning %s: %w", name, err)
		}
		rows = append(rows, tuned...)
	}
	clear(r.decode)
	clear(r.decodeAhead)
	return rows, nil
}

// raiseClocks runs lm_head until the device is at full speed.
func (r *Runner) raiseClocks() error {
	if err := r.tuneInput(); err != nil {
		return err
	}
	return r.timing(r.lmHeadSteps, passSize{tokens: 1, splits: 1}).raiseClocks()
}

// tuneKernel tunes one kernel: it times a pass over the kernel's dispatches of all layers. Every candidate is compiled and
// checked first; then they are timed in turns, so that the device's clocks do not favour any.
func (r *Runner) tuneKernel(name string, rounds int) ([]TuneRow, error) {
	out, numOut := r.tunedOutput(name)
	count := float64(len(r.layers))
	if name == lmHead {
		count = 1
	}
	var want []float32
	var rows []TuneRow
	var timings []*timing
	for _, shape := range tuneCandidates(r.tunedMatrix(name), r.dev.Limits()) {
		steps, bytes, err := r.recordTuned(name, shape)
		if err != nil {
			return rows, err
		}
		got, err := r.outputOf(steps[:1], out, numOut)
		if err != nil {
			return rows, err
		}
		if want == nil {
			want = got
		} else if err := closeTo(want, got); err != nil {
			return rows, fmt.Errorf("%+v: %w", shape, err)
		}
		rows = append(rows, TuneRow{Kernel: name, MatvecShape: shape, BytesPerSecond: float64(bytes)})
		timings = append(timings, r.timing(steps, passSize{tokens: 1, splits: 1}))
	}
	if err := r.tuneInput(); err != nil {
		return rows, err
	}
	if err := timeInTurns(timings, rounds); err != nil {
		return rows, err
	}
	best := 0
	for i, t := range timings {
		seconds := t.median()
		rows[i].Seconds, rows[i].BytesPerSecond = seconds/count, rows[i].BytesPerSecond/seconds
		if rows[i].Seconds < rows[best].Seconds {
			best = i
		}
	}
	rows[best].Chosen = true
	_, _, err := r.recordTuned(name, rows[best].MatvecShape)
	return rows, err
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
	if err := r.tuneInput(); err != nil {
		return nil, err
	}
	if err := r.dev.Submit(joinSegments([]segment{{dispatches: steps}}, passSize{tokens: 1, splits: 1}, "tune")); err != nil {
		return nil, err
	}
	return r.readTap(tapPoint{buffer: out, cols: n, stride: n}, 1)
}

// tuneInput fills the buffers that the kernels read with numbers of a decode step's size.
func (r *Runner) tuneInput() error {
	s := &r.shape
	fill := func(buf, n int) error {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(math.Sin(float64(i) * 0.7))
		}
		return r.dev.Write(r.act[buf], 0, floatBytes(v))
	}
	if err := fill(bufX, s.HiddenSize); err != nil {
		return err
	}
	if err := fill(bufMLP, s.IntermediateSize); err != nil {
		return err
	}
	if err := fill(bufSplits, s.QDim()); err != nil {
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
	binary.LittleEndian.PutUint32(state[4*stateNumSplits:], 1)
	return r.dev.Write(r.act[bufStep], 0, state[:])
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
