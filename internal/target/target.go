// Package target holds an endpoint as one handler reaches it: URL, headers, edits, timeouts.
package target

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// JoinURL returns the request's URL below base. It joins both forms of the path, decoded
// and escaped, so that an escaped slash stays escaped.
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

// A MatchedTimeout is the timeout of requests that match any of the sets.
type MatchedTimeout struct {
	Matchers caddyhttp.MatcherSets
	Timeout  time.Duration
}

// A Target is an endpoint as one handler sees it: its configuration, ready for
// use, the state that it shares with other handlers of the pool, and its upstream.
// It is read-only.
type Target struct {
	// used by each attempt
	State    *endpoint.State
	Upstream *reverseproxy.Upstream // nil for dynamic upstreams
	Timeout  time.Duration
	Timeouts []MatchedTimeout
	Bounds   *endpoint.Bounds // nil: none
	URL      *url.URL         // base URL; nil: scheme, path and Host are the proxy's
	Host     string           // of URL

	Schedules []Schedule // for each setting, the first open one that has it counts
	Headers   *headers.HeaderOps
	Edits     []JSONEdit
	Models    *Models // nil: any model, under the name that clients use
	Bare      bool    // URL is http and has no path
	Strip     bool    // remove the client's credentials
	Own       bool    // it has its own credentials
	Quota     bool    // 401, 402, 403 and 429 are about the endpoint, not the client
	NeedsJSON bool    // a body on which an edit fails is refused

	Name     string
	Address  string
	Priority int
	Weight   float64
	Hedge    *HedgeDelay
	Health   *endpoint.CheckOverride // nil: the pool's settings

	Configured *Target // the target without the operator's settings; nil: there are none
}

// GetsCalls reports whether the endpoint gets calls at some time: its configured weight, the operator's or one of its
// schedules' is above 0.
func (t *Target) GetsCalls() bool {
	return t.Weight > 0 || t.Configured != nil && t.Configured.Weight > 0 ||
		slices.ContainsFunc(t.Schedules, func(s Schedule) bool { return s.Weight != nil && *s.Weight > 0 })
}

// IsMetered reports whether the endpoint may have limits or quotas of its own.
func (t *Target) IsMetered() bool { return t.Quota || t.Bounds != nil && len(t.Bounds.Rates) > 0 }

// WithBasicAuth returns a copy of ops that also sends the credentials of a base URL, unless
// ops set Authorization. ops may be nil.
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

// TimeoutFor returns how long an attempt of this request may take to its first byte.
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

// A HedgeDelay caches the delay after which attempts at an endpoint are hedged, if it depends on
// the endpoint's latencies. It is safe for concurrent use. The zero value holds no delay.
type HedgeDelay struct {
	at    atomic.Int64 // when delay was computed, Unix nanoseconds
	delay atomic.Int64 // nanoseconds; 0: unknown
}

// Latest returns the delay. If it is older than every, one caller computes a new one; the others
// get the old one meanwhile.
func (d *HedgeDelay) Latest(now time.Time, every time.Duration, compute func() time.Duration) time.Duration {
	at := d.at.Load()
	if age := now.UnixNano() - at; age < 0 || age > int64(every) {
		if d.at.CompareAndSwap(at, now.UnixNano()) {
			d.delay.Store(int64(compute()))
		}
	}
	return time.Duration(d.delay.Load())
}

// Scheme returns the scheme of a request to the endpoint.
func (t *Target) Scheme(request *url.URL) string {
	if t.URL != nil {
		return t.URL.Scheme
	}
	return request.Scheme
}

// Keeps reports whether Join would not change a URL for a transport without TLS.
func (t *Target) Keeps(request *url.URL) bool {
	return t.Bare && request.User == nil && request.Opaque == "" && (request.Scheme == "" || request.Scheme == "http")
}

// Join returns the URL of a request to the endpoint, without the client's user and
// password. An https URL has the endpoint's host, for TLS; an http URL keeps the dial
// address, by which the transport pools connections.
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
