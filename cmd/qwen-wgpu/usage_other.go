//go:build !unix

package main

import "time"

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }

// peakMemory is not known here.
func peakMemory() int64 { return 0 }
