package ref_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/ref"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/half"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
)

// naive is the model once more, in float64, without cache, pages, padding or threads: a check of shapes that the
// reference models do not have.
type naive struct {
	tb       testing.TB
	m        *weights.Model
	cacheF16 bool // round keys and values as a 16-bit cache does
	matrices map[string][]float32
	hidden   [][]float32 // hidden states as transformers numbers them, [layers+1][tokens*hidden]
}

func newNaive(tb testing.TB, m *weights.Model) *naive {
	return &naive{tb: tb, m: m, matrices: map[string][]float32{}}
}

func (n *naive) matrix(name string) (w []float32, cols int) {
	n.tb.Helper()
	mat, err := n.m.Matrix(name)
	if err != nil {
		n.tb.Fatal(err)
	}
	if n.matrices[name] == nil {
		if n.matrices[name], err = n.m.Dequantize(mat); err != nil {
			n.tb.Fatal(err)
		}
	}
	return n.matrices[name], mat.Cols
}

func (n *naive) times(name string, x []float64) []float64 {
	w, cols := n.matrix(name)
	out := make([]float64, len(w)/cols)
	for r := range out {
		for c, v := range x {
			out[r] += float64(w[r*cols+c]) * v
		}
	}
	return out
}

func (n *naive) norm(name string, x []float64) []float64 {
	gain, err := n.m.Vector(name)
	if err != nil {
		n.tb.Fatal(err)
	}
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v / math.Sqrt(sum/float64(len(x))+float64(n.m.Config.RMSNormEps)) * float64(gain[i])
	}
	return out
}

func (n *naive) rope(head []float64, pos int) {
	freq, factor := n.m.Config.InvFreq()
	half := len(head) / 2
	for i := range half {
		sin, cos := math.Sincos(float64(freq[i] * float32(pos)))
		a, b := head[i], head[i+half]
		head[i], head[i+half] = (a*cos-b*sin)*float64(factor), (b*cos+a*sin)*float64(factor)
	}
}

// logits of every token, [tokens, vocab].
func (n *naive) logits(ids []int32) []float32 {
	c := n.m.Config
	embedding, hidden := n.matrix("embed_tokens")
	x := make([][]float64, len(ids))
	for t, id := range ids {
		for _, v := range embedding[int(id)*hidden : (int(id)+1)*hidden] {
			x[t] = append(x[t], float64(v))
		}
	}
	n.hidden = [][]float32{float32s(x)}
	for i := range c.NumHiddenLayers {
		n.layer(fmt.Sprintf("layers.%d.", i), x)
		n.hidden = append(n.hidden, float32s(x))
	}
	for t := range x {
		x[t] = n.norm("norm", x[t])
	}
	n.hidden[c.NumHiddenLayers] = float32s(x)
	head := "embed_tokens"
	if n.m.HasLMHead() {
		head = "lm_head"
	}
	var out []float32
	for t := range x {
		for _, v := range n.times(head, x[t]) {
			out = append(out, float32(v))
		}
	}
	return out
}

func float32s(rows [][]float64) []float32 {
	var out []float32
	for _, v := range slices.Concat(rows...) {
		out = append(out, float32(v))
	}
	return out
}

func (n *naive) layer(p string, x [][]float64) {
	c := n.m.Config
	d, group := c.HeadDim, c.NumAttentionHeads/c.NumKeyValueHeads
	qkv := make([][]float64, len(x))
	kNorm, err := n.m.Vector(p + "k_norm")
	if err != nil {
		n.tb.Fatal(err)
	}
	bounds := c.KeyBounds(kNorm)
	for t := range x {
		qkv[t] = n.times(p+"qkv_proj", n.norm(p+"input_layernorm", x[t]))
		for h := range c.NumAttentionHeads + c.NumKeyValueHeads {
			name := p + "q_norm"
			if h >= c.NumAttentionHeads {
				name = p + "k_norm"
			}
			head := qkv[t][h*d : (h+1)*d]
			copy(head, n.norm(name, head))
			n.rope(head, t)
		}
		if n.cacheF16 {
			for i, v := range qkv[t][c.QDim() : c.QDim()+c.KVDim()] {
				root := math.Round(math.Sqrt(math.Abs(v/float64(bounds[i%d])))*32767) / 32767
				qkv[t][c.QDim()+i] = math.Copysign(root*root, v) * float64(bounds[i%d])
			}
			for i, v := range qkv[t][c.QDim()+c.KVDim():] {
				qkv[t][c.QDim()+c.KVDim()+i] = float64(half.F16ToF32(half.F32ToF16(float32(v))))
			}
		}
	}
	for t := range x {
		attn := make([]float64, c.QDim())
		for h := range c.NumAttentionHeads {
			k, v := c.QDim()+h/group*d, c.QDim()+c.KVDim()+h/group*d
			scores, sum := make([]float64, t+1), 0.0
			for s := range scores {
				for i := range d {
					scores[s] += qkv[t][h*d+i] * qkv[s][k+i] / math.Sqrt(float64(d))
				}
			}
			largest := slices.Max(scores)
			for s := range scores {
				scores[s] = math.Exp(scores[s] - largest)
				sum += scores[s]
			}
			for s, w := range scores {
				for i := range d {
					attn[h*d+i] += w / sum * qkv[s][v+i]
				}
			}
		}
		for i, v := range n.times(p+"o_proj", attn) {
			x[t][i] += v
		}
		gateUp := n.times(p+"gate_up_proj", n.norm(p+"post_attention_layernorm", x[t]))
		mlp := make([]float64, c.IntermediateSize)
		for i := range mlp {
			mlp[i] = gateUp[2*i] / (1 + math.Exp(-gateUp[2*i])) * gateUp[2*i+1]
		}
		for i, v := range n.times(p+"down_proj", mlp) {
			x[t][i] += v
		}
	}
}

// Random models of odd shapes, in every dtype, against the float64 model.
func TestRandomModels(t *testing.T) {
	worst := 0.0
	for seed := range uint64(12) {
		for _, dtype := range []weights.DType{weights.BF16, weights.Q8, weights.Q4} {
			dir := goldentest.RandomModel(t, seed, dtype)
			m := goldentest.OpenModel(t, dir)
			ids := make([]int32, 21)
			for i := range ids {
				ids[i] = int32((i*i + int(seed)) % m.Config.VocabSize)
			}
			want := newNaive(t, m).logits(ids)
			s := newTimeline(t, open(t, dir, ref.Options{NumPages: 4, KVDType: runner.KVF32, Threads: 2}), 4)
			got := slices.Concat(s.Run(ids[:18], 18, nil), s.Run(ids[18:19], 1, nil), s.Run(ids[19:], 2, nil))
			e, where := goldentest.Diff(want, got, len(ids))
			worst = max(worst, e)
			if e > 2e-5 {
				t.Errorf("seed %d, %s (%v): logits, %s", seed, dtype, m.Config, where)
			}
		}
	}
	t.Logf("largest error %.2g", worst)
}

// What an f16 cache costs against transformers is the rounding's doing: a float64 model that rounds its keys and values
// in the same way is as far off, and agrees with this path.
func TestF16CacheRounding(t *testing.T) {
	for _, name := range goldentest.Names {
		g := goldentest.Load(t, name)
		dir := goldentest.Pack(t, name, weights.BF16)
		r := open(t, dir, ref.Options{NumPages: 8})
		for _, p := range g.Prompts {
			if p.Hidden == nil || len(p.IDs) == 1 {
				continue
			}
			n := newNaive(t, goldentest.OpenModel(t, dir))
			n.cacheF16 = true
			want := n.logits(p.IDs)
			got := newTimeline(t, r, 8).Pass(p.IDs, runner.LogitsAll, nil)
			e, where := goldentest.Diff(want, got, len(p.IDs))
			cost, _ := goldentest.Diff(p.Logits, want, len(p.IDs))
			hidden := 0.0
			for i := range p.Hidden {
				e, _ := goldentest.Diff(p.Hidden[i], n.hidden[i], len(p.IDs))
				hidden = max(hidden, e)
			}
			t.Logf("%s, %s: rounding moves hidden states by %.2g, logits by %.2g; this path is off by %.2g", name, p.Name, hidden, cost, e)
			if e > 5e-4 { // a key within float32's error of the middle between two steps may be rounded to the other one
				t.Errorf("%s, %s: logits, %s", name, p.Name, where)
			}
		}
	}
}
