// Faults that tests put into the page accounting on purpose, to prove that the tracer finds them.

package kvcache

import "slices"

// Fault is for fault-injection tests: it makes a PageManager hand out wrong integers. A test may change its fields
// between passes. The manager's own account stays right, so CheckInvariants does not notice.
type Fault struct {
	// ShiftPageTable makes InferenceContext.PageTable name the next page (modulo NumPages) in entry Entry, if the
	// table is that long, while Slot and the true table stay as they are: the pass reads another page's keys.
	ShiftPageTable bool
	Entry          int

	// SkipCommit makes Commit report success without advancing tokens, pages and length: the next pass runs again at
	// the same positions.
	SkipCommit bool
}

func (f *Fault) pageTable(table []uint32, numPages int) []uint32 {
	if !f.ShiftPageTable || f.Entry < 0 || f.Entry >= len(table) {
		return table
	}
	table = slices.Clone(table)
	table[f.Entry] = (table[f.Entry] + 1) % uint32(numPages)
	return table
}
