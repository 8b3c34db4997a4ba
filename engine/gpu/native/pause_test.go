//go:build !js

package native

import (
	"testing"
	"time"
)

// How often a wait looks for what takes so long, and how late it finds it, when each look costs what a sleep costs beyond what was asked for.
func TestPause(t *testing.T) {
	const ms, look = time.Millisecond, 60 * time.Microsecond
	for _, c := range []struct {
		name                    string
		takes, expected, latest time.Duration // expected 0: not
		looks                   int
	}{
		{"short, unexpected", ms / 10, 0, ms / 8, 3},
		{"unexpected", 32 * ms, 0, 2 * ms, 100},
		{"long, unexpected", 900 * ms, 0, 2 * ms, 1000},
		{"as expected", 32 * ms, 32 * ms, ms / 8, 6},
		{"a little later", 32 * ms, 31 * ms, ms / 4, 16},
		{"a little sooner", 31 * ms, 32 * ms, ms, 6},
		{"a short one as expected", ms / 2, ms / 2, ms / 8, 6},
		{"long, as expected", 500 * ms, 500 * ms, ms / 8, 40},
		{"much sooner", 20 * ms, time.Hour, 16 * ms, 3},
		{"much later", 32 * ms, 5 * ms, 2 * ms, 100},
	} {
		begin := time.Now()
		now, looks := begin, 1
		var expected time.Time
		if c.expected > 0 {
			expected = begin.Add(c.expected)
		}
		for ; now.Sub(begin) < c.takes; looks++ {
			now = now.Add(pause(now, begin, expected) + look)
		}
		if late := now.Sub(begin) - c.takes; late > c.latest || looks > c.looks {
			t.Errorf("%s: found %v late by %d looks, want at most %v and %d", c.name, late, looks, c.latest, c.looks)
		} else {
			t.Logf("%s: found %v late by %d looks", c.name, late, looks)
		}
	}
}
