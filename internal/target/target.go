// Package target is an endpoint as one handler reaches it.
package target

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// JoinURL puts the path of base in front of the request's. Both forms of the
// path, decoded and as sent, are joined, so that an escaped slash stays one.
func JoinURL(base, request *url.URL) *url.URL {
	joined := *request
	joined.Scheme, joined.Host, joined.User, joined.Opaque = base.Scheme, base.Host, nil, ""
	if strings.TrimRight(base.Path, "/") == "" {
		return &joined
	}
	if base.RawPath == "" && request.RawPath == "" {
		joined.Path = JoinSlash(base.Path, request.Path)
		return &joined
	}
	joined.Path, joined.RawPath = JoinSlash(base.Path, request.Path), ""
	raw := JoinSlash(base.EscapedPath(), request.EscapedPath())
	if path, err := url.PathUnescape(raw); err == nil {
		joined.Path, joined.RawPath = path, raw
	}
	return &joined
}

// JoinSlash joins two parts of a path with one slash.
func JoinSlash(a, b string) string {
	a = strings.TrimRight(a, "/")
	switch {
	case b == "":
		return a
	case b[0] != '/':
		return a + "/" + b
	}
	return a + b
}

// A MatchedTimeout is the timeout of the requests that match.
type MatchedTimeout struct {
	Matchers caddyhttp.MatcherSets // any of the sets will do
	Timeout  time.Duration
}

// A Target is an endpoint as one handler sees it: its configuration, ready for
// use, the state it shares with other handlers of the pool, and the upstream
// through which it is reached. It is read-only.
type Target struct {
	// what each attempt looks at
	State    *endpoint.State
	Upstream *reverseproxy.Upstream // nil for dynamic upstreams
	Timeout  time.Duration
	Timeouts []MatchedTimeout
	Bounds   *endpoint.Bounds // nil for none
	URL      *url.URL         // nil: scheme, path and Host are the proxy's
	Host     string           // the URL's

	Schedules []Schedule // the first that is open counts, for each thing that it says
	Headers   *headers.HeaderOps
	Edits     []JSONEdit
	Models    *Models // nil: it takes calls of any, under the name that clients use
	Bare      bool    // url is http and has no path
	Strip     bool    // of the client's credentials
	Own       bool    // credentials
	Quota     bool    // 401, 402, 403 and 429 speak about the endpoint
	NeedsJSON bool    // it takes no body that the edits do not work on

	Name     string
	Address  string
	Priority int
	Weight   float64
	Hedge    *HedgeDelay
	Health   *endpoint.CheckOverride // nil: as the pool says

	Configured *Target // without the operator's settings; nil: there are none
}

// WithBasicAuth adds the credentials of a base URL, unless the operations set
// others.
func WithBasicAuth(ops *headers.HeaderOps, user *url.Userinfo) *headers.HeaderOps {
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

// TimeoutFor is how long an attempt of this request may wait for its first
// byte.
func (t *Target) TimeoutFor(r *http.Request) time.Duration {
	if len(t.Timeouts) == 0 {
		return t.Timeout
	}
	return t.matchingTimeout(r)
}

func (t *Target) matchingTimeout(r *http.Request) time.Duration {
	for _, rule := range t.Timeouts {
		if match, err := rule.Matchers.AnyMatchWithError(r); err == nil && match {
			return rule.Timeout
		}
	}
	return t.Timeout
}

// A HedgeDelay is when attempts at an endpoint are hedged, where that goes by its
// own latencies.
type HedgeDelay struct {
	at    atomic.Int64 // Unix nanoseconds
	delay atomic.Int64 // 0: not known
}

// Latest is the delay as it was worked out no longer ago than every: if it is older, workOut
// is asked, by one of the callers.
func (d *HedgeDelay) Latest(now time.Time, every time.Duration, workOut func() time.Duration) time.Duration {
	at := d.at.Load()
	if age := now.UnixNano() - at; age < 0 || age > int64(every) {
		if d.at.CompareAndSwap(at, now.UnixNano()) {
			d.delay.Store(int64(workOut()))
		}
	}
	return time.Duration(d.delay.Load())
}

// Scheme is that of a request to the endpoint.
func (t *Target) Scheme(request *url.URL) string {
	if t.URL != nil {
		return t.URL.Scheme
	}
	return request.Scheme
}

// Keeps tells whether join would change nothing of a URL that a transport without TLS
// is given.
func (t *Target) Keeps(request *url.URL) bool {
	return t.Bare && request.User == nil && request.Opaque == "" && (request.Scheme == "" || request.Scheme == "http")
}

// Join makes the URL of a request to the endpoint, without the client's user
// and password. With https the URL has the endpoint's host, for TLS; with http it
// keeps the dial address, by which connections are pooled.
func (t *Target) Join(request *url.URL) *url.URL {
	if t.URL == nil {
		joined := *request
		joined.User = nil
		return &joined
	}
	joined := JoinURL(t.URL, request)
	if t.URL.Scheme == "http" {
		joined.Host = request.Host
	}
	return joined
}
