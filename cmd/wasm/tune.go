//go:build js

package main

// Measuring how kernels run best. The page keeps the result, by adapter, and gives it to the next load.

import (
	"encoding/json"

	"github.com/qwen-wgpu/qwen-wgpu/engine"
	"github.com/qwen-wgpu/qwen-wgpu/engine/forward"
	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
	"github.com/qwen-wgpu/qwen-wgpu/shaders"
)

// shapes are those of one adapter, as engine.Tuning gives them.
type shapes map[string]forward.MatvecShape

// tuneResult is Results.tune of protocol.ts.
type tuneResult struct {
	Adapter string    `json:"adapter"`
	Shapes  shapes    `json:"shapes"` // of all models so far
	Rows    []tuneRow `json:"rows"`
}

// tuneRow is a measurement with its shape as text.
type tuneRow struct {
	forward.TuneRow
	Shape string `json:"shape"`
}

// adapterKey tells adapters apart as far as a browser does, and versions of the kernels that were measured.
func adapterKey(info gpu.AdapterInfo) string {
	return info.Vendor + " " + info.Name + ", " + info.Library + ", kernels " + shaders.Version()
}

// keptShapes are those of a load request for an adapter. What cannot be read counts as never measured.
func keptShapes(tuning json.RawMessage, info gpu.AdapterInfo) shapes {
	var byAdapter map[string]shapes
	if json.Unmarshal(tuning, &byAdapter) != nil {
		return nil
	}
	return byAdapter[adapterKey(info)]
}

// tune measures the ways to spread the kernels over threads; from then on the model runs with the fastest.
func (p *program) tune(r *request) (any, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.engine == nil {
		return nil, errNotLoaded
	}
	if info := p.device.Info(); info.Type == "cpu" {
		return nil, invalidf("%s is a processor, which would take long to measure and gain nothing", info.Name)
	}
	rounds := engine.TuningRounds
	if r.Repetitions > 0 {
		rounds = r.Repetitions
	}
	rows, err := p.engine.Tune(rounds)
	if err != nil {
		return nil, err
	}
	measured, _ := p.engine.Tuning()
	result := tuneResult{Adapter: adapterKey(p.device.Info()), Shapes: measured}
	for _, row := range rows {
		result.Rows = append(result.Rows, tuneRow{row, row.String()})
	}
	return result, nil
}
