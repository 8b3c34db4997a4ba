package ref

// RMSNormQKV runs layer 0's first half on x, [rows, hidden]: the norm, and the projections q|k|v before QK-norm.
func (r *Runner) RMSNormQKV(x []float32, rows int) (normed, qkv []float32) {
	copy(r.act.x, x)
	r.rmsNorm(r.layers[0].inputLayernorm, 0, rows)
	r.multiply(r.act.qkv, r.layers[0].qkvProj, r.act.normed, rows, false)
	hidden, stride := r.HiddenSize, len(r.act.normed)/r.maxTokens
	for t := range rows {
		normed = append(normed, r.act.normed[t*stride:][:hidden]...)
	}
	return normed, r.act.qkv[:rows*(r.QDim()+2*r.KVDim())]
}

// PoisonDownProj makes one weight of layer i's down_proj, a bf16 matrix, NaN.
func (r *Runner) PoisonDownProj(i int) { copy(r.layers[i].downProj.data, []byte{0xc0, 0x7f}) }

// ScaleInput multiplies the gains of layer i's first norm, and so its queries, keys and values before QK-norm.
func (r *Runner) ScaleInput(i int, by float32) {
	for j := range r.layers[i].inputLayernorm {
		r.layers[i].inputLayernorm[j] *= by
	}
}
