// site: the files of the page as the build made them, with types and compressed forms; serve and dist take them from here.

package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"mime"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
)

// site is by path relative to the page, "index.html" included.
type site map[string]*file

// file is one file of the site.
type file struct {
	body []byte
	hash string // the first 16 hex digits of the body's SHA-256

	mu      sync.Mutex
	encoded map[string][]byte // by content coding
}

func newFile(body []byte) *file {
	sum := sha256.Sum256(body)
	return &file{body: body, hash: hex.EncodeToString(sum[:8]), encoded: make(map[string][]byte)}
}

// addHashed adds a file under assets/ and returns its path, which changes with its content.
func (s site) addHashed(name string, body []byte) string {
	f := newFile(body)
	ext := path.Ext(name)
	p := fmt.Sprintf("assets/%s-%s%s", strings.TrimSuffix(name, ext), f.hash[:10], ext)
	s[p] = f
	return p
}

// immutable tells that a path names its content.
func immutable(p string) bool { return strings.HasPrefix(p, "assets/") }

func (s site) paths() []string { return slices.Sorted(maps.Keys(s)) }

// contentType does not depend on the machine's mime tables for what the page consists of.
func contentType(p string) string {
	switch path.Ext(p) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".wasm":
		return "application/wasm"
	case ".svg":
		return "image/svg+xml"
	case ".json", ".map":
		return "application/json"
	case ".webmanifest":
		return "application/manifest+json"
	case ".safetensors":
		return "application/octet-stream"
	}
	if t := mime.TypeByExtension(path.Ext(p)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// Brotli's quality while developing, where a rebuild should not wait, and for dist.
const (
	devBrotli  = 5
	distBrotli = 11
)

// encode returns the body in a content coding, "br" or "gzip", made once.
func (f *file) encode(coding string, brotliQuality int) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b, ok := f.encoded[coding]; ok {
		return b, nil
	}
	var buf bytes.Buffer
	var err error
	switch coding {
	case "br":
		w := brotli.NewWriterLevel(&buf, brotliQuality)
		if _, err = w.Write(f.body); err == nil {
			err = w.Close()
		}
	case "gzip":
		var w *gzip.Writer
		if w, err = gzip.NewWriterLevel(&buf, gzip.BestCompression); err == nil {
			if _, err = w.Write(f.body); err == nil {
				err = w.Close()
			}
		}
	default:
		err = fmt.Errorf("unknown content coding %q", coding)
	}
	if err != nil {
		return nil, err
	}
	f.encoded[coding] = buf.Bytes()
	return buf.Bytes(), nil
}
