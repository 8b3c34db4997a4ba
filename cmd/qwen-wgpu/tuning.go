package main

// Where the measured shapes of kernels are kept, one file for all adapters: a GPU is measured once for each model shape.

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// tunings is the file's content, by adapter and then by kernel.
type tunings map[string]map[string]forward.MatvecShape

func tuningFile() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "qwen-wgpu", "tuning.json"), err
}

// tuningAdapter is an adapter's key, with the version of the kernels that were measured on it.
func tuningAdapter(info gpu.AdapterInfo) string {
	return anyVersion(info) + kernelsVersion + shaders.Version()
}

const kernelsVersion = ", kernels "

func anyVersion(info gpu.AdapterInfo) string {
	return fmt.Sprintf("%s, %s, %s", info.Name, info.Driver, info.Library)
}

// loadTunings reads the file; one that is missing or damaged holds nothing.
func loadTunings() tunings {
	all := tunings{}
	if path, err := tuningFile(); err == nil {
		if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &all) != nil {
			all = tunings{}
		}
	}
	return all
}

// saveTuning adds an adapter's shapes to the file, and drops what was measured with other kernels.
func saveTuning(info gpu.AdapterInfo, shapes map[string]forward.MatvecShape) error {
	path, err := tuningFile()
	if err != nil {
		return err
	}
	all := loadTunings()
	maps.DeleteFunc(all, func(adapter string, _ map[string]forward.MatvecShape) bool {
		name, _, _ := strings.Cut(adapter, kernelsVersion)
		return name == anyVersion(info) && adapter != tuningAdapter(info)
	})
	if all[tuningAdapter(info)] == nil {
		all[tuningAdapter(info)] = map[string]forward.MatvecShape{}
	}
	maps.Copy(all[tuningAdapter(info)], shapes)
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".tuning-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(append(data, '\n'))
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// tune measures a hardware GPU on which this model's shapes have not been measured yet, and keeps the result.
func (o *opened) tune(cmd *cobra.Command) error {
	if o.device == nil || o.device.Info().Type == "cpu" {
		return nil
	}
	if _, complete := o.Tuning(); complete {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "measuring how this model's kernels run best on %s (once)\n", o.device.Info().Name)
	rows, err := o.Tune(engine.TuningRounds)
	if err != nil {
		return err
	}
	o.measured = rows
	return o.saveTuning(cmd)
}

// saveTuning keeps what was measured; a cache that cannot be written is not an error.
func (o *opened) saveTuning(cmd *cobra.Command) error {
	shapes, _ := o.Tuning()
	if err := saveTuning(o.device.Info(), shapes); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "the measurement could not be kept for the next time: %v\n", err)
	}
	return nil
}
