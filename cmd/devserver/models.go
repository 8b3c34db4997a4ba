// Packed model directories, served read-only under models/NAME/, and models/index.json, which names them.

package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// manifestName marks a packed model directory.
const manifestName = "manifest.json"

// modelEntry is one line of models/index.json. URL is relative to that file.
type modelEntry struct {
	Name  string `json:"name"`
	URL   string `json:"url"`
	Bytes int64  `json:"bytes"`
}

// models serves packed directories by name.
type models struct {
	names []string
	roots map[string]*os.Root
}

// openModels takes directories that are packed models or hold some. A missing one is an error.
func openModels(dirs []string) (*models, error) {
	m := &models{roots: make(map[string]*os.Root)}
	for _, dir := range dirs {
		if isModel(dir) {
			if err := m.add(dir); err != nil {
				return nil, err
			}
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("models: %w", err)
		}
		for _, e := range entries {
			if sub := filepath.Join(dir, e.Name()); isModel(sub) {
				if err := m.add(sub); err != nil {
					return nil, err
				}
			}
		}
	}
	return m, nil
}

func isModel(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, manifestName))
	return err == nil && info.Mode().IsRegular()
}

func (m *models) add(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	name := filepath.Base(abs)
	if _, ok := m.roots[name]; ok {
		return fmt.Errorf("models: two directories are named %s; rename one", name)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return fmt.Errorf("models: %w", err)
	}
	m.names = append(m.names, name)
	m.roots[name] = root
	return nil
}

// list is read anew each time: a converter may still be writing.
func (m *models) list() ([]modelEntry, error) {
	entries := []modelEntry{}
	for _, name := range m.names {
		e := modelEntry{Name: name, URL: name + "/"}
		err := fs.WalkDir(m.roots[name].FS(), ".", func(_ string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				e.Bytes += info.Size()
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// ServeHTTP answers for paths below models/, that prefix removed.
func (m *models) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	if r.URL.Path == "index.json" {
		entries, err := m.list()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType("index.json"))
		json.NewEncoder(w).Encode(map[string]any{"models": entries})
		return
	}
	name, rest, _ := strings.Cut(r.URL.Path, "/")
	root, ok := m.roots[name]
	if !ok {
		http.Error(w, fmt.Sprintf("no model %q here", name), http.StatusNotFound)
		return
	}
	f, err := root.Open(filepath.FromSlash(rest)) // os.Root: no way out of the directory
	if err != nil {
		http.Error(w, fmt.Sprintf("model %s has no file %q", name, rest), http.StatusNotFound)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.Error(w, fmt.Sprintf("model %s has no file %q", name, rest), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", contentType(rest))
	w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, info.Size(), info.ModTime().UnixNano()))
	http.ServeContent(w, r, rest, info.ModTime(), f)
}
