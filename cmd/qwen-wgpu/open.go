package main

// The flags that say which model runs where, and opening it.

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/native"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// modelFlags choose a model and the processor it runs on.
type modelFlags struct {
	model   string
	device  string
	adapter string
	kv      string
	context int
	pass    int
}

func (f *modelFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.model, "model", "m", "", "packed model directory")
	cmd.Flags().StringVar(&f.device, "device", "auto", "gpu, cpu, or auto: a hardware GPU where there is one, else the CPU")
	cmd.Flags().StringVar(&f.adapter, "adapter", "", "GPU by number or part of its name, as doctor lists them (implies --device gpu)")
	cmd.Flags().StringVar(&f.kv, "kv", "f16", "number format of the KV cache: f16 or f32")
	cmd.Flags().IntVar(&f.context, "context", 0, fmt.Sprintf("tokens the KV cache holds (default %d, or the model's limit if that is less)", engine.DefaultContextTokens))
	cmd.Flags().IntVar(&f.pass, "chunk", 0, "tokens of one prefill pass (default 512)")
	_ = cmd.RegisterFlagCompletionFunc("device", cobra.FixedCompletions([]string{"auto", "gpu", "cpu"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("kv", cobra.FixedCompletions([]string{"f16", "f32"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("model")
}

// opened is an engine with what must be closed behind it.
type opened struct {
	*engine.Engine
	model  *weights.Model
	device gpu.Device // nil on the CPU
}

func (o *opened) Close() {
	o.Engine.Close()
	o.model.Close()
	if o.device != nil {
		o.device.Close()
	}
}

// open loads the model as the flags say and reports on stderr what runs it.
func (f *modelFlags) open(cmd *cobra.Command) (*opened, error) {
	kv, err := runner.ParseKVDType(f.kv)
	if err != nil {
		return nil, &usageError{cmd.CommandPath(), err}
	}
	m, err := f.openModel(cmd)
	if err != nil {
		return nil, err
	}
	o := &opened{model: m}
	if o.device, err = f.openDevice(cmd); err != nil {
		m.Close()
		return nil, err
	}
	bar := newLoadProgress()
	o.Engine, err = engine.Open(m, engine.Options{Device: o.device, KVDType: kv, ContextTokens: f.context, PassTokens: f.pass, Progress: bar.update})
	bar.done()
	if err != nil {
		m.Close()
		if o.device != nil {
			o.device.Close()
		}
		return nil, err
	}
	return o, nil
}

func (f *modelFlags) openModel(cmd *cobra.Command) (*weights.Model, error) {
	if f.model == "" {
		return nil, usagef(cmd, "no model: give --model DIR, a packed directory made by `convert --in HFDIR --out DIR --dtype q8`")
	}
	info, err := os.Stat(f.model)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("model directory %s does not exist", f.model)
	case err != nil:
		return nil, fmt.Errorf("model directory: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("%s is a file: --model takes the packed directory", f.model)
	}
	m, err := weights.Open(weights.Dir(f.model))
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", f.model, err)
	}
	return m, nil
}

// openDevice returns nil for the CPU path.
func (f *modelFlags) openDevice(cmd *cobra.Command) (gpu.Device, error) {
	choice := f.device
	if f.adapter != "" && choice == "auto" {
		choice = "gpu"
	}
	switch choice {
	case "cpu":
		return nil, nil
	case "gpu":
		return native.Open(native.Options{Adapter: f.adapter})
	case "auto":
		adapters, err := native.Adapters()
		if err != nil {
			return nil, nil
		}
		for _, a := range adapters {
			if a.Info.Type != "cpu" {
				return native.Open(native.Options{Adapter: strconv.Itoa(a.Index)})
			}
		}
		return nil, nil
	}
	return nil, usagef(cmd, "--device %q is unknown: use auto, gpu or cpu", f.device)
}

// loadProgress shows the upload on a terminal, if it takes long enough to be noticed.
type loadProgress struct {
	begin, last time.Time
	shown       bool
}

func newLoadProgress() *loadProgress { return &loadProgress{begin: time.Now()} }

func (p *loadProgress) update(done, total int64) {
	now := time.Now()
	if now.Sub(p.begin) < 500*time.Millisecond || now.Sub(p.last) < 100*time.Millisecond || !term.IsTerminal(int(os.Stderr.Fd())) {
		return
	}
	p.last, p.shown = now, true
	rate := float64(done) / now.Sub(p.begin).Seconds()
	fmt.Fprintf(os.Stderr, "\rloading %3d%%  %s of %s  %s/s  ", 100*done/max(total, 1), bytesText(done), bytesText(total), bytesText(int64(rate)))
}

func (p *loadProgress) done() {
	if p.shown {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}

// bytesText writes a number of bytes for people.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// parseIDs reads "5,6,7".
func parseIDs(s string) ([]int32, error) {
	var ids []int32
	for i, field := range strings.Split(s, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(field), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--ids: number %d, %q, is not a token id", i+1, field)
		}
		ids = append(ids, int32(n))
	}
	return ids, nil
}
