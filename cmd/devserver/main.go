// Command devserver builds the chat page and the wasm engine, and serves them (serve) or writes them as a static site (dist).
//
// This package owns the build (build.go), what is served and with which headers (serve.go, models.go, csp.go), reloading
// (watch.go) and the static site (dist.go). It runs no model: the page does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "devserver: %v\n", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	var b builder
	serve := newServe(&b)
	root := &cobra.Command{
		Use:           "devserver",
		Short:         "build and serve the chat page",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) (err error) {
			if b.root == "" {
				b.root, err = moduleRoot()
			}
			return err
		},
		RunE: serve.RunE,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	p := root.PersistentFlags()
	p.StringVar(&b.root, "root", "", "the checkout (default: the directory above this one with a go.mod)")
	p.StringVar(&b.engine, "engine", "", "bundle this module in place of web/src/engine and build no wasm (tests of the page)")
	root.Flags().AddFlagSet(serve.Flags()) // serve is the default
	root.AddCommand(serve, newDist(&b))
	return root
}

// moduleRoot is the nearest directory at or above the working directory with a go.mod.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod at or above %s: run devserver in the checkout or name it with --root", start)
		}
	}
}
