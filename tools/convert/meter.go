// Progress for people: a bar with bytes and rate on a terminal, a plain line now and then elsewhere.

package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// meter shows how far a job is. set may be called from several goroutines.
type meter struct {
	mu    sync.Mutex
	w     io.Writer
	what  string
	quiet bool
	tty   bool
	bar   *progressbar.ProgressBar // on a terminal
	start time.Time
	last  time.Time // of the last plain line
	done  int64
}

// plainEvery is the time between two plain lines.
const plainEvery = 5 * time.Second

func newMeter(w io.Writer, what string, quiet bool) *meter {
	file, ok := w.(*os.File)
	now := time.Now()
	return &meter{w: w, what: what, quiet: quiet, tty: ok && term.IsTerminal(int(file.Fd())), start: now, last: now}
}

func (m *meter) set(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if done < m.done {
		return // a slower goroutine's older count
	}
	m.done = done
	if m.quiet {
		return
	}
	if m.tty {
		if m.bar == nil {
			m.bar = progressbar.NewOptions64(total,
				progressbar.OptionSetWriter(m.w), progressbar.OptionSetDescription(m.what), progressbar.OptionShowBytes(true),
				progressbar.OptionShowCount(), progressbar.OptionUseIECUnits(true), progressbar.OptionSetWidth(30),
				progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(true))
			return // the bar's clock starts now; a rate from the first step would be absurd
		}
		m.bar.Set64(done) // an error means that the terminal is gone: no reason to stop
		return
	}
	if now := time.Now(); now.Sub(m.last) >= plainEvery {
		m.last = now
		m.line(total)
	}
}

func (m *meter) line(total int64) {
	rate := float64(m.done) / time.Since(m.start).Seconds()
	fmt.Fprintf(m.w, "%s: %s of %s (%d%%), %s/s\n", m.what, bytesText(m.done), bytesText(total), 100*m.done/max(total, 1), bytesText(int64(rate)))
}

// finish ends the bar's line.
func (m *meter) finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bar != nil {
		fmt.Fprintln(m.w)
	}
}

// bytesText is n in binary units with three digits.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.*f %s", max(0, 3-len(fmt.Sprintf("%.0f", v))), v, units[i])
}
