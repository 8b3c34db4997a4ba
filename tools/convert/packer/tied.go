// A tied checkpoint that stores lm_head all the same: harmless where it equals the embedding, a contradiction where not.

package packer

import (
	"bytes"
	"fmt"
)

// resolveTiedLMHead compares lm_head with the embedding and tells whether lm_head is to be packed. Where they differ,
// transformers 4 follows config.json and transformers 5 the checkpoint, so the user must say which is meant.
func (c *conversion) resolveTiedLMHead() (pack bool, err error) {
	embed, head := c.ck.tensors["embed_tokens.weight"], c.ck.tensors["lm_head.weight"]
	differ, first, err := c.compare(embed, head)
	if err != nil {
		return false, err
	}
	if differ == 0 {
		return false, nil
	}
	what := fmt.Sprintf("config.json says tie_word_embeddings, but %s differs from %s in %d of %d elements, first at [%d, %d]",
		head.Name, embed.Name, differ, embed.Elements(), first/int64(embed.Shape[1]), first%int64(embed.Shape[1]))
	switch c.LMHead {
	case LMHeadEmbedding:
		c.warn("%s: lm_head was dropped, as asked, and the embedding serves as output projection", what)
		return false, nil
	case LMHeadStored:
		c.warn("%s: lm_head was packed, as asked, and serves as output projection", what)
		return true, nil
	}
	return false, fmt.Errorf("convert: %s: %s. transformers 4 uses the embedding there and transformers 5 the stored lm_head: choose with --lm-head %s or --lm-head %s", c.ck.dir, what, LMHeadEmbedding, LMHeadStored)
}

// compare counts the elements in which two tensors of one shape differ in value, and returns the first one's index.
func (c *conversion) compare(a, b tensor) (differ, first int64, err error) {
	const step = 1 << 18 // elements
	elements := a.Elements()
	aSize, bSize := a.DType.Bytes(), b.DType.Bytes()
	rawA, rawB := make([]byte, step*aSize), make([]byte, step*bSize)
	for at := int64(0); at < elements; at += step {
		if err := c.ctx.Err(); err != nil {
			return 0, 0, err
		}
		n := min(step, elements-at)
		ra, rb := rawA[:n*aSize], rawB[:n*bSize]
		if err := readTensor(a, ra, at*aSize); err != nil {
			return 0, 0, err
		}
		if err := readTensor(b, rb, at*bSize); err != nil {
			return 0, 0, err
		}
		if a.DType != b.DType || !bytes.Equal(ra, rb) {
			for i := range int(n) {
				if element(a.DType, ra, i) != element(b.DType, rb, i) {
					if differ == 0 {
						first = at + int64(i)
					}
					differ++
				}
			}
		}
		c.progress(n * bSize)
	}
	return differ, first, nil
}
