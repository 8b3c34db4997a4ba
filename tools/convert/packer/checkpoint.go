// The input: a Hugging Face checkpoint of safetensors files, opened and checked against its config before any weight is
// read.

package packer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/config"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights/safetensors"
)

const (
	singleName = "model.safetensors"
	indexName  = "model.safetensors.index.json"
)

// tensor is one tensor of the checkpoint and the file that holds it.
type tensor struct {
	safetensors.Tensor
	file *safetensors.Reader
	path string
}

// checkpoint is an open Hugging Face model directory.
type checkpoint struct {
	dir     string
	config  *config.Config
	tensors map[string]tensor // by name without the "model." prefix
	files   []*safetensors.Reader
}

// openCheckpoint opens every safetensors file of dir and checks names, shapes and dtypes against config.json.
func openCheckpoint(dir string) (*checkpoint, error) {
	data, err := os.ReadFile(filepath.Join(dir, weights.ConfigName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, serr := os.Stat(dir); serr != nil {
			return nil, fmt.Errorf("convert: %w", serr)
		}
		return nil, fmt.Errorf("convert: %s has no %s: not a Hugging Face model directory", dir, weights.ConfigName)
	}
	if err != nil {
		return nil, fmt.Errorf("convert: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, weights.ManifestName)); err == nil {
		return nil, fmt.Errorf("convert: %s has a %s: it is already a packed model directory", dir, weights.ManifestName)
	}
	c, err := config.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("convert: %s: %w", filepath.Join(dir, weights.ConfigName), err)
	}
	ck := &checkpoint{dir: dir, config: c, tensors: map[string]tensor{}}
	if err := ck.openFiles(); err != nil {
		ck.close()
		return nil, err
	}
	if err := ck.check(); err != nil {
		ck.close()
		return nil, err
	}
	return ck, nil
}

func (ck *checkpoint) close() {
	for _, f := range ck.files {
		f.Close()
	}
}

// openFiles finds the safetensors files as transformers does: the single file first, then the index.
func (ck *checkpoint) openFiles() error {
	if _, err := os.Stat(filepath.Join(ck.dir, singleName)); err == nil {
		_, err := ck.openFile(singleName)
		return err
	}
	data, err := os.ReadFile(filepath.Join(ck.dir, indexName))
	if errors.Is(err, fs.ErrNotExist) {
		hint := ""
		if other, _ := filepath.Glob(filepath.Join(ck.dir, "*.bin")); len(other) > 0 {
			hint = fmt.Sprintf(" (%s is there, but only safetensors checkpoints are read)", filepath.Base(other[0]))
		} else if other, _ := filepath.Glob(filepath.Join(ck.dir, "*.gguf")); len(other) > 0 {
			hint = fmt.Sprintf(" (%s is there, but only safetensors checkpoints are read)", filepath.Base(other[0]))
		}
		return fmt.Errorf("convert: %s has neither %s nor %s%s", ck.dir, singleName, indexName, hint)
	}
	if err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("convert: %s: %w", indexName, err)
	}
	if len(index.WeightMap) == 0 {
		return fmt.Errorf("convert: %s has no weight_map", indexName)
	}
	return ck.openIndexed(index.WeightMap)
}

// openIndexed opens the files of a weight_map and checks that each holds the tensors it should.
func (ck *checkpoint) openIndexed(weightMap map[string]string) error {
	byFile := map[string][]string{}
	for name, file := range weightMap {
		if file != filepath.Base(file) || file == "." || file == ".." {
			return fmt.Errorf("convert: %s: tensor %q is said to be in %q, which is not a plain file name", indexName, name, file)
		}
		byFile[file] = append(byFile[file], name)
	}
	files := make([]string, 0, len(byFile))
	for file := range byFile {
		files = append(files, file)
	}
	slices.Sort(files)
	for _, file := range files {
		r, err := ck.openFile(file)
		if err != nil {
			return err
		}
		slices.Sort(byFile[file])
		for _, name := range byFile[file] {
			if _, ok := r.Tensors[name]; !ok {
				return fmt.Errorf("convert: %s says that %s holds tensor %q, but it does not", indexName, file, name)
			}
		}
	}
	return nil
}

func (ck *checkpoint) openFile(name string) (*safetensors.Reader, error) {
	path := filepath.Join(ck.dir, name)
	r, err := safetensors.Open(path)
	if err != nil {
		return nil, fmt.Errorf("convert: %w", err)
	}
	ck.files = append(ck.files, r)
	for _, t := range r.Sorted() {
		key := strings.TrimPrefix(t.Name, "model.")
		if other, dup := ck.tensors[key]; dup {
			return nil, fmt.Errorf("convert: tensor %q of %s is also %q of %s", t.Name, name, other.Name, filepath.Base(other.path))
		}
		ck.tensors[key] = tensor{Tensor: t, file: r, path: path}
	}
	return r, nil
}

// wanted lists every tensor that the config calls for, by name without prefix, in the order of a forward pass.
func wanted(c *config.Config) []safetensors.TensorInfo {
	h, q, kv, inter := c.HiddenSize, c.QDim(), c.KVDim(), c.IntermediateSize
	list := []safetensors.TensorInfo{{Name: "embed_tokens.weight", Shape: []int{c.VocabSize, h}}}
	for i := range c.NumHiddenLayers {
		for _, t := range []safetensors.TensorInfo{
			{Name: "input_layernorm", Shape: []int{h}},
			{Name: "self_attn.q_proj", Shape: []int{q, h}},
			{Name: "self_attn.k_proj", Shape: []int{kv, h}},
			{Name: "self_attn.v_proj", Shape: []int{kv, h}},
			{Name: "self_attn.q_norm", Shape: []int{c.HeadDim}},
			{Name: "self_attn.k_norm", Shape: []int{c.HeadDim}},
			{Name: "self_attn.o_proj", Shape: []int{h, q}},
			{Name: "post_attention_layernorm", Shape: []int{h}},
			{Name: "mlp.gate_proj", Shape: []int{inter, h}},
			{Name: "mlp.up_proj", Shape: []int{inter, h}},
			{Name: "mlp.down_proj", Shape: []int{h, inter}},
		} {
			t.Name = fmt.Sprintf("layers.%d.%s.weight", i, t.Name)
			list = append(list, t)
		}
	}
	list = append(list, safetensors.TensorInfo{Name: "norm.weight", Shape: []int{h}})
	if !c.TieWordEmbeddings {
		list = append(list, safetensors.TensorInfo{Name: "lm_head.weight", Shape: []int{c.VocabSize, h}})
	}
	return list
}

// check demands exactly the tensors of wanted, with the config's shapes and a float dtype. Everything wrong is listed.
func (ck *checkpoint) check() error {
	var missing, wrong []string
	known := map[string]bool{"lm_head.weight": true}
	list := wanted(ck.config)
	if _, ok := ck.tensors["lm_head.weight"]; ok && ck.config.TieWordEmbeddings {
		list = append(list, safetensors.TensorInfo{Name: "lm_head.weight", Shape: []int{ck.config.VocabSize, ck.config.HiddenSize}})
	}
	for _, w := range list {
		known[w.Name] = true
		t, ok := ck.tensors[w.Name]
		switch {
		case !ok:
			missing = append(missing, w.Name)
		case !slices.Equal(t.Shape, w.Shape):
			wrong = append(wrong, fmt.Sprintf("%s is %v, but config.json makes it %v", t.Name, t.Shape, w.Shape))
		case t.DType != safetensors.BF16 && t.DType != safetensors.F16 && t.DType != safetensors.F32:
			wrong = append(wrong, fmt.Sprintf("%s is %s; BF16, F16 and F32 are read", t.Name, t.DType))
		}
	}
	var unknown []string
	for key, t := range ck.tensors {
		// Old checkpoints store RoPE's frequencies, which follow from the config.
		if !known[key] && !strings.HasSuffix(key, "rotary_emb.inv_freq") {
			unknown = append(unknown, t.Name)
		}
	}
	slices.Sort(unknown)
	var errs []error
	for _, problem := range []struct {
		what string
		list []string
	}{
		{"tensors are missing", missing},
		{"tensors do not fit the config", wrong},
		{"tensors belong to no part of a dense Qwen3 model, and ignoring them would change its output", unknown},
	} {
		if len(problem.list) > 0 {
			errs = append(errs, fmt.Errorf("convert: %s: %d %s: %s", ck.dir, len(problem.list), problem.what, strings.Join(problem.list, "; ")))
		}
	}
	return errors.Join(errs...)
}
