// Package kvcache keeps account of the KV cache: which page holds which tokens of which sequence.
//
// It owns page tables, reference counts, prefix sharing, copy-on-write and eviction, and it alone makes the
// InferenceContext without which no forward pass runs. It works on integers only: it knows neither keys nor values nor
// any device; the runner owns the arena of NumPages*PageSize slots that the integers point into. In a token's trip it
// stands before the pass (Begin) and after it (Commit or Abort).
//
// A page (vLLM calls it a block) holds PageSize consecutive tokens of one text. Token number pos of a sequence lives in
// slot PageTable[pos/PageSize]*PageSize + pos%PageSize.
//
// # States of a page
//
//   - free: no owner, contents meaningless.
//   - used: one or more owners (sequences, or one open context that reserved it).
//   - registered: full, committed, and findable by the hash of its tokens and of all tokens before them. A registered
//     page is never written. It may be used or, without an owner, wait to be reused or evicted, least recently used
//     first.
//
// A page is written by at most one open context, and only when that context's sequence is its single owner and it is not
// registered; otherwise Begin reserves a fresh page and lists a copy in InferenceContext.Copies.
//
// # Passes
//
// Begin changes nothing that a reader of the sequence can see; Commit makes tokens, pages and length visible in one
// step; Abort gives the reserved pages back. The one thing that an abort cannot undo is the eviction of cached pages
// that Begin needed: it costs time later, never correctness.
//
// A PageManager with its sequences and contexts must be used by one goroutine at a time.
package kvcache
