// Package packer turns a Hugging Face Qwen3 checkpoint into a packed model directory (docs/model-format.md).
//
// It owns the conversion: checking the input, choosing scales, laying out and writing shards. Memory stays far below a
// model's size, because pieces stream through; the output depends on the input and options only, not on the machine.
package packer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
	"github.com/qwen-wgpu/qwen-wgpu/tools/convert/outdir"
)

// DefaultShardBytes is the largest shard file unless Options say otherwise.
const DefaultShardBytes = 64 << 20

// MaxShardBytes is the default WebGPU limit of one storage binding; a piece must not be larger.
const MaxShardBytes = 128 << 20

// Options of a conversion. The zero value packs bf16 into shards of 64 MiB on all cores.
type Options struct {
	DType      weights.DType // "" means bf16
	ShardBytes int64         // largest shard file; 0 means DefaultShardBytes
	Force      bool          // replace an existing packed model directory
	LMHead     LMHead        // what to do where config.json says tied, but the checkpoint's lm_head differs
	Workers    int           // goroutines that pack; 0 means one a core
	// Progress is called with the checkpoint bytes processed, from several goroutines; nil for none.
	Progress func(doneBytes, totalBytes int64)

	create func(path string) (io.WriteCloser, error) // tests put a failing disk here
	free   func(dir string) (bytes int64, known bool)
}

// LMHead resolves the contradiction of a tied config and an lm_head that differs from the embedding.
type LMHead string

const (
	LMHeadRefuse    LMHead = ""          // an error that names the first difference
	LMHeadEmbedding LMHead = "embedding" // believe config.json: drop lm_head (transformers 4)
	LMHeadStored    LMHead = "stored"    // believe the checkpoint: pack lm_head (transformers 5)
)

// Report says what a conversion did.
type Report struct {
	Config      *config.Config
	Manifest    weights.Manifest
	SourceBytes int64 // checkpoint tensors read
	PackedBytes int64 // files written, the manifest not counted
}

// ConvertDir packs the checkpoint in folder in into the new folder out.
func ConvertDir(in, out string, o Options) (Report, error) {
	return Convert(context.Background(), in, out, o)
}

// Convert packs the checkpoint in folder in into the new folder out. Everything is written to a temporary folder beside
// out, which is renamed at the end; an error or a cancelled context leaves nothing behind.
func Convert(ctx context.Context, in, out string, o Options) (Report, error) {
	if err := o.complete(); err != nil {
		return Report{}, err
	}
	if err := outdir.CheckApart(in, out); err != nil {
		return Report{}, err
	}
	if err := outdir.Check(out, weights.ManifestName, o.Force); err != nil {
		return Report{}, err
	}
	ck, err := openCheckpoint(in)
	if err != nil {
		return Report{}, err
	}
	defer ck.close()
	c := &conversion{Options: o, ctx: ctx, ck: ck}
	var report Report
	err = outdir.Replace(out, func(tmp string) error {
		c.dir = tmp
		report, err = c.run()
		return err
	})
	return report, err
}

func (o *Options) complete() error {
	if o.DType == "" {
		o.DType = weights.BF16
	}
	if _, err := weights.ParseDType(string(o.DType)); err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	if o.ShardBytes == 0 {
		o.ShardBytes = DefaultShardBytes
	}
	if o.ShardBytes < 1 || o.ShardBytes > MaxShardBytes {
		return fmt.Errorf("convert: shards of %d bytes: the size must be from 1 to %d, WebGPU's default limit of one binding", o.ShardBytes, MaxShardBytes)
	}
	switch o.LMHead {
	case LMHeadRefuse, LMHeadEmbedding, LMHeadStored:
	default:
		return fmt.Errorf("convert: lm_head choice %q is unknown: use %s or %s", o.LMHead, LMHeadEmbedding, LMHeadStored)
	}
	if o.Workers < 1 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.create == nil {
		o.create = func(path string) (io.WriteCloser, error) {
			return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		}
	}
	if o.free == nil {
		o.free = freeBytes
	}
	return nil
}

// conversion is one run.
type conversion struct {
	Options
	ctx   context.Context
	ck    *checkpoint
	dir   string // being filled
	plan  *plan
	done  atomic.Int64 // checkpoint bytes
	total int64

	manifest weights.Manifest
}

func (c *conversion) run() (Report, error) {
	c.manifest = weights.Manifest{
		Format: weights.Format, Version: weights.Version, DType: c.DType, GroupSize: weights.GroupSize,
		Parameters: c.ck.config.ParameterCount(),
	}
	hasLMHead := !c.ck.config.TieWordEmbeddings
	_, storedLMHead := c.ck.tensors["lm_head.weight"]
	for name, t := range c.ck.tensors {
		if name != "lm_head.weight" || hasLMHead || c.LMHead == LMHeadStored {
			c.total += t.End - t.Begin
		}
	}
	if storedLMHead && !hasLMHead {
		compared := c.ck.tensors["lm_head.weight"]
		c.total += compared.End - compared.Begin
		pack, err := c.resolveTiedLMHead()
		if err != nil {
			return Report{}, err
		}
		hasLMHead = pack
	}
	var err error
	if c.plan, err = makePlan(c.ck, c.DType, hasLMHead, c.ShardBytes); err != nil {
		return Report{}, err
	}
	if err := c.checkSpace(); err != nil {
		return Report{}, err
	}
	if err := c.carryFiles(); err != nil {
		return Report{}, err
	}
	if err := c.writeShards(); err != nil {
		return Report{}, err
	}
	return c.writeManifest()
}

// checkSpace refuses to begin what the disk cannot hold.
func (c *conversion) checkSpace() error {
	var need int64
	for _, s := range c.plan.shards {
		need += s.headerBytes + s.dataBytes
	}
	if free, known := c.free(c.dir); known && free < need {
		return fmt.Errorf("convert: the packed model needs %d bytes, but only %d are free on the disk of the output directory", need, free)
	}
	return nil
}

// carried lists the files that travel with a model; only config.json must be there.
var carried = []string{
	weights.ConfigName, weights.GenerationConfigName, weights.TokenizerName, weights.TokenizerConfigName,
	weights.ChatTemplateName, "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json", "LICENSE",
}

// carryFiles copies the configuration and tokenizer files.
func (c *conversion) carryFiles() error {
	hasTokenizer := false
	for _, name := range carried {
		data, err := os.ReadFile(filepath.Join(c.ck.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("convert: %w", err)
		}
		if name == weights.GenerationConfigName {
			if _, err := config.ParseGeneration(data); err != nil {
				return fmt.Errorf("convert: %s: %w", c.ck.dir, err)
			}
		}
		if err := os.WriteFile(filepath.Join(c.dir, name), data, 0o644); err != nil {
			return fmt.Errorf("convert: %w", err)
		}
		sum := sha256.Sum256(data)
		c.manifest.Files = append(c.manifest.Files, weights.FileInfo{Name: name, SizeBytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
		hasTokenizer = hasTokenizer || name == weights.TokenizerName
	}
	if !hasTokenizer {
		c.warn("there is no %s in the checkpoint: the packed model takes and gives token ids, no text", weights.TokenizerName)
	}
	return nil
}

func (c *conversion) warn(format string, args ...any) {
	c.manifest.Warnings = append(c.manifest.Warnings, fmt.Sprintf(format, args...))
}

// packed is a piece on its way from the workers to the shard file.
type packed struct {
	planes buffers
	sizes  [2]int64 // bytes of data and (aligned) scales to write
}

// writeShards packs piece after piece, while the one before is hashed and written.
func (c *conversion) writeShards() error {
	workers := make([]*worker, c.Workers)
	for i := range workers {
		workers[i] = new(worker)
	}
	free := make(chan buffers, 2)
	free <- buffers{}
	free <- buffers{}
	for _, s := range c.plan.shards {
		info, err := c.writeShard(s, workers, free)
		if err != nil {
			return err
		}
		c.manifest.Shards = append(c.manifest.Shards, info)
	}
	return nil
}

// shardFile is an output file with its running hash.
type shardFile struct {
	file io.Writer
	hash hash.Hash
	size int64
}

func (s *shardFile) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	return n, err
}

func (c *conversion) writeShard(s *shardPlan, workers []*worker, free chan buffers) (info weights.FileInfo, err error) {
	file, err := c.create(filepath.Join(c.dir, s.name))
	if err != nil {
		return info, fmt.Errorf("convert: %w", err)
	}
	out := &shardFile{file: file, hash: sha256.New()}
	w, err := safetensors.Create(out, shardMetadata, s.infos)
	if err == nil {
		err = c.writePieces(s, w, workers, free)
	}
	if err == nil {
		err = c.writeVectors(s, w)
	}
	if err == nil {
		err = w.Close()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return info, fmt.Errorf("convert: shard %s: %w", s.name, err)
	}
	return weights.FileInfo{Name: s.name, SizeBytes: out.size, SHA256: hex.EncodeToString(out.hash.Sum(nil))}, nil
}

// writePieces runs the workers on one piece while a goroutine writes the one before.
func (c *conversion) writePieces(s *shardPlan, w io.Writer, workers []*worker, free chan buffers) error {
	queue := make(chan packed, 1)
	written := make(chan error, 1)
	go func() {
		var err error
		for p := range queue {
			if err == nil {
				_, err = w.Write(p.planes.data[:p.sizes[0]])
			}
			if err == nil {
				_, err = w.Write(p.planes.scales[:p.sizes[1]])
			}
			free <- p.planes
		}
		written <- err
	}()
	var err error
	for _, pp := range s.pieces {
		m, piece := pp.matrix, pp.matrix.Pieces[pp.index]
		out := <-free
		sizes := [2]int64{piece.Data.Size, align(piece.Scales.Size)}
		out.data, out.scales = grow(out.data, int(sizes[0])), grow(out.scales, int(sizes[1]))
		clear(out.scales[int64(piece.Rows)*m.DType.ScaleRowBytes(m.Stride):])
		if !m.exact() && m.stats == nil {
			m.stats = make([]rowStats, m.Rows)
		}
		if err = packPiece(c.ctx, m, piece, out, workers, c.progress); err != nil {
			free <- out
			break
		}
		if pp.index == len(m.Pieces)-1 {
			m.finish()
		}
		queue <- packed{out, sizes}
	}
	close(queue)
	return errors.Join(err, <-written)
}

// exact holds where every weight is copied bit by bit.
func (m *matrixPlan) exact() bool {
	for _, p := range m.parts {
		if m.DType != weights.BF16 || p.DType != safetensors.BF16 {
			return false
		}
	}
	return true
}

func (c *conversion) progress(bytes int64) { c.Progress(c.done.Add(bytes), c.total) }

func (c *conversion) writeVectors(s *shardPlan, w io.Writer) error {
	for _, v := range s.vectors {
		gains, err := readVector(v.tensor)
		if err != nil {
			return err
		}
		raw := make([]byte, 0, 4*len(gains))
		for _, g := range gains {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(g))
		}
		if _, err := w.Write(raw); err != nil {
			return err
		}
		c.progress(v.End - v.Begin)
	}
	return nil
}

func (c *conversion) writeManifest() (Report, error) {
	for _, m := range c.plan.matrices {
		c.manifest.Matrices = append(c.manifest.Matrices, m.Matrix)
		for _, s := range m.Sources {
			if c.DType == weights.BF16 && s.Error.MaxAbs > 0 {
				c.warn("%s is %s and lost digits in bf16: relative RMS error %.3g, max %.3g", s.Name, s.DType, s.Error.RelativeRMS, s.Error.MaxAbs)
			}
		}
	}
	c.manifest.Vectors = c.plan.vectors
	data, err := c.manifest.Marshal()
	if err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, weights.ManifestName), data, 0o644); err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	// What was written must open: a wrong plan must not become a model directory.
	m, err := weights.Open(weights.Dir(c.dir))
	if err != nil {
		return Report{}, fmt.Errorf("convert: the result does not open: %w", err)
	}
	defer m.Close()
	r := Report{Config: c.ck.config, Manifest: c.manifest, SourceBytes: c.total}
	for _, list := range [][]weights.FileInfo{c.manifest.Files, c.manifest.Shards} {
		for _, f := range list {
			r.PackedBytes += f.SizeBytes
		}
	}
	return r, nil
}
