//go:build js

package main

// The model's files: a weights.Source over what the worker supplies (ModelFiles of web/src/engine/worker/files.ts), which
// downloads, stores and checks them. A chunk is copied once, into the buffer that asks for it.

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall/js"

	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// await waits for a promise, or takes a value that is none.
func await(v js.Value) (js.Value, error) {
	if v.Type() != js.TypeObject || v.Get("then").Type() != js.TypeFunction {
		return v, nil
	}
	type outcome struct {
		value js.Value
		err   error
	}
	done := make(chan outcome, 1)
	settled := js.FuncOf(func(_ js.Value, args []js.Value) any {
		done <- outcome{value: args[0]}
		return nil
	})
	defer settled.Release()
	failed := js.FuncOf(func(_ js.Value, args []js.Value) any {
		done <- outcome{err: errorOf(args[0])}
		return nil
	})
	defer failed.Release()
	v.Call("then", settled, failed)
	out := <-done
	return out.value, out.err
}

// errorOf turns a QwenError, or anything else that was thrown, into an error.
func errorOf(v js.Value) error {
	if v.Type() != js.TypeObject {
		return errors.New(v.String())
	}
	err := errors.New(v.Get("message").String())
	if code := v.Get("code"); code.Type() == js.TypeString {
		if code.String() == codeNotFound {
			return &codedError{codeInvalid, fmt.Errorf("%w (%w)", err, fs.ErrNotExist)}
		}
		return &codedError{code.String(), err}
	}
	return err
}

// files implements weights.Source.
type files struct {
	js    js.Value
	sizes map[string]int64 // of the shards, once the manifest has been read
}

func (f *files) call(method string, args ...any) (v js.Value, err error) {
	defer func() {
		if e, ok := recover().(js.Error); ok {
			err = errorOf(e.Value)
		}
	}()
	return await(f.js.Call(method, args...))
}

func (f *files) ReadFile(name string) ([]byte, error) {
	v, err := f.call("readFile", name)
	if err != nil {
		return nil, err
	}
	data := make([]byte, v.Length())
	js.CopyBytesToGo(data, v)
	if name == weights.ManifestName {
		m, err := weights.ParseManifest(data)
		if err != nil {
			return nil, err
		}
		f.sizes = map[string]int64{}
		for _, s := range m.Shards {
			f.sizes[s.Name] = s.SizeBytes
		}
	}
	return data, nil
}

// Open does not wait for the shard: reading does.
func (f *files) Open(name string) (weights.Blob, error) {
	return &blob{files: f, name: name, size: f.sizes[name]}, nil
}

// blob is a shard. Its size is what the manifest says: a file of another size is never handed out.
type blob struct {
	*files
	name string
	size int64
}

func (b *blob) Size() int64 { return b.size }

func (b *blob) Close() error { return nil }

func (b *blob) ReadAt(dst []byte, offset int64) (int, error) {
	v, err := b.call("read", b.name, float64(offset), len(dst))
	if err != nil {
		return 0, err
	}
	return js.CopyBytesToGo(dst, v), nil
}
