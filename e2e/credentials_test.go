package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// secretsOfClient returns header fields and their values: a client's credential in every field that may have one.
func secretsOfClient() (header []string) {
	for _, field := range []string{"Authorization", "Api-Key", "X-Api-Key", "X-Goog-Api-Key", "Proxy-Authorization", "Cookie"} {
		value := "clients-own-" + strings.ToLower(field)
		if field == "Cookie" {
			value = "session=" + value
		}
		header = append(header, field, value)
	}
	return header
}

// sendsCredentials are requests with a client's credential, one for each place where clients put one. Each
// credential contains the word secret. keeps is the rest of that place, which the endpoint must get.
var sendsCredentials = []struct{ name, url, header, value, keeps string }{
	{"key", "/?a=1&key=secret", "", "", "/?a=1"},
	{"in capitals, escaped", "/?a=1&%4BEY=secret&API%5FKEY=secret", "", "", "/?a=1"},
	{"repeated, semicolons", "/?token=secret;a=1&access_token=secret&token=secret", "", "", "/?a=1"},
	{"an array", "/?api_key[]=secret&a=1&api-key=secret", "", "", "/?a=1"},
	{"nothing else", "/?key=secret", "", "", "/"},
	{"Xi-Api-Key", "/", "Xi-Api-Key", "secret", ""},
	{"Apikey", "/", "apikey", "secret", ""},
	{"Ocp-Apim-Subscription-Key", "/", "ocp-apim-subscription-key", "secret", ""},
	{"X-Auth-Token", "/", "X-Auth-Token", "secret", ""},
	{"X-Goog-Api-Key", "/", "x-goog-api-key", "secret", ""},
	{"Proxy-Authorization", "/", "Proxy-Authorization", "Basic secret", ""},
	{"underscores", "/", "X_Api_Key", "secret", ""},
	{"what an endpoint sets", "/", "X-Tenant", "secret", ""},
	{"the same with an underscore", "/", "x_tenant", "secret", ""},
	{"X-Original-URL", "/", "X-Original-URL", "/v1?key=secret&a=1", "/v1?a=1"},
	{"X-Rewrite-URL", "/", "X-Rewrite-URL", "/v1?a=1&access_token=secret", "/v1?a=1"},
	{"Referer", "/", "Referer", "https://ann:secret@page.test/?token=secret&a=1", "https://page.test/?a=1"},
	{"a WebSocket protocol", "/", "Sec-WebSocket-Protocol", "realtime, openai-insecure-api-key.secret, v1", "realtime, v1"},
}

// TestClientCredentialsAreStrippedEverywhere checks that no endpoint of a pool with keys gets a client's credential
// from any place, and that the rest of the place arrives. With `client_credentials pass`, the endpoint without a key
// gets the request unchanged.
func TestClientCredentialsAreStrippedEverywhere(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	directive := func(options string) string {
		return fmt.Sprintf("failover {\n\tendpoint http://%s {\n\t\theader X-Api-Key ours\n\t\theader X-Tenant ours\n\t}\n\tendpoint http://%s\n\tbreaker off\n"+
			"\tretry {\n\t\tbudget 100%% 1000\n\t}\n\t%s\n}", one.address, two.address, options)
	}
	whole := func(r *http.Request) string { return r.URL.String() + fmt.Sprint(r.Header) }
	for _, options := range []string{"", "client_credentials pass"} {
		t.Run(options, func(t *testing.T) {
			p := startCaddy(t, directive(options))
			for _, c := range sendsCredentials {
				one.answer(http.StatusServiceUnavailable)
				header := []string{"X-Kept", "kept"}
				if c.header != "" {
					header = append(header, c.header, c.value)
				}
				before := one.hits.Load()
				eventually(t, "endpoint one is tried", func() bool { // its score falls
					p.call("GET", c.url, "", header...).want(t, c.name, 200, "two")
					return one.hits.Load() > before
				})
				for _, a := range []*api{one, two} {
					got := whole(a.last(t))
					passes := a == two && options != "" && c.header != "Proxy-Authorization" && !strings.Contains(c.header, "_") // Caddy itself removes these
					if strings.Contains(got, "secret") != passes {
						t.Errorf("%s: %s got %s", c.name, a.name, got)
					}
					if !passes && !strings.Contains(got, c.keeps) || !strings.Contains(got, "kept") {
						t.Errorf("%s: %s got %s without %s", c.name, a.name, got, c.keeps)
					}
				}
				if got := one.last(t).Header; fmt.Sprint(got["X-Api-Key"], got["X-Tenant"]) != "[ours] [ours]" {
					t.Errorf("%s: one got the keys %v", c.name, got)
				}
			}
		})
	}
}

// TestConfiguredQueryIsKept checks that a key that the configuration puts into the query is not taken for a client's
// credential.
func TestConfiguredQueryIsKept(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tendpoint http://%s {\n\t\theader X-Api-Key ours\n\t}\n\trewrite {path}?{query}&key=ours\n}", one.address))
	p.call("GET", "/x?a=1&key=secret", "").want(t, "a call", 200, "one")
	if got := one.last(t).URL.RawQuery; got != "a=1&key=ours" {
		t.Errorf("the endpoint got the query %s", got)
	}
}

// wantNoneOf fails the test if a header or trailer field of the request contains one of the words.
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

// TestEndpointsGetOnlyTheirOwnCredentials checks that no endpoint of a pool with keys gets a client's credentials,
// and that none gets another endpoint's, also after a failover.
func TestEndpointsGetOnlyTheirOwnCredentials(t *testing.T) {
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
		t.Error("the endpoint without credentials got no request")
	}

	// trailers have no client credentials either
	r, _ := http.NewRequest(http.MethodPut, "http://api.test/", io.MultiReader(strings.NewReader("a body"), trailing{}))
	r.Trailer = http.Header{"Authorization": {"clients-own"}, "X-Fine": {"fine"}}
	trailers := make(chan http.Header, 1)
	three.behave(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		trailers <- r.Trailer.Clone()
	})
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := receive(t, "the trailers", trailers); len(got) != 1 || got.Get("X-Fine") != "fine" {
		t.Errorf("the endpoint got the trailers %v", got)
	}
}

func TestClientCredentialsPassToEndpointsWithoutAny(t *testing.T) {
	const key = "header Authorization \"Bearer key-of-one\""
	for _, c := range []struct {
		name, option, key string // of endpoint one
		one, two          bool
	}{
		{"pass, one has its own", "client_credentials pass", key, false, true},
		{"default, none has any", "", "", true, true},
		{"default, one has its own", "", key, false, false},
		{"strip, none has any", "client_credentials strip", "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.answer(http.StatusServiceUnavailable)
			p := startCaddy(t, edited("api", c.option, []*api{one, two}, c.key))
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
						continue // it is for this proxy
					}
					if got := r.Header.Get(header[i]); got != header[i+1] {
						t.Errorf("%s got %s: %q", a.name, header[i], got)
					}
				}
			}
		})
	}
}

// TestNoSecretIsShown checks that no credential of an endpoint or a client appears in the log at DEBUG level during
// many kinds of failure, nor in responses, configuration errors, the admin API or the metrics.
func TestNoSecretIsShown(t *testing.T) {
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
			fmt.Fprintln(&seen, got.header, got.body)
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
	for _, path := range []string{"/failover/pools", "/failover/events", "/failover/report?from=1h", "/metrics"} {
		fmt.Fprintln(&seen, p.readText(path))
	}
	for _, broken := range []string{
		strings.Replace(site, "name three", "weight -1", 1),
		strings.Replace(site, "three@", "three@:", 1),
		strings.Replace(site, "http://somebody", "ftp://somebody", 1),
		strings.Replace(site, "secret-of-two@", "secret-of-two/@", 1),
		strings.Replace(site, "name three", "name one", 1),
		strings.Replace(site, two.address, two.address+"/?query", 1),
	} {
		err := p.load(broken)
		if err == nil {
			t.Errorf("this should not load: %s", broken)
			continue
		}
		fmt.Fprintln(&seen, err)
	}
	if err := p.load(site + "\ntest_fails"); err != nil {
		fmt.Fprintln(&seen, err)
	}
	eventually(t, "the failovers are logged", func() bool { return len(p.lines("failover")) > 0 })
	log, err := os.ReadFile(p.file("log"))
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

// TestAClientsOwnQuotaChangesNoEndpoint checks that a thousand refusals do not affect an endpoint without a key:
// they are about the client's own key, so the client gets them unchanged.
func TestAClientsOwnQuotaChangesNoEndpoint(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site(evenIfSlow, one, two))
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusPaymentRequired} {
		one.answer(status, "Retry-After", "60", "X-Mine", "yes")
		for i := range 250 {
			got := p.get()
			if got.status != status || got.body != fmt.Sprintf("one says %d", status) || got.header.Get("Retry-After") != "60" || got.header.Get("X-Mine") != "yes" {
				t.Fatalf("call %d: got %+v", i, got)
			}
		}
	}
	p.wantTotals("one", totals{Attempts: 1000, Successes: 1000})
	if e := p.one("one"); e.State != "closed" || !e.HeldUntil.IsZero() || e.Share != 1 || e.Traffic != 1 {
		t.Errorf("the endpoint is %+v", e)
	}
	if hits := two.hits.Load(); hits != 0 {
		t.Errorf("the next endpoint got %d requests", hits)
	}
	one.behave(one.fine)
	p.get().want(t, "afterwards", 200, "one")
}

// TestRetryAfterHoldsTheEndpoint checks that an endpoint gets no requests for the time that its Retry-After asks for,
// that the next endpoint gets them, and that clients are told how long to wait while all endpoints are held.
func TestRetryAfterHoldsTheEndpoint(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusTooManyRequests, "Retry-After", "2")
	// Caddy's passive checks must not count the plugin's own refusals as failures
	p := startCaddy(t, keyed("fail_duration 60s\n\tmax_fails 5", one, two))
	began := time.Now()
	for range 20 {
		p.call("POST", "/", "a body").want(t, "while one waits", 200, "two"+digest("a body"))
	}
	asked := one.hits.Load()
	if most := 1 + int64(time.Since(began)/(2*time.Second)); asked < 1 || asked > most { // it asks to wait again each time
		t.Errorf("the endpoint that asked to wait got %d requests, at most %d are due", asked, most)
	}
	held := p.one("one").HeldUntil
	two.answer(http.StatusTooManyRequests, "Retry-After", "60")
	got := p.get()
	got.want(t, "the last answer, the endpoint's own", 429, "two says 429")
	if after := got.header.Get("Retry-After"); after != "60" {
		t.Errorf("the last answer says Retry-After %q", after)
	}
	one.behave(one.fine) // it is held all the same
	for range 20 {
		got := p.get()
		if !time.Now().Before(held) {
			break // the hold may be over, if the machine is busy
		}
		if after := got.header.Get("Retry-After"); got.status != 429 || after != "1" && after != "2" {
			t.Fatalf("while all wait: got %+v", got)
		}
		if hits := one.hits.Load() + two.hits.Load(); hits != asked+21 {
			t.Fatalf("the endpoints got %d requests, not %d", hits, asked+21)
		}
	}
	eventually(t, "the endpoint gets requests again", func() bool { return p.get().body == "one" })
	if now := time.Now(); held.IsZero() || now.Before(held) {
		t.Errorf("the endpoint was held until %v, and got a request before %v", held, now)
	}
	p.wantState("one", "closed")
}

// TestRefusedKeysMoveOnAndOpenTheBreaker checks that requests of any method move on from an endpoint that refuses
// its key, because it has not processed them, and that three refusals in a row open its breaker.
func TestRefusedKeysMoveOnAndOpenTheBreaker(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusUnauthorized)
	p := startCaddy(t, keyed("", one, two))
	for range 6 {
		p.call("POST", "/", "a body").want(t, "a call", 200, "two"+digest("a body"))
	}
	if hits := one.hits.Load(); hits != 3 {
		t.Errorf("the endpoint got %d requests", hits)
	}
	p.wantState("one", "open")
	eventually(t, "a failover is logged with the reason denied", func() bool {
		return slices.ContainsFunc(p.lines("failover"), func(l map[string]any) bool { return l["reason"] == "denied" })
	})
}

// TestClientsUserinfoReachesNoEndpointWithKeys sends a request whose absolute URL has a user and a password.
// net/http would turn them into an Authorization header.
func TestClientsUserinfoReachesNoEndpointWithKeys(t *testing.T) {
	one := newAPI(t, "one")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "authorization %q", r.Header.Get("Authorization"))
	})
	for name, directive := range map[string]string{
		"base URL": site("client_credentials strip", one),
		"address":  "reverse_proxy " + one.address + " {\n\tlb_policy failover {\n\t\tname api\n\t\tclient_credentials strip\n\t}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			p := startCaddy(t, directive)
			_, reader := p.raw("GET http://ann:secret@api.test/ HTTP/1.1\nHost: api.test\nConnection: close")
			p.rest(reader).want(t, "the request", 200, `authorization ""`)
		})
	}
}
