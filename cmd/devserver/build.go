// The build: cmd/wasm by the Go tool, web/src by esbuild, put together as a site. Nothing is written to disk here.

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// maxPageBytes bounds what a visitor downloads before the wasm: page, bundle, styles, workers; gzip.
const maxPageBytes = 200 << 10

type builder struct {
	root   string // the checkout
	engine string // module in place of web/src/engine, without wasm; empty: the engine
	dev    bool   // source maps, and the page listens for reloads

	wasm []byte // the last build of cmd/wasm; nil: build it
}

// build makes the site. It fails when the page is larger than maxPageBytes; while developing it is not asked.
func (b *builder) build(ctx context.Context) (site, error) {
	if _, err := os.Stat(b.path("web/node_modules")); err != nil {
		return nil, errors.New("web/node_modules is missing: run `npm ci` in web (make web and make dist do)")
	}
	s := make(site)
	defines := map[string]string{"DEV": fmt.Sprint(b.dev), "QWEN_WORKER_FILE": `""`, "QWEN_WASM_FILE": `""`}
	var page []string // what counts for maxPageBytes

	if b.engine == "" {
		if err := b.buildWasm(ctx); err != nil {
			return nil, err
		}
		defines["QWEN_WASM_FILE"] = quote(s.addHashed("qwen.wasm", b.wasm))
		worker, err := b.bundle(s, "web/src/engine/worker.ts", defines)
		if err != nil {
			return nil, err
		}
		defines["QWEN_WORKER_FILE"] = quote(worker.js)
		page = append(page, worker.js)

		library, err := b.bundle(site{}, "web/src/engine/index.ts", defines)
		if err != nil {
			return nil, err
		}
		s["engine.js"] = newFile(library.code)
	}

	app, err := b.bundle(s, "web/src/app/main.tsx", defines)
	if err != nil {
		return nil, err
	}
	if err := b.addStatic(s); err != nil {
		return nil, err
	}
	if err := b.addIndex(s, app); err != nil {
		return nil, err
	}
	page = append(page, app.js, app.css, "index.html")

	// The service worker keeps all that a visit needs; its version changes with any of it.
	var keep []string
	version := sha256.New()
	for _, p := range s.paths() {
		if p == "engine.js" || strings.HasSuffix(p, ".map") {
			continue
		}
		keep = append(keep, p)
		fmt.Fprintln(version, p, s[p].hash)
	}
	list, err := json.Marshal(keep)
	if err != nil {
		return nil, err
	}
	defines["PRECACHE"] = string(list)
	defines["VERSION"] = quote(hex.EncodeToString(version.Sum(nil)[:6]))
	sw, err := b.bundle(site{}, "web/src/app/sw.ts", defines)
	if err != nil {
		return nil, err
	}
	s["sw.js"] = newFile(sw.code)
	page = append(page, "sw.js")

	if b.dev { // source maps
		return s, nil
	}
	return s, s.checkSize(page)
}

// pageBytes is the gzip size of some files.
func (s site) pageBytes(paths []string) (int, error) {
	total := 0
	for _, p := range paths {
		b, err := s[p].encode("gzip", 0)
		if err != nil {
			return 0, err
		}
		total += len(b)
	}
	return total, nil
}

func (s site) checkSize(paths []string) error {
	total, err := s.pageBytes(paths)
	if err != nil {
		return err
	}
	if total > maxPageBytes {
		return fmt.Errorf("the page is %d bytes gzip, without wasm; at most %d are allowed", total, maxPageBytes)
	}
	return nil
}

// buildWasm compiles cmd/wasm into b.wasm, unless it is there.
func (b *builder) buildWasm(ctx context.Context) error {
	if b.wasm != nil {
		return nil
	}
	dir, err := os.MkdirTemp("", "devserver")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "qwen.wasm")
	overlay, err := wgslOverlay(b.root, dir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-trimpath", "-ldflags", "-s -w", "-o", out, "./cmd/wasm")
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, output)
	}
	b.wasm, err = os.ReadFile(out)
	return err
}

// bundled is what esbuild made of an entry point: paths in the site, and the code itself.
type bundled struct {
	js, css string
	code    []byte
}

// bundle adds an entry point's output to the site, under hashed names.
func (b *builder) bundle(s site, entry string, defines map[string]string) (bundled, error) {
	sourcemap := api.SourceMapNone
	if b.dev {
		sourcemap = api.SourceMapInline
	}
	result := api.Build(api.BuildOptions{
		AbsWorkingDir:     b.root,
		EntryPoints:       []string{entry},
		Bundle:            true,
		Format:            api.FormatESModule,
		Target:            api.ES2022,
		MinifyWhitespace:  !b.dev,
		MinifyIdentifiers: !b.dev,
		MinifySyntax:      !b.dev,
		LegalComments:     api.LegalCommentsEndOfFile,
		Sourcemap:         sourcemap,
		Define:            defines,
		Outdir:            b.path("out"),
		Tsconfig:          b.path("web/tsconfig.json"),
		Plugins:           []api.Plugin{b.resolve()},
		Write:             false,
	})
	if len(result.Errors) > 0 {
		text := api.FormatMessages(result.Errors, api.FormatMessagesOptions{Kind: api.ErrorMessage})
		return bundled{}, errors.New("esbuild: " + strings.TrimSpace(strings.Join(text, "")))
	}
	var out bundled
	for _, f := range result.OutputFiles {
		name := filepath.Base(f.Path)
		switch path.Ext(name) {
		case ".js":
			out.js, out.code = s.addHashed(name, f.Contents), f.Contents
		case ".css":
			out.css = s.addHashed(name, f.Contents)
		default:
			return bundled{}, fmt.Errorf("esbuild made %s of %s: not known what to do with it", name, entry)
		}
	}
	return out, nil
}

// resolve finds wasm_exec, the JavaScript side of the Go release that builds the wasm, and the module that stands in for
// the engine.
func (b *builder) resolve() api.Plugin {
	return api.Plugin{Name: "devserver", Setup: func(build api.PluginBuild) {
		build.OnResolve(api.OnResolveOptions{Filter: `^wasm_exec$`}, func(api.OnResolveArgs) (api.OnResolveResult, error) {
			out, err := exec.Command("go", "env", "GOROOT").Output()
			if err != nil {
				return api.OnResolveResult{}, fmt.Errorf("go env GOROOT: %w", err)
			}
			return api.OnResolveResult{Path: filepath.Join(strings.TrimSpace(string(out)), "lib", "wasm", "wasm_exec.js"), SideEffects: api.SideEffectsTrue}, nil
		})
		if b.engine == "" {
			return
		}
		build.OnResolve(api.OnResolveOptions{Filter: `/engine/index$`}, func(args api.OnResolveArgs) (api.OnResolveResult, error) {
			p, err := filepath.Abs(b.engine)
			return api.OnResolveResult{Path: p}, err
		})
	}}
}

// addStatic adds the files that are served as they are.
func (b *builder) addStatic(s site) error {
	static := os.DirFS(b.path("web/src/app/static"))
	return fs.WalkDir(static, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(static, p)
		if err == nil {
			s[p] = newFile(body)
		}
		return err
	})
}

// addIndex fills web/index.html's placeholders.
func (b *builder) addIndex(s site, app bundled) error {
	body, err := os.ReadFile(b.path("web/index.html"))
	if err != nil {
		return err
	}
	for placeholder, value := range map[string]string{"{{csp}}": pageCSP, "{{script}}": app.js, "{{style}}": app.css} {
		if !bytes.Contains(body, []byte(placeholder)) {
			return fmt.Errorf("web/index.html: the placeholder %s is missing", placeholder)
		}
		body = bytes.ReplaceAll(body, []byte(placeholder), []byte(value))
	}
	s["index.html"] = newFile(body)
	return nil
}

func (b *builder) path(p string) string { return filepath.Join(b.root, filepath.FromSlash(p)) }

// quote makes a JavaScript string.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return string(b)
}
