//go:build unix

package main

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// cpuTime is the processor time that this program has used, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakMemory is the most memory that this program has had in use, in bytes, 0 if unknown. Linux counts in getrusage what
// the program that started this one had, so there it is read elsewhere.
func peakMemory() int64 {
	if runtime.GOOS == "linux" {
		status, _ := os.ReadFile("/proc/self/status")
		if _, rest, ok := bytes.Cut(status, []byte("VmHWM:")); ok {
			if kib, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64); err == nil {
				return kib << 10
			}
		}
		return 0
	}
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return int64(u.Maxrss)
	}
	return int64(u.Maxrss) << 10
}
