package failover

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A nameServer answers with the records it has at the moment.
type nameServer struct {
	address string

	mu      sync.Mutex
	records map[string][]string // by name and type, in zone file form
}

// newNameServer starts a name server on a free port.
func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{address: conn.LocalAddr().String(), records: make(map[string][]string)}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(n.answer)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ActivateAndServe()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return n
}

// set replaces the records of a name and type: set("a.test. A", "127.0.0.1").
func (n *nameServer) set(key string, data ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records[key] = data
}

func (n *nameServer) answer(w dns.ResponseWriter, question *dns.Msg) {
	reply := new(dns.Msg).SetReply(question)
	n.mu.Lock()
	for _, q := range question.Question {
		name, kind := strings.ToLower(q.Name), dns.TypeToString[q.Qtype]
		for _, data := range n.records[name+" "+kind] {
			if record, err := dns.NewRR(name + " 0 IN " + kind + " " + data); err == nil {
				reply.Answer = append(reply.Answer, record)
			}
		}
	}
	n.mu.Unlock()
	_ = w.WriteMsg(reply)
}

// onPort starts an endpoint at an address of this machine, on a given port.
func onPort(t *testing.T, name, host, port string) *api {
	t.Helper()
	a := &api{name: name}
	a.behave(a.fine)
	a.up(t, net.JoinHostPort(host, port))
	t.Cleanup(a.down)
	return a
}

// TestAddressesFromDNSHaveABreakerEach: `dynamic a`.
func TestAddressesFromDNSHaveABreakerEach(t *testing.T) {
	ns := newNameServer(t)
	one := newAPI(t, "one")
	_, port, _ := net.SplitHostPort(one.address)
	two := onPort(t, "two", "127.0.0.2", port)
	ns.set("a.failover.test. A", "127.0.0.1", "127.0.0.2")
	p := startCaddy(t, fmt.Sprintf(`failover {
	name api
	dynamic a {
		name a.failover.test
		port %s
		refresh 50ms
		resolvers %s
		versions ipv4
	}
	retry {
		methods any
	}
}`, port, ns.address))
	seen := make(map[string]int)
	for range 100 {
		got := p.call("POST", "/", "a body")
		if got.status != 200 {
			t.Fatalf("got %+v", got)
		}
		seen[strings.Fields(got.body)[0]]++
	}
	if seen["one"] < 20 || seen["two"] < 20 {
		t.Errorf("the load is shared as %v", seen)
	}

	one.answer(http.StatusServiceUnavailable)
	for range 40 {
		if got := p.call("POST", "/", "a body"); got.status != 200 || got.body != "two"+digest("a body") {
			t.Fatalf("got %+v", got)
		}
	}
	if state := stateOf(t, "api", one.address).breakerNow(); state != stateOpen {
		t.Errorf("the breaker of the dead address is %v", state)
	}
	if state := stateOf(t, "api", two.address).breakerNow(); state != stateClosed {
		t.Errorf("the breaker of the good address is %v", state)
	}

	// an address that comes later is asked as well; one that goes is not, but is
	// remembered for a while
	three := onPort(t, "three", "127.0.0.3", port)
	ns.set("a.failover.test. A", "127.0.0.1", "127.0.0.3")
	eventually(t, 3*time.Second, "the new address is asked", func() bool { return strings.HasPrefix(p.call("POST", "/", "a body").body, "three") })
	hits := two.hits.Load()
	for range 20 {
		if got := p.call("POST", "/", "a body"); got.status != 200 || got.body != "three"+digest("a body") {
			t.Fatalf("got %+v", got)
		}
	}
	if two.hits.Load() != hits {
		t.Error("the address that is gone is still asked")
	}
	for _, a := range []*api{one, two, three} {
		if s := stateOf(t, "api", a.address); a == one && s.breakerNow() == stateClosed {
			t.Error("what was known about the dead address is forgotten")
		}
	}
}

// TestServicesFromDNSMayBeConfiguredEndpoints: `dynamic srv`, where one address
// has a configuration and the other gets the pool's defaults.
func TestServicesFromDNSMayBeConfiguredEndpoints(t *testing.T) {
	ns := newNameServer(t)
	one, two := newAPI(t, "one"), newAPI(t, "two")
	var services []string
	for i, a := range []*api{one, two} {
		_, port, _ := net.SplitHostPort(a.address)
		services = append(services, fmt.Sprintf("1 1 %s host%d.failover.test.", port, i))
		ns.set("host"+strconv.Itoa(i)+".failover.test. A", "127.0.0.1")
	}
	ns.set("_api._tcp.failover.test. SRV", services...)
	_, port, _ := net.SplitHostPort(one.address)
	site := fmt.Sprintf(`reverse_proxy {
	dynamic srv _api._tcp.failover.test {
		refresh 50ms
		resolvers %s
	}
	lb_policy failover {
		name api
		upstream host0.failover.test.:%s {
			name preferred
			header Authorization "Bearer key-of-one"
		}
	}
	transport http {
		resolvers %s
	}
}`, ns.address, port, ns.address)
	p := startCaddy(t, site)
	for range 30 {
		if got := p.call("POST", "/", "a body", "Authorization", "Bearer of-client"); got.status != 200 {
			t.Fatalf("got %+v", got)
		}
	}
	for a, want := range map[*api]string{one: "Bearer key-of-one", two: ""} {
		if len(a.requests()) == 0 {
			t.Fatalf("endpoint %s got no request", a.name)
		}
		if got := a.last(t).Header.Get("Authorization"); got != want {
			t.Errorf("endpoint %s got Authorization %q, want %q", a.name, got, want)
		}
	}
	if got := stateOf(t, "api", "preferred").totalsNow(); got.Successes != uint64(one.hits.Load()) {
		t.Errorf("the configured endpoint has %+v", got)
	}

	// whose key is over its limit: the body is sent to the other one
	one.answer(http.StatusTooManyRequests, "Retry-After", "60")
	for range 10 {
		if got := p.call("POST", "/", "a body"); got.status != 200 || got.body != "two"+digest("a body") {
			t.Fatalf("got %+v", got)
		}
	}

	// what is known outlives reloads, good and failed, unless the name changes
	before := snap(t, "api")
	if err := p.load(site + "\ntest_fails"); err == nil {
		t.Fatal("loading should have failed")
	}
	if diff := before.diff(snap(t, "api")); diff != "" {
		t.Errorf("after a failed reload: %s", diff)
	}
	if err := p.load(strings.Replace(site, "50ms", "60ms", 1)); err != nil {
		t.Fatal(err)
	}
	if now := snap(t, "api"); len(now.states) != 2 || stateByName(now, "preferred") != stateByName(before, "preferred") {
		t.Errorf("after a reload the pool has %+v, had %+v", now.states, before.states)
	}
	hits := one.hits.Load()
	for range 10 {
		if got := p.call("POST", "/", "a body"); got.status != 200 || got.body != "two"+digest("a body") {
			t.Fatalf("after a reload: got %+v", got)
		}
	}
	if one.hits.Load() != hits {
		t.Error("after a reload the endpoint that asked to wait is not left alone")
	}
	if err := p.load(strings.Replace(site, "name preferred", "name renamed", 1)); err != nil {
		t.Fatal(err)
	}
	if now := snap(t, "api"); len(now.states) != 1 || stateByName(now, "preferred").state != nil {
		t.Errorf("after a reload with another name the pool has %+v", now.states)
	}
}

// TestNoAddressesAtAllIsAnAnswerAtOnce.
func TestNoAddressesAtAllIsAnAnswerAtOnce(t *testing.T) {
	ns := newNameServer(t)
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tdynamic a {\n\t\tname nowhere.failover.test\n\t\tport 80\n\t\trefresh 10s\n\t\tresolvers %s\n\t}\n}", ns.address))
	for range 3 {
		if got := p.call("GET", "/", ""); got.status != 503 {
			t.Errorf("got %+v", got)
		}
	}
}
