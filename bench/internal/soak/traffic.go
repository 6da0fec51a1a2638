package soak

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/payload"
)

// Calls holds what clients saw.
type Calls struct {
	Sent        int            `json:"sent"`
	OK          int            `json:"ok"`
	SocketsCut  int            `json:"websockets_cut_off"` // cut off after the protocol was switched, as allowed
	Explained   int            `json:"failed_as_the_rules_say"`
	Unexplained int            `json:"failed_without_reason"`
	Cancelled   int            `json:"cancelled_by_client"`
	Resent      int            `json:"resent"` // sent again because a reload closed the connection
	Kinds       map[string]int `json:"kinds"`  // Sent by kind and protocol
}

// OverHTTP2 returns the number of calls sent over HTTP/2.
func (c Calls) OverHTTP2() (n int) {
	for kind, sent := range c.Kinds {
		for _, p := range []client.Protocol{client.H2C, client.H2TLS} {
			if strings.HasSuffix(kind, over(p)) {
				n += sent
			}
		}
	}
	return n
}

// over returns the suffix of a kind's name for a protocol.
func over(p client.Protocol) string { return " over " + string(p) }

// traffic is a mix of requests from clients of all protocols. All methods are safe for
// concurrent use.
type traffic struct {
	rate        int            // requests per second
	address     string         // address for WebSockets
	endpoints   []*actor.Actor // endpoints that respond
	reloads     *reloads       // reloads of the proxy
	endsSockets bool           // reloads end WebSockets
	began       time.Time
	clients     []sender
	wg          sync.WaitGroup // requests in progress

	mu          sync.Mutex
	calls       Calls
	unexplained []string // the first 20 unexplained failures
}

func newTraffic(t *trial) *traffic {
	m := &traffic{
		rate: t.rate, address: t.proxy.Address, endpoints: t.endpoints, reloads: &t.reloads, endsSockets: t.endsSockets(),
		began: time.Now(), calls: Calls{Kinds: make(map[string]int)},
	}
	for _, protocol := range client.Protocols() {
		port := t.ports.http
		if protocol == client.H2TLS {
			port = t.ports.https
		}
		m.clients = append(m.clients, newSender(protocol, t.proxy.Roots, net.JoinHostPort("127.0.0.1", fmt.Sprint(port))))
	}
	return m
}

// A kind is one sort of request.
type kind struct {
	part int // share of the traffic, relative to the sum of all parts
	send func(*traffic, sender) fate
}

var kinds = []kind{
	{46, func(m *traffic, c sender) fate { return m.whole(c, "GET", nil, false) }},
	{24, func(m *traffic, c sender) fate { return m.whole(c, "POST", payload.Of(2<<10), false) }},
	{9, func(m *traffic, c sender) fate { return m.whole(c, "POST", payload.Of(200<<10), false) }},
	{5, func(m *traffic, c sender) fate { return m.whole(c, "PUT", payload.Of(16<<10), true) }},
	{6, (*traffic).stream},
	{5, (*traffic).leave},
	{5, (*traffic).socket},
}

// anyKind returns a random kind.
func anyKind() kind {
	all := 0
	for _, k := range kinds {
		all += k.part
	}
	n := rand.IntN(all)
	for _, k := range kinds {
		if n -= k.part; n < 0 {
			return k
		}
	}
	panic("unreachable")
}

// anyClient returns a random client.
func (m *traffic) anyClient() sender { return m.clients[rand.IntN(len(m.clients))] }

// run sends requests until quit and waits for their responses.
func (m *traffic) run(quit chan struct{}) {
	ticker := time.NewTicker(time.Second / time.Duration(m.rate))
	defer ticker.Stop()
	for {
		select {
		case <-quit:
			m.wg.Wait()
			return
		case <-ticker.C:
			m.wg.Go(func() { m.count(m.send(m.anyClient(), anyKind())) })
		}
	}
}

// sendEachKind sends a request of each kind over each protocol, one after the other.
func (m *traffic) sendEachKind() {
	for _, k := range kinds {
		for _, c := range m.clients {
			m.count(m.send(c, k))
		}
	}
}

// burst sends n small requests, ten at a time, and waits for their responses.
func (m *traffic) burst(n int) {
	for range 10 {
		m.wg.Go(func() {
			for range n / 10 {
				m.count(m.whole(m.anyClient(), "GET", nil, false))
			}
		})
	}
	m.wg.Wait()
}

// close closes idle connections.
func (m *traffic) close() {
	for _, c := range m.clients {
		c.CloseIdleConnections()
	}
}

// send sends a request. It sends the request again if a reload closed the connection before
// the request was read, as a reload does with every connection that looks idle. If the
// request had been read after all, the counts would not agree.
func (m *traffic) send(c sender, k kind) fate {
	for tries := 1; ; tries++ {
		f := k.send(m, c)
		if tries == 5 || !strings.HasPrefix(f.failure, noAnswer) || !m.reloads.underWay() {
			return f
		}
		m.mu.Lock()
		m.calls.Resent++
		m.mu.Unlock()
	}
}

// count counts the result of a request.
func (m *traffic) count(f fate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls.Sent++
	m.calls.Kinds[f.kind]++
	switch {
	case f.cancelled:
		m.calls.Cancelled++
	case f.failure == "":
		m.calls.OK++
	case f.failure == explained:
		m.calls.Explained++
	case f.failure == socketCut:
		m.calls.SocketsCut++
	default:
		m.calls.Unexplained++
		if len(m.unexplained) < 20 {
			at := time.Since(m.began).Seconds()
			m.unexplained = append(m.unexplained, fmt.Sprintf("%s at %.1f s: %s", f.kind, at, f.failure))
		}
	}
}

// counted returns the counts and the unexplained failures.
func (m *traffic) counted() (Calls, []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls, m.unexplained
}
