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

// A KeySource returns a call's key, or "" if the call has no such key. Calls with the same key go
// to one endpoint. It may set headers of the response in w.
type KeySource func(c *Call, w http.ResponseWriter) string

// KeyOfPlaceholders takes the key from a text with placeholders. The key is empty if one of them
// is.
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

// KeyOfJSON takes the key from a field of the request's JSON body.
func KeyOfJSON(field jsondoc.Field) KeySource {
	return func(c *Call, _ http.ResponseWriter) string {
		if c.body == nil {
			return ""
		}
		return field.In(c.body.Whole())
	}
}

// KeyOfClient takes the client's address as the key.
func KeyOfClient() KeySource {
	return func(c *Call, _ http.ResponseWriter) string { return c.clientAddress() }
}

// clientAddress returns the IP address of the client, as Caddy knows it.
func (c *Call) clientAddress() string {
	if ip, ok := c.vars[caddyhttp.ClientIPVarKey].(string); ok && ip != "" {
		return ip
	}
	host, _, err := net.SplitHostPort(c.Request.RemoteAddr)
	if err != nil {
		return c.Request.RemoteAddr
	}
	return host
}

// KeyOfCookie takes the key from a cookie that is signed with the secret. A client without such
// a cookie gets a new one with the answer. An empty secret stands for the pool's secret, which is
// random and lives as long as the pool.
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

// sealCookie returns the signed value of a cookie with this identity.
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

// isSecure reports whether the client uses TLS, to this server or to a trusted proxy before it.
func isSecure(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return r.TLS != nil || trusted && r.Header.Get("X-Forwarded-Proto") == "https"
}

func (c *Call) replacer() *caddy.Replacer {
	repl, _ := c.Request.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return repl
}

// setKey sets the call's key from the first source that has one.
func (c *Call) setKey(w http.ResponseWriter) {
	for _, source := range c.Handler.Affinity {
		if value := source(c, w); value != "" {
			c.key = max(1, routing.Hash(value))
			return
		}
	}
}
