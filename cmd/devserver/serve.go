// serve: the site from memory, models from disk, on localhost unless told otherwise.

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

type server struct {
	site         atomic.Pointer[site]
	buildError   atomic.Pointer[string] // why the last build failed; nil: it did not
	models       *models
	allowOrigins []string // "*" for all
	anyHost      bool     // false: only requests for a loopback name are answered
	reload       broadcast
}

func newServe(b *builder) *cobra.Command {
	var (
		host, cert, key      string
		port                 int
		modelDirs, origins   []string
		watch, listenedToAny bool
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "build, serve, watch and reload (the default)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.dev = watch
			if !cmd.Flags().Changed("models") {
				if _, err := os.Stat(b.path("models")); err == nil {
					modelDirs = []string{b.path("models")}
				}
			}
			m, err := openModels(modelDirs)
			if err != nil {
				return err
			}
			for _, o := range origins {
				if u, err := url.Parse(o); o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "") {
					return fmt.Errorf("--allow-origin %q: an origin is scheme://host[:port], or * for all", o)
				}
			}
			if (cert == "") != (key == "") {
				return errors.New("--tls-cert and --tls-key go together")
			}
			s := &server{models: m, allowOrigins: origins}

			listener, err := listen(host, port, cmd.Flags().Changed("port"))
			if err != nil {
				return err
			}
			ip := listener.Addr().(*net.TCPAddr).IP
			listenedToAny = !ip.IsLoopback()
			s.anyHost = listenedToAny

			fmt.Println("building the page and the engine ...")
			start := time.Now()
			if err := s.rebuild(cmd.Context(), b); err != nil {
				if !watch {
					return err
				}
				fmt.Fprintf(os.Stderr, "%v\n", err)
			} else {
				fmt.Printf("built in %.1f s\n", time.Since(start).Seconds())
			}
			if watch {
				go s.watch(cmd.Context(), b)
			}
			scheme := "http"
			if cert != "" {
				scheme = "https"
			}
			fmt.Printf("\n    %s://%s/\n\n", scheme, displayAddress(listener.Addr().(*net.TCPAddr)))
			for _, name := range m.names {
				fmt.Printf("model %s at models/%s/\n", name, name)
			}
			if listenedToAny && cert == "" {
				fmt.Println("Browsers offer WebGPU only on https or localhost: give --tls-cert and --tls-key, or open the page on this machine.")
			}
			return s.run(cmd.Context(), listener, cert, key)
		},
	}
	f := cmd.Flags()
	f.StringVar(&host, "host", "127.0.0.1", "the address to listen on; 0.0.0.0 for all")
	f.IntVar(&port, "port", 8080, "the port; another is taken if this one is in use and not asked for by the flag; 0 for any")
	f.StringArrayVar(&modelDirs, "models", nil, "a packed model directory, or a directory of them; repeatable (default: models)")
	f.StringArrayVar(&origins, "allow-origin", nil, "an origin whose pages may load models and the engine from here (CORS); repeatable, * for all")
	f.BoolVar(&watch, "watch", true, "rebuild and reload when a source changes; otherwise a build like dist's")
	f.StringVar(&cert, "tls-cert", "", "serve https with this certificate")
	f.StringVar(&key, "tls-key", "", "and this key")
	return cmd
}

// listen takes the port, or any free one when it is taken and nobody asked for it.
func listen(host string, port int, asked bool) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) && !asked {
		return net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	return l, err
}

// displayAddress is what a person can open.
func displayAddress(a *net.TCPAddr) string {
	host := a.IP.String()
	if a.IP.IsLoopback() || a.IP.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, strconv.Itoa(a.Port))
}

// rebuild replaces the site. A failed build leaves the last good one in place.
func (s *server) rebuild(ctx context.Context, b *builder) error {
	built, err := b.build(ctx)
	if err != nil {
		text := err.Error()
		s.buildError.Store(&text)
		return err
	}
	s.site.Store(&built)
	s.buildError.Store(nil)
	return nil
}

func (s *server) run(ctx context.Context, listener net.Listener, cert, key string) error {
	hs := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	context.AfterFunc(ctx, func() { hs.Close() })
	var err error
	if cert != "" {
		err = hs.ServeTLS(listener, cert, key)
	} else {
		err = hs.Serve(listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if !s.anyHost && !isLoopbackHost(r.Host) {
		// A foreign name that resolves to this machine (DNS rebinding) is not for us.
		http.Error(w, fmt.Sprintf("host %q: this server answers for localhost only; start it with --host to change that", r.Host), http.StatusForbidden)
		return
	}
	p := strings.TrimPrefix(r.URL.Path, "/")
	s.allowOrigin(w, r, p)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		h.Set("Allow", "GET, HEAD, OPTIONS")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	switch {
	case p == reloadPath:
		s.reload.ServeHTTP(w, r)
	case strings.HasPrefix(p, "models/"):
		http.StripPrefix("/models/", s.models).ServeHTTP(w, r)
	default:
		s.serveFile(w, r, p)
	}
}

func isLoopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// allowOrigin answers CORS for the origins on the list. The page itself is never shared.
func (s *server) allowOrigin(w http.ResponseWriter, r *http.Request, p string) {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || p == "" || p == "index.html" || p == reloadPath {
		return
	}
	if !slices.Contains(s.allowOrigins, origin) && !slices.Contains(s.allowOrigins, "*") {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Content-Length, Content-Range, ETag, Accept-Ranges")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, HEAD")
		h.Set("Access-Control-Allow-Headers", "Range, If-Range, If-None-Match")
		h.Set("Access-Control-Max-Age", "600")
	}
}

func (s *server) serveFile(w http.ResponseWriter, r *http.Request, p string) {
	if p == "" {
		p = "index.html"
	}
	if text := s.buildError.Load(); text != nil && p == "index.html" {
		http.Error(w, "The build failed.\n\n"+*text, http.StatusInternalServerError)
		return
	}
	files := s.site.Load()
	if files == nil {
		http.Error(w, "not built yet", http.StatusServiceUnavailable)
		return
	}
	f, ok := (*files)[p]
	if !ok {
		http.Error(w, fmt.Sprintf("no file %q here", p), http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType(p))
	switch {
	case p == "index.html":
		h.Set("Content-Security-Policy", headerCSP)
	case strings.HasSuffix(p, ".js"):
		h.Set("Content-Security-Policy", workerCSP)
	}
	if immutable(p) {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	h.Add("Vary", "Accept-Encoding")
	body, etag := f.body, f.hash
	if coding := chooseCoding(r.Header.Get("Accept-Encoding")); coding != "" && len(f.body) > 512 {
		encoded, err := f.encode(coding, devBrotli)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		h.Set("Content-Encoding", coding)
		body, etag = encoded, f.hash+"-"+coding
	}
	etag = `"` + etag + `"`
	h.Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}

// chooseCoding picks brotli, gzip or none ("") by an Accept-Encoding header.
func chooseCoding(accept string) string {
	ok := make(map[string]bool)
	for item := range strings.SplitSeq(accept, ",") {
		name, parameters, _ := strings.Cut(item, ";")
		q := strings.TrimPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
		weight, err := strconv.ParseFloat(q, 64)
		ok[strings.ToLower(strings.TrimSpace(name))] = q == "" || err == nil && weight > 0
	}
	for _, coding := range []string{"br", "gzip"} {
		if ok[coding] {
			return coding
		}
	}
	return ""
}
