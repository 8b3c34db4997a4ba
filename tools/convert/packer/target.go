// The output folder: never half made, never overwritten by accident.

package packer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// checkTarget refuses targets that hold something, and such as would tangle with the input. With force a packed model
// directory may be replaced, but nothing else.
func checkTarget(in, out string, force bool) error {
	if out == "" {
		return errors.New("convert: no output directory given")
	}
	inPath, err := filepath.Abs(in)
	if err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	outPath, err := filepath.Abs(out)
	if err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	if within(inPath, outPath) || within(outPath, inPath) {
		return fmt.Errorf("convert: input %s and output %s must not contain one another", in, out)
	}
	entries, err := os.ReadDir(out)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		return nil
	case err != nil:
		return fmt.Errorf("convert: output: %w", err)
	case !force:
		return fmt.Errorf("convert: output directory %s is not empty: choose another, or --force to replace it", out)
	}
	if _, err := os.Stat(filepath.Join(out, weights.ManifestName)); err != nil {
		return fmt.Errorf("convert: output directory %s is not empty and holds no %s: it will not be replaced, even with --force", out, weights.ManifestName)
	}
	return nil
}

// within holds where path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// replaceDir fills a temporary folder beside out and renames it to out, moving what was there out of the way first. On
// an error the temporary folder is removed and out is as before.
func replaceDir(out string, fill func(tmp string) error) (err error) {
	parent, base := filepath.Split(filepath.Clean(out))
	if parent == "" {
		parent = "."
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("convert: output: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, "."+base+".partial-")
	if err != nil {
		return fmt.Errorf("convert: output: %w", err)
	}
	defer func() {
		if rerr := os.RemoveAll(tmp); err == nil && rerr != nil {
			err = fmt.Errorf("convert: output: %w", rerr)
		}
	}()
	fresh, old := filepath.Join(tmp, "new"), filepath.Join(tmp, "old")
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return fmt.Errorf("convert: output: %w", err)
	}
	if err := fill(fresh); err != nil {
		return err
	}
	if err := os.Rename(out, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("convert: output: %w", err)
	}
	if err := os.Rename(fresh, out); err != nil {
		return errors.Join(fmt.Errorf("convert: output: %w", err), os.Rename(old, out))
	}
	return nil
}
