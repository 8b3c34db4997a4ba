//go:build js

package browser

// Completions: each asynchronous call into JavaScript has a token; the goroutine that waits for it is parked on a channel
// until JavaScript's event loop calls back.

import (
	"errors"
	"fmt"
	"sync"
	"syscall/js"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// Statuses of glue.js.
const (
	statusOK = iota
	statusValidation
	statusMemory
	statusInternal
	statusLost
)

// completion is what became of an asynchronous call.
type completion struct {
	status int
	text   string
}

func (c completion) err() error {
	switch c.status {
	case statusOK:
		return nil
	case statusMemory:
		return fmt.Errorf("%w: %s", gpu.ErrOutOfMemory, c.text)
	case statusLost:
		return fmt.Errorf("%w: %s", gpu.ErrLost, c.text)
	}
	return errors.New(c.text)
}

// events is the one table of the program: JavaScript has one pair of handlers.
var events struct {
	mu      sync.Mutex // never held while waiting
	last    uint32
	pending map[uint32]pendingCall
	devices map[uint32]*device
}

type pendingCall struct {
	d    *device // nil while a device is requested
	done chan completion
	what string // where nobody waits (done is nil): what failed if it does
}

var install = sync.OnceValue(func() error {
	hooks := js.Global().Get("qwgpu")
	if hooks.IsUndefined() {
		return errors.New("browser: globalThis.qwgpu is missing: install() of glue.js must run before the program is instantiated")
	}
	events.pending = map[uint32]pendingCall{}
	events.devices = map[uint32]*device{}
	hooks.Set("complete", js.FuncOf(func(_ js.Value, args []js.Value) any {
		c := completion{status: args[1].Int()}
		if !args[2].IsUndefined() {
			c.text = args[2].String()
		}
		finish(uint32(args[0].Int()), c)
		return nil
	}))
	hooks.Set("trouble", js.FuncOf(func(_ js.Value, args []js.Value) any {
		trouble(uint32(args[0].Int()), args[1].Bool(), args[2].String())
		return nil
	}))
	return nil
})

// begin makes a token and the channel on which its completion will come.
func begin(d *device) (uint32, chan completion) {
	done := make(chan completion, 1)
	return expect(pendingCall{d: d, done: done}), done
}

func expect(p pendingCall) uint32 {
	events.mu.Lock()
	defer events.mu.Unlock()
	events.last++
	events.pending[events.last] = p
	return events.last
}

func finish(token uint32, c completion) {
	events.mu.Lock()
	defer events.mu.Unlock()
	p, ok := events.pending[token]
	if ok {
		delete(events.pending, token)
		p.settle(c)
	}
}

func (p pendingCall) settle(c completion) {
	if p.done != nil {
		p.done <- c
	} else if err := c.err(); err != nil {
		p.d.fail(fmt.Errorf("%s: %w", p.what, err))
	}
}

// finishAll completes everything that waits for a device which will not answer any more.
func finishAll(d *device, c completion) {
	events.mu.Lock()
	defer events.mu.Unlock()
	for token, p := range events.pending {
		if p.d == d {
			delete(events.pending, token)
			p.settle(c)
		}
	}
}

// trouble notes a lost device, or an error that no scope caught: the next call on the device returns it.
func trouble(id uint32, lost bool, text string) {
	events.mu.Lock()
	d := events.devices[id]
	events.mu.Unlock()
	if d == nil {
		return
	}
	if lost {
		d.lost.CompareAndSwap(nil, &text)
		finishAll(d, completion{statusLost, text})
		return
	}
	d.fail(errors.New(text))
}
