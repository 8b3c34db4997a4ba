//go:build js

// Command wasm is the engine in the browser: a program in a worker that takes requests and posts replies as JSON.
//
// It owns the protocol's Go side (protocol.go), the model's files as the worker reads them (source.go), loading and
// recovery (load.go), and answers (chat.go). The worker that starts it is web/src/engine/worker.ts.
package main

import (
	"encoding/json"
	"fmt"
	"syscall/js"
)

func main() {
	host := js.Global().Get("qwen")
	if host.IsUndefined() {
		fmt.Println("this program runs in the worker of web/src/engine: globalThis.qwen is missing")
		return
	}
	p := &program{host: host, cancels: map[int]func(){}}
	host.Set("handle", js.FuncOf(func(_ js.Value, args []js.Value) any {
		text := args[0].String()
		go p.handle([]byte(text)) // not here: a callback must not wait
		return nil
	}))
	select {}
}

// handle answers one request.
func (p *program) handle(data []byte) {
	var r request
	if err := json.Unmarshal(data, &r); err != nil {
		p.post(reply{Kind: "error", ID: r.ID, Code: codeInvalid, Message: fmt.Sprintf("the request cannot be read: %v", err)})
		return
	}
	result, err := p.answer(&r)
	if err != nil {
		p.post(reply{Kind: "error", ID: r.ID, Code: codeOf(err), Message: err.Error()})
		return
	}
	p.post(reply{Kind: "result", ID: r.ID, Result: result})
}

func (p *program) answer(r *request) (result any, err error) {
	switch r.Kind {
	case "load":
		return p.load(r)
	case "chat":
		return p.chat(r)
	case "generate":
		return p.generate(r)
	case "tokenize":
		return p.tokenize(r)
	case "stats":
		return p.stats()
	case "roofline":
		return p.roofline(r)
	case "bench":
		return p.bench(r)
	case "tune":
		return p.tune(r)
	case "cancel":
		return nil, p.cancel(r.Of)
	case "close":
		return nil, p.close()
	case "lose_device":
		return nil, loseDevice()
	}
	return nil, invalidf("request %q is unknown", r.Kind)
}

// post sends a reply to the page.
func (p *program) post(r reply) {
	data, err := json.Marshal(r)
	if err != nil {
		data, _ = json.Marshal(reply{Kind: "error", ID: r.ID, Code: codeInternal, Message: err.Error()}) // text always marshals
	}
	p.host.Call("post", string(data))
}
