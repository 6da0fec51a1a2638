// Package web is the dashboard: a page, and the feed that updates it. It does not depend on
// Caddy; a [Source] provides its data.
package web

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	streamName  = "stream"
	detailName  = "detail"
	reportName  = "report"
	actionsName = "actions"
	// writeWithin is the longest time that a write to a viewer may take.
	writeWithin = 15 * time.Second
	retryAfter  = 2 * time.Second
)

// dataNames are the names below the page that serve data, not files.
var dataNames = []string{streamName, detailName, reportName, actionsName}

// policy lets the page load only its own files.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Handlers serve the parts of a page that are optional. The page does not offer a part whose
// handler is nil.
type Handlers struct {
	// Report serves the SLA report of the pool in the query's `pool`, for GET and HEAD.
	Report http.Handler

	// Actions carries out an operator action, for POST. It gets only requests that come from
	// this page: the page refuses those of other sites.
	Actions http.Handler
}

// A Page serves the dashboard below a path. It needs no cookies, and is read-only without
// [Handlers.Actions]. It does not restrict access; its caller must. It is safe for concurrent use.
type Page struct {
	Handlers
	path   string
	feed   *Feed
	bundle *bundle
	index  *asset
	etag   string
	closed chan struct{}
	close  func()
}

// NewPage returns the page at a path. The path must begin with a slash and, unless it is
// "/", must not end with one.
func NewPage(at string, feed *Feed, handlers Handlers) (*Page, error) {
	b, err := theBundle()
	if err != nil {
		return nil, err
	}
	index, err := b.pageFor(at)
	if err != nil {
		return nil, fmt.Errorf("making the page: %w", err)
	}
	closed := make(chan struct{})
	return &Page{
		Handlers: handlers, path: at, feed: feed, bundle: b, index: index, etag: `W/"` + b.version + `"`,
		closed: closed, close: sync.OnceFunc(func() { close(closed) }),
	}, nil
}

// Close ends the streams of all viewers. They reconnect by themselves.
func (p *Page) Close() { p.close() }

// Serves reports whether a URL path is the page or below it. At the root of a site, only
// the page's own files count.
func (p *Page) Serves(urlPath string) bool {
	_, ok := p.below(urlPath)
	return ok
}

// below returns the part of a URL path below the page's path. It is "" for the page itself,
// and "/" if the path ends with an extra slash.
func (p *Page) below(urlPath string) (name string, ok bool) {
	if p.path == "/" {
		name = strings.TrimPrefix(urlPath, "/")
		return name, name == "" || slices.Contains(dataNames, name) || strings.HasPrefix(name, p.bundle.version+"/")
	}
	rest, ok := strings.CutPrefix(urlPath, p.path)
	switch {
	case !ok || rest != "" && rest[0] != '/':
		return "", false
	case rest == "/":
		return "/", true
	}
	return strings.TrimPrefix(rest, "/"), true
}

// ServeHTTP serves the page, its files and its stream. [Page.Serves] must be true for the
// path.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	name, ok := p.below(r.URL.Path)
	if name == actionsName && p.Actions != nil {
		p.act(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "this part of the dashboard is read only", http.StatusMethodNotAllowed)
		return
	}
	version, file, isFile := strings.Cut(name, "/")
	switch {
	case !ok:
		http.NotFound(w, r)
	case name == "":
		h.Set("Cache-Control", "no-cache")
		p.serve(w, r, p.index)
	case name == "/":
		h.Set("Location", "../"+p.path[strings.LastIndexByte(p.path, '/')+1:])
		w.WriteHeader(http.StatusPermanentRedirect)
	case name == streamName:
		p.stream(w, r)
	case name == detailName:
		p.detail(w, r)
	case name == reportName && p.Report != nil:
		p.Report.ServeHTTP(w, r)
	case isFile && version == p.bundle.version && p.bundle.assets[file] != nil:
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		p.serve(w, r, p.bundle.assets[file])
	default:
		h.Set("Cache-Control", "no-store")
		http.NotFound(w, r)
	}
}

// act passes a request to Actions if it is a POST that comes from this page.
func (p *Page) act(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		h.Set("Allow", http.MethodPost)
		http.Error(w, "an operator action is a POST", http.StatusMethodNotAllowed)
		return
	}
	if why := foreign(r); why != "" {
		http.Error(w, "refused: "+why, http.StatusForbidden)
		return
	}
	p.Actions.ServeHTTP(w, r)
}

// detail serves Source.Detail of the pool and the endpoint in the query as JSON.
func (p *Page) detail(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	query := r.URL.Query()
	if p.feed.source.Detail == nil {
		http.NotFound(w, r)
		return
	}
	value := p.feed.source.Detail(time.Now(), query.Get("pool"), query.Get("endpoint"))
	if value == nil {
		http.NotFound(w, r)
		return
	}
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, fmt.Sprintf("encoding the detail: %v", err), http.StatusInternalServerError)
		return
	}
	a, err := newAsset("application/json", body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	p.send(w, r, a)
}

// serve sends an asset of the bundle, or 304 if the client has it.
func (p *Page) serve(w http.ResponseWriter, r *http.Request, a *asset) {
	h := w.Header()
	h.Set("ETag", p.etag)
	if match := r.Header.Get("If-None-Match"); match != "" && strings.Contains(match, h.Get("ETag")) {
		if a.packed != nil {
			h.Add("Vary", "Accept-Encoding")
		}
		w.WriteHeader(http.StatusNotModified)
		return
	}
	p.send(w, r, a)
}

// send sends an asset, compressed if the client accepts that.
func (p *Page) send(w http.ResponseWriter, r *http.Request, a *asset) {
	h := w.Header()
	h.Set("Content-Type", a.mediaType)
	content := a.plain
	if a.packed != nil {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r) {
			h.Set("Content-Encoding", "gzip")
			content = a.packed
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(content)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(content)
	}
}

// acceptsGzip reports whether a client accepts gzip. A coding with q=0 is not accepted.
func acceptsGzip(r *http.Request) bool {
	for _, line := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(line, ",") {
			name, q, _ := strings.Cut(strings.TrimSpace(coding), ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				q = strings.ReplaceAll(q, " ", "")
				return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
			}
		}
	}
	return false
}

// hello is the first event of a stream.
type hello struct {
	Version string `json:"version"` // of the page's files
	Process string `json:"process"` // identifies the process, whose events start at 1
	Report  bool   `json:"report"`  // whether there are reports
	Levers  bool   `json:"levers"`  // whether the page takes operator actions
}

// stream serves the feed as server-sent events: `hello`; `history`; `incidents`, again when
// they change; `snapshot` each second, which is also the heartbeat; and `event` for each event.
// `ready` follows the past events. A viewer that reconnects names its last event in
// Last-Event-ID or, for a new stream, in the query's `after`.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Add("Vary", "Accept-Encoding")
	gzipped := acceptsGzip(r)
	if gzipped {
		h.Set("Content-Encoding", "gzip")
	}
	if r.Method == http.MethodHead {
		return
	}
	lastEventID := r.Header.Get("Last-Event-ID")
	if lastEventID == "" {
		lastEventID = r.URL.Query().Get("after")
	}
	initial, from := p.feed.join(time.Now(), lastEventID)
	defer p.feed.leave()
	greeting := appendMessage(fmt.Appendf(nil, "retry: %d\n", retryAfter.Milliseconds()),
		"hello", "", hello{p.bundle.version, p.feed.epoch, p.Report != nil, p.Actions != nil})

	v := &viewer{ResponseController: http.NewResponseController(w), w: w, gzip: gzipped}
	// A write deadline would outlive this request on its connection.
	defer func() { _ = v.SetWriteDeadline(time.Time{}) }()
	if v.begin() != nil || v.send(newFrame(greeting), initial) != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-p.closed:
			v.end()
			return
		case <-from.ready:
			from = from.next
			if v.send(from) != nil {
				return
			}
		}
	}
}

// A viewer is the stream of one client.
type viewer struct {
	*http.ResponseController
	w    http.ResponseWriter
	gzip bool
	size uint32 // size and checksum of the data sent, which end the gzip stream
	sum  uint32
}

// begin sends the header of the gzip stream.
func (v *viewer) begin() error {
	if !v.gzip {
		return nil
	}
	_, err := v.w.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff})
	return err
}

// send sends frames. A write may take 15 s.
func (v *viewer) send(frames ...*frame) error {
	// Some writers have no deadlines. The request's context ends their streams.
	_ = v.SetWriteDeadline(time.Now().Add(writeWithin))
	for _, f := range frames {
		content := f.plain
		if v.gzip {
			content = f.packed
			v.size += uint32(len(f.plain))
			v.sum = crc32.Update(v.sum, crc32.IEEETable, f.plain)
		}
		if _, err := v.w.Write(content); err != nil {
			return err
		}
	}
	return v.Flush()
}

// end completes the gzip stream: an empty last block, checksum and size.
func (v *viewer) end() {
	if !v.gzip {
		return
	}
	end := []byte{1, 0, 0, 0xff, 0xff}
	end = binary.LittleEndian.AppendUint32(end, v.sum)
	end = binary.LittleEndian.AppendUint32(end, v.size)
	_ = v.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := v.w.Write(end); err == nil {
		_ = v.Flush()
	}
}
