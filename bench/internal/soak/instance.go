package soak

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/peers"
	"github.com/apifailover/caddy-failover/bench/internal/process"
)

// instanceNames are the names of the instances. The first one is never killed.
var instanceNames = []string{"one", "two", "three"}

// An instance is a Caddy of the fleet. Its process may be killed and started again, at the same
// address and in the same directory.
type instance struct {
	name    string
	trial   *trial
	ports   ports
	proxy   *peers.Running
	clients []sender

	control sync.Mutex           // held by what reloads or kills the instance
	now     atomic.Pointer[life] // nil: no process takes requests
}

// A life is a process of an instance, and what clients saw of it.
type life struct {
	*instance
	admin   *adminView
	reloads reloads
	tallies map[string]*tally  // by pool
	before  map[string]slaView // what the SLA's history had when the process began, by pool
	killed  atomic.Bool        // it ended while clients waited
	calls   sync.WaitGroup     // requests in progress

	quit    chan struct{}
	watched sync.WaitGroup
	sizes   []size // of the first instance
}

// newInstance starts an instance, which takes no requests before begin.
func (t *trial) newInstance(ctx context.Context, name string) (*instance, error) {
	i := &instance{name: name, trial: t}
	for _, port := range []*int{&i.ports.admin, &i.ports.https} {
		var err error
		if *port, err = process.FreePort(); err != nil {
			return nil, err
		}
	}
	p := peers.Peer{Name: "soak " + t.Build + " " + name, Program: peers.Caddy, Config: func(at peers.Listen, _ []string) string {
		i.ports.http = at.Port
		return i.config(0)
	}}
	var err error
	if i.proxy, err = t.launcher.Start(ctx, p, client.H1, nil); err != nil {
		return nil, err
	}
	for _, protocol := range client.Protocols() {
		port := i.ports.http
		if protocol == client.H2TLS {
			port = i.ports.https
		}
		i.clients = append(i.clients, newSender(protocol, i.proxy.Roots, net.JoinHostPort("127.0.0.1", fmt.Sprint(port))))
	}
	return i, nil
}

// begin lets the instance's process take requests. Of the first instance it measures the size
// about 60 times in the given time.
func (i *instance) begin(lasting time.Duration) error {
	l := &life{instance: i, admin: newAdminView(fmt.Sprintf("127.0.0.1:%d", i.ports.admin)), tallies: make(map[string]*tally), before: make(map[string]slaView), quit: make(chan struct{})}
	for _, pool := range pools {
		l.tallies[pool] = newTally()
		before, err := l.admin.sla(pool)
		if err != nil {
			return fmt.Errorf("reading the report of %s: %w", i.name, err)
		}
		l.before[pool] = before
	}
	l.watched.Go(func() { l.watch(lasting) })
	i.now.Store(l)
	return nil
}

// close ends the sending of requests to the process and waits for those in progress.
func (l *life) close() {
	l.trial.mu.Lock()
	l.now.Store(nil)
	l.trial.mu.Unlock()
	l.calls.Wait()
}

// stopWatching ends the watching of the process.
func (l *life) stopWatching() {
	close(l.quit)
	l.watched.Wait()
}

// closeIdle closes the clients' idle connections.
func (i *instance) closeIdle() {
	for _, c := range i.clients {
		c.CloseIdleConnections()
	}
}

// problem records a problem of the instance.
func (i *instance) problem(format string, args ...any) {
	i.trial.problem("instance "+i.name+": "+format, args...)
}

// judgeLog looks for problems in the log of the process, which has ended.
func (i *instance) judgeLog() {
	log, err := i.proxy.Log()
	if err != nil {
		i.problem("reading the log: %v", err)
	}
	bad, known := judgeLog(log)
	i.trial.mu.Lock()
	i.trial.CaddyRaces += known
	i.trial.mu.Unlock()
	for _, text := range bad {
		i.problem("in the log: %s", text)
	}
}

func newSender(protocol client.Protocol, roots *x509.CertPool, address string) sender {
	transport := client.NewTransport(protocol, roots)
	transport.DialContext = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	transport.MaxIdleConnsPerHost = 200
	transport.IdleConnTimeout = time.Second
	return sender{&http.Client{Transport: transport}, protocol, protocol.URL(address)}
}
