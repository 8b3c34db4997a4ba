package main

// The flags that say which model runs where, and opening it.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu/native"
	"github.com/qwen-wgpu/qwen-wgpu/engine/runner"
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/kvcache"
)

// modelFlags choose a model and the processor it runs on.
type modelFlags struct {
	model   string         // packed directory; "": the small model inside this program
	source  weights.Source // instead of model, for bench
	device  string
	adapter string
	kv      string
	context int
	pass    int
	trust   bool // do not check the shards' hashes
	tune    string
	fault   *kvcache.Fault
}

func (f *modelFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.model, "model", "m", "", "packed model directory"+map[bool]string{true: " (default: the small model inside this program)"}[embedded != nil])
	cmd.Flags().StringVar(&f.device, "device", "auto", "gpu, cpu, or auto: a hardware GPU where there is one, else the CPU")
	cmd.Flags().StringVar(&f.adapter, "adapter", "", "GPU by number or part of its name, as doctor lists them (implies --device gpu)")
	cmd.Flags().StringVar(&f.kv, "kv", "f16", "number format of the KV cache: f16 or f32")
	cmd.Flags().IntVar(&f.context, "context", 0, fmt.Sprintf("tokens the KV cache holds (default %d, or the model's limit if that is less)", engine.DefaultContextTokens))
	cmd.Flags().IntVar(&f.pass, "chunk", 0, "tokens of one prefill pass (default: 2048 on a GPU with much memory, else 512)")
	cmd.Flags().BoolVar(&f.trust, "no-verify", false, "do not check the model files' SHA-256 before they are used")
	cmd.Flags().StringVar(&f.tune, "tune", "auto", "auto: measure a GPU's kernels on this model once and keep the result; off: run them in default shapes; again: measure anew")
	_ = cmd.RegisterFlagCompletionFunc("tune", cobra.FixedCompletions([]string{"auto", "off", "again"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("device", cobra.FixedCompletions([]string{"auto", "gpu", "cpu"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("kv", cobra.FixedCompletions([]string{"f16", "f32"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("model")
}

// opened is an engine with what must be closed behind it.
type opened struct {
	*engine.Engine
	model  *weights.Model
	device gpu.Device   // nil on the CPU
	again  []gpu.Device // opened after it was lost
	whyCPU string       // why the CPU was chosen, if it was
	kv     runner.KVDType

	measured []forward.TuneRow // by tune, if it measured anything

	checking, loading, tuning time.Duration // of opening it: hashes, meanwhile device and weights, measuring kernels
}

func (o *opened) Close() {
	o.Engine.Close()
	o.closeUnopened()
}

// closeUnopened closes what lies below the engine.
func (o *opened) closeUnopened() {
	o.model.Close()
	for _, device := range append(o.again, o.device) {
		if device != nil {
			device.Close()
		}
	}
}

// open loads the model as the flags say and reports on stderr what runs it.
func (f *modelFlags) open(cmd *cobra.Command) (*opened, error) {
	kv, err := runner.ParseKVDType(f.kv)
	if err != nil {
		return nil, &usageError{cmd.CommandPath(), err}
	}
	if f.tune != "auto" && f.tune != "off" && f.tune != "again" {
		return nil, usagef(cmd, "--tune %q is unknown: use auto, off or again", f.tune)
	}
	begin := time.Now()
	m, err := f.openModel(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	check := f.check(ctx, m)
	o := &opened{model: m, kv: kv}
	if o.device, o.whyCPU, err = f.openDevice(cmd); err != nil {
		cancel()
		check.wait()
		m.Close()
		return nil, err
	}
	// What is wrong with the files may be why something else fails.
	failed := func(err error) (*opened, error) {
		if damaged := check.wait(); damaged != nil {
			err = damaged
		}
		o.closeUnopened()
		return nil, err
	}
	bar := newLoadProgress("loading")
	reopen := func(lost error) (gpu.Device, error) {
		fmt.Fprintf(cmd.ErrOrStderr(), "\n%v; loading the model again\n", lost)
		device, _, err := f.openDevice(cmd)
		o.again = append(o.again, device)
		return device, err
	}
	var tok tokenizer.Interface
	if m.HasTokenizer() {
		if tok, err = readTokenizer(m); err != nil {
			return failed(fmt.Errorf("model %s: %w", f.name(), err))
		}
	}
	opt := engine.Options{Tokenizer: tok, Device: o.device, KVDType: kv, ContextTokens: f.context, PassTokens: f.pass, Progress: bar.update, Reopen: reopen, Fault: f.fault}
	if o.device != nil && f.tune == "auto" {
		opt.Tuning = loadTunings()[tuningAdapter(o.device.Info())]
	}
	o.Engine, err = engine.Open(m, opt)
	bar.done()
	if err != nil {
		return failed(err)
	}
	if err := check.wait(); err != nil {
		o.Close()
		return nil, err
	}
	o.checking, o.loading = check.took, time.Since(begin)
	if f.tune != "off" {
		if err := o.tune(cmd); err != nil {
			o.Close()
			return nil, err
		}
	}
	o.tuning = time.Since(begin) - o.loading
	return o, nil
}

// modelCheck is Model.Verify beside loading: the files are read once from a disk, and hashed by processors that have nothing else to
// do. No token comes of a model before it is through.
type modelCheck struct {
	model string
	done  chan struct{}
	err   error         // once done
	took  time.Duration // once done
	bar   atomic.Pointer[loadProgress]
}

// check begins to check the files; --no-verify: nothing does.
func (f *modelFlags) check(ctx context.Context, m *weights.Model) *modelCheck {
	c := &modelCheck{model: f.name(), done: make(chan struct{})}
	if f.trust {
		close(c.done)
		return c
	}
	begin := time.Now()
	go func() {
		c.err = m.Verify(ctx, func(done, total int64) {
			if bar := c.bar.Load(); bar != nil {
				bar.update(done, total)
			}
		})
		c.took = time.Since(begin)
		close(c.done)
	}()
	return c
}

// wait shows the progress from now on, until all is checked.
func (c *modelCheck) wait() error {
	bar := newLoadProgress("checking")
	c.bar.Store(bar)
	<-c.done
	c.bar.Store(nil)
	bar.done()
	if c.err != nil {
		return fmt.Errorf("model %s: %w; convert it again, or copy it again from where it came from", c.model, c.err)
	}
	return nil
}

func readTokenizer(m *weights.Model) (tokenizer.Interface, error) {
	data, err := m.ReadFile("tokenizer.json")
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	tok, err := loadTokenizer(data)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	return tok, nil
}

// name says in a few words which model the flags mean.
func (f *modelFlags) name() string {
	if f.model == "" {
		return "the small model inside this program"
	}
	return f.model
}

func (f *modelFlags) openModel(cmd *cobra.Command) (*weights.Model, error) {
	if f.source != nil {
		return weights.Open(f.source)
	}
	if f.model == "" {
		if embedded == nil {
			return nil, usagef(cmd, "no model: give --model DIR, a packed directory made by `%s --in HFDIR --out DIR --dtype q8`", convertProgram())
		}
		source, err := embedded()
		if err != nil {
			return nil, err
		}
		return weights.Open(source)
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
	if errors.Is(err, os.ErrNotExist) && isCheckpoint(f.model) {
		dir := strings.TrimRight(f.model, "/")
		return nil, fmt.Errorf("%s is a Hugging Face checkpoint, not a packed model directory. Convert it first:\n\n  %s --in %s --out %s-q8 --dtype q8\n\nand then give --model %s-q8", f.model, convertProgram(), dir, dir, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", f.model, err)
	}
	return m, nil
}

// isCheckpoint tells whether dir looks like a Hugging Face model: a config and weights, but no manifest.
func isCheckpoint(dir string) bool {
	shards, _ := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	_, noConfig := os.Stat(filepath.Join(dir, "config.json"))
	_, noManifest := os.Stat(filepath.Join(dir, "manifest.json"))
	return len(shards) > 0 && noConfig == nil && noManifest != nil
}

// convertProgram is the converter as it can be called from here: beside this program, as make puts it.
func convertProgram() string {
	if dir := filepath.Dir(os.Args[0]); dir != "." {
		return filepath.Join(dir, "convert")
	}
	return "convert"
}

// openDevice returns nil for the CPU path, and why.
func (f *modelFlags) openDevice(cmd *cobra.Command) (device gpu.Device, whyCPU string, err error) {
	choice := f.device
	if f.adapter != "" && choice == "auto" {
		choice = "gpu"
	}
	switch choice {
	case "cpu":
		return nil, "as --device asks", nil
	case "gpu":
		device, err = native.Open(native.Options{Adapter: f.adapter})
		return device, "", err
	case "auto":
		adapters, err := native.Adapters()
		if err != nil {
			return nil, "because no GPU was found; `qwen-wgpu doctor` says what is missing", nil
		}
		for _, a := range adapters {
			if a.Info.Type == "cpu" {
				continue
			}
			device, err := native.Open(native.Options{Adapter: strconv.Itoa(a.Index)})
			if err != nil {
				return nil, fmt.Sprintf("because %s cannot be used: %v", a.Info.Name, err), nil
			}
			return device, "", nil
		}
		return nil, fmt.Sprintf("because the only GPU, %s, is itself a program on the CPU and slower (--device gpu uses it)", adapters[0].Info.Name), nil
	}
	return nil, "", usagef(cmd, "--device %q is unknown: use auto, gpu or cpu", f.device)
}

// loadProgress shows on a terminal how far a model has been read, if it takes long enough to be noticed.
type loadProgress struct {
	verb        string
	begin, last time.Time
	shown       bool
}

func newLoadProgress(verb string) *loadProgress { return &loadProgress{verb: verb, begin: time.Now()} }

func (p *loadProgress) update(done, total int64) {
	now := time.Now()
	if now.Sub(p.begin) < 500*time.Millisecond || now.Sub(p.last) < 100*time.Millisecond || !term.IsTerminal(int(os.Stderr.Fd())) {
		return
	}
	p.last, p.shown = now, true
	rate := float64(done) / now.Sub(p.begin).Seconds()
	fmt.Fprintf(os.Stderr, "\r%s %3d%%  %s of %s  %s/s  ", p.verb, 100*done/max(total, 1), bytesText(done), bytesText(total), bytesText(int64(rate)))
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

// parseIDs reads "5,6,7"; nothing gives nil.
func parseIDs(s string) ([]int32, error) {
	if s == "" {
		return nil, nil
	}
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
