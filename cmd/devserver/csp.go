// The Content-Security-Policies: of the page (a header and, for file hosts without headers, a <meta>) and of the workers.

package main

import "strings"

// pageCSP: the page runs its own bundle and nothing else, connects to its own origin alone, and cannot be given HTML or a
// script address as a string (Trusted Types: "dompurify" sanitizes Markdown, "default" admits addresses of this origin).
var pageCSP = strings.Join([]string{
	"default-src 'none'",
	"script-src 'self' 'wasm-unsafe-eval'",
	"worker-src 'self'",
	"style-src 'self'",
	"img-src 'self'",
	"connect-src 'self'",
	"manifest-src 'self'",
	"base-uri 'none'",
	"form-action 'none'",
	"require-trusted-types-for 'script'",
	"trusted-types default dompurify",
}, "; ")

// headerCSP adds what a <meta> may not say.
var headerCSP = pageCSP + "; frame-ancestors 'none'"

// workerCSP belongs to scripts that run as workers, which have a policy of their own: the engine downloads models, from
// anywhere that is encrypted or this machine, and compiles wasm.
var workerCSP = strings.Join([]string{
	"default-src 'none'",
	"script-src 'self' 'wasm-unsafe-eval'",
	"connect-src 'self' https: http://localhost:* http://127.0.0.1:*",
}, "; ")
