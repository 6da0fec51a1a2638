package failover

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// adapt turns a Caddyfile into JSON.
func adapt(t testing.TB, caddyfile string) []byte {
	t.Helper()
	config, err := tryAdapt(caddyfile)
	if err != nil {
		t.Fatalf("adapting: %v\n%s", err, caddyfile)
	}
	return config
}

func tryAdapt(caddyfile string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// A proxy is a Caddy that runs in this process and listens on a socket.
type proxy struct {
	t      testing.TB
	admin  string // off, or the address of the admin endpoint
	socket string
	log    string
	stored string // where Caddy's storage is
	client *http.Client
	loaded atomic.Int64 // when Caddy loaded a configuration last, Unix nanoseconds
}

// startCaddy runs Caddy with a site of the given directives.
func startCaddy(t testing.TB, site string) *proxy {
	t.Helper()
	return startCaddyWithAdmin(t, site, "off")
}

// clientOf is a client of what listens on a socket.
func clientOf(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 200,
	}}
}

// startCaddyWithAdmin runs Caddy with an admin endpoint at an address as well.
func startCaddyWithAdmin(t testing.TB, site, admin string) *proxy {
	t.Helper()
	dir := t.TempDir()
	p := &proxy{t: t, admin: admin, socket: filepath.Join(dir, "s"), log: filepath.Join(dir, "log"), stored: filepath.Join(dir, "stored")}
	p.client = clientOf(p.socket)
	if err := p.load(site); err != nil {
		t.Fatalf("starting Caddy: %v", err)
	}
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
	})
	return p
}

// caddyfile is the whole configuration around a site's directives, in which
// SOCKET stands for where it listens.
func (p *proxy) caddyfile(site string) string {
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	grace_period 5s
	storage file_system %s
	log {
		output file %s
		format json
		level DEBUG
	}
}
http://api.test {
	bind unix/%s
	%s
}
`, p.admin, p.stored, p.log, p.socket, strings.NewReplacer("\n", "\n\t", "SOCKET", p.socket).Replace(strings.TrimSpace(site)))
}

// load loads another configuration, as a reload does.
func (p *proxy) load(site string) error { return p.loadCaddyfile(p.caddyfile(site)) }

// loadCaddyfile loads a whole configuration.
func (p *proxy) loadCaddyfile(config string) error {
	p.loaded.Store(time.Now().UnixNano())
	err := caddy.Load(adapt(p.t, config), true)
	p.loaded.Store(time.Now().UnixNano())
	return err
}

// cutByReload tells whether a request got no answer because Caddy reloads: it
// then ends some connections of a unix socket that have no request yet, or just
// got one, with any handler.
func (p *proxy) cutByReload(err error) bool {
	return (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) && time.Now().UnixNano()-p.loaded.Load() < int64(time.Second)
}

// do sends a request to the site.
func (p *proxy) do(method, path string, body io.Reader, header ...string) (*http.Response, error) {
	r, err := http.NewRequest(method, "http://api.test"+path, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := p.client.Do(r)
	for (body == nil || r.GetBody != nil) && p.cutByReload(err) {
		if body != nil {
			r.Body, _ = r.GetBody() // of strings and bytes, which always has one more
		}
		resp, err = p.client.Do(r)
	}
	return resp, err
}

// get returns status and body of a GET.
func (p *proxy) get(path string, header ...string) (int, string) {
	p.t.Helper()
	resp, err := p.do(http.MethodGet, path, nil, header...)
	if err != nil {
		p.t.Fatalf("GET %s: %v", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("GET %s: reading the body: %v", path, err)
	}
	return resp.StatusCode, string(body)
}

// runningPool is the pool of a name.
func runningPool(t testing.TB, name string) *pool.Pool {
	t.Helper()
	p := pool.Find(name)
	if p == nil {
		t.Fatalf("no pool %q", name)
	}
	return p
}

// endpointOf is how an endpoint of a running pool stands.
func endpointOf(t testing.TB, pool, endpoint string) api.EndpointStatus {
	t.Helper()
	for _, e := range runningPool(t, pool).Status(time.Now()).Endpoints {
		if e.Name == endpoint {
			return e
		}
	}
	t.Fatalf("pool %q has no endpoint %q", pool, endpoint)
	return api.EndpointStatus{}
}

// listening serves the connections to a free port, each until serve returns.
func listening(tb testing.TB, serve func(net.Conn)) (address string) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// A standIn is an endpoint that can be taken down and made to misbehave.
type standIn struct {
	name    string
	address string
	hits    atomic.Int64
	handler atomic.Pointer[http.HandlerFunc]

	mu     sync.Mutex
	server *httptest.Server
}

// newAPI starts an endpoint that answers with its name.
func newAPI(t testing.TB, name string) *standIn {
	t.Helper()
	a := &standIn{name: name}
	a.behave(a.fine)
	a.up(t, "127.0.0.1:0")
	t.Cleanup(a.down)
	return a
}

func (a *standIn) fine(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprint(w, a.name, digest(string(body)))
}

func (a *standIn) behave(h http.HandlerFunc) { a.handler.Store(&h) }

// answer makes the endpoint answer with a status.
func (a *standIn) answer(status int, header ...string) {
	a.behave(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, "%s says %d", a.name, status)
	})
}

// status answers with a status alone.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// cut drops the connection before the answer.
func cut(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

func (a *standIn) up(t testing.TB, address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.address = listener.Addr().String()
	a.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.hits.Add(1)
		(*a.handler.Load())(w, r)
	}))
	a.server.Listener.Close()
	a.server.Listener = listener
	a.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.server.Start()
}

// down refuses connections and cuts those there are.
func (a *standIn) down() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil {
		a.server.Listener.Close()
		a.server.CloseClientConnections()
		a.server.Close()
		a.server = nil
	}
}

// A load is a stream of requests, each sent on time whatever became of the others.
type load struct{ quit, done chan struct{} }

// startLoad sends rate requests a second until stop, and reads their answers.
func (p *proxy) startLoad(rate int, method, path, body string) *load {
	l := &load{quit: make(chan struct{}), done: make(chan struct{})}
	one := func() {
		var reader io.Reader
		if body != "" {
			reader = strings.NewReader(body)
		}
		if resp, err := p.do(method, path, reader); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	go func() {
		defer close(l.done)
		var wg sync.WaitGroup
		defer wg.Wait()
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for {
			select {
			case <-l.quit:
				return
			case <-ticker.C:
				wg.Go(one)
			}
		}
	}()
	return l
}

// stop ends the load when all its answers are in.
func (l *load) stop() {
	close(l.quit)
	<-l.done
}

// digest is what a good endpoint says about a body.
func digest(body string) string {
	if body == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(body))
	return fmt.Sprintf(" %x", sum[:4])
}

// eventually waits until a condition holds, which it must within a time.
func eventually(t testing.TB, within time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-ticker.C
	}
	return time.Since(began)
}

// lasting lets a time go by in which a load or a fault does its work.
func lasting(d time.Duration) { <-time.After(d) }

// lines are the log lines with a message, or all for "".
func (p *proxy) lines(message string) []map[string]any {
	p.t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	var lines []map[string]any
	for line := range strings.Lines(string(text)) {
		fields := make(map[string]any)
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			p.t.Fatalf("log line %q: %v", line, err)
		}
		if message == "" || fields["msg"] == message {
			lines = append(lines, fields)
		}
	}
	return lines
}

// site is a failover directive over endpoints in priority order.
func site(options string, apis ...*standIn) string { return pooled("api", options, apis...) }

// pooled is site for a pool of another name.
func pooled(name, options string, apis ...*standIn) string {
	var b strings.Builder
	fmt.Fprintf(&b, "failover {\n\tname %s\n", name)
	for _, a := range apis {
		fmt.Fprintf(&b, "\tendpoint http://%s {\n\t\tname %s\n\t}\n", a.address, a.name)
	}
	b.WriteString(options)
	b.WriteString("\n}")
	return b.String()
}

// quick lets a breaker try again after a second, so that tests end.
const quick = `
	timeout 1s
	breaker {
		open_for 1s
		open_max 1s
	}
	retry {
		attempts 3
		methods any
	}`
