package soak

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/payload"
)

// traffic is a mix of requests from clients of all protocols, to all instances. All methods are
// safe for concurrent use.
type traffic struct {
	trial     *trial
	rate      int            // requests per second
	endpoints []*actor.Actor // endpoints that respond
	began     time.Time
	stalls    stalls
	wg        sync.WaitGroup // requests in progress
}

func newTraffic(t *trial) *traffic {
	return &traffic{trial: t, rate: t.rate, endpoints: append([]*actor.Actor{t.alone}, t.endpoints...), began: time.Now()}
}

// A kind is one sort of request.
type kind struct {
	part int // share of the traffic, relative to the sum of all parts
	pool string
	send func(*traffic, call) fate
}

// A call is a request of a client to an instance.
type call struct {
	sender
	*life
	pool string
}

var kinds = []kind{
	{46, mixedPool, func(m *traffic, c call) fate { return m.whole(c, http.MethodGet, nil, false) }},
	{24, mixedPool, func(m *traffic, c call) fate { return m.whole(c, http.MethodPost, payload.Of(2<<10), false) }},
	{9, mixedPool, func(m *traffic, c call) fate { return m.whole(c, http.MethodPost, payload.Of(200<<10), false) }},
	{5, mixedPool, func(m *traffic, c call) fate { return m.whole(c, http.MethodPut, payload.Of(16<<10), true) }},
	{6, mixedPool, (*traffic).stream},
	{5, mixedPool, (*traffic).leave},
	{5, mixedPool, (*traffic).socket},
	{6, lonelyPool, func(m *traffic, c call) fate { return m.whole(c, http.MethodGet, nil, false) }},
	{6, lonelyPool, func(m *traffic, c call) fate { return m.whole(c, http.MethodPost, payload.Of(2<<10), false) }},
	{3, lonelyPool, (*traffic).leave},
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
			m.wg.Go(func() { m.send(anyKind()) })
		}
	}
}

// send sends a request to any instance from any of its clients, and counts the result.
func (m *traffic) send(k kind) {
	l := m.trial.enter()
	if l == nil {
		return
	}
	defer l.calls.Done()
	m.sendFrom(l, l.clients[rand.IntN(len(l.clients))], k)
}

func (m *traffic) sendFrom(l *life, s sender, k kind) {
	l.tallies[k.pool].count(m.fateOf(call{s, l, k.pool}, k), time.Since(m.began))
}

// sendEachKind sends a request of each kind over each protocol to each instance, one after the
// other.
func (m *traffic) sendEachKind() {
	for _, i := range m.trial.instances {
		l := i.now.Load()
		for _, k := range kinds {
			for _, s := range l.clients {
				m.sendFrom(l, s, k)
			}
		}
	}
}

// burst sends n small requests to the mixed pool and a few to the lonely one, ten at a time, and
// waits for their responses.
func (m *traffic) burst(n int) {
	lonely := len(kinds) - 3
	for range 10 {
		m.wg.Go(func() {
			for range n / 10 {
				m.send(kinds[0])
			}
			m.send(kinds[lonely])
		})
	}
	m.wg.Wait()
}

// fateOf sends a request. It sends the request again if a reload closed the connection before
// the request was read, as a reload does with every connection that looks idle. If the
// request had been read after all, the counts would not agree. A request that ends without a
// response, or within it, because its instance was killed, is cut off. One that fails soon after
// the machine stood still has starved.
func (m *traffic) fateOf(c call, k kind) fate {
	for tries := 1; ; tries++ {
		f := k.send(m, c)
		if f.failure != "" && c.killed.Load() && !strings.HasPrefix(f.failure, otherStatus) {
			f.failure = killed
			return f
		}
		if strings.HasPrefix(f.failure, otherStatus) && m.stalls.explains(time.Now()) {
			f.failure = starved
		}
		if tries == 5 || !strings.HasPrefix(f.failure, noAnswer) || !c.reloads.underWay() {
			return f
		}
		c.tallies[c.pool].resend()
	}
}

// path returns the path under which the pool serves an endpoint's path.
func (c call) path(path string) string {
	if c.pool == lonelyPool {
		return lonelyPrefix + path
	}
	return path
}

// header returns the header fields of a request: it names a model.
func (c call) header() http.Header {
	return http.Header{actor.ModelHeader: {models[rand.IntN(len(models))]}}
}

// status is the failure of a response with another status than the one that is wanted.
func status(code int) string { return fmt.Sprint(otherStatus, code) }

// to names the pool in kinds, if it is not the mixed one.
func (c call) to() string {
	if c.pool == lonelyPool {
		return " that may wait"
	}
	return ""
}

// address is that of the instance for HTTP/1.1 without TLS.
func (c call) address() string { return c.proxy.Address }
