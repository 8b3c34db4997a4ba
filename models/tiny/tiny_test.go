package tiny

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/packer"
)

// The embedded files are what the converter makes of hf/, byte for byte.
func TestPackedAgain(t *testing.T) {
	out := filepath.Join(t.TempDir(), "q8")
	if _, err := packer.ConvertDir("hf", out, packer.Options{DType: weights.Q8}); err != nil {
		t.Fatal(err)
	}
	want, got := os.DirFS(out), FS()
	names := map[string]bool{}
	for _, dir := range []fs.FS{want, got} {
		entries, err := fs.ReadDir(dir, ".")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names[e.Name()] = true
		}
	}
	for name := range names {
		a, err := fs.ReadFile(want, name)
		if err != nil {
			t.Errorf("embedded but not packed again: %v", err)
			continue
		}
		b, err := fs.ReadFile(got, name)
		if err != nil {
			t.Errorf("packed again but not embedded: %v", err)
			continue
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs: %d bytes packed again, %d embedded", name, len(a), len(b))
		}
	}
}

func TestSize(t *testing.T) {
	size := func(dir fs.FS) (n int64) {
		entries, err := fs.ReadDir(dir, ".")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			n += info.Size()
		}
		return n
	}
	q8, hf := size(FS()), size(os.DirFS("hf"))
	if q8 > 10e6 || q8+hf > 20e6 {
		t.Errorf("%d bytes embedded (at most 10 MB), %d with hf/ (20 MB)", q8, q8+hf)
	}
	m, err := weights.Open(weights.FS(FS()))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
