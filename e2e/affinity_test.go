package e2e

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// allOfOneTier are the options of three endpoints of one priority.
var allOfOneTier = []string{"priority 1", "priority 1", "priority 1"}

// TestAffinityKeepsTheKeysOfEachKind checks that calls with one value go to one endpoint, and that calls
// with many values, or without one, spread over all.
func TestAffinityKeepsTheKeysOfEachKind(t *testing.T) {
	for name, test := range map[string]struct {
		option string
		call   func(p *proxy, value string) answer
	}{
		"a header": {"affinity {header.X-User}", func(p *proxy, value string) answer {
			return p.call(http.MethodGet, "/", "", "X-User", value)
		}},
		"several placeholders": {"affinity {header.X-Org}/{header.X-User}", func(p *proxy, value string) answer {
			return p.call(http.MethodGet, "/", "", "X-Org", "o", "X-User", value)
		}},
		"a query": {"affinity {query.user}", func(p *proxy, value string) answer {
			return p.call(http.MethodGet, "/?user="+value, "")
		}},
		"a field": {"affinity json user", func(p *proxy, value string) answer {
			return p.call(http.MethodPost, "/", fmt.Sprintf(`{"messages":[{"role":"user"}],"user":%q}`, value))
		}},
		"a field after a long prompt": {"affinity json metadata.user", func(p *proxy, value string) answer {
			return p.call(http.MethodPost, "/", fmt.Sprintf(`{"prompt":%q,"metadata":{"user":%q}}`, strings.Repeat("long ", 20000), value))
		}},
		"a field of a body of unknown length": {"affinity json user", func(p *proxy, value string) answer {
			return p.callWith(http.MethodPost, "/", unknownLength(fmt.Sprintf(`{"user":%q}`, value)))
		}},
		"the second where the first has none": {"affinity {header.X-Session}\n\taffinity {header.X-User}", func(p *proxy, value string) answer {
			return p.call(http.MethodGet, "/", "", "X-User", value)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := startCaddy(t, edited("api", test.option+evenIfSlow, newAPIs(t, "one", "two", "three"), allOfOneTier...))
			by := make(map[string]bool)
			for i := range 30 {
				value := fmt.Sprint("user", i)
				first := test.call(p, value)
				for range 3 {
					test.call(p, value).want(t, value+" again", 200, first.body)
				}
				name, _, _ := strings.Cut(first.body, " ") // a digest of the body follows
				by[name] = true
			}
			if len(by) != 3 {
				t.Errorf("30 values went to %v only", by)
			}
			without := make(map[string]bool)
			for range 12 {
				without[p.get().body] = true
			}
			if len(without) != 3 {
				t.Errorf("12 calls without a value went to %v only", without)
			}
		})
	}
}

// TestAffinityIsSoft checks that calls of an endpoint that is out go elsewhere without a failure and come
// back with it, and that other calls stay where they are.
func TestAffinityIsSoft(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	p := startCaddy(t, edited("api", "affinity {header.X-User}\n\tbreaker {\n\t\topen_for 200ms\n\t\tstep 50ms\n\t}"+evenIfSlow, apis, allOfOneTier...))
	home := make(map[string]string)
	ask := func(user string) string {
		t.Helper()
		got := p.call(http.MethodGet, "/", "", "X-User", user)
		if got.status != 200 {
			t.Fatalf("user %s got %+v", user, got)
		}
		return got.body
	}
	for i := range 60 {
		user := fmt.Sprint(i)
		home[user] = ask(user)
	}
	apis[1].answer(http.StatusServiceUnavailable)
	for range 3 {
		for user, at := range home {
			if now := ask(user); now == "two" || at != "two" && now != at {
				t.Fatalf("user %s of %s went to %s while two was out", user, at, now)
			}
		}
	}
	apis[1].behave(apis[1].fine)
	eventually(t, "all users are where they were", func() bool {
		for user, at := range home {
			if ask(user) != at {
				return false
			}
		}
		return true
	})
}

// TestAffinityCookie checks that the plugin's cookie keeps a client at its endpoint, across a reload too,
// and that a forged cookie is replaced.
func TestAffinityCookie(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	config := edited("api", "affinity cookie"+evenIfSlow, apis, allOfOneTier...)
	p := startCaddy(t, config)
	var cookies []string
	by := make(map[string]bool)
	for range 20 {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		site, _ := url.Parse("http://api.test/")
		first := p.get()
		set := first.header.Get("Set-Cookie")
		for _, want := range []string{"failover=", "Path=/", "HttpOnly", "SameSite=Lax"} {
			if !strings.Contains(set, want) {
				t.Fatalf("Set-Cookie %q has no %s", set, want)
			}
		}
		if strings.Contains(set, "Secure") {
			t.Fatalf("Set-Cookie %q is Secure, without TLS", set)
		}
		jar.SetCookies(site, (&http.Response{Header: first.header}).Cookies())
		cookie := "failover=" + jar.Cookies(site)[0].Value
		cookies = append(cookies, cookie)
		by[first.body] = true
		for range 3 {
			again := p.call(http.MethodGet, "/", "", "Cookie", cookie)
			again.want(t, "with the cookie", 200, first.body)
			if set := again.header.Get("Set-Cookie"); set != "" {
				t.Fatalf("a client that has its cookie got another: %s", set)
			}
		}
	}
	if len(by) != 3 {
		t.Errorf("20 clients went to %v only", by)
	}
	p.reload(config)
	for _, cookie := range cookies {
		if set := p.call(http.MethodGet, "/", "", "Cookie", cookie).header.Get("Set-Cookie"); set != "" {
			t.Fatalf("after a reload the cookie counted no more: %s", set)
		}
	}
	for _, forged := range []string{
		"failover=", "failover=abc", "failover=abc.def", "failover=.", "failover=" + strings.Repeat("a", 5000),
		cookies[0] + "x", "failover=X" + strings.TrimPrefix(cookies[0], "failover="), "failover=" + strings.Split(cookies[0], ".")[1],
	} {
		if set := p.call(http.MethodGet, "/", "", "Cookie", forged).header.Get("Set-Cookie"); set == "" {
			t.Errorf("a cookie that was made up counted: %.80s", forged)
		}
	}
}

// TestAffinityCookieWithASecret checks that instances with the same secret accept each other's cookies.
func TestAffinityCookieWithASecret(t *testing.T) {
	config := edited("api", "affinity cookie session s3cret", newAPIs(t, "one", "two", "three"), allOfOneTier...)
	first := startCaddy(t, config).get()
	cookie, _, _ := strings.Cut(first.header.Get("Set-Cookie"), ";")
	if !strings.HasPrefix(cookie, "session=") {
		t.Fatalf("the cookie is %q", cookie)
	}
	got := startCaddy(t, config).call(http.MethodGet, "/", "", "Cookie", cookie)
	got.want(t, "another instance", 200, first.body)
	if set := got.header.Get("Set-Cookie"); set != "" {
		t.Errorf("another instance set %s", set)
	}
}

// TestAffinityByClientAddress checks that all calls of a client go to one endpoint.
func TestAffinityByClientAddress(t *testing.T) {
	p := startCaddy(t, edited("api", "affinity client_ip"+evenIfSlow, newAPIs(t, "one", "two", "three"), allOfOneTier...))
	first := p.get()
	for range 20 {
		p.get().want(t, "again", 200, first.body)
	}
}

// TestABodyThatIsLookedIntoGoesOnWhole checks that the endpoint gets a whole body of any size, even if it
// is not JSON.
func TestABodyThatIsLookedIntoGoesOnWhole(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, edited("api", "affinity json user\n\tretry {\n\t\tbuffer 64KiB\n\t}", []*api{one, two}, "priority 1", "priority 1"))
	for _, body := range []string{"x", `{"user":"a"}`, strings.Repeat("[", 5000), randomBody(60 << 10), randomBody(64<<10 + 1), randomBody(1 << 20)} {
		for i, sent := range bothWays(body) {
			if got := p.callWith(http.MethodPost, "/", sent); got.status != 200 || !strings.HasSuffix(got.body, digest(body)) {
				t.Errorf("%d bytes, way %d: got %d %.80q, want the digest %s", len(body), i, got.status, got.body, digest(body))
			}
		}
	}
}

// TestLeastRequestsPrefersTheOneWithFewer checks that an endpoint with open requests gets fewer new ones.
func TestLeastRequestsPrefersTheOneWithFewer(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	release := one.hang()
	p := startCaddy(t, edited("api", "balance least_requests\n\tretry off\n\tbreaker off", []*api{one, two}, "priority 1", "priority 1"))
	var waiting []<-chan string
	for one.hits.Load() < 3 {
		waiting = append(waiting, p.waiting(http.MethodGet, "/"))
		eventually(t, "the call is somewhere", func() bool { return one.hits.Load()+two.hits.Load() >= int64(len(waiting)) })
	}
	before := one.hits.Load()
	for range 100 {
		done := p.waiting(http.MethodGet, "/")
		waiting = append(waiting, done)
		eventually(t, "the call is somewhere", func() bool { return one.hits.Load()+two.hits.Load() >= int64(len(waiting)) })
	}
	if got := one.hits.Load() - before; got > 40 { // by weight it would be 50, twice drawn it is 25
		t.Errorf("the endpoint that answers nothing got %d of 100 calls", got)
	}
	release()
	for _, done := range waiting {
		receive(t, "an answer", done)
	}
}
