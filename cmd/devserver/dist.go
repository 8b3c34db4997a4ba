// dist: the site as files that any file host can serve.

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func newDist(b *builder) *cobra.Command {
	var out string
	var compress bool
	cmd := &cobra.Command{
		Use:   "dist",
		Short: "write a static site: the page, the wasm, and engine.js with its types",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				out = b.path("web/dist")
			}
			s, err := b.build(cmd.Context())
			if err != nil {
				return err
			}
			s["models/index.json"] = newFile([]byte("{\"models\":[]}\n")) // for whoever hosts models beside the page
			if err := clear(out); err != nil {
				return err
			}
			if err := s.write(out, compress); err != nil {
				return err
			}
			if b.engine == "" {
				if err := b.writeTypes(out); err != nil {
					return err
				}
			}
			return s.report(out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the directory to write (default: web/dist)")
	cmd.Flags().BoolVar(&compress, "compress", false, "also write .br and .gz beside each file, for hosts that serve those")
	return cmd
}

// clear empties a directory that an earlier dist wrote; anything else that is not empty is refused.
func clear(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "sw.js")); err != nil {
		return fmt.Errorf("%s is not empty and holds no earlier build (no sw.js): choose another --out", dir)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s site) write(dir string, compress bool) error {
	for _, p := range s.paths() {
		name := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, s[p].body, 0o644); err != nil {
			return err
		}
		if !compress {
			continue
		}
		for coding, ext := range map[string]string{"br": ".br", "gzip": ".gz"} {
			encoded, err := s[p].encode(coding, distBrotli)
			if err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			if err := os.WriteFile(name+ext, encoded, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeTypes has the TypeScript compiler write engine.js's declarations, to engine.d.ts and types/.
func (b *builder) writeTypes(out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	cmd := exec.Command(b.path("web/node_modules/.bin/tsc"), "-p", b.path("web/tsconfig.types.json"), "--outDir", filepath.Join(out, "types"))
	cmd.Dir = b.path("web")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tsc: %w\n%s", err, output)
	}
	return os.WriteFile(filepath.Join(out, "engine.d.ts"), []byte("export * from \"./types/index\";\n"), 0o644)
}

// report prints what was written, as a visitor's browser would download it.
func (s site) report(dir string) error {
	fmt.Printf("%-34s %10s %10s\n", dir, "bytes", "gzip")
	for _, p := range s.paths() {
		encoded, err := s[p].encode("gzip", 0)
		if err != nil {
			return err
		}
		fmt.Printf("%-34s %10d %10d\n", strings.TrimPrefix(p, "./"), len(s[p].body), len(encoded))
	}
	return nil
}
