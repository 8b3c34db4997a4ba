package forward

// Timing of dispatches without timestamps: what a repetition adds to a pass that is waited for, from the moment it was
// submitted. Encoding it, which the device does not start before, does not count.

import (
	"errors"
	"slices"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

const (
	warmUp       = 30 * time.Millisecond // before candidates are timed in turns
	risingClocks = time.Second           // of work until a GPU that copied or idled has its full clocks: an H200 takes 0.7 s
	longPass     = 8 * time.Millisecond  // of work, or a GPU that waits between passes is another one than that which decodes
	maxLonger    = 6
)

// repeats are the numbers of repetitions of the two passes whose difference counts.
type repeats struct{ short, long int }

var (
	manyRepeats = repeats{2, 8}
	fewRepeats  = repeats{1, 3} // of what takes milliseconds, and a driver's watchdog may be waiting
)

// timing measures one pass in repetitions.
type timing struct {
	dev         gpu.Device
	out         gpu.Buffer // read to wait
	repeats     repeats
	pass        func(repeats int) *gpu.Pass
	short, long *gpu.Pass
	before      func() error // runs before each pass; may be nil
	seconds     []float64    // of a repetition
}

func newTiming(dev gpu.Device, out gpu.Buffer, n repeats, pass func(repeats int) *gpu.Pass) *timing {
	return &timing{dev: dev, out: out, repeats: n, pass: pass, short: pass(n.short), long: pass(n.long)}
}

// timing of steps; what they need must be in the buffers.
func (r *Runner) timing(steps []dispatch, n passSize) *timing {
	times := manyRepeats
	if n.tokens > 1 {
		times = fewRepeats
	}
	return newTiming(r.dev, r.act[bufX], times, func(repeats int) *gpu.Pass {
		return joinSegments(slices.Repeat([]segment{{dispatches: steps}}, repeats), n, "timing")
	})
}

func (t *timing) run(p *gpu.Pass) (time.Duration, error) {
	if s, ok := t.dev.(gpu.Spinner); ok { // before anything is under way: what looks for it may have been told when already
		s.Spin(true)
		defer s.Spin(false)
	}
	if t.before != nil {
		if err := t.before(); err != nil {
			return 0, err
		}
	}
	if err := t.dev.Submit(p); err != nil {
		return 0, err
	}
	begin := time.Now()
	err := gpu.Read(t.dev, t.out, 0, make([]byte, 4))
	return time.Since(begin), err
}

// measure adds one measurement.
func (t *timing) measure() error {
	short, err := t.run(t.short)
	if err != nil {
		return err
	}
	long, err := t.run(t.long)
	if err != nil {
		return err
	}
	t.seconds = append(t.seconds, (long-short).Seconds()/float64(t.repeats.long-t.repeats.short))
	return nil
}

func (t *timing) median() float64 { return max(median(t.seconds), 1e-9) }

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// raiseClocks keeps a GPU busy with t until its clocks have risen. A CPU needs none of it.
func (t *timing) raiseClocks() error {
	if t.dev.Info().Type == "cpu" {
		return nil
	}
	for begin := time.Now(); time.Since(begin) < risingClocks; {
		if _, err := t.run(t.long); err != nil {
			return err
		}
	}
	return nil
}

// lengthen gives ts, of steps of one token that take about as long as the first, so many repetitions that a long pass takes about longPass.
func lengthen(ts []*timing) error {
	d, err := ts[0].run(ts[0].long)
	if err != nil {
		return err
	}
	once := max(d/time.Duration(ts[0].repeats.long), 1)
	longer := min(max(int(longPass/once)/manyRepeats.long, 1), maxLonger)
	n := repeats{manyRepeats.short * longer, manyRepeats.long * longer}
	for _, t := range ts {
		if t.repeats != n {
			t.repeats, t.short, t.long = n, t.pass(n.short), t.pass(n.long)
		}
	}
	return nil
}

var errNothingToTime = errors.New("forward: nothing to time")

// timeInTurns measures each of ts rounds times, after a warm-up.
func timeInTurns(ts []*timing, rounds int) error {
	if len(ts) == 0 || rounds < 1 {
		return errNothingToTime
	}
	for begin := time.Now(); time.Since(begin) < warmUp; {
		if _, err := ts[0].run(ts[0].long); err != nil {
			return err
		}
	}
	for range rounds {
		for _, t := range ts {
			if err := t.measure(); err != nil {
				return err
			}
		}
	}
	return nil
}

// timeContenders times all of ts a few times in turns, and those that may yet be the fastest, and the first, until each was timed as
// often as rounds says.
func timeContenders(ts []*timing, rounds int) error {
	const few, behind = 3, 1.05
	if len(ts) == 0 {
		return errNothingToTime
	}
	if err := lengthen(ts); err != nil {
		return err
	}
	if err := timeInTurns(ts, min(few, rounds)); err != nil || rounds <= few {
		return err
	}
	least := ts[0].median()
	for _, t := range ts {
		least = min(least, t.median())
	}
	contenders := ts[:1:1]
	for _, t := range ts[1:] {
		if t.median() <= behind*least {
			contenders = append(contenders, t)
		}
	}
	return timeInTurns(contenders, rounds-few)
}
