// Package synth writes random checkpoints of any Qwen3 shape in Hugging Face's format.
//
// They stand in for published weights where those cannot be had: the same tensors, names, dtypes and shard counts, with
// activations that stay finite and logits that spread. Every weight is a function of the seed, the tensor's name and
// the element's index alone, so a seed gives the same bytes on any number of threads.
package synth

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/outdir"
)

// Options of a synthetic checkpoint.
type Options struct {
	Config      *config.Config
	Seed        uint64
	DType       safetensors.DType // BF16 (also "") or F32
	StoreLMHead bool              // store lm_head of a tied model too, as some published checkpoints do
	Force       bool              // replace an existing checkpoint
	Workers     int               // 0 means one a core
	// FileBytes is the largest checkpoint file; 0 means 4 GB, as published. A larger tensor gets a file of its own.
	FileBytes int64
	// Progress is called with the bytes written, from several goroutines; nil for none.
	Progress func(doneBytes, totalBytes int64)
}

const publishedFileBytes = 4_000_000_000

// tensor is one tensor of the checkpoint and how its values are drawn.
type tensor struct {
	safetensors.TensorInfo
	key      uint64  // of its random numbers
	std      float32 // matrices: standard deviation
	gain     bool    // norm gains: around 1
	outliers int     // norm gains: how many are large
	peak     float32 // norm gains: the first outlier, 0 for a random one
}

// Write makes the checkpoint in the new folder out. An error or a cancelled context leaves nothing behind.
func Write(ctx context.Context, out string, o Options) error {
	if err := o.Config.Validate(); err != nil {
		return fmt.Errorf("convert: synth: %w", err)
	}
	switch o.DType {
	case "":
		o.DType = safetensors.BF16
	case safetensors.BF16, safetensors.F32:
	default:
		return fmt.Errorf("convert: synth: dtype %q: use bf16 or f32", o.DType)
	}
	if o.FileBytes == 0 {
		o.FileBytes = publishedFileBytes
	}
	if o.Workers < 1 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if err := outdir.Check(out, weights.ConfigName, o.Force); err != nil {
		return err
	}
	return outdir.Replace(out, func(dir string) error {
		g := &generator{Options: o, ctx: ctx, dir: dir}
		return g.run()
	})
}

type generator struct {
	Options
	ctx   context.Context
	dir   string
	done  atomic.Int64
	total int64
}

func (g *generator) run() error {
	tensors := g.tensors()
	files, err := g.split(tensors)
	if err != nil {
		return err
	}
	if err := g.writeConfig(); err != nil {
		return err
	}
	weightMap := map[string]string{}
	for i, list := range files {
		name := "model.safetensors"
		if len(files) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(files))
		}
		for _, t := range list {
			weightMap[t.Name] = name
		}
		if err := g.writeFile(name, list); err != nil {
			return fmt.Errorf("convert: synth: %s: %w", name, err)
		}
	}
	if len(files) == 1 {
		return nil
	}
	return g.writeJSON("model.safetensors.index.json", map[string]any{
		"metadata": map[string]any{"total_size": g.total}, "weight_map": weightMap,
	})
}

// tensors lists the checkpoint in the order in which transformers saves it.
//
// The scales: h = RMSNorm(x) has variance 1, so projections of it with std 1/√hidden have too. silu(gate)*up of two such
// has an rms of 0.60, an attention output about 0.5. Each of the 2L residual additions is given a variance of
// residual²/2L. The embedding (and lm_head) have std spread/√hidden, so that logits, products with a normalised x, have
// a standard deviation of spread; it is small beside residual, so the input token does not dominate the output.
func (g *generator) tensors() []tensor {
	const spread, residual, mlpRMS, attnRMS = 2.5, 4.0, 0.60, 0.5
	c := g.Config
	h, q, kv, inter := c.HiddenSize, c.QDim(), c.KVDim(), c.IntermediateSize
	add := residual / math.Sqrt(2*float64(c.NumHiddenLayers))
	inverseRoot := func(n int) float64 { return 1 / math.Sqrt(float64(n)) }
	var list []tensor
	matrix := func(name string, rows, cols int, std float64) {
		info := safetensors.TensorInfo{Name: name + ".weight", DType: g.DType, Shape: []int{rows, cols}}
		list = append(list, tensor{TensorInfo: info, key: g.key(name), std: float32(std)})
	}
	gain := func(name string, n, outliers int, peak float32) {
		info := safetensors.TensorInfo{Name: name + ".weight", DType: g.DType, Shape: []int{n}}
		list = append(list, tensor{TensorInfo: info, key: g.key(name), gain: true, outliers: outliers, peak: peak})
	}
	matrix("model.embed_tokens", c.VocabSize, h, spread*inverseRoot(h))
	for i := range c.NumHiddenLayers {
		p := fmt.Sprintf("model.layers.%d.", i)
		matrix(p+"self_attn.q_proj", q, h, inverseRoot(h))
		matrix(p+"self_attn.k_proj", kv, h, inverseRoot(h))
		matrix(p+"self_attn.v_proj", kv, h, inverseRoot(h))
		matrix(p+"self_attn.o_proj", h, q, add/attnRMS*inverseRoot(q))
		gain(p+"self_attn.q_norm", c.HeadDim, 0, 0)
		peak := float32(0)
		if i == 0 {
			peak = 96 // the published models reach 96.5
		}
		gain(p+"self_attn.k_norm", c.HeadDim, 1+i%2, peak)
		matrix(p+"mlp.gate_proj", inter, h, inverseRoot(h))
		matrix(p+"mlp.up_proj", inter, h, inverseRoot(h))
		matrix(p+"mlp.down_proj", h, inter, add/mlpRMS*inverseRoot(inter))
		gain(p+"input_layernorm", h, 0, 0)
		gain(p+"post_attention_layernorm", h, 0, 0)
	}
	gain("model.norm", h, 0, 0)
	switch {
	case !c.TieWordEmbeddings:
		matrix("lm_head", c.VocabSize, h, spread*inverseRoot(h))
	case g.StoreLMHead:
		matrix("lm_head", c.VocabSize, h, spread*inverseRoot(h))
		list[len(list)-1].key = g.key("model.embed_tokens")
	}
	return list
}

// key separates the random numbers of seeds and tensors.
func (g *generator) key(name string) uint64 {
	f := fnv.New64a()
	f.Write([]byte(name))
	return mix(mix(g.Seed+0x9e3779b97f4a7c15) ^ f.Sum64())
}

// split fills files of at most FileBytes in order, then sorts each by name, as the published ones are.
func (g *generator) split(tensors []tensor) ([][]tensor, error) {
	var files [][]tensor
	room := int64(-1)
	for _, t := range tensors {
		size, err := safetensors.SizeBytes(t.DType, t.Shape)
		if err != nil {
			return nil, fmt.Errorf("convert: synth: %s: %w", t.Name, err)
		}
		g.total += size
		if size > room {
			files = append(files, nil)
			room = g.FileBytes
		}
		room -= size
		files[len(files)-1] = append(files[len(files)-1], t)
	}
	for _, list := range files {
		slices.SortFunc(list, func(a, b tensor) int { return strings.Compare(a.Name, b.Name) })
	}
	return files, nil
}

func (g *generator) writeConfig() error {
	if err := g.writeJSON(weights.ConfigName, g.Config); err != nil {
		return err
	}
	generation := map[string]any{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95}
	if g.Config.BosTokenID >= 0 {
		generation["bos_token_id"] = g.Config.BosTokenID
		generation["pad_token_id"] = g.Config.BosTokenID
	}
	if eos := g.Config.EosTokenIDs; len(eos) > 0 {
		if bos := g.Config.BosTokenID; bos >= 0 && !slices.Contains(eos, bos) {
			eos = append(slices.Clone(eos), bos) // as published: [im_end, endoftext]
		}
		generation["eos_token_id"] = eos
	}
	return g.writeJSON(weights.GenerationConfigName, generation)
}

func (g *generator) writeJSON(name string, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("convert: synth: %s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, name), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("convert: synth: %w", err)
	}
	return nil
}

// span is a run of one tensor's elements.
type span struct {
	t           *tensor
	table       *table
	first, n    int64 // elements
	offsetBytes int64 // in the file
}

// spanElements is how much a worker draws at a time; a multiple of the four values of one random number.
const spanElements = 1 << 20

// writeFile draws and writes one file's tensors, each worker at its own offset.
func (g *generator) writeFile(name string, list []tensor) (err error) {
	file, err := os.OpenFile(filepath.Join(g.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := file.Close(); err == nil {
			err = cerr
		}
	}()
	infos := make([]safetensors.TensorInfo, len(list))
	for i, t := range list {
		infos[i] = t.TensorInfo
	}
	header, placed, err := safetensors.Layout(map[string]string{"format": "pt"}, infos)
	if err != nil {
		return err
	}
	if _, err := file.WriteAt(header, 0); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(g.ctx)
	defer cancel(nil)
	spans := make(chan span)
	var wg sync.WaitGroup
	for range g.Workers {
		wg.Go(func() {
			buf := make([]byte, spanElements*g.DType.Bytes())
			for s := range spans {
				b := buf[:s.n*g.DType.Bytes()]
				s.draw(b)
				if _, err := file.WriteAt(b, s.offsetBytes); err != nil {
					cancel(err)
					continue
				}
				g.Progress(g.done.Add(int64(len(b))), g.total)
			}
		})
	}
	for i := range list {
		t := &list[i]
		table := newTable(t)
		elements := placed[i].Elements()
		for at := int64(0); at < elements && ctx.Err() == nil; at += spanElements {
			spans <- span{t, table, at, min(spanElements, elements-at), placed[i].Begin + at*g.DType.Bytes()}
		}
	}
	close(spans)
	wg.Wait()
	return context.Cause(ctx)
}

// table maps 16 random bits to a value of a tensor's distribution, as it is stored.
type table struct {
	bf16 []uint16
	f32  []float32
}

func newTable(t *tensor) *table {
	if t.gain {
		return nil
	}
	b := &table{}
	for _, z := range normals() {
		if t.DType == safetensors.BF16 {
			b.bf16 = append(b.bf16, half.F32ToBF16(z*t.std))
		} else {
			b.f32 = append(b.f32, z*t.std)
		}
	}
	return b
}

// normals are the 65536 quantiles of the standard normal distribution at the midpoints of equal shares.
var normals = sync.OnceValue(func() []float32 {
	z := make([]float32, 1<<16)
	for i := range z {
		z[i] = float32(math.Sqrt2 * math.Erfinv(2*(float64(i)+0.5)/float64(len(z))-1))
	}
	return z
})

// mix is the finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection whose outputs pass as random.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// random is the i-th 64-bit number of a key's sequence.
func random(key, i uint64) uint64 { return mix(key + (i+1)*0x9e3779b97f4a7c15) }

// draw fills b with the span's elements, four from each random number.
func (s span) draw(b []byte) {
	if s.t.gain {
		s.drawGains(b)
		return
	}
	for i := int64(0); i < s.n; i += 4 {
		bits := random(s.t.key, uint64(s.first+i)/4)
		for j := range min(4, s.n-i) {
			index := bits >> (16 * j) & 0xffff
			if s.table.bf16 != nil {
				binary.LittleEndian.PutUint16(b[2*(i+j):], s.table.bf16[index])
			} else {
				binary.LittleEndian.PutUint32(b[4*(i+j):], math.Float32bits(s.table.f32[index]))
			}
		}
	}
}

// drawGains fills b with a whole norm's gains: 1 ± 0.1, with outliers from 4 to 96 at random places.
func (s span) drawGains(b []byte) {
	gains := make([]float32, s.n)
	for i := range gains {
		gains[i] = 1 + 0.1*normals()[random(s.t.key, uint64(i))&0xffff]
	}
	outlierKey := mix(s.t.key)
	for i := range s.t.outliers {
		r := random(outlierKey, uint64(i))
		v := float32(4 * math.Pow(24, float64(r>>40)/(1<<24))) // log-uniform
		if i == 0 && s.t.peak != 0 {
			v = s.t.peak
		}
		gains[r%uint64(s.n)] = v
	}
	for i, v := range gains {
		if s.t.DType == safetensors.BF16 {
			binary.LittleEndian.PutUint16(b[2*i:], half.F32ToBF16(v))
		} else {
			binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
		}
	}
}
