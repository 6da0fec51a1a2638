//go:build system

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A redisRelay passes commands of instances to their Redis, on a unix socket. It may delay the answers.
type redisRelay struct {
	t          testing.TB
	socket, to string
	late       atomic.Int64 // nanoseconds until an answer is passed on

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	serving  sync.WaitGroup
}

func startRedisRelay(t testing.TB, to string) *redisRelay {
	t.Helper()
	r := &redisRelay{t: t, socket: filepath.Join(filepath.Dir(to), "relay"), to: to, conns: make(map[net.Conn]bool)}
	r.up()
	t.Cleanup(r.down)
	return r
}

func (r *redisRelay) up() {
	r.t.Helper()
	listener, err := net.Listen("unix", r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.listener = listener
	r.mu.Unlock()
	r.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.serving.Go(func() { r.serve(conn) })
		}
	})
}

// down refuses new connections and ends the open ones.
func (r *redisRelay) down() {
	r.mu.Lock()
	r.listener.Close()
	r.mu.Unlock()
	r.cut()
	r.serving.Wait()
}

// cut ends all connections.
func (r *redisRelay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		conn.Close()
	}
}

func (r *redisRelay) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	r.conns[client], r.conns[server] = true, true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.conns, client)
		delete(r.conns, server)
		r.mu.Unlock()
	}()
	type part struct {
		data []byte
		due  time.Time
	}
	parts, over := make(chan part, 1000), make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { // requests
		defer close(over)
		defer server.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := client.Read(buf)
			if err == nil {
				_, err = server.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	})
	both.Go(func() { // answers
		defer close(parts)
		for {
			buf := make([]byte, 32<<10)
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			select {
			case parts <- part{buf[:n], time.Now().Add(time.Duration(r.late.Load()))}:
			case <-over:
				return
			}
		}
	})
	for p := range parts {
		if wait := time.Until(p.due); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-over:
			}
			timer.Stop()
		}
		if _, err := client.Write(p.data); err != nil {
			break
		}
	}
	client.Close()
	server.Close()
	both.Wait()
}

// A crowd sends requests to instances in turn, one after the other, until stop. All must be answered.
type crowd struct {
	t       testing.TB
	members []*visited
	quit    chan struct{}
	done    chan struct{}
}

// A visited instance is one that a crowd asks. What holds busy keeps requests from it.
type visited struct {
	*edgeCaddy
	busy sync.Mutex

	mu   sync.Mutex
	took []time.Duration
}

func gather(t testing.TB, edges ...*edgeCaddy) *crowd {
	c := &crowd{t: t, quit: make(chan struct{}), done: make(chan struct{})}
	for _, e := range edges {
		c.members = append(c.members, &visited{edgeCaddy: e})
	}
	go func() {
		defer close(c.done)
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-c.quit:
				return
			case <-ticker.C:
				c.members[i%len(c.members)].ask(t)
			}
		}
	}()
	return c
}

// ask sends one request, and notes how long it took.
func (m *visited) ask(t testing.TB) {
	m.busy.Lock()
	defer m.busy.Unlock()
	began := time.Now()
	resp, err := m.do(http.MethodGet, "/", nil)
	if err != nil {
		t.Errorf("a request was lost: %v", err)
		return
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a request got %s", resp.Status)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.took = append(m.took, time.Since(began))
}

// reload makes the instance load its configuration again, and returns how long that took.
func (m *visited) reload() time.Duration {
	m.t.Helper()
	m.busy.Lock()
	defer m.busy.Unlock()
	began := time.Now()
	m.loaded.Store(began.UnixNano())
	status, _, text := m.exchange(http.MethodPost, "/load", m.config(), "Content-Type", "text/caddyfile", "Cache-Control", "must-revalidate")
	if status != http.StatusOK {
		m.t.Errorf("reloading: %d %s", status, text)
	}
	m.loaded.Store(time.Now().UnixNano())
	return time.Since(began)
}

// forget forgets the requests until now.
func (c *crowd) forget() {
	for _, m := range c.members {
		m.mu.Lock()
		m.took = nil
		m.mu.Unlock()
	}
}

// wait waits until each member has had so many requests since forget.
func (c *crowd) wait(n int) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%d requests to each", n), func() bool {
		return !slices.ContainsFunc(c.members, func(m *visited) bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.took) < n
		})
	})
}

// times returns a quantile of the times of all requests to some members since forget, and the longest.
func times(members []*visited, quantile float64) (at, longest time.Duration) {
	var all []time.Duration
	for _, m := range members {
		m.mu.Lock()
		all = append(all, m.took...)
		m.mu.Unlock()
	}
	slices.Sort(all)
	return all[int(quantile*float64(len(all)))], all[len(all)-1]
}

func (c *crowd) stop() {
	close(c.quit)
	<-c.done
}

// reloads reloads two instances in turn, and returns how long each took at its quickest.
func reloads(a, b *visited) (ofA, ofB time.Duration) {
	ofA, ofB = time.Hour, time.Hour
	for range 3 {
		ofA, ofB = min(ofA, a.reload()), min(ofB, b.reload())
	}
	return ofA, ofB
}

// TestFleetWithoutItsRedis: whatever happens to the engine, no request is lost, or later than at an instance
// without a fleet, an instance starts and reloads as soon, and soon after the engine's return all are in step.
func TestFleetWithoutItsRedis(t *testing.T) {
	redis := startRedis(t)
	relay := startRedisRelay(t, redis.socket)
	one, two := newAPI(t, "one"), newAPI(t, "two")
	const options = "quota endpoint"
	edges := fleetOver(t, "redis unix://"+relay.socket, site(options, one, two))
	single := startEdge(t, "single", "", edges[0].site)
	drained := func(e *edgeCaddy) bool { return e.one("two").Draining }
	edges[0].order(http.MethodPost, "api/endpoints/two/drain", `{"reason":"moving"}`)
	single.order(http.MethodPost, "api/endpoints/two/drain", "")
	everywhere(t, "all drain", edges, drained)

	crowd := gather(t, append(slices.Clone(edges), single)...)
	defer crowd.stop()
	together, alone := crowd.members[:3], crowd.members[3:]
	const enough = 150
	// judge compares the requests since forget.
	judge := func(what string) {
		t.Helper()
		crowd.wait(enough)
		with, longestWith := times(together, 0.99)
		without, longestWithout := times(alone, 0.99)
		t.Logf("%s: 99 %% of requests within %v, without a fleet %v; the longest %v, without %v", what, with, without, longestWith, longestWithout)
		if with > 4*without+100*time.Millisecond {
			t.Errorf("%s: requests take %v, without a fleet %v", what, with, without)
		}
	}
	crowd.forget()
	judge("all is well")

	for _, fault := range []struct {
		name       string
		lose, back func()
		lost       bool // the engine cannot be reached
	}{
		{"killed, and started empty", func() {
			relay.down()
			redis.end(syscall.SIGKILL)
			os.Remove(redis.socket)
		}, func() {
			redis.child.start()
			redis.say("PING")
			relay.up()
		}, true},
		{"stopped", func() { redis.signal(syscall.SIGSTOP) }, func() { redis.signal(syscall.SIGCONT) }, true},
		{"answers after 5 s", func() { relay.late.Store(int64(5 * time.Second)) }, func() { relay.late.Store(0) }, true},
		{"full", func() { redis.say("CONFIG SET maxmemory 1") }, func() { redis.say("CONFIG SET maxmemory 0") }, false},
		{"emptied in mid traffic", func() { redis.say("FLUSHALL") }, func() {}, false},
	} {
		known(t, edges)
		if keys := redis.keys("*order*weight*"); len(keys) > 0 {
			redis.say("DEL " + keys[0]) // of the fault before
		}
		crowd.forget()
		fault.lose()
		if fault.lost {
			everywhere(t, fault.name+": it is lost", edges, func(e *edgeCaddy) bool { return !e.fleet().Connected })
		}
		late := prepareEdge(t, "late", edges[0].engine, edges[0].site)
		other := prepareEdge(t, "other", "", edges[0].site)
		started := start(t, late, other)
		late.get()
		reload, reloadAlone := reloads(together[0], alone[0])
		t.Logf("%s: a start takes %v, without a fleet %v; a reload %v, without %v", fault.name, started[0], started[1], reload, reloadAlone)
		if started[0] > 3*started[1]+time.Second {
			t.Errorf("%s: a start takes %v, without a fleet %v", fault.name, started[0], started[1])
		}
		if reload > 3*reloadAlone+500*time.Millisecond {
			t.Errorf("%s: a reload takes %v, without a fleet %v", fault.name, reload, reloadAlone)
		}
		other.run.end(syscall.SIGTERM)
		edges[2].order(http.MethodPatch, "api/endpoints/one", `{"weight":7}`)
		if !fault.lost {
			everywhere(t, fault.name+": news is told all the same", edges, func(e *edgeCaddy) bool { return e.one("one").Weight == 7 })
		}
		judge(fault.name)
		fault.back()
		took := everywhere(t, fault.name+": all are in step", append(slices.Clone(edges), late), func(e *edgeCaddy) bool {
			return e.fleet().Connected && e.one("one").Weight == 7 && drained(e)
		})
		stored := took + eventually(t, fault.name+": both orders are stored", func() bool { return redis.say("KEYS *order*") == "*2" })
		_, busy := times(alone, 0.99)
		t.Logf("%s: in step %v after its return, all is stored after %v", fault.name, took, stored)
		if bound := 4*time.Second + 20*busy; max(took, stored) > bound { // less than the 5 s of the late answers
			t.Errorf("%s: in step after %v, stored after %v; want %v", fault.name, took, stored, bound)
		}
		late.run.end(syscall.SIGTERM)
		edges[2].order(http.MethodPatch, "api/endpoints/one", `{"weight":null}`)
		everywhere(t, "the weight is as configured", edges, func(e *edgeCaddy) bool { return e.one("one").Weight == 1 })
	}
}

// start starts instances at once, and returns when each answers.
func start(t testing.TB, edges ...*edgeCaddy) []time.Duration {
	t.Helper()
	began, took := time.Now(), make([]time.Duration, len(edges))
	for _, e := range edges {
		e.run.start()
	}
	eventually(t, "all instances answer", func() bool {
		for i, e := range edges {
			if took[i] == 0 && e.answers() {
				took[i] = time.Since(began)
			}
		}
		return !slices.Contains(took, 0)
	})
	return took
}

// fleetOptions are the global options of an instance in a fleet; none without an engine.
func fleetOptions(name, engine string) string {
	if engine == "" {
		return ""
	}
	return strings.NewReplacer("ENGINE", engine, "NAME", name).Replace(`failover {
		fleet test {
			ENGINE
			secret {env.FLEET_SECRET}
			instance NAME
		}
	}`)
}

// keys returns the keys like a pattern.
func (r *redisServer) keys(pattern string) (keys []string) {
	r.t.Helper()
	out, err := exec.Command("redis-cli", "-s", r.socket, "--raw", "KEYS", pattern).Output()
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Fields(string(out))
}
