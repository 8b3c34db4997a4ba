package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

func TestTuningFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	one, other := gpu.AdapterInfo{Name: "one", Driver: "1"}, gpu.AdapterInfo{Name: "one", Driver: "2"}
	shapes := map[string]forward.MatvecShape{"down q8 64x64": {Workgroup: 64, ThreadsPerRow: 8, Rows: 4}}
	more := map[string]forward.MatvecShape{"down q8 96x64": {Workgroup: 128, ThreadsPerRow: 16, Rows: 2, Direct: true}}
	for _, s := range []map[string]forward.MatvecShape{shapes, more} {
		if err := saveTuning(one, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := saveTuning(other, more); err != nil {
		t.Fatal(err)
	}
	both := maps.Clone(shapes)
	maps.Copy(both, more)
	all := loadTunings()
	if !maps.Equal(all[tuningAdapter(one)], both) || !maps.Equal(all[tuningAdapter(other)], more) {
		t.Errorf("the file holds %v", all)
	}
	path := filepath.Join(dir, "qwen-wgpu", "tuning.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// What other kernels were measured with is not used, and goes when the adapter is measured again.
	if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte(shaders.Version()), []byte("00000000")), 0o644); err != nil {
		t.Fatal(err)
	}
	if old := loadTunings()[tuningAdapter(one)]; old != nil {
		t.Errorf("what was measured with other kernels is used: %v", old)
	}
	if err := saveTuning(one, more); err != nil {
		t.Fatal(err)
	}
	if all := loadTunings(); len(all) != 2 || !maps.Equal(all[tuningAdapter(one)], more) {
		t.Errorf("the file holds %v, want one anew and other as it was", all)
	}
	if err := os.WriteFile(path, []byte("{ damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if all := loadTunings(); len(all) != 0 {
		t.Errorf("a damaged file gives %v", all)
	}
	if err := saveTuning(one, shapes); err != nil || len(loadTunings()) != 1 {
		t.Errorf("a damaged file is not replaced: %v", err)
	}
}
