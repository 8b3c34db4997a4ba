package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
)

// newTestServer serves a small site and one model of one shard, to loopback hosts only.
func newTestServer(t *testing.T, origins ...string) (*server, *httptest.Server) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "random")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"manifest.json": "{}", "model-1.safetensors": "0123456789", "../secret": "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../secret", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	m, err := openModels([]string{filepath.Dir(dir)})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{models: m, allowOrigins: origins}
	files := site{"index.html": newFile([]byte(strings.Repeat("<!doctype html>", 100))), "sw.js": newFile([]byte("self"))}
	files.addHashed("qwen.wasm", bytes.Repeat([]byte("\x00asm"), 1000))
	s.site.Store(&files)
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	return s, ts
}

// request returns the response and its body, as it came over the wire.
func request(t *testing.T, url string, header map[string]string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "identity")
	for k, v := range header {
		r.Header.Set(k, v)
		if k == "Host" {
			r.Host = v
		}
	}
	if m := header["Method"]; m != "" {
		r.Method = m
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestPageHeaders(t *testing.T) {
	_, ts := newTestServer(t)
	resp, _ := request(t, ts.URL+"/", nil)
	csp := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "connect-src 'self';", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the page's policy %q lacks %q", csp, want)
		}
	}
	if strings.Contains(csp, "unsafe-inline") || strings.Contains(csp, "https:") {
		t.Errorf("the page's policy is too wide: %q", csp)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// A worker's own policy lets it download models.
	resp, _ = request(t, ts.URL+"/sw.js", nil)
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "connect-src 'self' https:") {
		t.Errorf("a script's policy is %q", csp)
	}
}

func TestEncodings(t *testing.T) {
	s, ts := newTestServer(t)
	wasm := s.site.Load().paths()[0]
	plain := string((*s.site.Load())[wasm].body)
	etags := map[string]bool{}
	for accept, want := range map[string]string{"": "", "gzip": "gzip", "gzip, deflate, br": "br", "br;q=0, gzip;q=0.5": "gzip", "br; q=0": "", "identity": ""} {
		resp, body := request(t, ts.URL+"/"+wasm, map[string]string{"Accept-Encoding": accept})
		if got := resp.Header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: %q, want %q", accept, got, want)
		}
		if resp.ContentLength != int64(len(body)) {
			t.Errorf("Accept-Encoding %q: Content-Length %d of %d bytes", accept, resp.ContentLength, len(body))
		}
		var r io.Reader = strings.NewReader(body)
		switch want {
		case "gzip":
			z, err := gzip.NewReader(r)
			if err != nil {
				t.Fatal(err)
			}
			r = z
		case "br":
			r = brotli.NewReader(r)
		}
		if decoded, err := io.ReadAll(r); err != nil || string(decoded) != plain {
			t.Errorf("Accept-Encoding %q: %d bytes after decoding (%v), want %d", accept, len(decoded), err, len(plain))
		}
		if got := resp.Header.Get("Content-Type"); got != "application/wasm" {
			t.Errorf("type %q", got)
		}
		if got := resp.Header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("Cache-Control %q", got)
		}
		if !slices.Contains(resp.Header.Values("Vary"), "Accept-Encoding") {
			t.Errorf("Vary %q", resp.Header.Values("Vary"))
		}
		etags[want+resp.Header.Get("ETag")] = true
		again, body := request(t, ts.URL+"/"+wasm, map[string]string{"Accept-Encoding": accept, "If-None-Match": resp.Header.Get("ETag")})
		if again.StatusCode != http.StatusNotModified || body != "" {
			t.Errorf("If-None-Match: %s with %d bytes", again.Status, len(body))
		}
	}
	if len(etags) != 3 {
		t.Errorf("%d ETags for three codings: %v", len(etags), etags)
	}
}

func TestModels(t *testing.T) {
	_, ts := newTestServer(t)
	shard := ts.URL + "/models/random/model-1.safetensors"
	resp, body := request(t, shard, nil)
	etag := resp.Header.Get("ETag")
	if body != "0123456789" || resp.Header.Get("Content-Type") != "application/octet-stream" || resp.Header.Get("Accept-Ranges") != "bytes" || etag == "" {
		t.Errorf("%q, %v", body, resp.Header)
	}
	for _, c := range []struct {
		header map[string]string
		status int
		body   string
	}{
		{map[string]string{"Range": "bytes=4-"}, 206, "456789"},
		{map[string]string{"Range": "bytes=4-6", "If-Range": etag}, 206, "456"},
		{map[string]string{"Range": "bytes=4-6", "If-Range": `"older"`}, 200, "0123456789"},
		{map[string]string{"Range": "bytes=99-"}, 416, ""},
		{map[string]string{"If-None-Match": etag}, 304, ""},
		{map[string]string{"Method": "HEAD"}, 200, ""},
		{map[string]string{"Method": "POST"}, 405, "method not allowed\n"},
	} {
		resp, body := request(t, shard, c.header)
		if resp.StatusCode != c.status || c.status != 416 && body != c.body {
			t.Errorf("%v: %s %q, want %d %q", c.header, resp.Status, body, c.status, c.body)
		}
	}
	for path, status := range map[string]int{
		"/models/random/":                      404,
		"/models/random/other":                 404,
		"/models/random/..%2fsecret":           404,
		"/models/random/link":                  404,
		"/models/other/manifest.json":          404,
		"/models/random/%2e%2e/%2e%2e/secret":  404,
		"/models/random/manifest.json":         200,
		"/assets/%2e%2e/%2e%2e/etc/passwd":     404,
		"/models/random/model-1.safetensors/x": 404,
	} {
		if resp, body := request(t, ts.URL+path, nil); resp.StatusCode != status || strings.Contains(body, "secret") && status == 200 {
			t.Errorf("%s: %s %q, want %d", path, resp.Status, body, status)
		}
	}
	_, body = request(t, ts.URL+"/models/index.json", nil)
	var index struct{ Models []modelEntry }
	if err := json.Unmarshal([]byte(body), &index); err != nil {
		t.Fatal(err)
	}
	if want := []modelEntry{{Name: "random", URL: "random/", Bytes: 12}}; !slices.Equal(index.Models, want) {
		t.Errorf("index %+v, want %+v", index.Models, want)
	}
}

func TestAllowOrigin(t *testing.T) {
	const allowed = "https://chat.example.org"
	_, ts := newTestServer(t, allowed)
	for _, c := range []struct{ path, origin, want string }{
		{"/models/random/manifest.json", allowed, allowed},
		{"/models/random/manifest.json", "https://other.example.org", ""},
		{"/models/random/manifest.json", "", ""},
		{"/sw.js", allowed, allowed},
		{"/", allowed, ""}, // the page is nobody else's
	} {
		header := map[string]string{}
		if c.origin != "" {
			header["Origin"] = c.origin
		}
		resp, _ := request(t, ts.URL+c.path, header)
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != c.want {
			t.Errorf("%s from %q: allowed origin %q, want %q", c.path, c.origin, got, c.want)
		}
		if !slices.Contains(resp.Header.Values("Vary"), "Origin") {
			t.Errorf("%s: Vary %q", c.path, resp.Header.Values("Vary"))
		}
	}
	resp, _ := request(t, ts.URL+"/models/random/model-1.safetensors", map[string]string{"Method": "OPTIONS", "Origin": allowed, "Access-Control-Request-Headers": "range"})
	if resp.StatusCode != 204 || !strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Range") {
		t.Errorf("preflight: %s %v", resp.Status, resp.Header)
	}
	_, open := newTestServer(t, "*")
	resp, _ = request(t, open.URL+"/models/random/manifest.json", map[string]string{"Origin": "https://any.example.org"})
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "https://any.example.org" {
		t.Errorf("with *: %q", got)
	}
}

func TestForeignHostIsRefused(t *testing.T) {
	s, ts := newTestServer(t)
	for host, status := range map[string]int{"localhost:8080": 200, "127.0.0.1": 200, "[::1]:8080": 200, "page.localhost": 200, "evil.example.org": 403, "192.168.1.5:8080": 403} {
		if resp, _ := request(t, ts.URL+"/", map[string]string{"Host": host}); resp.StatusCode != status {
			t.Errorf("host %s: %s, want %d", host, resp.Status, status)
		}
	}
	s.anyHost = true
	if resp, _ := request(t, ts.URL+"/", map[string]string{"Host": "192.168.1.5:8080"}); resp.StatusCode != 200 {
		t.Errorf("with --host: %s", resp.Status)
	}
}

func TestFailedBuildIsShown(t *testing.T) {
	s, ts := newTestServer(t)
	text := "main.go:1: syntax error"
	s.buildError.Store(&text)
	if resp, body := request(t, ts.URL+"/", nil); resp.StatusCode != 500 || !strings.Contains(body, text) {
		t.Errorf("%s %q", resp.Status, body)
	}
	if resp, _ := request(t, ts.URL+"/sw.js", nil); resp.StatusCode != 200 {
		t.Errorf("the last good build is gone: %s", resp.Status)
	}
}

func TestReload(t *testing.T) {
	s, ts := newTestServer(t)
	resp, err := http.Get(ts.URL + "/" + reloadPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Scan() // the comment: it listens
	timer := time.AfterFunc(10*time.Second, func() { resp.Body.Close() })
	defer timer.Stop()
	s.reload.send()
	for lines.Scan() {
		if lines.Text() == "event: reload" {
			return
		}
	}
	t.Error("no reload event came")
}

func TestPageSizeIsBounded(t *testing.T) {
	noise := make([]byte, maxPageBytes+1)
	rand.NewChaCha8([32]byte{}).Read(noise) // does not compress
	s := site{"small.js": newFile(noise[:1000]), "plain.js": newFile(make([]byte, 2*maxPageBytes)), "large.js": newFile(noise)}
	if err := s.checkSize([]string{"small.js", "plain.js"}); err != nil {
		t.Error(err)
	}
	if err := s.checkSize([]string{"small.js", "large.js"}); err == nil {
		t.Errorf("%d bytes passed", len(noise)+1000)
	}
}

func TestDistRefusesForeignDirectories(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(kept, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := clear(dir); err == nil {
		t.Error("a directory with something else in it was cleared")
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sw.js"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := clear(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("an earlier build was not cleared")
	}
}

func TestDistWritesCompressedCopies(t *testing.T) {
	s := site{"index.html": newFile([]byte("page"))}
	p := s.addHashed("main.js", bytes.Repeat([]byte("let x = 1;\n"), 100))
	dir := t.TempDir()
	if err := s.write(dir, true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.html", "index.html.gz", p, p + ".br", p + ".gz"} {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			t.Error(err)
		}
	}
}
