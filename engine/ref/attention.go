// Attention of a pass's tokens over the paged cache, in two passes over the context: all scores, their softmax, then the
// weighted sum of values.

package ref

import (
	"math"
	"slices"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// attention is the task; a part is one KV head with all its query heads, for attentionTokens tokens of the pass. Each
// page's keys are widened once for all of them.
type attention struct {
	r         *Runner
	layer     int
	table     []uint32
	start     int // position of the pass's first token
	numTokens int
	scale     float32
	tiles     [][]float32 // [workers][pageSize, headDim]
	scores    [][]float32 // [workers][attentionTokens, group, kvLen]
}

const attentionTokens = 8

// attention sets attn from the queries in qkv and layer i of the cache.
func (r *Runner) attention(i int, ic *kvcache.InferenceContext) {
	a := &r.attend
	a.layer, a.table, a.start, a.numTokens = i, ic.PageTable(), ic.Start(), ic.NumTokens()
	a.scale = float32(1 / math.Sqrt(float64(r.HeadDim)))
	group := r.NumAttentionHeads / r.NumKeyValueHeads
	need := min(attentionTokens, a.numTokens) * group * ic.KVLen()
	for w := range a.scores {
		a.scores[w] = slices.Grow(a.scores[w][:0], need)[:need]
	}
	numBlocks := (a.numTokens + attentionTokens - 1) / attentionTokens
	r.pool.run(a, numBlocks*r.NumKeyValueHeads)
}

func (a *attention) run(worker, part int) {
	r := a.r
	group := r.NumAttentionHeads / r.NumKeyValueHeads
	b := attentionBlock{
		a: a, kvHead: part % r.NumKeyValueHeads, first: part / r.NumKeyValueHeads * attentionTokens,
		group: group, tile: a.tiles[worker], scores: a.scores[worker],
	}
	b.last = min(b.first+attentionTokens, a.numTokens)
	b.kvLen = a.start + b.last
	numPages := (b.kvLen + r.opt.PageSize - 1) / r.opt.PageSize
	for page := range numPages {
		n := b.readPage(&r.cache.keys[a.layer], page)
		b.scorePage(page*r.opt.PageSize, n)
	}
	b.softmax()
	for t := b.first; t < b.last; t++ {
		clear(b.out(t))
	}
	for page := range numPages {
		n := b.readPage(&r.cache.values[a.layer], page)
		b.addPage(page*r.opt.PageSize, n)
	}
}

// attentionBlock is one part: tokens first to last-1 of the pass, one KV head. Row (t-first)*group+h of scores belongs to
// token t and query head kvHead*group+h.
type attentionBlock struct {
	a           *attention
	kvHead      int
	first, last int
	group       int
	kvLen       int       // positions that the last token sees
	tile        []float32 // [pageSize, headDim]
	scores      []float32 // [(last-first)*group, kvLen]
}

// seen is the number of positions, of the n from position base on, that token t attends to: itself and all before it.
func (b *attentionBlock) seen(t, base, n int) int { return max(0, min(b.a.start+t+1-base, n)) }

// readPage widens the KV head's keys or values of a page of the sequence to tile and returns the number of tokens in it.
func (b *attentionBlock) readPage(p *plane, page int) int {
	pageSize := b.a.r.opt.PageSize
	n := min(pageSize, b.kvLen-page*pageSize)
	p.read(b.tile, int(b.a.table[page])*pageSize, n, b.kvHead)
	return n
}

// scorePage multiplies the queries with a page's keys.
func (b *attentionBlock) scorePage(base, n int) {
	c := b.a.r.Config
	d, width := c.HeadDim, c.QDim()+2*c.KVDim()
	for t := b.first; t < b.last; t++ {
		for h := range b.group {
			q := b.a.r.act.qkv[t*width+(b.kvHead*b.group+h)*d:][:d]
			row := b.scores[((t-b.first)*b.group+h)*b.kvLen+base:]
			for i := range b.seen(t, base, n) {
				row[i] = dot(q, b.tile[i*d:][:d]) * b.a.scale
			}
		}
	}
}

// softmax turns each row of scores into weights.
func (b *attentionBlock) softmax() {
	for t := b.first; t < b.last; t++ {
		for h := range b.group {
			softmax(b.scores[((t-b.first)*b.group+h)*b.kvLen:][:b.seen(t, 0, b.kvLen)])
		}
	}
}

// softmax is exp(s-max) / Σ exp(s-max), in place.
func softmax(s []float32) {
	largest := slices.Max(s)
	sum := 0.0
	for i, v := range s {
		e := math.Exp(float64(v - largest))
		s[i] = float32(e)
		sum += e
	}
	scale := 1 / sum
	for i, v := range s {
		s[i] = float32(float64(v) * scale)
	}
}

// out is token t's attention output of the block's query heads, [group*headDim].
func (b *attentionBlock) out(t int) []float32 {
	c := b.a.r.Config
	width := b.group * c.HeadDim
	return b.a.r.act.attn[t*weights.Stride(c.QDim())+b.kvHead*width:][:width]
}

// addPage adds a page's values, weighted.
func (b *attentionBlock) addPage(base, n int) {
	d := b.a.r.HeadDim
	for t := b.first; t < b.last; t++ {
		out := b.out(t)
		for h := range b.group {
			row := b.scores[((t-b.first)*b.group+h)*b.kvLen+base:]
			addScaled(out[h*d:(h+1)*d], b.tile, row[:b.seen(t, base, n)])
		}
	}
}
