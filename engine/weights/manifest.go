// The manifest: what manifest.json says of a packed directory, and which matrices and vectors a config demands.

package weights

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
)

// Format and Version identify manifest.json. A reader refuses another format or version.
const (
	Format  = "qwen-wgpu packed model"
	Version = 1
)

// The names of files in a packed directory that readers ask for. All but the first two may be absent.
const (
	ManifestName         = "manifest.json"
	ConfigName           = "config.json"
	GenerationConfigName = "generation_config.json"
	TokenizerName        = "tokenizer.json"
	TokenizerConfigName  = "tokenizer_config.json"
	ChatTemplateName     = "chat_template.jinja"
)

// Manifest is manifest.json.
type Manifest struct {
	Format     string       `json:"format"`
	Version    int          `json:"version"`
	DType      DType        `json:"dtype"`      // asked of the converter; each matrix names its own
	GroupSize  int          `json:"group_size"` // weights a scale
	Parameters int64        `json:"parameters"` // a tied embedding counted once
	Warnings   []string     `json:"warnings,omitempty"`
	Files      []FileInfo   `json:"files"`  // carried along: config.json, tokenizer.json, …
	Shards     []FileInfo   `json:"shards"` // in the order of a forward pass
	Matrices   []Matrix     `json:"matrices"`
	Vectors    []VectorInfo `json:"vectors"`
}

// FileInfo is a file of the directory, with what its bytes must be.
type FileInfo struct {
	Name      string `json:"name"`
	SizeBytes int64  `json:"size_bytes"`
	SHA256    string `json:"sha256"` // lower-case hexadecimal
}

// Matrix is one matrix of the model, cut into pieces of whole rows.
type Matrix struct {
	Name    string         `json:"name"`
	Rows    int            `json:"rows"`
	Cols    int            `json:"cols"`
	Stride  int            `json:"stride"` // Cols rounded up to a multiple of GroupSize; the rest of each row is zero
	DType   DType          `json:"dtype"`
	Pieces  []Piece        `json:"pieces"`  // in row order, without gaps
	Sources []SourceTensor `json:"sources"` // checkpoint tensors it was made of
}

// Piece is a run of rows whose planes lie in one shard.
type Piece struct {
	RowStart int   `json:"row_start"`
	Rows     int   `json:"rows"`
	Data     Plane `json:"data"`
	Scales   Plane `json:"scales,omitzero"` // zero for bf16
}

// Plane is a range of bytes of a shard.
type Plane struct {
	Shard  string `json:"shard"`
	Offset int64  `json:"offset"` // bytes, a multiple of PlaneAlignment
	Size   int64  `json:"size"`   // bytes
}

// SourceTensor is a checkpoint tensor and what packing it cost.
type SourceTensor struct {
	Name  string     `json:"name"`
	DType string     `json:"dtype"` // as in the checkpoint: BF16, F16 or F32
	Error ErrorStats `json:"error"` // zero where packing is exact
}

// ErrorStats compares a tensor w with what its packed form says, dq(w).
type ErrorStats struct {
	RelativeRMS float64 `json:"relative_rms"` // ||w - dq(w)|| / ||w||, 0 for a zero tensor
	MaxAbs      float64 `json:"max_abs"`      // max |w - dq(w)|
}

// VectorInfo is a norm's gain, float32 little endian, exact.
type VectorInfo struct {
	Name   string `json:"name"`
	Length int    `json:"length"`
	Data   Plane  `json:"data"`
}

// MatrixSpec is a matrix that a model must have.
type MatrixSpec struct {
	Name       string
	Rows, Cols int
}

// VectorSpec is a vector that a model must have.
type VectorSpec struct {
	Name   string
	Length int
}

// MatrixSpecs lists a model's matrices in the order of a forward pass.
func MatrixSpecs(c *config.Config, hasLMHead bool) []MatrixSpec {
	specs := []MatrixSpec{{"embed_tokens", c.VocabSize, c.HiddenSize}}
	for i := range c.NumHiddenLayers {
		p := fmt.Sprintf("layers.%d.", i)
		specs = append(specs,
			MatrixSpec{p + "qkv_proj", c.QDim() + 2*c.KVDim(), c.HiddenSize}, // q rows, then k, then v
			MatrixSpec{p + "o_proj", c.HiddenSize, c.QDim()},
			MatrixSpec{p + "gate_up_proj", 2 * c.IntermediateSize, c.HiddenSize}, // row 2i is gate i, row 2i+1 is up i
			MatrixSpec{p + "down_proj", c.HiddenSize, c.IntermediateSize})
	}
	if hasLMHead {
		specs = append(specs, MatrixSpec{"lm_head", c.VocabSize, c.HiddenSize})
	}
	return specs
}

// VectorSpecs lists a model's vectors in the order of a forward pass.
func VectorSpecs(c *config.Config) []VectorSpec {
	var specs []VectorSpec
	for i := range c.NumHiddenLayers {
		p := fmt.Sprintf("layers.%d.", i)
		specs = append(specs,
			VectorSpec{p + "input_layernorm", c.HiddenSize},
			VectorSpec{p + "q_norm", c.HeadDim},
			VectorSpec{p + "k_norm", c.HeadDim},
			VectorSpec{p + "post_attention_layernorm", c.HiddenSize})
	}
	return append(specs, VectorSpec{"norm", c.HiddenSize})
}

// Marshal writes the manifest with one line an entry; the same manifest gives the same bytes.
func (m *Manifest) Marshal() ([]byte, error) {
	var b bytes.Buffer
	var err error
	line := func(v any) []byte {
		data, e := json.Marshal(v)
		if e != nil && err == nil {
			err = e
		}
		return data
	}
	fmt.Fprintf(&b, "{\n  \"format\": %s,\n  \"version\": %d,\n  \"dtype\": %s,\n  \"group_size\": %d,\n  \"parameters\": %d",
		line(m.Format), m.Version, line(m.DType), m.GroupSize, m.Parameters)
	list := func(key string, n int, entry func(i int) any) {
		fmt.Fprintf(&b, ",\n  %q: [", key)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "\n    %s", line(entry(i)))
		}
		b.WriteString("\n  ]")
	}
	if len(m.Warnings) > 0 {
		list("warnings", len(m.Warnings), func(i int) any { return m.Warnings[i] })
	}
	list("files", len(m.Files), func(i int) any { return m.Files[i] })
	list("shards", len(m.Shards), func(i int) any { return m.Shards[i] })
	list("matrices", len(m.Matrices), func(i int) any { return m.Matrices[i] })
	list("vectors", len(m.Vectors), func(i int) any { return m.Vectors[i] })
	b.WriteString("\n}\n")
	if err != nil {
		return nil, fmt.Errorf("weights: manifest: %w", err)
	}
	return b.Bytes(), nil
}

// ParseManifest reads manifest.json and checks it against itself, not against a config or files.
func ParseManifest(data []byte) (*Manifest, error) {
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("weights: %s: %w", ManifestName, err)
	}
	if head.Format != Format {
		return nil, fmt.Errorf("weights: %s: format %q is not %q: not a packed model directory", ManifestName, head.Format, Format)
	}
	if head.Version != Version {
		return nil, fmt.Errorf("weights: %s: version %d, but this program reads version %d: convert the model again", ManifestName, head.Version, Version)
	}
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("weights: %s: %w", ManifestName, err)
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("weights: %s: %w", ManifestName, err)
	}
	return m, nil
}

func (m *Manifest) validate() error {
	if m.GroupSize != GroupSize {
		return fmt.Errorf("group_size %d is not %d", m.GroupSize, GroupSize)
	}
	shards := map[string]int64{}
	names := map[string]bool{ManifestName: true}
	for _, list := range [][]FileInfo{m.Files, m.Shards} {
		for _, f := range list {
			if err := f.validate(); err != nil {
				return err
			}
			if names[f.Name] {
				return fmt.Errorf("file %q is listed twice", f.Name)
			}
			names[f.Name] = true
		}
	}
	for _, s := range m.Shards {
		shards[s.Name] = s.SizeBytes
	}
	seen := map[string]bool{}
	for i := range m.Matrices {
		mat := &m.Matrices[i]
		if seen[mat.Name] {
			return fmt.Errorf("%s is listed twice", mat.Name)
		}
		seen[mat.Name] = true
		if err := mat.validate(shards); err != nil {
			return fmt.Errorf("matrix %s: %w", mat.Name, err)
		}
	}
	for _, v := range m.Vectors {
		if seen[v.Name] {
			return fmt.Errorf("%s is listed twice", v.Name)
		}
		seen[v.Name] = true
		if v.Length < 1 || v.Length > math.MaxInt32 {
			return fmt.Errorf("vector %s: length %d is outside 1..%d", v.Name, v.Length, math.MaxInt32)
		}
		if err := v.Data.validate(shards, 4*int64(v.Length), 4); err != nil {
			return fmt.Errorf("vector %s: %w", v.Name, err)
		}
	}
	return nil
}

func (f FileInfo) validate() error {
	if !plainName(f.Name) {
		return fmt.Errorf("file name %q is not a plain file name", f.Name)
	}
	if f.SizeBytes < 0 {
		return fmt.Errorf("file %q: size %d is negative", f.Name, f.SizeBytes)
	}
	if len(f.SHA256) != 64 {
		return fmt.Errorf("file %q: sha256 %q has not 64 digits", f.Name, f.SHA256)
	}
	return nil
}

// plainName holds for names that stay inside the directory on every system.
func plainName(name string) bool {
	if name == "" || name == "." || name == ".." {
		return false
	}
	for _, r := range name {
		if r < 0x20 || r == '/' || r == '\\' || r == ':' {
			return false
		}
	}
	return true
}

func (m *Matrix) validate(shards map[string]int64) error {
	if _, err := ParseDType(string(m.DType)); err != nil {
		return err
	}
	const limit = 1 << 30 // each way, so that no product below overflows
	if m.Rows < 1 || m.Rows > limit || m.Cols < 1 || m.Cols > limit {
		return fmt.Errorf("shape [%d, %d] is outside 1..%d", m.Rows, m.Cols, limit)
	}
	if m.Stride != Stride(m.Cols) {
		return fmt.Errorf("stride %d for %d columns, not %d", m.Stride, m.Cols, Stride(m.Cols))
	}
	next := 0
	for i, p := range m.Pieces {
		if p.RowStart != next || p.Rows < 1 || p.Rows > m.Rows-next {
			return fmt.Errorf("piece %d has rows %d..%d, but row %d of %d comes next", i, p.RowStart, p.RowStart+p.Rows-1, next, m.Rows)
		}
		if p.RowStart%PieceRows != 0 {
			return fmt.Errorf("piece %d starts at row %d, not a multiple of %d", i, p.RowStart, PieceRows)
		}
		next += p.Rows
		data, scales := m.DType.PlaneBytes(p.Rows, m.Stride)
		if err := p.Data.validate(shards, data, PlaneAlignment); err != nil {
			return fmt.Errorf("piece %d: data: %w", i, err)
		}
		if scales == 0 {
			if p.Scales != (Plane{}) {
				return fmt.Errorf("piece %d: a %s matrix has no scales", i, m.DType)
			}
			continue
		}
		if err := p.Scales.validate(shards, scales, PlaneAlignment); err != nil {
			return fmt.Errorf("piece %d: scales: %w", i, err)
		}
		if p.Scales.Shard != p.Data.Shard {
			return fmt.Errorf("piece %d: data in %q, but scales in %q", i, p.Data.Shard, p.Scales.Shard)
		}
	}
	if next != m.Rows {
		return fmt.Errorf("its pieces hold %d of %d rows", next, m.Rows)
	}
	return nil
}

func (p Plane) validate(shards map[string]int64, want, align int64) error {
	size, ok := shards[p.Shard]
	if !ok {
		return fmt.Errorf("shard %q is not listed", p.Shard)
	}
	if p.Size != want {
		return fmt.Errorf("%d bytes where the shape needs %d", p.Size, want)
	}
	if p.Offset < 0 || p.Offset%align != 0 {
		return fmt.Errorf("offset %d is not a multiple of %d", p.Offset, align)
	}
	if p.Offset > size-p.Size {
		return fmt.Errorf("bytes %d..%d lie beyond the %d of shard %q", p.Offset, p.Offset+p.Size-1, size, p.Shard)
	}
	return nil
}

// checkConfig demands exactly the matrices and vectors that the config calls for. A tied model may still store lm_head,
// an untied one must.
func (m *Manifest) checkConfig(c *config.Config) error {
	have := map[string]*Matrix{}
	for i := range m.Matrices {
		have[m.Matrices[i].Name] = &m.Matrices[i]
	}
	_, hasLMHead := have["lm_head"]
	for _, s := range MatrixSpecs(c, hasLMHead || !c.TieWordEmbeddings) {
		mat, ok := have[s.Name]
		if !ok {
			return fmt.Errorf("weights: %s: matrix %s [%d, %d] is missing", ManifestName, s.Name, s.Rows, s.Cols)
		}
		if mat.Rows != s.Rows || mat.Cols != s.Cols {
			return fmt.Errorf("weights: %s: matrix %s is [%d, %d], but config.json makes it [%d, %d]", ManifestName, s.Name, mat.Rows, mat.Cols, s.Rows, s.Cols)
		}
		delete(have, s.Name)
	}
	for name := range have {
		return fmt.Errorf("weights: %s: matrix %s belongs to no part of the model", ManifestName, name)
	}
	vectors := map[string]int{}
	for _, v := range m.Vectors {
		vectors[v.Name] = v.Length
	}
	for _, s := range VectorSpecs(c) {
		length, ok := vectors[s.Name]
		if !ok {
			return fmt.Errorf("weights: %s: vector %s [%d] is missing", ManifestName, s.Name, s.Length)
		}
		if length != s.Length {
			return fmt.Errorf("weights: %s: vector %s has %d elements, but config.json makes it %d", ManifestName, s.Name, length, s.Length)
		}
		delete(vectors, s.Name)
	}
	for name := range vectors {
		return fmt.Errorf("weights: %s: vector %s belongs to no part of the model", ManifestName, name)
	}
	return nil
}
