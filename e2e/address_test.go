package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestAddressesComeFromTheEnvironment checks that a placeholder may stand for an address, or for a base URL,
// whose path and host then apply to calls.
func TestAddressesComeFromTheEnvironment(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	t.Setenv("FAILOVER_TEST_URL", "http://"+one.address+"/v1")
	t.Setenv("FAILOVER_TEST_HOST", two.address)
	for name, site := range map[string]string{
		"directive": "failover {\n\tendpoint {env.FAILOVER_TEST_URL}\n\tendpoint http://{env.FAILOVER_TEST_HOST}/v1\n\tbreaker off\n}",
		"policy": "reverse_proxy {env.FAILOVER_TEST_URL} {env.FAILOVER_TEST_HOST} {\n\tlb_policy failover {\n\t\tbreaker off\n\t\t" +
			"upstream {env.FAILOVER_TEST_HOST} {\n\t\t\turl http://{env.FAILOVER_TEST_HOST}/v1\n\t\t}\n\t}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			one.behave(one.fine)
			p := startCaddy(t, site)
			p.get().want(t, "the first", 200, "one")
			one.down()
			defer one.up(t, one.address)
			p.get().want(t, "the second", 200, "two")
			for _, a := range []*api{one, two} {
				if r := a.last(t); r.Host != a.address || !strings.HasPrefix(r.URL.Path, "/v1/") {
					t.Errorf("%s was asked for %s at %s", a.name, r.URL, r.Host)
				}
			}
		})
	}
}

// TestAnAddressWithoutASchemeIsWarnedOf checks that the warning names the address that is used, and that the
// configuration is refused if it would send a credential in plain text.
func TestAnAddressWithoutASchemeIsWarnedOf(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tendpoint %s {\n\t\theader X-Api-Key k\n\t}\n}", one.address))
	p.get().want(t, "a call", 200, "one")
	eventually(t, "the warning is logged", func() bool {
		for _, line := range p.lines("an endpoint has no scheme: using http; write http:// or https:// before it") {
			if line["level"] == "warn" && line["taken"] == "http://"+one.address {
				return true
			}
		}
		return false
	})
	err := p.load("failover {\n\tendpoint api.test.invalid {\n\t\theader X-Api-Key k\n\t}\n}")
	if err == nil || !strings.Contains(err.Error(), "write endpoint https://api.test.invalid") || !strings.Contains(err.Error(), "Caddyfile:") {
		t.Errorf("got %v", err)
	}
}

// TestADoubledPathIsWarnedOf checks that a 404 for a path that has that of the base URL twice is explained,
// once, and that other 404s are not.
func TestADoubledPathIsWarnedOf(t *testing.T) {
	one := newAPI(t, "one")
	one.behave(http.NotFound)
	p := startCaddy(t, "failover {\n\tendpoint http://"+one.address+"/v1\n}")
	warnings := func() []map[string]any {
		return p.lines("a 404 may be due to the path of the base URL, which the endpoint got twice: leave it out of the base URL, or remove it from requests with handle_path")
	}
	for _, path := range []string{"/chat", "/v1beta/chat", "/"} {
		p.call(http.MethodGet, path, "")
	}
	if lines := warnings(); len(lines) > 0 {
		t.Errorf("warnings of other paths: %v", lines)
	}
	p.call(http.MethodGet, "/v1/chat", "")
	p.call(http.MethodGet, "/v1", "")
	eventually(t, "the warning is logged", func() bool { return len(warnings()) == 1 })
	if line := warnings()[0]; line["request"] != "/v1/chat" || line["base"] != "/v1" {
		t.Errorf("got %v", line)
	}
}
