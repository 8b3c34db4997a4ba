// Package outdir makes output folders that are never half made and never overwritten by accident.
//
// It owns the temporary folder and the rename at the end; it knows nothing of what is written.
package outdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Check refuses an output folder that holds something. With force, a folder that holds the file marker, and so was
// made by the same program, may be replaced, but no other.
func Check(out, marker string, force bool) error {
	if out == "" {
		return errors.New("convert: no output directory given")
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
	if _, err := os.Stat(filepath.Join(out, marker)); err != nil {
		return fmt.Errorf("convert: output directory %s is not empty and holds no %s: it will not be replaced, even with --force", out, marker)
	}
	return nil
}

// CheckApart refuses an input and an output folder of which one contains the other.
func CheckApart(in, out string) error {
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
	return nil
}

// within holds where path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// Replace fills a temporary folder beside out and renames it to out, moving what was there out of the way first. On
// an error the temporary folder is removed and out is as before.
func Replace(out string, fill func(tmp string) error) (err error) {
	path, err := filepath.Abs(out)
	if err != nil {
		return fmt.Errorf("convert: output: %w", err)
	}
	if here, err := os.Getwd(); err == nil && within(here, path) {
		return fmt.Errorf("convert: output directory %s is the current directory or holds it: run from elsewhere", out)
	}
	parent, base := filepath.Split(path)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("convert: output: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, "."+base+".partial-")
	if err != nil {
		return fmt.Errorf("convert: output: %w", err)
	}
	keep := false
	defer func() {
		if keep {
			return
		}
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
	if err := os.Rename(path, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("convert: output: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		err = fmt.Errorf("convert: output: %w", err)
		if back := os.Rename(old, path); back != nil && !errors.Is(back, fs.ErrNotExist) {
			keep = true
			err = errors.Join(err, fmt.Errorf("convert: what was in %s is now in %s: %w", out, old, back))
		}
		return err
	}
	return nil
}
