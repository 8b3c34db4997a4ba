//go:build !js

package native

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

func fake(index int, name, kind string) *candidate {
	c := &candidate{}
	c.Index, c.Info = index, gpu.AdapterInfo{Name: name, Type: kind, Backend: "vulkan", Driver: "driver of " + name}
	return c
}

func TestChoose(t *testing.T) {
	all := []*candidate{
		fake(0, "llvmpipe (LLVM 15)", "cpu"), fake(1, "Intel UHD 770", "integrated"),
		fake(2, "NVIDIA H200", "discrete"), fake(3, "NVIDIA T4", "discrete"), fake(4, "virtio", "unknown"),
	}
	for _, test := range []struct {
		list []*candidate
		o    Options
		want int // -1: an error that contains word
		word string
	}{
		{all, Options{}, 2, ""},
		{all[:2], Options{}, 1, ""},
		{[]*candidate{all[0], all[4]}, Options{}, 4, ""},
		{all[:1], Options{}, 0, ""},
		{all, Options{Adapter: "nvidia"}, 2, ""},
		{all, Options{Adapter: " T4 "}, 3, ""},
		{all, Options{Adapter: "LLVMPIPE"}, 0, ""},
		{all, Options{Adapter: "driver of virtio"}, 4, ""},
		{all, Options{Adapter: "1"}, 1, ""},
		{all, Options{ForceCPU: true}, 0, ""},
		{all, Options{ForceCPU: true, Adapter: "llvm"}, 0, ""},
		{all, Options{Adapter: "5"}, -1, "NVIDIA H200"},
		{all, Options{Adapter: "-1"}, -1, "number -1"},
		{all, Options{Adapter: "radeon"}, -1, `"radeon"`},
		{all, Options{Adapter: "2", ForceCPU: true}, -1, "no CPU device"},
		{all[1:], Options{ForceCPU: true}, -1, "mesa-vulkan-drivers"},
		{nil, Options{}, -1, "install"},
		{nil, Options{Adapter: "0"}, -1, "install"},
	} {
		c, err := choose(test.list, test.o)
		if test.want < 0 {
			if !errors.Is(err, ErrNoAdapter) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(test.word)) {
				t.Errorf("%+v of %d: %v, want ErrNoAdapter with %q", test.o, len(test.list), err, test.word)
			}
			continue
		}
		if err != nil || c.Index != test.want {
			t.Errorf("%+v of %d: %v, %v; want adapter %d", test.o, len(test.list), c, err, test.want)
		}
	}
}

func TestDiagnose(t *testing.T) {
	openForTest(t)
	r := Diagnose()
	if len(r.Adapters) == 0 || r.Best < 0 || r.Best >= len(r.Adapters) {
		t.Fatalf("no adapter in the report: %+v", r)
	}
	var b bytes.Buffer
	if n, err := r.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo: %d, %v", n, err)
	}
	t.Log("\n" + b.String())
	for _, word := range []string{r.Adapters[0].Info.Name, r.Library, "memory"} {
		if !strings.Contains(b.String(), word) {
			t.Errorf("the report does not mention %q", word)
		}
	}
	if runtime.GOOS == "linux" {
		if r.Vulkan == nil || r.Vulkan.Loader == "" || len(r.Vulkan.Devices) == 0 || len(r.ICDs) == 0 {
			t.Errorf("the report lacks the loader, its devices or driver files: %+v", r.Vulkan)
		}
		if r.Adapters[r.Best].Limits.MemoryBytes == 0 || r.Adapters[r.Best].Info.Driver == "" {
			t.Errorf("memory or driver is not known: %+v", r.Adapters[r.Best])
		}
	}
}

func TestAdvice(t *testing.T) {
	contains := func(r Report, word string) {
		t.Helper()
		if text := strings.Join(advise(&r), "\n"); !strings.Contains(text, word) {
			t.Errorf("advice %q does not mention %q", text, word)
		}
	}
	cpu := Adapter{Info: gpu.AdapterInfo{Type: "cpu"}}
	contains(Report{Vulkan: &VulkanReport{}}, "libvulkan1")
	contains(Report{}, "nstall")
	contains(Report{Adapters: []Adapter{cpu}}, "Only a CPU device")
	contains(Report{NVIDIADriver: "550", Adapters: []Adapter{cpu}}, "NVIDIA_DRIVER_CAPABILITIES")
	contains(Report{Environment: map[string]string{"VK_ICD_FILENAMES": "/x.json"}}, "/x.json")
	contains(Report{RenderNodes: []RenderNode{{Path: "/dev/dri/renderD128", Error: "permission denied"}}}, "render")
	contains(Report{ICDs: []ICD{{Path: "/a.json", Error: "broken"}}}, "/a.json")
	gpuAdapter := Adapter{Info: gpu.AdapterInfo{Type: "discrete"}, VendorID: 0x10de}
	if advice := advise(&Report{NVIDIADriver: "550", Adapters: []Adapter{gpuAdapter}}); len(advice) != 0 {
		t.Errorf("advice for a working GPU: %q", advice)
	}
}

func TestFindICDs(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("driver files are a Linux matter")
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing := write("a.json", `{"ICD": {"library_path": "./libno_such_driver.so"}}`)
	broken := write("b.json", `{`)
	empty := write("c.json", `{}`)
	t.Setenv("VK_DRIVER_FILES", strings.Join([]string{missing, broken, empty, filepath.Join(dir, "absent.json")}, ":"))
	icds := findICDs()
	if len(icds) != 4 {
		t.Fatalf("%d driver files, want 4: %+v", len(icds), icds)
	}
	for i, word := range []string{"libno_such_driver.so", "JSON", "no library", "no such file"} {
		if !strings.Contains(icds[i].Error, word) {
			t.Errorf("driver file %d: error %q does not mention %q", i, icds[i].Error, word)
		}
	}
	t.Setenv("VK_DRIVER_FILES", "")
	t.Setenv("VK_ICD_FILENAMES", dir)
	if icds := findICDs(); len(icds) != 3 {
		t.Errorf("%d driver files in the directory, want 3", len(icds))
	}
}
