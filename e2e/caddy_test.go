// Package e2e tests a real Caddy with the plugin from outside: by the Caddyfile, HTTP, the admin API, the
// metrics, the log and the command. It imports the plugin only to register its modules.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/apifailover/caddy-failover"
)

// adapt turns a Caddyfile into JSON.
func adapt(caddyfile string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// A proxy is a Caddy that runs in this process. Its site and its admin endpoint listen on Unix sockets. A
// process can run only one at a time, so no test of this package is parallel.
type proxy struct {
	t         testing.TB
	dir       string       // directory of the sockets, the log and Caddy's storage; short, because socket paths must be
	client    *http.Client // sends to the site
	admin     *http.Client // sends to the admin endpoint
	adminHost string       // Host of admin requests
	before    int64        // bytes that bodies of earlier tests still took when this Caddy started
	loaded    atomic.Int64 // time of the last load of a configuration, in Unix nanoseconds
}

// startCaddy runs Caddy with a site of the given directives until the test ends.
func startCaddy(t testing.TB, site string) *proxy {
	t.Helper()
	return startCaddyWith(t, "", site)
}

// startCaddyWith runs Caddy with global options as well.
func startCaddyWith(t testing.TB, global, site string) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &proxy{t: t, dir: dir, adminHost: "127.0.0.1"}
	p.client = clientOf(p.file("site"), true)
	p.admin = clientOf(p.file("admin"), false) // a reload replaces the endpoint
	if err := p.loadWith(global, site); err != nil {
		t.Fatalf("starting Caddy: %v", err)
	}
	t.Cleanup(p.stop)
	p.before = p.kept()
	return p
}

// stop ends Caddy, its admin endpoint included.
func (p *proxy) stop() {
	p.t.Helper()
	p.client.CloseIdleConnections()
	err := caddy.Load([]byte(`{"admin": {"disabled": true, "config": {"persist": false}}}`), true)
	if err = errors.Join(err, caddy.Stop()); err != nil {
		p.t.Errorf("stopping Caddy: %v", err)
	}
}

// file returns the path of one of the proxy's files: site, admin, log or stored.
func (p *proxy) file(name string) string { return filepath.Join(p.dir, name) }

// caddyfile returns the whole configuration around a site's directives. SOCKET in it stands for the path of the
// site's socket.
func (p *proxy) caddyfile(global, site string) string {
	return fmt.Sprintf(`{
	admin unix/%s
	persist_config off
	auto_https off
	grace_period 5s
	storage file_system %s
	servers {
		protocols h1 h2c
		listener_wrappers {
			test_listener
		}
	}
	log {
		output file %s
		format json
		level DEBUG
	}
	%s
}
http://api.test {
	bind unix/SOCKET
	%s
}
`, p.file("admin"), p.file("stored"), p.file("log"), indent(global), indent(site))
}

func indent(directives string) string {
	return strings.ReplaceAll(strings.TrimSpace(directives), "\n", "\n\t")
}

// load replaces the site, as a reload does.
func (p *proxy) load(site string) error { return p.loadWith("", site) }

// loadWith replaces the configuration, with global options. When it returns, requests go to the new one, or after
// an error to the old one. Caddy itself returns earlier, while servers that it replaces still take requests.
func (p *proxy) loadWith(global, site string) error {
	config, err := adapt(strings.ReplaceAll(p.caddyfile(global, site), "SOCKET", p.file("site")))
	if err != nil {
		return err
	}
	before := listeners.all()
	p.loaded.Store(time.Now().UnixNano())
	err = caddy.Load(config, true)
	p.loaded.Store(time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for _, l := range listeners.all() {
		if replaced := slices.Contains(before, l); replaced != (err == nil) {
			continue // this server goes on
		}
		select {
		case <-l.closed:
		case <-ctx.Done():
			return errors.Join(err, errors.New("a replaced server is still listening"))
		}
	}
	p.client.CloseIdleConnections()
	return err
}

// reload replaces the site and fails the test after an error.
func (p *proxy) reload(site string) {
	p.t.Helper()
	if err := p.load(site); err != nil {
		p.t.Fatalf("reloading: %v", err)
	}
}

func init() {
	caddy.RegisterModule(failing{})
	httpcaddyfile.RegisterHandlerDirective("test_fails", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return failing{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_fails", httpcaddyfile.After, "reverse_proxy")
}

// failing is a handler whose Provision fails. Its directive, test_fails, makes a configuration fail after the
// pools before it are provisioned.
type failing struct{}

func (failing) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_fails", New: func() caddy.Module { return failing{} }}
}

func (failing) Provision(caddy.Context) error { return errors.New("test_fails always fails") }

func (failing) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error { return nil }

func init() { caddy.RegisterModule(new(testListener)) }

// listeners has the open listeners of the site.
var listeners openListeners

type openListeners struct {
	mu   sync.Mutex
	open []*openListener
}

func (o *openListeners) all() []*openListener {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.open)
}

// An openListener closes its channel when it is closed.
type openListener struct {
	net.Listener
	once   sync.Once
	closed chan struct{}
}

func (l *openListener) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() {
		listeners.mu.Lock()
		listeners.open = slices.DeleteFunc(listeners.open, func(other *openListener) bool { return other == l })
		listeners.mu.Unlock()
		close(l.closed)
	})
	return err
}

// testListener is the listener wrapper test_listener, which every configuration has.
type testListener struct{}

func (*testListener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.listeners.test_listener", New: func() caddy.Module { return new(testListener) }}
}

func (*testListener) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*testListener) WrapListener(l net.Listener) net.Listener {
	opened := &openListener{Listener: l, closed: make(chan struct{})}
	listeners.mu.Lock()
	listeners.open = append(listeners.open, opened)
	listeners.mu.Unlock()
	return opened
}
