package failover

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// reach returns pool.Handler.Reach: a hash of everything but the endpoints that decides how the handler sends a request
// to one, and of what its calls prepare for the sake of some endpoint. It is zero if the transport cannot be compared.
func (p *Policy) reach(handler *reverseproxy.Handler, inner http.RoundTripper) (hash [sha256.Size]byte) {
	h := p.handler
	fields := slices.Sorted(slices.Values(p.setFields()))
	text, err := json.Marshal([]any{
		handler.Headers, handler.Rewrite, handler.RequestBuffers, fmt.Sprintf("%T", inner), inner,
		p.API, p.ClientCredentials, slices.Compact(fields), h.ScopedBy, h.Keyed,
		h.Reads, h.Edits, h.Models, h.PathModels, h.Looks, h.Tokens != nil, h.Below, h.Plain, h.Strips, h.StripsAll, h.HasQuotas,
	})
	if err != nil {
		return hash
	}
	return sha256.Sum256(text)
}
