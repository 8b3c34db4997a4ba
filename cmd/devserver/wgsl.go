package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
)

var (
	wgslComment = regexp.MustCompile(`(?m)[ \t]*//(?:[^#\n].*)?$`) // not "//#include", which shaders.Specialize reads
	wgslIndent  = regexp.MustCompile(`(?m)^(?: {4})+`)
	blankLines  = regexp.MustCompile(`\n{2,}`)
)

// wgslOverlay writes the kernels to dir without comments, which a third of their text is, and returns the file that tells `go build -overlay` to take
// these: the wasm has them inside.
func wgslOverlay(root, dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(root, "shaders", "*.wgsl"))
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		to := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(to, compactWGSL(text), 0o600); err != nil {
			return "", err
		}
		replace[file] = to
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, overlay, 0o600)
}

// compactWGSL takes comments and blank lines off, and indents by one space a level. WGSL has no strings that could look like a comment.
func compactWGSL(text []byte) []byte {
	text = wgslComment.ReplaceAll(text, nil)
	text = wgslIndent.ReplaceAllFunc(text, func(indent []byte) []byte { return bytes.Repeat([]byte(" "), len(indent)/4) })
	return append(bytes.TrimSpace(blankLines.ReplaceAll(text, []byte("\n"))), '\n')
}
