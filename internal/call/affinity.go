package call

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/routing"
)

// A KeySource says what of a request calls have in common that are to go to one endpoint;
// empty: it has nothing of the kind. w is where the client's answer begins.
type KeySource func(c *Call, w http.ResponseWriter) string

// KeyOfPlaceholders is a text with placeholders. It counts as empty if one of them is.
func KeyOfPlaceholders(text string) KeySource {
	return func(c *Call, _ http.ResponseWriter) string {
		repl := c.replacer()
		if repl == nil {
			return ""
		}
		value, err := repl.ReplaceOrErr(text, true, true)
		if err != nil {
			return ""
		}
		return value
	}
}

// KeyOfJSON is a field of the request's JSON body.
func KeyOfJSON(field jsondoc.Field) KeySource {
	return func(c *Call, _ http.ResponseWriter) string {
		if c.body == nil {
			return ""
		}
		return field.In(c.body.Whole())
	}
}

// KeyOfClient is the client's address.
func KeyOfClient() KeySource {
	return func(c *Call, _ http.ResponseWriter) string {
		if ip, ok := c.vars[caddyhttp.ClientIPVarKey].(string); ok && ip != "" {
			return ip
		}
		host, _, err := net.SplitHostPort(c.Request.RemoteAddr)
		if err != nil {
			return c.Request.RemoteAddr
		}
		return host
	}
}

// KeyOfCookie is what a cookie says that an answer of ours has set: this one, for a client
// that has none, or one that is not signed with the secret. An empty secret is the pool's
// own, which is as old as the pool.
func KeyOfCookie(name, secret string) KeySource {
	return func(c *Call, w http.ResponseWriter) string {
		key := []byte(secret)
		if secret == "" {
			key = c.Handler.Pool.Secret[:]
		}
		if repl := c.replacer(); repl != nil {
			// header_up may have changed the proxy's own copy of the request
			cookie, _ := repl.GetString("http.request.cookie." + name)
			if id, ok := openCookie(cookie, name, key); ok {
				return id
			}
		}
		id := rand.Text()
		http.SetCookie(w, &http.Cookie{
			Name:     name,
			Value:    sealCookie(id, name, key),
			Path:     "/",
			HttpOnly: true,
			Secure:   isSecure(c.Request),
			SameSite: http.SameSiteLaxMode,
		})
		return id
	}
}

// sealCookie makes a cookie's value of an identity.
func sealCookie(id, name string, key []byte) string {
	return id + "." + base64.RawURLEncoding.EncodeToString(signature(id, name, key))
}

// openCookie returns the identity in a cookie's value, if we have signed it.
func openCookie(value, name string, key []byte) (id string, ok bool) {
	id, signed, ok := strings.Cut(value, ".")
	if !ok || len(value) > 128 {
		return "", false
	}
	sent, err := base64.RawURLEncoding.DecodeString(signed)
	return id, err == nil && hmac.Equal(sent, signature(id, name, key))
}

func signature(id, name string, key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("failover affinity\x00" + name + "\x00" + id))
	return mac.Sum(nil)[:16]
}

// isSecure reports whether the client speaks TLS, with us or with a proxy that is trusted.
func isSecure(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return r.TLS != nil || trusted && r.Header.Get("X-Forwarded-Proto") == "https"
}

func (c *Call) replacer() *caddy.Replacer {
	repl, _ := c.Request.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return repl
}

// setKey finds what the call has in common with others, by the first source that has
// anything.
func (c *Call) setKey(w http.ResponseWriter) {
	for _, source := range c.Handler.Affinity {
		if value := source(c, w); value != "" {
			c.key = max(1, routing.Hash(value))
			return
		}
	}
}
