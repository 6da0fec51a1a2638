package peers

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/process"
)

// A Launcher starts peers.
type Launcher struct {
	Dir   string // parent of each peer's directory
	Caddy string // path of the Caddy binary with the plugin
	NPM   string // directory of npm.Install, for peers that need it

	// Engine is the address of a Redis server, for peers that form a fleet.
	Engine string
}

// Running is a peer that listens.
type Running struct {
	Peer
	*process.Process
	Address  string
	Protocol client.Protocol
	Roots    *x509.CertPool // roots that trust its certificate
	Ask      client.Ask     // how its requests must look

	port int
}

// Start starts a peer in front of endpoints and waits until it listens. Stop ends it. If another
// process takes the peer's port first, Start takes another port, twice.
func (l Launcher) Start(ctx context.Context, p Peer, protocol client.Protocol, endpoints []string) (r *Running, err error) {
	for range 3 {
		if r, err = l.start(ctx, p, protocol, endpoints); !errors.Is(err, process.ErrEnded) {
			break
		}
	}
	return r, err
}

func (l Launcher) start(ctx context.Context, p Peer, protocol client.Protocol, endpoints []string) (*Running, error) {
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.Dir, strings.NewReplacer(" ", "-", "{", "", "}", "").Replace(p.Name)+"-")
	if err != nil {
		return nil, err
	}
	_ = os.Chmod(dir, 0o755) // nginx's workers can run as another user
	roots, err := certify(dir)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	path := filepath.Join(dir, "config")
	config := strings.ReplaceAll(InDir(p.Config(Listen{port, protocol}, endpoints), dir), engineAddress, l.Engine)
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, err
	}
	proc, err := process.Start(p.Program.Name, dir, p.argv(l, port, dir, path))
	if err != nil {
		return nil, err
	}
	r := &Running{Peer: p, Process: proc, Address: fmt.Sprintf("127.0.0.1:%d", port), Protocol: protocol, Roots: roots, port: port}
	if p.Asks != nil {
		r.Ask = p.Asks(endpoints)
	}
	return r, r.await(ctx)
}

// Restart starts a peer that has ended again, with its address, its directory and its first
// configuration. Its log begins anew.
func (l Launcher) Restart(ctx context.Context, r *Running) (err error) {
	if r.Process, err = process.Start(r.Program.Name, r.Dir, r.argv(l, r.port, r.Dir, filepath.Join(r.Dir, "config"))); err != nil {
		return err
	}
	return r.await(ctx)
}

// await waits until the peer listens, or stops it.
func (r *Running) await(ctx context.Context) error {
	if err := r.Await(ctx, r.Address); err != nil {
		r.Stop()
		return fmt.Errorf("%s: %w", r.Name, err)
	}
	return nil
}

// engineAddress stands for the launcher's Engine in a configuration.
const engineAddress = "{{engine}}"

// InDir inserts a peer's directory into a configuration.
func InDir(config, dir string) string { return strings.ReplaceAll(config, "{{dir}}", dir) }

// Client returns a client for the peer's protocol, and the peer's URL.
func (r *Running) Client() (c *http.Client, url string) {
	return client.New(r.Protocol, r.Roots), r.Protocol.URL(r.Address)
}
