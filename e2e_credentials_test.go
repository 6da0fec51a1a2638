package failover

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// secretsOfClient are what a client sends in every field that may carry
// credentials.
func secretsOfClient() (header []string) {
	for _, field := range credentialFields {
		value := "clients-own-" + strings.ToLower(field)
		if field == "Cookie" {
			value = "session=" + value
		}
		header = append(header, field, value)
	}
	return header
}

// wantNoneOf fails if anything in a request's head contains one of the words.
func wantNoneOf(t *testing.T, who string, r *http.Request, words ...string) {
	t.Helper()
	for field, values := range r.Header {
		for _, value := range values {
			for _, word := range words {
				if strings.Contains(value, word) {
					t.Errorf("%s got %s: %s", who, field, value)
				}
			}
		}
	}
	for field, values := range r.Trailer {
		for _, word := range words {
			if strings.Contains(strings.Join(values, ","), word) {
				t.Errorf("%s got the trailer %s: %s", who, field, values)
			}
		}
	}
}

// TestCredentialsReachOnlyWhoTheyAreFor: those of a client reach no endpoint of a
// pool with keys, and those of an endpoint no other, also when a call moves on.
func TestCredentialsReachOnlyWhoTheyAreFor(t *testing.T) {
	t.Setenv("FAILOVER_TEST_KEY", "key-from-environment")
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	p := startCaddy(t, fmt.Sprintf(`failover {
	endpoint http://%s {
		name one
		header Authorization "Bearer key-of-one"
		header Cookie "session=key-of-one"
		header X-Api-Key key-of-one
	}
	endpoint http://basic-user:key-of-two@%s {
		name two
		header X-Special {env.FAILOVER_TEST_KEY}
	}
	endpoint http://%s {
		name three
	}
	header_up Cookie session= renamed=
	header_up X-From-Proxy "yes"
	breaker off
	retry {
		budget 100%% 1000
	}
}`, one.address, two.address, three.address))
	mine := map[*api]string{one: "key-of-one", two: "Basic ", three: "yes"}
	foreign := map[*api][]string{
		one:   {"clients-own", "key-from-environment", "Basic "},
		two:   {"clients-own", "key-of-one"},
		three: {"clients-own", "key-of-one", "key-from-environment", "Basic "},
	}
	for range 3 {
		if got := p.call("GET", "/", "", secretsOfClient()...); got.status != 200 {
			t.Fatalf("got %+v", got)
		}
		for _, a := range []*api{one, two, three} {
			if len(a.requests()) == 0 {
				continue
			}
			r := a.last(t)
			wantNoneOf(t, a.name, r, foreign[a]...)
			if !strings.Contains(fmt.Sprint(r.Header), mine[a]) || r.Header.Get("X-From-Proxy") != "yes" {
				t.Errorf("%s got %v", a.name, r.Header)
			}
		}
		switch {
		case one.hits.Load() == 1:
			one.answer(http.StatusServiceUnavailable)
		default:
			two.down()
		}
	}
	if got := two.last(t).Header.Get("X-Special"); got != "key-from-environment" {
		t.Errorf("two got X-Special %q", got)
	}
	if three.hits.Load() == 0 {
		t.Error("the endpoint without credentials was never asked")
	}

	// in trailers neither
	r, _ := http.NewRequest(http.MethodPut, "http://api.test/", io.MultiReader(strings.NewReader("a body"), trailing{}))
	r.Trailer = http.Header{"Authorization": {"clients-own"}, "X-Fine": {"fine"}}
	var got http.Header
	three.behave(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got = r.Trailer.Clone()
	})
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(got) != 1 || got.Get("X-Fine") != "fine" {
		t.Errorf("the endpoint got the trailers %v", got)
	}
}

func TestClientCredentialsPassWhereTheEndpointHasNone(t *testing.T) {
	const without, with = 0, 1
	cases := []struct {
		name, option string
		keys         int // endpoint one has
		one, two     bool
	}{
		{"pass, one has its own", "client_credentials pass", with, false, true},
		{"default, none has any", "", without, true, true},
		{"default, one has its own", "", with, false, false},
		{"strip, none has any", "client_credentials strip", without, false, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.answer(http.StatusServiceUnavailable)
			key := ""
			if c.keys == with {
				key = "header Authorization \"Bearer key-of-one\""
			}
			p := startCaddy(t, fmt.Sprintf("failover {\n\tendpoint http://%s {\n\t\tname one\n\t\t%s\n\t}\n\tendpoint http://%s {\n\t\tname two\n\t}\n\t%s\n}",
				one.address, key, two.address, c.option))
			p.call("GET", "/", "", secretsOfClient()...)
			for a, passes := range map[*api]bool{one: c.one, two: c.two} {
				r := a.last(t)
				if !passes {
					wantNoneOf(t, a.name, r, "clients-own")
					continue
				}
				header := secretsOfClient()
				for i := 0; i < len(header); i += 2 {
					if header[i] == "Proxy-Authorization" {
						continue // is for this proxy, and stays here
					}
					if got := r.Header.Get(header[i]); got != header[i+1] {
						t.Errorf("%s got %s: %q", a.name, header[i], got)
					}
				}
			}
		})
	}
}

// TestNoSecretIsLogged looks for credentials of endpoints in everything that is
// logged at DEBUG level while all goes wrong, and in the answers.
func TestNoSecretIsLogged(t *testing.T) {
	t.Setenv("FAILOVER_TEST_KEY", "secret-of-environment")
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newTLSAPI(t, "three")
	site := fmt.Sprintf(`log
failover {
	name api
	endpoint http://%s {
		name one
		header Authorization "Bearer secret-of-one"
		header X-Api-Key {env.FAILOVER_TEST_KEY}
	}
	endpoint http://somebody:secret-of-two@%s
	endpoint https://somebody:secret-of-three@%s {
		name three
	}
	verbose_logs
}`, one.address, two.address, three.address)
	p := startCaddy(t, site)
	var seen strings.Builder
	try := func() {
		for _, method := range []string{"GET", "POST", "PUT"} {
			got := p.call(method, "/", "x", secretsOfClient()...)
			fmt.Fprint(&seen, got.header, got.body)
		}
	}
	try()
	one.answer(http.StatusUnauthorized)
	two.answer(http.StatusServiceUnavailable)
	for range 4 { // three's certificate is not trusted
		try()
	}
	one.behave(cut)
	two.down()
	for range 3 {
		try()
	}
	for _, broken := range []string{
		strings.Replace(site, "name three", "weight -1", 1),
		strings.Replace(site, "three@", "three@:", 1),
		strings.Replace(site, "http://somebody", "ftp://somebody", 1),
		strings.Replace(site, "secret-of-two@", "secret-of-two/@", 1),
		strings.Replace(site, "name three", "name one", 1),
		strings.Replace(site, two.address, two.address+"/?query", 1),
	} {
		_, err := tryAdapt(p.caddyfile(broken))
		if err == nil {
			err = p.load(broken)
		}
		if err == nil {
			t.Errorf("this should not load: %s", broken)
			continue
		}
		fmt.Fprintln(&seen, err)
	}
	if err := p.load(site + "\ntest_fails"); err != nil {
		fmt.Fprintln(&seen, err)
	}
	eventually(t, waitForLog, "the failovers are logged", func() bool { return len(p.lines("failover")) > 0 })
	log, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), `"level":"debug"`) {
		t.Fatal("the log is not at DEBUG level")
	}
	for _, text := range []string{string(log), seen.String()} {
		for line := range strings.Lines(text) {
			for _, secret := range []string{"secret-of", "c29tZWJvZHk6c2VjcmV0", "clients-own-authorization", "clients-own-cookie", "clients-own-proxy-authorization"} {
				if strings.Contains(line, secret) {
					t.Errorf("%s is in: %s", secret, line)
				}
			}
		}
	}
}

// TestAClientsOwnQuotaChangesNoEndpoint: a thousand refusals that are about one
// client are answers like any other where the endpoint has no key of its own.
func TestAClientsOwnQuotaChangesNoEndpoint(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	statuses := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusPaymentRequired}
	for i := range 1000 {
		status := statuses[i*len(statuses)/1000]
		if i%250 == 0 {
			one.answer(status, "Retry-After", "60", "X-Mine", "yes")
		}
		got := p.call("GET", "/", "")
		if got.status != status || got.body != fmt.Sprintf("one says %d", status) || got.header.Get("Retry-After") != "60" || got.header.Get("X-Mine") != "yes" {
			t.Fatalf("call %d: got %+v", i, got)
		}
	}
	s := stateOf(t, "api", "one")
	if got, want := s.totalsNow(), (totals{Attempts: 1000, Successes: 1000}); got != want {
		t.Errorf("the endpoint has %+v, want %+v", got, want)
	}
	if now := snap(t, "api").states[endpointKey{"one", one.address}]; now.breaker != stateClosed || !now.held.IsZero() || shareOf(t, "api", "one") != 1 {
		t.Errorf("the endpoint is %+v with a share of %v", now, shareOf(t, "api", "one"))
	}
	if two.hits.Load() != 0 {
		t.Errorf("the next endpoint got %d requests", two.hits.Load())
	}
	one.behave(one.fine)
	if got := p.call("GET", "/", ""); got.body != "one" {
		t.Errorf("afterwards: got %+v", got)
	}
}

// TestAnEndpointThatAsksToWaitIsLeftAloneForThatLong, the next one is asked, and
// where all have asked to wait the client is told how long.
func TestAnEndpointThatAsksToWaitIsLeftAloneForThatLong(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusTooManyRequests, "Retry-After", "1")
	// the proxy's passive checks must not take a refusal of ours for a failure
	p := startCaddy(t, "failover {\n\tname api\n"+keyed(one)+keyed(two)+"\tfail_duration 60s\n\tmax_fails 5\n}")
	began := time.Now()
	for range 20 {
		if got := p.call("POST", "/", "a body"); got.status != 200 || got.body != "two"+digest("a body") {
			t.Fatalf("while one waits: got %+v", got)
		}
	}
	if hits := one.hits.Load(); hits != 1 {
		t.Errorf("the endpoint that asked to wait got %d requests", hits)
	}
	two.answer(http.StatusTooManyRequests, "Retry-After", "3")
	if got := p.call("GET", "/", ""); got.status != 429 || got.body != "two says 429" || got.header.Get("Retry-After") != "3" {
		t.Errorf("the last answer is not the endpoint's own: %+v", got)
	}
	for range 20 {
		got := p.call("GET", "/", "")
		if time.Since(began) > 900*time.Millisecond {
			break
		}
		if got.status != 429 || got.header.Get("Retry-After") != "1" {
			t.Fatalf("while all wait: got %+v", got)
		}
	}
	if hits := one.hits.Load() + two.hits.Load(); hits != 22 {
		t.Errorf("the endpoints got %d requests, not 22", hits)
	}
	one.behave(one.fine)
	eventually(t, 2*time.Second, "the endpoint is asked again", func() bool { return p.call("GET", "/", "").body == "one" })
	if waited := time.Since(began); waited < time.Second {
		t.Errorf("the endpoint was asked again after %v", waited)
	}
	if state := stateOf(t, "api", "one").breakerNow(); state != stateClosed {
		t.Errorf("the breaker is %v", state)
	}
}

// TestRefusedKeysMoveOnAndOpenTheBreaker: whatever the method, for a refused
// request has not been processed.
func TestRefusedKeysMoveOnAndOpenTheBreaker(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusUnauthorized)
	p := startCaddy(t, "failover {\n\tname api\n"+keyed(one)+keyed(two)+"}")
	for range 6 {
		if got := p.call("POST", "/", "a body"); got.status != 200 || got.body != "two"+digest("a body") {
			t.Fatalf("got %+v", got)
		}
	}
	if hits := one.hits.Load(); hits != maxDenied || stateOf(t, "api", "one").breakerNow() != stateOpen {
		t.Errorf("the endpoint got %d requests, and its breaker is %v", hits, stateOf(t, "api", "one").breakerNow())
	}
	if !slices.ContainsFunc(p.lines("failover"), func(l map[string]any) bool { return l["reason"] == "denied" }) {
		t.Error("no failover is logged with the reason denied")
	}
}

// TestClientsUserinfoReachesNoEndpointWithKeys sends a request in absolute form,
// whose URL has a user and password, which net/http would turn into an
// Authorization header.
func TestClientsUserinfoReachesNoEndpointWithKeys(t *testing.T) {
	one := newAPI(t, "one")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "authorization %q", r.Header.Get("Authorization"))
	})
	for name, endpoint := range map[string]string{
		"base URL": "failover {\n\tname api\n\tclient_credentials strip\n\tendpoint http://" + one.address + "\n}",
		"address":  "reverse_proxy " + one.address + " {\n\tlb_policy failover {\n\t\tname api\n\t\tclient_credentials strip\n\t}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			p := startCaddy(t, endpoint)
			conn, err := net.Dial("unix", p.socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, "GET http://ann:secret@api.test/ HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n")
			answer, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(answer), `authorization ""`) {
				t.Errorf("got %s", answer)
			}
		})
	}
}
