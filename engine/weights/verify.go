// Rechecking a packed directory's bytes against its manifest.

package weights

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
)

// Verify reads every file named by the manifest and compares its SHA-256; of shards it also checks that the header
// agrees with the manifest. Several shards are read at a time. Every bad file is named in the error. progress may be nil.
func (m *Model) Verify(ctx context.Context, progress func(doneBytes, totalBytes int64)) error {
	if ctx == nil {
		ctx = context.Background()
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	var done, total int64
	for _, list := range [][]FileInfo{m.Manifest.Files, m.Manifest.Shards} {
		for _, f := range list {
			total += f.SizeBytes
		}
	}
	var bad []error
	for _, f := range m.Manifest.Files {
		if err := m.verifyFile(f); err != nil {
			bad = append(bad, err)
		}
		done += f.SizeBytes
		progress(done, total)
	}
	errs := make([]error, len(m.Manifest.Shards))
	var mu sync.Mutex // of done and progress
	var wait sync.WaitGroup
	next := make(chan int)
	for range min(runtime.GOMAXPROCS(0), len(errs)) {
		wait.Go(func() {
			buf := make([]byte, 4<<20)
			for i := range next {
				errs[i] = m.verifyShard(ctx, m.Manifest.Shards[i], buf, func(n int) {
					mu.Lock()
					defer mu.Unlock()
					done += int64(n)
					progress(done, total)
				})
			}
		})
	}
	for i := range errs {
		next <- i
	}
	close(next)
	wait.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("weights: verify: %w", ctx.Err())
	}
	bad = append(bad, errs...)
	return errors.Join(bad...)
}

func (m *Model) verifyFile(f FileInfo) error {
	data, err := m.src.ReadFile(f.Name)
	if err != nil {
		return fmt.Errorf("weights: file %s: %w", f.Name, err)
	}
	sum := sha256.Sum256(data)
	return f.compare("file", int64(len(data)), sum[:])
}

func (f FileInfo) compare(kind string, size int64, sum []byte) error {
	if size != f.SizeBytes {
		return fmt.Errorf("weights: %s %s has %d bytes, but the manifest says %d", kind, f.Name, size, f.SizeBytes)
	}
	if got := hex.EncodeToString(sum); got != f.SHA256 {
		return fmt.Errorf("weights: %s %s is damaged: its SHA-256 is %s, but the manifest says %s", kind, f.Name, got, f.SHA256)
	}
	return nil
}

func (m *Model) verifyShard(ctx context.Context, s FileInfo, buf []byte, read func(numBytes int)) error {
	blob, err := m.src.Open(s.Name)
	if err != nil {
		return fmt.Errorf("weights: shard %s: %w", s.Name, err)
	}
	defer blob.Close()
	hash := sha256.New()
	r := io.NewSectionReader(blob, 0, blob.Size())
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		hash.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("weights: shard %s: %w", s.Name, err)
		}
		read(n)
	}
	if err := s.compare("shard", blob.Size(), hash.Sum(nil)); err != nil {
		return err
	}
	return m.verifyHeader(s, blob)
}

// verifyHeader checks that each plane of the manifest begins where a tensor of the shard does and fits into it.
func (m *Model) verifyHeader(s FileInfo, blob Blob) error {
	file, err := safetensors.ParseHeader(blob, blob.Size())
	if err != nil {
		return fmt.Errorf("weights: shard %s: %w", s.Name, err)
	}
	begins := map[int64]safetensors.Tensor{}
	for _, t := range file.Tensors {
		begins[t.Begin] = t
	}
	check := func(what string, p Plane) error {
		if p.Shard != s.Name {
			return nil
		}
		t, ok := begins[p.Offset]
		if !ok || t.End-t.Begin < p.Size {
			return fmt.Errorf("weights: shard %s: no tensor of %d bytes at offset %d, where the manifest puts %s", s.Name, p.Size, p.Offset, what)
		}
		return nil
	}
	for _, mat := range m.Manifest.Matrices {
		for _, p := range mat.Pieces {
			if err := check(mat.Name, p.Data); err != nil {
				return err
			}
			if p.Scales.Size > 0 {
				if err := check(mat.Name+" (scales)", p.Scales); err != nil {
					return err
				}
			}
		}
	}
	for _, v := range m.Manifest.Vectors {
		if err := check(v.Name, v.Data); err != nil {
			return err
		}
	}
	return nil
}
