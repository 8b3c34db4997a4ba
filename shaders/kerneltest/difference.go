package kerneltest

import (
	"encoding/gob"
	"fmt"
	"io"
	"math"
)

// Outputs are the checked buffers of cases as one implementation of WebGPU left them: by case and buffer.
type Outputs map[string]map[string][]byte

// Collect runs all cases and returns their outputs.
func (r *Runner) Collect(cases []Case) (Outputs, error) {
	all := Outputs{}
	for _, c := range cases {
		out, err := r.Outputs(c)
		if err != nil {
			return nil, err
		}
		all[c.Name] = out
	}
	return all, nil
}

// Outputs runs a case and returns its checked buffers.
func (r *Runner) Outputs(c Case) (map[string][]byte, error) {
	s := c.Build()
	names := make([]string, len(s.Checks))
	for i, check := range s.Checks {
		names[i] = check.Buffer
	}
	got, err := r.Execute(s, names...)
	if err != nil {
		return nil, fmt.Errorf("kerneltest: %s: %w", c.Name, err)
	}
	out := map[string][]byte{}
	for i, name := range names {
		out[name] = got[i]
	}
	return out, nil
}

// Write and ReadOutputs carry outputs from one process to another.
func (o Outputs) Write(w io.Writer) error { return gob.NewEncoder(w).Encode(o) }

// ReadOutputs reads what Write wrote.
func ReadOutputs(r io.Reader) (Outputs, error) {
	var o Outputs
	return o, gob.NewDecoder(r).Decode(&o)
}

// Differences compares two implementations' outputs of a case: by buffer, the largest |got - want| of the numbers that the
// kernel must write, relative to the largest |want|. Infinite where a length or a NaN differs.
func Differences(c Case, got, want map[string][]byte) map[string]float64 {
	out := map[string]float64{}
	for _, check := range c.Build().Checks {
		a, b := got[check.Buffer], want[check.Buffer]
		width := check.Format.width()
		if len(a) != len(b) || len(a) != width*len(check.Want) {
			out[check.Buffer] = math.Inf(1)
			continue
		}
		largest, diff := 0.0, 0.0
		for i, w := range check.Want {
			if math.IsNaN(w) || w == Any {
				continue // not written, or free
			}
			x, y := check.Format.decode(a[i*width:]), check.Format.decode(b[i*width:])
			if math.IsNaN(x) || math.IsNaN(y) {
				if math.IsNaN(x) != math.IsNaN(y) {
					diff = math.Inf(1)
				}
				continue
			}
			largest = max(largest, math.Abs(y))
			if x != y {
				diff = max(diff, math.Abs(x-y))
			}
		}
		if diff > 0 {
			diff /= largest
		}
		out[check.Buffer] = max(out[check.Buffer], diff)
	}
	return out
}
