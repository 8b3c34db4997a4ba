// Watching and reloading: sources are compared by size and time twice a second, pages hear of a new build as server-sent
// events.

package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// reloadPath is where the page listens (DEV builds only).
const reloadPath = "dev/reload"

// What the page and the wasm are made of.
var (
	pageSources = []string{"web/src", "web/index.html", "web/tests", "web/package-lock.json"}
	wasmSources = []string{"cmd/wasm", "engine", "kvcache", "shaders", "models", "go.mod"}
)

// watch rebuilds until ctx ends.
func (s *server) watch(ctx context.Context, b *builder) {
	page, wasm := b.fingerprint(pageSources), b.fingerprint(wasmSources)
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		newPage, newWasm := b.fingerprint(pageSources), wasm
		if b.engine == "" {
			newWasm = b.fingerprint(wasmSources)
		}
		if newPage == page && newWasm == wasm {
			continue
		}
		if newWasm != wasm {
			b.wasm = nil
		}
		page, wasm = newPage, newWasm
		start := time.Now()
		if err := s.rebuild(ctx, b); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n", err)
		} else {
			fmt.Printf("rebuilt in %.1f s\n", time.Since(start).Seconds())
		}
		s.reload.send() // after a failure too: the page then shows it
	}
}

// fingerprint changes when a source does.
func (b *builder) fingerprint(sources []string) string {
	var out strings.Builder
	for _, source := range sources {
		filepath.WalkDir(b.path(source), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(p, "_test.go") {
				return nil // gone meanwhile, or nothing to build from
			}
			if info, err := d.Info(); err == nil {
				fmt.Fprintln(&out, p, info.Size(), info.ModTime().UnixNano())
			}
			return nil
		})
	}
	return out.String()
}

// broadcast sends an event to every page that listens.
type broadcast struct {
	mu      sync.Mutex
	clients map[chan struct{}]bool
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.clients {
		select {
		case c <- struct{}{}:
		default: // one is waiting already
		}
	}
}

func (b *broadcast) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	if b.clients == nil {
		b.clients = make(map[chan struct{}]bool)
	}
	b.clients[c] = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.clients, c)
		b.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	fmt.Fprint(w, ": waiting\n\n")
	rc.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-c:
			fmt.Fprint(w, "event: reload\ndata: \n\n")
			if rc.Flush() != nil {
				return
			}
		}
	}
}
