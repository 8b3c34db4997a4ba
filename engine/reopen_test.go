//go:build !js

package engine

// A device that is lost in the middle of an answer: the answer goes on where it was, on a new device.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
	"github.com/qwen-wgpu/qwen-wgpu/internal/goldentest"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testdevice"
)

// losable is a device that can be lost at will. What was submitted before is lost too.
type losable struct {
	gpu.Device
	lost bool
}

func (d *losable) err() error {
	if d.lost {
		return fmt.Errorf("%w: by the test", gpu.ErrLost)
	}
	return nil
}

func (d *losable) Submit(p *gpu.Pass) error {
	return errors.Join(d.err(), d.Device.Submit(p))
}

func (d *losable) Write(b gpu.Buffer, offset uint64, data []byte) error {
	return errors.Join(d.err(), d.Device.Write(b, offset, data))
}

func (d *losable) Download(b gpu.Buffer, offset, size uint64, passes ...*gpu.Pass) (gpu.Readback, error) {
	r, err := d.Device.Download(b, offset, size, passes...)
	return lostReadback{d, r}, errors.Join(d.err(), err)
}

type lostReadback struct {
	d *losable
	gpu.Readback
}

func (r lostReadback) Wait(dst []byte) error { return errors.Join(r.d.err(), r.Readback.Wait(dst)) }

func TestReopen(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	prompt := []int32{7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}
	opt := GenerateOptions{MaxTokens: 40, IgnoreEOS: true}
	opt.Sampling = sampling.Default()
	opt.Sampling.Seed, opt.Sampling.RepetitionPenalty, opt.Sampling.TopK = 3, 1.2, 30
	for _, host := range []bool{false, true} {
		dev := &losable{Device: testdevice.Open(t)}
		var opens int
		o := Options{Device: dev, HostSampling: host, Batch: 2, RunAhead: 2}
		o.Reopen = func(lost error) (gpu.Device, error) {
			if !errors.Is(lost, gpu.ErrLost) {
				t.Errorf("Reopen(%v)", lost)
			}
			opens++
			dev = &losable{Device: testdevice.Open(t)}
			return dev, nil
		}
		e := openTest(t, dir, o)
		s, other := e.NewSession(), e.NewSession()
		want, err := s.Generate(context.Background(), prompt, opt, func(sampling.Result) error { return nil })
		if err != nil || opens != 0 {
			t.Fatalf("host %v: %v, %d devices", host, err, opens)
		}
		if _, err := other.Generate(context.Background(), prompt[:9], opt, func(sampling.Result) error { return nil }); err != nil {
			t.Fatal(err)
		}

		n := 0
		emitted := []int32{}
		got, err := s.Generate(context.Background(), prompt, opt, func(r sampling.Result) error {
			emitted = append(emitted, r.Token)
			if n++; n == 5 || n == 21 {
				dev.lost = true
			}
			return nil
		})
		if err != nil || opens != 2 {
			t.Fatalf("host %v: %v, %d devices opened instead of 2", host, err, opens)
		}
		if !slices.Equal(got.Tokens, want.Tokens) || !slices.Equal(emitted, want.Tokens) {
			t.Errorf("host %v: after a lost device %v (emitted %v), want %v", host, got.Tokens, emitted, want.Tokens)
		}
		if got.Sync.Prompt != len(prompt) || got.Sync.Reused != len(prompt)-1 {
			t.Errorf("host %v: %+v counts the refilled cache", host, got.Sync)
		}
		// Another session lost its cache too, and does not know it.
		again, err := other.Generate(context.Background(), prompt, opt, func(sampling.Result) error { return nil })
		if err != nil || !slices.Equal(again.Tokens, want.Tokens) {
			t.Errorf("host %v: another session after the loss: %v, %v, want %v", host, again.Tokens, err, want.Tokens)
		}
		if got := s.Tokens(); !slices.Equal(got, slices.Concat(prompt, want.Tokens[:len(want.Tokens)-1])) {
			t.Errorf("host %v: the session holds %v", host, got)
		}
	}
}

// A device that is lost again before a single token ends the answer, and so does one that cannot be replaced.
func TestReopenGivesUp(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	opt := GenerateOptions{MaxTokens: 4, Sampling: sampling.Greedy()}
	dev := &losable{Device: testdevice.Open(t)}
	broken := errors.New("no adapter")
	for _, c := range []struct {
		reopen func(error) (gpu.Device, error)
		want   error
	}{
		{nil, gpu.ErrLost},
		{func(error) (gpu.Device, error) { return nil, broken }, broken},
		{func(error) (gpu.Device, error) { return &losesOnSubmit{testdevice.Open(t)}, nil }, gpu.ErrLost},
	} {
		dev.lost = false
		e := openTest(t, dir, Options{Device: dev, Reopen: c.reopen})
		dev.lost = true
		if _, err := e.NewSession().Generate(context.Background(), []int32{5, 6}, opt, func(sampling.Result) error { return nil }); !errors.Is(err, c.want) {
			t.Errorf("error %v, want %v", err, c.want)
		}
	}
}

type losesOnSubmit struct{ gpu.Device }

func (losesOnSubmit) Submit(*gpu.Pass) error { return gpu.ErrLost }

// Two sessions lose the same device: it is replaced once.
func TestReopenOnce(t *testing.T) {
	dir := goldentest.ModelOf(t, tinyShape(), 5, weights.BF16)
	dev := &losable{Device: testdevice.Open(t)}
	opens := 0
	e := openTest(t, dir, Options{Device: dev, Reopen: func(error) (gpu.Device, error) {
		opens++
		return testdevice.Open(t), nil
	}})
	opt := GenerateOptions{MaxTokens: 30, IgnoreEOS: true, Sampling: sampling.Greedy()}
	var wg sync.WaitGroup
	var answers [2][]int32
	for i := range answers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			res, err := e.NewSession().Generate(context.Background(), []int32{5, 6, 7}, opt, func(sampling.Result) error {
				if i == 0 {
					dev.lost = true
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			answers[i] = res.Tokens
		}()
	}
	wg.Wait()
	if opens != 1 || len(answers[0]) != 30 || !slices.Equal(answers[0], answers[1]) {
		t.Errorf("%d devices opened; answers %v", opens, answers)
	}
}
