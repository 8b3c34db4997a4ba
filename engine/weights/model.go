// An open packed directory: checked against its config once, then read row by row or streamed plane by plane.

package weights

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
)

// Model is an open packed directory. Its methods may be called from several goroutines.
type Model struct {
	Config     *config.Config
	Generation *config.Generation // the zero value where the model has no generation_config.json
	Manifest   Manifest

	src      Source
	matrices map[string]*Matrix
	vectors  map[string]VectorInfo
	shards   map[string]int64 // size in bytes
	mu       sync.Mutex
	open     map[string]Blob
}

// Option changes what Open does.
type Option func(*openOptions)

type openOptions struct {
	verify   bool
	ctx      context.Context
	progress func(doneBytes, totalBytes int64)
}

// WithVerify makes Open read every file and check its SHA-256, as Model.Verify does; the error names every bad file.
func WithVerify(ctx context.Context, progress func(doneBytes, totalBytes int64)) Option {
	return func(o *openOptions) { o.verify, o.ctx, o.progress = true, ctx, progress }
}

// Open reads the manifest and configuration and checks every shape against config.json and every plane against its
// shard's size. It reads no weights; Verify does.
func Open(src Source, options ...Option) (*Model, error) {
	var o openOptions
	for _, option := range options {
		option(&o)
	}
	data, err := src.ReadFile(ManifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("weights: there is no %s: not a packed model directory (the converter makes one from a checkpoint): %w", ManifestName, err)
	}
	if err != nil {
		return nil, fmt.Errorf("weights: %s: %w", ManifestName, err)
	}
	manifest, err := ParseManifest(data)
	if err != nil {
		return nil, err
	}
	m := &Model{
		Manifest: *manifest, Generation: &config.Generation{}, src: src,
		matrices: map[string]*Matrix{}, vectors: map[string]VectorInfo{}, shards: map[string]int64{}, open: map[string]Blob{},
	}
	if err := m.readConfigs(); err != nil {
		return nil, err
	}
	if err := manifest.checkConfig(m.Config); err != nil {
		return nil, err
	}
	for i := range m.Manifest.Matrices {
		mat := &m.Manifest.Matrices[i]
		m.matrices[mat.Name] = mat
	}
	for _, v := range manifest.Vectors {
		m.vectors[v.Name] = v
	}
	for _, s := range manifest.Shards {
		m.shards[s.Name] = s.SizeBytes
	}
	if o.verify {
		err = m.Verify(o.ctx, o.progress)
	} else {
		err = m.checkSizes()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Model) readConfigs() error {
	data, err := m.src.ReadFile(ConfigName)
	if err != nil {
		return fmt.Errorf("weights: %s: %w", ConfigName, err)
	}
	if m.Config, err = config.Parse(data); err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	data, err = m.src.ReadFile(GenerationConfigName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("weights: %s: %w", GenerationConfigName, err)
	}
	if m.Generation, err = config.ParseGeneration(data); err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	return nil
}

// checkSizes compares the shards' sizes with the manifest's, where the source can tell them cheaply.
func (m *Model) checkSizes() error {
	sizer, ok := m.src.(Sizer)
	if !ok {
		return nil
	}
	for _, s := range m.Manifest.Shards {
		size, err := sizer.FileSize(s.Name)
		if err != nil {
			return fmt.Errorf("weights: shard %s: %w", s.Name, err)
		}
		if size != s.SizeBytes {
			return fmt.Errorf("weights: shard %s has %d bytes, but the manifest says %d: it is truncated or from another conversion", s.Name, size, s.SizeBytes)
		}
	}
	return nil
}

// HasLMHead tells whether the output projection is a matrix of its own; otherwise embed_tokens serves for both.
func (m *Model) HasLMHead() bool { return m.matrices["lm_head"] != nil }

// HasTokenizer tells whether the directory carries tokenizer.json.
func (m *Model) HasTokenizer() bool {
	for _, f := range m.Manifest.Files {
		if f.Name == TokenizerName {
			return true
		}
	}
	return false
}

// WeightBytes is the size of all planes and vectors: what a device must hold.
func (m *Model) WeightBytes() int64 {
	var n int64
	for _, mat := range m.Manifest.Matrices {
		for _, p := range mat.Pieces {
			n += p.Data.Size + p.Scales.Size
		}
	}
	for _, v := range m.Manifest.Vectors {
		n += v.Data.Size
	}
	return n
}

// ReadFile returns a carried file such as tokenizer.json. An absent one gives an error that wraps fs.ErrNotExist.
func (m *Model) ReadFile(name string) ([]byte, error) {
	data, err := m.src.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("weights: %s: %w", name, err)
	}
	return data, nil
}

// Matrix returns a matrix by name, for example "layers.0.qkv_proj". MatrixSpecs lists the names.
func (m *Model) Matrix(name string) (*Matrix, error) {
	mat, ok := m.matrices[name]
	if !ok {
		return nil, fmt.Errorf("weights: there is no matrix %q", name)
	}
	return mat, nil
}

// Vector reads a vector by name, for example "layers.0.k_norm". VectorSpecs lists the names.
func (m *Model) Vector(name string) ([]float32, error) {
	v, ok := m.vectors[name]
	if !ok {
		return nil, fmt.Errorf("weights: there is no vector %q", name)
	}
	raw := make([]byte, v.Data.Size)
	if err := m.readAt(v.Data, raw, 0); err != nil {
		return nil, fmt.Errorf("weights: vector %s: %w", name, err)
	}
	out := make([]float32, v.Length)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out, nil
}

// Stream hands a plane's bytes to fn in order, at most chunkBytes at a time (rounded down to a multiple of 16, at least
// 16). The offset is within the plane; the chunk is valid during the call only.
func (m *Model) Stream(p Plane, chunkBytes int, fn func(offset int64, chunk []byte) error) error {
	chunkBytes = max(chunkBytes/PlaneAlignment*PlaneAlignment, PlaneAlignment)
	buf := make([]byte, min(int64(chunkBytes), p.Size))
	for at := int64(0); at < p.Size; at += int64(len(buf)) {
		chunk := buf[:min(int64(len(buf)), p.Size-at)]
		if err := m.readAt(p, chunk, at); err != nil {
			return fmt.Errorf("weights: %w", err)
		}
		if err := fn(at, chunk); err != nil {
			return err
		}
	}
	return nil
}

// Row dequantises row i of mat into dst, whose length is mat.Cols.
func (m *Model) Row(mat *Matrix, i int, dst []float32) error {
	if i < 0 || i >= mat.Rows || len(dst) != mat.Cols {
		return fmt.Errorf("weights: row %d of %s [%d, %d] into %d elements", i, mat.Name, mat.Rows, mat.Cols, len(dst))
	}
	for _, p := range mat.Pieces {
		if i < p.RowStart+p.Rows {
			return m.rows(mat, p, i-p.RowStart, 1, dst)
		}
	}
	return fmt.Errorf("weights: row %d of %s lies in no piece", i, mat.Name)
}

// Dequantize returns all of mat, [Rows*Cols]. It is for tests and the reference: a large matrix takes 4 bytes a weight.
func (m *Model) Dequantize(mat *Matrix) ([]float32, error) {
	out := make([]float32, mat.Rows*mat.Cols)
	const step = 256 // rows read at a time
	for _, p := range mat.Pieces {
		for r := 0; r < p.Rows; r += step {
			n := min(step, p.Rows-r)
			at := (p.RowStart + r) * mat.Cols
			if err := m.rows(mat, p, r, n, out[at:at+n*mat.Cols]); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// rows dequantises n rows of a piece, from its row first on, into dst [n*Cols].
func (m *Model) rows(mat *Matrix, p Piece, first, n int, dst []float32) error {
	dataRow, scaleRow := mat.DType.DataRowBytes(mat.Stride), mat.DType.ScaleRowBytes(mat.Stride)
	data, scales := make([]byte, int64(n)*dataRow), make([]byte, int64(n)*scaleRow)
	if err := m.readAt(p.Data, data, int64(first)*dataRow); err != nil {
		return fmt.Errorf("weights: %s: %w", mat.Name, err)
	}
	if len(scales) > 0 {
		if err := m.readAt(p.Scales, scales, int64(first)*scaleRow); err != nil {
			return fmt.Errorf("weights: %s: scales: %w", mat.Name, err)
		}
	}
	for i := range n {
		mat.DType.DecodeRow(dst[i*mat.Cols:(i+1)*mat.Cols], data[int64(i)*dataRow:], scales[int64(i)*scaleRow:])
	}
	return nil
}

// readAt fills dst from a plane, offset bytes into it.
func (m *Model) readAt(p Plane, dst []byte, offset int64) error {
	if offset < 0 || offset > p.Size-int64(len(dst)) {
		return fmt.Errorf("bytes %d..%d of a plane of %d", offset, offset+int64(len(dst))-1, p.Size)
	}
	blob, err := m.blob(p.Shard)
	if err != nil {
		return err
	}
	n, err := blob.ReadAt(dst, p.Offset+offset)
	if n == len(dst) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("shard %s: read %d of %d bytes at offset %d: %w", p.Shard, n, len(dst), p.Offset+offset, err)
}

// blob opens a shard at its first use.
func (m *Model) blob(name string) (Blob, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.open[name]; ok {
		return b, nil
	}
	if m.open == nil {
		return nil, errors.New("the model is closed")
	}
	want, ok := m.shards[name]
	if !ok {
		return nil, fmt.Errorf("shard %q is not listed", name)
	}
	b, err := m.src.Open(name)
	if err != nil {
		return nil, fmt.Errorf("shard %s: %w", name, err)
	}
	if b.Size() != want {
		b.Close()
		return nil, fmt.Errorf("shard %s has %d bytes, but the manifest says %d: it is truncated or from another conversion", name, b.Size(), want)
	}
	m.open[name] = b
	return b, nil
}

// Close closes the shards. Nothing can be read afterwards.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, b := range m.open {
		errs = append(errs, b.Close())
	}
	m.open = nil
	return errors.Join(errs...)
}
