// The import rules, checked on what `go list` reports for each platform; a package that does not exist breaks none.

package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/qwen-wgpu/qwen-wgpu"

// listed is what go list tells of a package. Imports are those of its non-test files.
type listed struct {
	ImportPath     string
	Standard       bool
	Imports        []string
	CgoFiles       []string
	IgnoredGoFiles []string // excluded by build constraints
}

// platform is one way to build.
type platform struct {
	name, goos, goarch, tags string
}

var platforms = []platform{
	{"linux", "linux", "amd64", ""},
	{"linux with hftokenizers", "linux", "amd64", "hftokenizers"},
	{"js", "js", "wasm", ""},
	{"js with bench", "js", "wasm", "bench"},
}

func TestImportRules(t *testing.T) {
	if runtime.GOOS == "js" {
		t.Skip("runs the go tool")
	}
	watchSources(t)
	for _, p := range platforms {
		packages, err := list(p)
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		if _, ok := packages[module+"/engine/gpu"]; !ok {
			t.Fatalf("%s: go list found %d packages, without engine/gpu", p.name, len(packages))
		}
		for _, v := range violations(packages) {
			t.Errorf("%s: %s", p.name, v)
		}
	}
}

// watchSources reads the module's directories. go test repeats a test instead of showing its old result when a directory
// that the test itself has read changes; what the go tool reads for it does not count.
func watchSources(t *testing.T) {
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			return nil
		}
		if err == nil && d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// list returns all packages of the module and all that they import. Packages that do not compile are listed too: their
// imports count.
func list(p platform) (map[string]listed, error) {
	cmd := exec.Command("go", "list", "-e", "-deps", "-tags="+p.tags,
		"-json=ImportPath,Standard,Imports,CgoFiles,IgnoredGoFiles", module+"/...")
	cgo := "1" // without it files that import "C" would not be listed
	if p.goos == "js" {
		cgo = "0"
	}
	cmd.Env = append(os.Environ(), "GOOS="+p.goos, "GOARCH="+p.goarch, "CGO_ENABLED="+cgo)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w: %s", cmd.Args, err, stderr.String())
	}
	packages := make(map[string]listed)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("%v: %w", cmd.Args, err)
		}
		packages[l.ImportPath] = l
	}
}

// under tells whether pkg is dir or lies below it.
func under(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// isBackend: the packages below the seam.
func isBackend(pkg string) bool { return strings.HasPrefix(pkg, "engine/gpu/") && !isTestSupport(pkg) }

// isTestSupport: packages such as engine/gpu/gputest and internal/testutil, for the tests of others.
func isTestSupport(pkg string) bool {
	base := path.Base(pkg)
	return strings.HasSuffix(base, "test") || base == "testutil" || base == "testdevice"
}

// isPortable: the packages that must be the same on every platform.
func isPortable(pkg string) bool {
	return under(pkg, "engine") && !isBackend(pkg) && !under(pkg, "engine/tokenizer/hf") || under(pkg, "kvcache") || under(pkg, "shaders")
}

// mayImport tells whether package from of the module may import package to of the module.
func mayImport(from, to string) bool {
	inEngine := under(to, "engine") && !isBackend(to) && !under(to, "engine/tokenizer/hf")
	switch {
	case isTestSupport(to) && !isTestSupport(from):
		return false
	case under(to, "cmd"):
		return false
	case under(from, "cmd"):
		return true
	case from == "internal/testdevice":
		return to == "engine/gpu" || to == "engine/gpu/native"
	case isTestSupport(from):
		return !isBackend(to)
	case isBackend(from):
		return to == "engine/gpu" || under(to, strings.Join(strings.SplitN(from, "/", 4)[:3], "/"))
	case from == "engine/gpu", under(from, "kvcache"):
		return false
	case under(from, "shaders"):
		return to == "engine/gpu"
	case under(from, "engine/tokenizer/hf"):
		return to == "engine/tokenizer"
	case under(from, "engine"):
		return inEngine || under(to, "kvcache") || under(to, "shaders")
	case under(from, "tools"):
		return inEngine || under(to, path.Join("tools", strings.Split(from, "/")[1]))
	}
	return false // everything else is a leaf
}

// violations returns every broken rule, sorted.
func violations(packages map[string]listed) []string {
	var out []string
	for _, l := range packages {
		pkg, ours := strings.CutPrefix(l.ImportPath, module+"/")
		if !ours {
			continue
		}
		for _, imported := range l.Imports {
			if to, ok := strings.CutPrefix(imported, module+"/"); ok && !mayImport(pkg, to) {
				out = append(out, fmt.Sprintf("%s must not import %s", pkg, to))
			}
		}
		if !isPortable(pkg) {
			continue
		}
		for _, chain := range platformImports(packages, l.ImportPath) {
			out = append(out, fmt.Sprintf("%s must be portable and reaches %s", pkg, chain))
		}
		for _, file := range l.IgnoredGoFiles {
			if !strings.HasSuffix(file, "_test.go") {
				out = append(out, fmt.Sprintf("%s must be portable and has a build constraint in %s", pkg, file))
			}
		}
	}
	slices.Sort(out)
	return out
}

// platformImports returns the chains of imports, outside the standard library (whose own files use syscall/js and cgo),
// from a package to "C" or syscall/js.
func platformImports(packages map[string]listed, from string) (chains []string) {
	seen := make(map[string]bool)
	var visit func(pkg, chain string)
	visit = func(pkg, chain string) {
		if seen[pkg] {
			return
		}
		seen[pkg] = true
		l := packages[pkg]
		if l.Standard {
			return
		}
		if len(l.CgoFiles) > 0 || slices.Contains(l.Imports, "C") {
			chains = append(chains, chain+"cgo")
		}
		for _, imported := range l.Imports {
			if imported == "syscall/js" {
				chains = append(chains, chain+imported)
			} else if imported != "C" {
				visit(imported, chain+strings.TrimPrefix(imported, module+"/")+" -> ")
			}
		}
	}
	visit(from, "")
	return chains
}

// Every rule must be able to fail.
func TestViolationsAreFound(t *testing.T) {
	const std = "fmt"
	for _, c := range []struct {
		name, pkg string
		imports   []string
		ignored   []string
		want      string // "" for none
	}{
		{"program", "cmd/qwen-wgpu", []string{module + "/engine", module + "/engine/gpu/native", module + "/engine/tokenizer/hf", "syscall/js", "C"}, nil, ""},
		{"engine", "engine", []string{module + "/engine/gpu", module + "/kvcache", module + "/shaders", module + "/engine/chat", std}, nil, ""},
		{"engine and backend", "engine", []string{module + "/engine/gpu/native"}, nil, "engine must not import engine/gpu/native"},
		{"engine and hf", "engine/session", []string{module + "/engine/tokenizer/hf"}, nil, "engine/session must not import engine/tokenizer/hf"},
		{"engine and program", "engine/x", []string{module + "/cmd/qwen-wgpu"}, nil, "engine/x must not import cmd/qwen-wgpu"},
		{"engine and syscall/js", "engine/x", []string{"syscall/js"}, nil, "engine/x must be portable and reaches syscall/js"},
		{"engine and cgo", "engine/x", []string{"C"}, nil, "engine/x must be portable and reaches cgo"},
		{"engine and cgo of others", "engine/x", []string{"example.org/a"}, nil, "engine/x must be portable and reaches example.org/a -> example.org/b -> cgo"},
		{"standard library's own", "engine/x", []string{"os"}, nil, ""},
		{"engine with build tags", "engine/x", nil, []string{"x_js.go", "x_js_test.go"}, "engine/x must be portable and has a build constraint in x_js.go"},
		{"seam", "engine/gpu", []string{std}, nil, ""},
		{"seam and engine", "engine/gpu", []string{module + "/engine/config"}, nil, "engine/gpu must not import engine/config"},
		{"cache", "kvcache", []string{module + "/engine/config"}, nil, "kvcache must not import engine/config"},
		{"shaders", "shaders", []string{module + "/engine/gpu"}, nil, ""},
		{"shaders and engine", "shaders", []string{module + "/engine/weights"}, nil, "shaders must not import engine/weights"},
		{"backend", "engine/gpu/browser", []string{module + "/engine/gpu", module + "/engine/gpu/browser/replay", "syscall/js", "C"}, []string{"x.go"}, ""},
		{"backend and engine", "engine/gpu/native", []string{module + "/engine/config"}, nil, "engine/gpu/native must not import engine/config"},
		{"backend and backend", "engine/gpu/native", []string{module + "/engine/gpu/browser"}, nil, "engine/gpu/native must not import engine/gpu/browser"},
		{"hf", "engine/tokenizer/hf", []string{module + "/engine/tokenizer", "C"}, nil, ""},
		{"hf and engine", "engine/tokenizer/hf", []string{module + "/engine"}, nil, "engine/tokenizer/hf must not import engine"},
		{"converter", "tools/convert", []string{module + "/engine/weights", module + "/tools/convert/packer"}, []string{"x_linux.go"}, ""},
		{"converter and backend", "tools/convert", []string{module + "/engine/gpu/native"}, nil, "tools/convert must not import engine/gpu/native"},
		{"test device", "internal/testdevice", []string{module + "/engine/gpu/native"}, nil, ""},
		{"program and test device", "cmd/qwen-wgpu", []string{module + "/internal/testdevice"}, nil, "cmd/qwen-wgpu must not import internal/testdevice"},
		{"leaf", "internal/x", []string{module + "/engine"}, nil, "internal/x must not import engine"},
		{"test support", "shaders/kerneltest", []string{module + "/shaders", module + "/engine/weights/half"}, nil, ""},
		{"test support in the product", "engine", []string{module + "/engine/gpu/gputest"}, nil, "engine must not import engine/gpu/gputest"},
	} {
		packages := map[string]listed{
			"os":            {ImportPath: "os", Standard: true, Imports: []string{"syscall/js"}, CgoFiles: []string{"x.go"}},
			"example.org/a": {ImportPath: "example.org/a", Imports: []string{"example.org/b"}},
			"example.org/b": {ImportPath: "example.org/b", Imports: []string{"C", "example.org/a"}, CgoFiles: []string{"b.go"}},
		}
		packages[module+"/"+c.pkg] = listed{ImportPath: module + "/" + c.pkg, Imports: c.imports, IgnoredGoFiles: c.ignored}
		if got := strings.Join(violations(packages), "; "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
