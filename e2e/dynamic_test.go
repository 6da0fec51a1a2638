package e2e

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// A nameServer is a DNS server. Its records may change at any time.
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

// onOnePort starts an endpoint for each name, all on the same port: the first at 127.0.0.1, the second at 127.0.0.2,
// and so on.
func onOnePort(t *testing.T, names ...string) (apis []*api, port string) {
	t.Helper()
	var addresses []string
	for tries := 0; len(addresses) < len(names) && tries < 20; tries++ {
		var same uint16
		addresses = nil
		for i := range names {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 1)}), same)
			address, err := keepPortAt(t, at)
			if err != nil {
				break // taken on this address
			}
			addresses = append(addresses, address)
			same = netip.MustParseAddrPort(address).Port()
			port = strconv.Itoa(int(same))
		}
	}
	if len(addresses) < len(names) {
		t.Fatal("no port is free on all addresses")
	}
	for i, name := range names {
		a := &api{name: name}
		a.behave(a.fine)
		a.up(t, addresses[i])
		t.Cleanup(a.down)
		apis = append(apis, a)
	}
	return apis, port
}

// TestAddressesFromDNSHaveABreakerEach checks that each address of `dynamic a` is an endpoint with its own breaker.
func TestAddressesFromDNSHaveABreakerEach(t *testing.T) {
	ns := newNameServer(t)
	apis, port := onOnePort(t, "one", "two", "three")
	one, two, three := apis[0], apis[1], apis[2]
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
	breaker {
		open_for 60s
	}
	retry {
		methods any
	}
}`, port, ns.address))
	post := func() answer { return p.call("POST", "/", "a body") }
	seen := make(map[string]int)
	for range 100 {
		got := post()
		if got.status != 200 {
			t.Fatalf("got %+v", got)
		}
		seen[strings.Fields(got.body)[0]]++
	}
	if seen["one"] < 20 || seen["two"] < 20 {
		t.Errorf("the load is not shared evenly: %v", seen)
	}

	one.answer(http.StatusServiceUnavailable)
	for range 40 {
		post().want(t, "while one fails", 200, "two"+digest("a body"))
	}
	p.wantState(one.address, "open")
	p.wantState(two.address, "closed")

	// a new address gets requests; a removed one gets none, but its state is kept for a while
	ns.set("a.failover.test. A", "127.0.0.1", "127.0.0.3")
	eventually(t, "the new address gets requests", func() bool { return strings.HasPrefix(post().body, "three") })
	hits := two.hits.Load()
	for range 20 {
		post().want(t, "with other addresses", 200, "three"+digest("a body"))
	}
	if two.hits.Load() != hits {
		t.Error("the removed address still gets requests")
	}
	for _, a := range []*api{one, two, three} {
		if s := p.one(a.address); a == one && s.State == "closed" || s.Attempts == 0 {
			t.Errorf("the state of %s is lost: %+v", a.address, s)
		}
	}
}

// TestServicesFromDNSMayBeConfiguredEndpoints checks that a target of `dynamic srv` gets the options that the policy
// has for it, and that another target gets the pool's defaults.
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
			url http://host0.failover.test.:%s
			name preferred
			header Authorization "Bearer key-of-one"
		}
	}
	transport http {
		resolvers %s
	}
}`, ns.address, port, port, ns.address)
	p := startCaddy(t, site)
	for range 30 {
		if got := p.call("POST", "/", "a body", "Authorization", "Bearer of-client"); got.status != 200 {
			t.Fatalf("got %+v", got)
		}
	}
	for a, want := range map[*api]string{one: "Bearer key-of-one", two: ""} {
		if got := a.last(t).Header.Get("Authorization"); got != want {
			t.Errorf("endpoint %s got Authorization %q, want %q", a.name, got, want)
		}
	}
	if got := p.one("preferred").totals; got.Successes != uint64(one.hits.Load()) {
		t.Errorf("the configured endpoint has %+v", got)
	}

	// requests with a body move on while the configured endpoint's key is over its limit
	one.answer(http.StatusTooManyRequests, "Retry-After", "60")
	others := func(when string) {
		t.Helper()
		for range 10 {
			p.call("POST", "/", "a body").want(t, when, 200, "two"+digest("a body"))
		}
	}
	others("while one is held")

	// an endpoint's state outlives reloads, also failed ones, unless its name changes
	before := p.known()
	if err := p.load(site + "\ntest_fails"); err == nil {
		t.Fatal("loading should have failed")
	}
	if now := p.known(); !maps.Equal(before, now) {
		t.Errorf("after a failed reload the pool has %q, had %q", now, before)
	}
	p.reload(strings.Replace(site, "50ms", "60ms", 1))
	hits := one.hits.Load()
	others("after a reload")
	if one.hits.Load() != hits {
		t.Error("after a reload the held endpoint got requests")
	}
	if now := p.known(); len(now) != 2 || now["preferred"] != before["preferred"] {
		t.Errorf("after a reload the pool has %q, had %q", now, before)
	}
	p.reload(strings.Replace(site, "name preferred", "name renamed", 1))
	eventually(t, "the endpoint gets requests under its new name, without the hold", func() bool {
		p.call("POST", "/", "a body")
		return one.hits.Load() > hits
	})
	if now := p.known(); len(now) > 2 || now["preferred"] != "" || now["renamed"] == "" {
		t.Errorf("after a reload with another name the pool has %q", now)
	}
}

// TestNoAddressesAtAllAnswersAtOnce checks that a pool whose DNS name has no address answers 503 at once.
func TestNoAddressesAtAllAnswersAtOnce(t *testing.T) {
	ns := newNameServer(t)
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tdynamic a {\n\t\tname nowhere.failover.test\n\t\tport 80\n\t\trefresh 10s\n\t\tresolvers %s\n\t}\n}", ns.address))
	for range 3 {
		if got := p.get(); got.status != 503 {
			t.Errorf("got %+v", got)
		}
	}
}
