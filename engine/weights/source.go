// Where a packed directory's bytes come from: a folder, any fs.FS, or what the browser build supplies.

package weights

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Source gives access to the files of a packed directory.
type Source interface {
	// ReadFile returns a whole (small) file. An absent file gives an error that wraps fs.ErrNotExist.
	ReadFile(name string) ([]byte, error)
	// Open gives access to a shard.
	Open(name string) (Blob, error)
}

// Blob is an open shard.
type Blob interface {
	io.ReaderAt
	Size() int64 // bytes
	Close() error
}

// Sizer is an optional interface of a Source that can tell a file's size cheaply; Open then finds truncated shards.
type Sizer interface {
	FileSize(name string) (int64, error)
}

// Dir is the folder at path.
func Dir(path string) Source { return FS(os.DirFS(path)) }

// FS is the root of fsys, whose files must implement io.ReaderAt.
func FS(fsys fs.FS) Source { return fsSource{fsys} }

type fsSource struct{ fsys fs.FS }

func (s fsSource) ReadFile(name string) ([]byte, error) { return fs.ReadFile(s.fsys, name) }

func (s fsSource) FileSize(name string) (int64, error) {
	info, err := fs.Stat(s.fsys, name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (s fsSource) Open(name string) (Blob, error) {
	file, err := s.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	r, ok := file.(io.ReaderAt)
	if !ok {
		file.Close()
		return nil, fmt.Errorf("%s: files of %T cannot be read at an offset", name, s.fsys)
	}
	return fileBlob{r, file, info.Size()}, nil
}

type fileBlob struct {
	io.ReaderAt
	io.Closer
	size int64
}

func (b fileBlob) Size() int64 { return b.size }
