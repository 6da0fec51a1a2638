package failover

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Endpoint configures one API endpoint of a pool: an upstream of the proxy with
// a base URL, credentials, a priority and a weight of its own.
type Endpoint struct {
	// The upstream this endpoint is, by its dial address. Several endpoints may
	// share an address; they are matched to upstreams in order. Default: host
	// and port of `url`.
	Upstream string `json:"upstream,omitempty"`

	// The base URL, `http` or `https`. Its path is put in front of the request's,
	// its host becomes the Host header and, with `https`, the TLS server name.
	// Default: none; scheme, path and Host are the proxy's.
	URL string `json:"url,omitempty"`

	// The endpoint's name in logs, metrics and the admin API, unique in the
	// pool. Default: the dial address.
	Name string `json:"name,omitempty"`

	// The tier, 1 or more; 1 is most preferred, and endpoints of one priority
	// share the load. Default: the endpoint's place in the list.
	Priority int `json:"priority,omitempty"`

	// The share of its tier, 0 or more. 0 takes no traffic. Default: 1.
	Weight *float64 `json:"weight,omitempty"`

	// Header operations on requests to this endpoint. Values may have
	// placeholders, also `{env.*}` and `{file.*}`.
	Headers *headers.HeaderOps `json:"headers,omitempty"`

	// Values set in JSON request bodies that go to this endpoint, in order.
	SetJSON []*SetJSON `json:"set_json,omitempty"`

	// The longest wait from the start of an attempt to the first byte of its
	// answer. Default: the pool's.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Timeouts of certain requests; the first that matches comes before
	// `timeout`.
	Timeouts []*Timeout `json:"timeouts,omitempty"`

	// Attempts at once; a full endpoint is passed over. Default: no limit.
	MaxRequests int `json:"max_requests,omitempty"`

	// Whose quota a 401, 402, 403 or 429 speaks of: `endpoint` (it counts against
	// the endpoint and another is asked) or `client` (it is an answer like any
	// other). Default: the pool's.
	Quota string `json:"quota,omitempty"`

	// How its checks differ from the pool's. Default: not at all.
	Health *EndpointHealth `json:"health,omitempty"`

	// Where the endpoint stands in a Caddyfile; used in error messages only.
	DefinedAt string `json:"defined_at,omitempty"`
}

// Timeout is a timeout for the requests that match.
type Timeout struct {
	// Which requests; any of the sets will do.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// How long. Required.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	matchers caddyhttp.MatcherSets
}

// credentialFields are the request headers that carry credentials: a client's
// never reach an endpoint of a pool with its own, and an endpoint that sets one
// has credentials of its own.
var credentialFields = [...]string{"Authorization", "Api-Key", "X-Api-Key", "X-Goog-Api-Key", "Proxy-Authorization", "Cookie"}

// ownCredentials tells whether the endpoint sets credentials of its own.
func (e *Endpoint) ownCredentials() bool {
	if u, err := url.Parse(e.URL); err == nil && u.User != nil {
		return true
	}
	if e.Headers == nil {
		return false
	}
	for _, fields := range []http.Header{e.Headers.Set, e.Headers.Add} {
		for field, values := range fields {
			switch http.CanonicalHeaderKey(field) {
			case "Authorization", "Api-Key", "X-Api-Key", "X-Goog-Api-Key":
				return true
			}
			for _, v := range values {
				if strings.Contains(v, "{env.") || strings.Contains(v, "{file.") {
					return true
				}
			}
		}
	}
	return false
}

// at names the endpoint in an error message.
func (e *Endpoint) at() string {
	name := cmp.Or(e.Name, e.Upstream)
	if name == "" {
		if u, err := url.Parse(e.URL); err == nil {
			name = redactURL(u)
		}
	}
	if e.DefinedAt != "" {
		return fmt.Sprintf("endpoint %q (%s)", name, e.DefinedAt)
	}
	return fmt.Sprintf("endpoint %q", name)
}

// parseBaseURL reads a base URL and says what is wrong with it. Its errors
// never repeat credentials, nor what may be some: user and password, a query, a
// fragment, or a URL with an @ in it that cannot be parsed.
func parseBaseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil && strings.Contains(s, "@"):
		return nil, errors.New("malformed base URL (it is not shown, since it may hold a password; " +
			"characters such as / and % must be escaped in one)")
	case err != nil:
		return nil, fmt.Errorf("parsing base URL: %w", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("base URL %s: the scheme must be http or https", redactURL(u))
	case u.Hostname() == "":
		return nil, fmt.Errorf("base URL %s: the host is missing", redactURL(u))
	case u.RawQuery != "" || u.ForceQuery:
		return nil, fmt.Errorf("base URL %s: a query is not allowed", redactURL(u))
	case u.Fragment != "":
		return nil, fmt.Errorf("base URL %s: a fragment is not allowed", redactURL(u))
	case hasDotSegment(u.Path):
		return nil, fmt.Errorf("base URL %s: a dot segment is not allowed", redactURL(u))
	}
	return u, nil
}

// hasDotSegment tells whether a decoded path has a segment . or .. in it.
func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// dialAddress is the address at which the API of a base URL listens.
func dialAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// joinURL puts the path of base in front of the request's. Both forms of the
// path, decoded and as sent, are joined, so that an escaped slash stays one.
func joinURL(base, request *url.URL) *url.URL {
	joined := *request
	joined.Scheme, joined.Host, joined.User, joined.Opaque = base.Scheme, base.Host, nil, ""
	if strings.TrimRight(base.Path, "/") == "" {
		return &joined
	}
	if base.RawPath == "" && request.RawPath == "" {
		joined.Path = joinSlash(base.Path, request.Path)
		return &joined
	}
	joined.Path, joined.RawPath = joinSlash(base.Path, request.Path), ""
	raw := joinSlash(base.EscapedPath(), request.EscapedPath())
	if path, err := url.PathUnescape(raw); err == nil {
		joined.Path, joined.RawPath = path, raw
	}
	return &joined
}

func joinSlash(a, b string) string {
	a = strings.TrimRight(a, "/")
	switch {
	case b == "":
		return a
	case b[0] != '/':
		return a + "/" + b
	}
	return a + b
}

// A matchedTimeout is the timeout of the requests that match.
type matchedTimeout struct {
	matchers caddyhttp.MatcherSets // any of the sets will do
	timeout  time.Duration
}

// A target is an endpoint as one handler sees it: its configuration, ready for
// use, the state it shares with other handlers of the pool, and the upstream
// through which it is reached. It is read-only.
type target struct {
	// what each attempt looks at
	state    *endpointState
	upstream *reverseproxy.Upstream // nil for dynamic upstreams
	timeout  time.Duration
	timeouts []matchedTimeout
	limit    int      // attempts at once, 0 for no limit
	url      *url.URL // nil: scheme, path and Host are the proxy's
	host     string   // the URL's

	headers   *headers.HeaderOps
	edits     []jsonEdit
	bare      bool // url is http and has no path
	strip     bool // of the client's credentials
	own       bool // credentials
	quota     bool // 401, 402, 403 and 429 speak about the endpoint
	needsJSON bool // it takes no body that the edits do not work on

	name     string
	address  string
	priority int
	weight   float64
	hedge    *hedgeDelay
	health   *checkOverride // nil: as the pool says

	configured *target // without the operator's settings; nil: there are none
}

// provision makes the endpoint's configuration ready for use.
func (e *Endpoint) provision(ctx caddy.Context) error {
	if e.Headers != nil {
		if err := e.Headers.Provision(ctx); err != nil {
			return fmt.Errorf("provisioning headers of %s: %w", e.at(), err)
		}
	}
	return provisionTimeouts(ctx, e.Timeouts)
}

func provisionTimeouts(ctx caddy.Context, timeouts []*Timeout) error {
	for _, t := range timeouts {
		loaded, err := ctx.LoadModule(t, "MatcherSetsRaw")
		if err != nil {
			return fmt.Errorf("loading matchers of a timeout: %w", err)
		}
		if err := t.matchers.FromInterface(loaded); err != nil {
			return fmt.Errorf("loading matchers of a timeout: %w", err)
		}
	}
	return nil
}

// newTarget joins the configuration of an endpoint to the pool's. The URL has
// been checked.
func (p *Policy) newTarget(e *Endpoint, place int) *target {
	t := &target{
		name:     cmp.Or(e.Name, e.Upstream),
		address:  e.Upstream,
		priority: cmp.Or(e.Priority, place),
		weight:   1,
		headers:  e.Headers,
		timeout:  time.Duration(cmp.Or(e.Timeout, p.Timeout)),
		timeouts: matched(slices.Concat(e.Timeouts, poolTimeouts(e, p))),
		limit:    e.MaxRequests,
		hedge:    new(hedgeDelay),
		health:   e.Health.override(),
	}
	if e.Weight != nil {
		t.weight = *e.Weight
	}
	if e.URL != "" {
		t.url, _ = parseBaseURL(e.URL)
		t.host = t.url.Host
		t.bare = t.url.Scheme == "http" && strings.Trim(t.url.Path, "/") == ""
		if user := t.url.User; user != nil {
			t.url.User = nil
			t.headers = withBasicAuth(t.headers, user)
		}
	}
	t.setEdits(jsonEdits(e.SetJSON))
	t.own = e.ownCredentials()
	switch cmp.Or(e.Quota, p.Quota) {
	case quotaEndpoint:
		t.quota = true
	case quotaClient:
	default:
		t.quota = t.own
	}
	switch p.ClientCredentials {
	case credentialsStrip:
		t.strip = true
	case credentialsPass:
		t.strip = t.own
	default:
		t.strip = slices.ContainsFunc(p.Endpoints, (*Endpoint).ownCredentials)
	}
	return t
}

// poolTimeouts are the pool's matching timeouts, unless the endpoint states a
// timeout for every request, which comes before them.
func poolTimeouts(e *Endpoint, p *Policy) []*Timeout {
	if e.Timeout != 0 {
		return nil
	}
	return p.Timeouts
}

// matched are timeouts, ready for use. They have been provisioned.
func matched(list []*Timeout) []matchedTimeout {
	var ready []matchedTimeout
	for _, t := range list {
		ready = append(ready, matchedTimeout{t.matchers, time.Duration(t.Timeout)})
	}
	return ready
}

// withBasicAuth adds the credentials of a base URL, unless the operations set
// others.
func withBasicAuth(ops *headers.HeaderOps, user *url.Userinfo) *headers.HeaderOps {
	with := headers.HeaderOps{}
	if ops != nil {
		with = *ops
	}
	if _, ok := with.Set["Authorization"]; ok {
		return &with
	}
	password, _ := user.Password()
	credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
	set := http.Header{"Authorization": {"Basic " + credentials}}
	maps.Copy(set, with.Set)
	with.Set = set
	return &with
}

// timeoutFor is how long an attempt of this request may wait for its first
// byte.
func (t *target) timeoutFor(r *http.Request) time.Duration {
	if len(t.timeouts) == 0 {
		return t.timeout
	}
	return t.matchingTimeout(r)
}

func (t *target) matchingTimeout(r *http.Request) time.Duration {
	for _, rule := range t.timeouts {
		if match, err := rule.matchers.AnyMatchWithError(r); err == nil && match {
			return rule.timeout
		}
	}
	return t.timeout
}
