// Package archtest holds no code, only the test of which package may import which.
//
// Imports run one way: programs (cmd) -> engine -> kvcache, shaders; the GPU backends know the seam engine/gpu and nothing
// else; cgo and syscall/js stay in the backends, in engine/tokenizer/hf and in the programs.
package archtest
