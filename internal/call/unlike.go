package call

import (
	"hash/maphash"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/replay"
	"github.com/apifailover/caddy-failover/internal/target"
)

// While all endpoints are out, an outage looks like the requests of one client that fail everywhere. Calls unlike
// those that failed tell the two apart, so they are tried.

// chooseUnlike reserves an attempt for a call that is unlike those that failed lately, at an endpoint that may be out
// only because of these; nil if there is none.
func (h *Handler) chooseUnlike(c *Call, from *pool.Routes, now time.Time) *Attempt {
	best, _ := h.mostServing(c, from, now)
	if best == nil || !h.Pool.Fingerprints.Admits(c.fingerprint(), now, best.State.For(c.scope()).Held(now)) {
		return nil
	}
	c.extra().unlike = true
	if c.Attempts == 0 && h.Pool.TrialDue(from, now) {
		if a := h.try(c, best, now, endpoint.AdmitAllDown); a != nil {
			return a
		}
	}
	return h.try(c, best, now, endpoint.AdmitInNeed)
}

// noteFailed notes that no endpoint has served the call.
func (c *Call) noteFailed(now time.Time) { c.Handler.Pool.Fingerprints.Failed(c.fingerprint(), now) }

// mostServing returns the endpoint that still answers the largest part of its calls although all are out, and
// that part; nil: no endpoint may be out because of requests. Of equals it returns the first.
func (h *Handler) mostServing(c *Call, from *pool.Routes, now time.Time) (best *target.Target, most float64) {
	for _, t := range from.Targets {
		if t.Weight <= 0 || !c.takes(t) || c.isExcluded(t) && c.Attempts > 0 {
			continue
		}
		if part, may := t.State.For(c.scope()).ServesSome(now); may && (best == nil || part > most) {
			best, most = t, part
		}
	}
	return best, most
}

// printSeed makes fingerprints differ from process to process, so that no client can make up requests that
// look like those of others.
var printSeed = maphash.MakeSeed()

// fingerprint returns what tells the call's request from others.
func (c *Call) fingerprint() (p pool.Fingerprint) {
	r := c.Request
	var h maphash.Hash
	h.SetSeed(printSeed)
	add := func(s string) {
		_, _ = h.WriteString(s) // never fails
		_ = h.WriteByte(0)
	}
	add(network(c.clientAddress()))
	p.Address = h.Sum64()
	add(c.clientAddress())
	for _, credential := range c.credentials() {
		add(credential)
	}
	add(r.Method)
	add(r.URL.Path)
	add(c.scope())
	p.Coarse = h.Sum64()
	add(r.URL.RawQuery)
	add(r.Header.Get("Content-Type"))
	if r.Body != nil && r.Body != http.NoBody {
		add(strconv.FormatInt(r.ContentLength, 10))
	}
	if c.body != nil {
		whole := c.body.Whole()
		_, _ = h.Write(whole[:min(len(whole), replay.LargeWhole)])
	}
	p.Fine = h.Sum64()
	return p
}

// network returns the network of an address whose other addresses one client may have, too: of IPv6 a /48. Any other text
// is returned as it is.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || !ip.Is6() || ip.Is4In6() {
		return address
	}
	net, err := ip.WithZone("").Prefix(48)
	if err != nil {
		return address
	}
	return net.String()
}

// credentials returns the client's credentials, sorted. They tell the clients of one address apart.
func (c *Call) credentials() (all []string) {
	headers := []http.Header{c.Request.Header}
	if c.extras != nil {
		headers = append(headers, c.extras.own) // taken from the request
	}
	for _, header := range headers {
		for field, values := range header {
			if target.SetsCredential(field) {
				all = append(all, values...)
			}
		}
	}
	slices.Sort(all)
	return all
}
