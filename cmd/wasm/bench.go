//go:build js

package main

// Measuring, for web/node/bench.mjs and tests.

import (
	"syscall/js"
	"time"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
)

// benchRow is a measurement, with the time that this thread took beside that of all (cpu_seconds_per_token).
type benchRow struct {
	engine.BenchRow
	BusySeconds []float64 `json:"busy_seconds_per_token"` // Go and the JavaScript that it calls, of every repetition
}

// bench measures the rates of engine.BenchRow.
func (p *program) bench(r *request) (any, error) {
	ctx, end := p.begin(r.ID)
	defer end()
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.engine == nil {
		return nil, errNotLoaded
	}
	rows := []benchRow{}
	if r.Prompt > 0 {
		var c clocks
		row, err := p.engine.BenchPrefill(ctx, r.Prompt, r.Depth, r.Repetitions, c.read(p.host))
		if err != nil {
			return nil, err
		}
		rows = append(rows, benchRow{row, c.busyPer(r.Prompt)})
	}
	if r.Generate > 0 {
		var c clocks
		row, err := p.engine.BenchDecode(ctx, r.Generate, r.Depth, r.Repetitions, c.read(p.host))
		if err != nil {
			return nil, err
		}
		rows = append(rows, benchRow{row, c.busyPer(r.Generate)})
	}
	return rows, nil
}

// roofline is how many bytes a second the device reads when it does nothing else.
func (p *program) roofline(r *request) (any, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.engine == nil {
		return nil, errNotLoaded
	}
	return forward.ReadBandwidth(p.device, 256<<20, r.Repetitions)
}

// clocks remembers what busy was whenever the engine asked for the processor time: once in the repetition that does not
// count, then at begin and end of each other.
type clocks struct{ busy []time.Duration }

// read tells the processor time of the whole process where the host knows it (Node does), and busy where it does not.
func (c *clocks) read(host js.Value) func() time.Duration {
	process := host.Get("processMilliseconds")
	return func() time.Duration {
		now := busy()
		c.busy = append(c.busy, now)
		if process.Type() == js.TypeFunction {
			return time.Duration(process.Invoke().Float() * float64(time.Millisecond))
		}
		return now
	}
}

func (c *clocks) busyPer(tokens int) []float64 {
	var seconds []float64
	for i := 1; i+1 < len(c.busy); i += 2 {
		seconds = append(seconds, (c.busy[i+1]-c.busy[i]).Seconds()/float64(tokens))
	}
	return seconds
}
