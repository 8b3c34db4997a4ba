// The worker pool: splits one operation into parts and hands them to goroutines that live as long as the Runner.

package ref

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// task is an operation cut into independent parts. run is called once a part; worker names the goroutine, for scratch
// memory, and is below pool.workers.
type task interface {
	run(worker, part int)
}

// pool runs one task at a time. The caller's goroutine is worker 0. Tasks are pointers to structs that exist already, so
// that starting one allocates nothing.
type pool struct {
	workers int
	wake    chan struct{}
	done    sync.WaitGroup

	current  task
	numParts int64
	next     atomic.Int64
}

// newPool starts threads-1 goroutines; 0 threads means GOMAXPROCS.
func newPool(threads int) *pool {
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	p := &pool{workers: threads, wake: make(chan struct{}, threads)}
	for worker := 1; worker < threads; worker++ {
		go func() {
			for range p.wake {
				p.work(worker)
				p.done.Done()
			}
		}()
	}
	return p
}

// run returns when every part of t is done.
func (p *pool) run(t task, numParts int) {
	helpers := min(p.workers, numParts) - 1
	if helpers < 1 {
		for part := range numParts {
			t.run(0, part)
		}
		return
	}
	p.current, p.numParts = t, int64(numParts)
	p.next.Store(0)
	p.done.Add(helpers)
	for range helpers {
		p.wake <- struct{}{}
	}
	p.work(0)
	p.done.Wait()
}

// work takes parts until none is left.
func (p *pool) work(worker int) {
	for part := p.next.Add(1) - 1; part < p.numParts; part = p.next.Add(1) - 1 {
		p.current.run(worker, int(part))
	}
}

// perWorker makes a buffer of n numbers for each worker.
func (p *pool) perWorker(n int) [][]float32 {
	buffers := make([][]float32, p.workers)
	for i := range buffers {
		buffers[i] = make([]float32, n)
	}
	return buffers
}

// close ends the goroutines. No task may be running.
func (p *pool) close() { close(p.wake) }
