// Command qwen-wgpu runs Qwen3 models on WebGPU, or on the CPU where there is no GPU.
//
// This package owns flags, terminal output and exit codes: 0 success, 1 an error or a difference found by trace
// --compare, 2 wrong usage, 130 interrupted. All else is the engine's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line. It turns every outcome, a panic included, into a message and an exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) (code int) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(errOut, "qwen-wgpu: internal error: %v\nThis is a bug in qwen-wgpu; please report it with the command line and these lines:\n%s", p, debug.Stack())
			code = 1
		}
	}()
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(errOut, "qwen-wgpu: interrupted")
		return 130
	case errors.As(err, &usage):
		fmt.Fprintf(errOut, "qwen-wgpu: %v\nRun '%s --help' for the flags.\n", err, usage.command)
		return 2
	default:
		fmt.Fprintf(errOut, "qwen-wgpu: %v\n", err)
		return 1
	}
}

// usageError is a wrong command line.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd.CommandPath(), fmt.Errorf(format, args...)}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "qwen-wgpu",
		Short:         "Qwen3 language models on WebGPU",
		Long:          "qwen-wgpu runs Qwen3 language models through its own WGSL kernels on the GPU (Vulkan, Metal or DX12),\nor in plain Go on the CPU. Models are packed directories, made by `convert` from a Hugging Face checkpoint.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd.CommandPath(), err} })
	root.AddCommand(newChat(), newRun(), newTrace(), newBench(), newDoctor(), newTokenize(), newTemplate(), newEval())
	return root
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v += " " + s.Value[:12]
		}
	}
	return v
}
