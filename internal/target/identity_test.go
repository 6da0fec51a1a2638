package target

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

func TestIdentityDependsOnKeyAndAddress(t *testing.T) {
	t.Setenv("FLEET_KEY", "k1")
	with := func(url_, field, value string) *Target {
		target := &Target{Address: "10.0.0.1:80"}
		if url_ != "" {
			target.URL, _ = url.Parse(url_)
		}
		if field != "" {
			target.Headers = &headers.HeaderOps{Set: http.Header{field: {value}}}
		}
		return target
	}
	same := func(a, b *Target) bool {
		base, credentials := a.Identity()
		base2, credentials2 := b.Identity()
		return base == base2 && credentials == credentials2
	}
	if !same(with("https://a.test/v1", "Authorization", "Bearer k1"), with("https://a.test/v1", "authorization", "Bearer {env.FLEET_KEY}")) {
		t.Error("the same key from the environment makes another endpoint")
	}
	if !same(with("https://a.test", "X-Trace", "1"), with("https://a.test", "X-Trace", "2")) {
		t.Error("a header without a credential makes another endpoint")
	}
	for name, other := range map[string]*Target{
		"another key":    with("https://a.test/v1", "Authorization", "Bearer k2"),
		"another header": with("https://a.test/v1", "X-Api-Key", "Bearer k1"),
		"no key":         with("https://a.test/v1", "", ""),
		"another path":   with("https://a.test/v2", "Authorization", "Bearer k1"),
		"no URL":         with("", "Authorization", "Bearer k1"),
	} {
		if same(with("https://a.test/v1", "Authorization", "Bearer k1"), other) {
			t.Errorf("%s makes the same endpoint", name)
		}
	}
}
