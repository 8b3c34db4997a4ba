// Package testutil finds the reference data that tests compare against.
//
// The data lies outside the repository (a directory "shared" beside it, or where QWEN_WGPU_SHARED points): tests that
// need it skip, with a message that says so, where it is absent.
package testutil

import (
	"os"
	"path/filepath"
	"testing"
)

// Shared returns the path of a file or directory of the reference data, for example "goldens/tied-gqa2". The test is
// skipped when the data is absent, and fails when QWEN_WGPU_SHARED promises that it is there.
func Shared(tb testing.TB, rel string) string {
	tb.Helper()
	root := os.Getenv("QWEN_WGPU_SHARED")
	promised := root != ""
	if root == "" {
		dir, err := os.Getwd()
		if err != nil {
			tb.Fatalf("testutil: working directory: %v", err)
		}
		for ; ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "shared", "goldens")); err == nil {
				root = filepath.Join(dir, "shared")
				break
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	path := filepath.Join(root, filepath.FromSlash(rel))
	if root != "" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	if promised {
		tb.Fatalf("testutil: reference data %s is missing (looked in %q)", rel, root)
	}
	tb.Skipf("reference data %s not found: set QWEN_WGPU_SHARED to the directory that holds it", rel)
	return ""
}
