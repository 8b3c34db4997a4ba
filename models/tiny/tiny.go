// Package tiny is the model in the box: a small Qwen3 chat model of our own, packed as q8 and embedded in the program.
//
// It owns the embedded files; docs/tiny-model.md tells how they were made. hf/ beside q8/ is the same model as a Hugging
// Face directory in bf16, which `convert` packs into q8/ byte for byte.
package tiny

import (
	"embed"
	"io/fs"
)

//go:embed q8
var files embed.FS

// FS is the packed directory, for weights.Open(weights.FS(tiny.FS())).
func FS() fs.FS {
	dir, err := fs.Sub(files, "q8")
	if err != nil {
		panic(err) // "q8" is a valid name
	}
	return dir
}
