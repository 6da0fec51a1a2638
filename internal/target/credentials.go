package target

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// CredentialFields are the request headers in which clients send credentials, in the form of
// Plain. An endpoint that sets one of them, but for the last two, has credentials of its own.
var CredentialFields = []string{
	"authorization", "api-key", "apikey", "x-api-key", "x-apikey", "xi-api-key", "x-goog-api-key", "x-goog-iam-authorization-token",
	"ocp-apim-subscription-key", "x-subscription-token", "x-functions-key", "x-rapidapi-key", "x-amz-security-token", "x-vault-token",
	"x-auth-token", "x-auth-key", "x-access-token", "x-access-key", "x-api-token", "x-authorization", "x-forwarded-authorization",
	"x-original-authorization", "x-forwarded-access-token", "private-token", "access-token", "auth-token", "x-token", "token",
	"proxy-authorization", "cookie",
}

// CredentialParameters are the query parameters in which clients send credentials, in the form
// of Plain, besides those that are called like a header.
var CredentialParameters = []string{"key", "access-key", "bearer-token", "client-secret", "oauth-token", "subscription-key"}

// urlFields are the request headers that hold a URL, which may hold a credential.
var urlFields = []string{"referer", "x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-uri", "x-forwarded-url"}

// protocolPrefixes begin the names of WebSocket protocols that hold a credential.
var protocolPrefixes = []string{"openai-insecure-api-key.", "base64url.bearer.authorization."}

// plainFields are headers that an endpoint may set without their being its secret: each
// endpoint needs the client's own.
var plainFields = []string{
	"cache-control", "connection", "date", "expect", "forwarded", "host", "idempotency-key", "incremental", "last-event-id",
	"origin", "pragma", "prefer", "priority", "range", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade",
	"user-agent", "via", "x-request-id",
}

// plainPrefixes begin the names of further ones.
var plainPrefixes = []string{"accept", "content-", "if-", "sec-", "x-forwarded-"}

// Plain is the form of a header's or parameter's name in which those that some server takes
// for the same are equal: lower case, and with - for _.
func Plain(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// SetsCredential tells whether an endpoint that sets a header field has credentials of its own.
func SetsCredential(field string) bool {
	return slices.Contains(CredentialFields[:len(CredentialFields)-2], Plain(field))
}

// What a Screen does with a header.
type screening int

const (
	drops screening = iota + 1
	cleansURL
	cleansProtocols
)

// A Screen takes out of requests what clients send as credentials. It is read-only.
type Screen struct {
	Fields  []string             // the headers that it drops or cleans, in the form of Plain
	fields  map[string]screening // in that form
	params  map[string]bool      // the same
	filters struct{ fields, params nameFilter }
}

// A nameFilter passes the names that were added to it, in each form that Plain makes one of,
// and few others: looking a name up costs more than a request should for each of its fields.
type nameFilter [32]uint64

func (f *nameFilter) add(name string) {
	if at := f.place(name); at >= 0 {
		f[at/64] |= 1 << (at % 64)
	}
}

func (f *nameFilter) passes(name string) bool {
	at := f.place(name)
	return at >= 0 && f[at/64]&(1<<(at%64)) != 0
}

func (f *nameFilter) place(name string) int {
	if name == "" {
		return -1
	}
	return (len(name)*61 + int(folded(name[len(name)-1]))*13 + int(folded(name[len(name)/2]))*31 + int(folded(name[0]))) % (64 * len(f))
}

// folded is a byte of a name in the form of Plain.
func folded(c byte) byte {
	if c == '_' {
		return '-'
	}
	return c | 0x20
}

// NewScreen also takes out the headers that endpoints set themselves, unless they are such as
// hold no credentials.
func NewScreen(set []string) *Screen {
	s := &Screen{fields: make(map[string]screening), params: make(map[string]bool)}
	for _, field := range set {
		field = Plain(field)
		if !slices.Contains(plainFields, field) && !slices.ContainsFunc(plainPrefixes, func(p string) bool { return strings.HasPrefix(field, p) }) {
			s.fields[field] = drops
		}
	}
	for _, field := range CredentialFields {
		s.fields[field] = drops
		s.params[field] = field != "cookie"
	}
	for _, field := range urlFields {
		if s.fields[field] == 0 {
			s.fields[field] = cleansURL
		}
	}
	s.fields["sec-websocket-protocol"] = cleansProtocols
	for _, name := range CredentialParameters {
		s.params[name] = true
	}
	s.Fields = slices.Sorted(maps.Keys(s.fields))
	for field := range s.fields {
		s.filters.fields.add(field)
	}
	for name := range s.params {
		s.filters.params.add(name)
	}
	return s
}

func (s *Screen) screening(field string) screening {
	if !s.filters.fields.passes(field) {
		return 0
	}
	return s.fields[Plain(field)]
}

// Header takes credentials out of a request's header or trailer.
func (s *Screen) Header(h http.Header) {
	for field, values := range h {
		if how := s.screening(field); how != 0 {
			s.clean(h, field, values, how)
		}
	}
}

// Own is what Header would change, as it is.
func (s *Screen) Own(h http.Header) (own http.Header) {
	for field, values := range h {
		if s.screening(field) != 0 {
			if own == nil {
				own = make(http.Header)
			}
			own[field] = slices.Clone(values)
		}
	}
	return own
}

// HeaderOf takes out of a header what is still as a client sent it.
func (s *Screen) HeaderOf(own, h http.Header) {
	for field, values := range own {
		if now, ok := h[field]; ok && slices.Equal(now, values) {
			s.clean(h, field, now, s.screening(field))
		}
	}
}

func (s *Screen) clean(h http.Header, field string, values []string, how screening) {
	switch how {
	case drops:
		delete(h, field)
	case cleansURL:
		for i, value := range values {
			if clean := s.url(value); clean != value {
				values = slices.Clone(values)
				values[i] = clean
				h[field] = values
			}
		}
	case cleansProtocols:
		s.cleanProtocols(h, field, values)
	}
}

// url takes user, password and credentials in query and fragment out of a URL.
func (s *Screen) url(raw string) string {
	rest, fragment, fragmented := strings.Cut(raw, "#")
	rest, query, asked := strings.Cut(rest, "?")
	if scheme, after, ok := strings.Cut(rest, "//"); ok {
		authority, path, slashed := strings.Cut(after, "/")
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			rest = scheme + "//" + authority[at+1:]
			if slashed {
				rest += "/" + path
			}
		}
	}
	if asked {
		rest += "?" + s.Query(query, nil)
	}
	if fragmented {
		rest += "#" + s.Query(fragment, nil)
	}
	return rest
}

// cleanProtocols leaves the WebSocket protocols that hold no credential.
func (s *Screen) cleanProtocols(h http.Header, field string, values []string) {
	var kept []string
	found := false
	for _, value := range values {
		for protocol := range strings.SplitSeq(value, ",") {
			protocol = strings.TrimSpace(protocol)
			if slices.ContainsFunc(protocolPrefixes, func(p string) bool {
				return len(protocol) >= len(p) && strings.EqualFold(protocol[:len(p)], p)
			}) {
				found = true
			} else if protocol != "" {
				kept = append(kept, protocol)
			}
		}
	}
	switch {
	case !found:
	case len(kept) == 0:
		delete(h, field)
	default:
		h[field] = []string{strings.Join(kept, ", ")}
	}
}

// Query takes parameters that hold credentials out of a query, and leaves all else as it is. If
// is asked whether one is the client's own; nil: each is. A semicolon separates parameters as
// well, since some servers take it for that.
func (s *Screen) Query(raw string, is func(name, value string) bool) string {
	var out strings.Builder
	from := 0 // of what is to be kept
	for at := 0; at <= len(raw); {
		end, equals, simple := at, -1, true
		for ; end < len(raw) && raw[end] != '&' && raw[end] != ';'; end++ {
			switch c := raw[end]; {
			case equals >= 0:
			case c == '=':
				equals = end
			case 'a' <= c|0x20 && c|0x20 <= 'z', c == '-', c == '_', '0' <= c && c <= '9':
			default:
				simple = false
			}
		}
		if equals < 0 {
			equals = end
		}
		name := raw[at:equals]
		if (!simple || s.filters.params.passes(name)) && s.parameter(name) && (is == nil || is(name, raw[min(equals+1, end):end])) {
			out.WriteString(raw[from:max(from, at-1)])
			if from = end; out.Len() == 0 {
				from = min(end+1, len(raw)) // without a separator
			}
		}
		at = end + 1
	}
	if from == 0 {
		return raw
	}
	out.WriteString(raw[from:])
	return out.String()
}

// parameter tells whether a parameter of this name, as it stands in a query, holds a credential
// for some server.
func (s *Screen) parameter(name string) bool {
	return s.params[plainParameter(name)]
}

// plainParameter is Plain of a parameter's name as it stands in a query: without escapes, and
// of an array the array's.
func plainParameter(name string) string {
	name = strings.TrimSpace(decoded(name))
	if end := strings.IndexAny(name, "[\x00"); end >= 0 {
		name = name[:end]
	}
	return Plain(dashes.Replace(name))
}

// dashes makes one character of what some servers do.
var dashes = strings.NewReplacer(".", "-", " ", "-")

// decoded is a name or a value of a query without escapes, however often it was escaped.
func decoded(text string) string { return unmask(strings.ReplaceAll(text, "+", " ")) }

// QueryOf takes out of a query the credentials that a client's query has.
func (s *Screen) QueryOf(client, raw string) string {
	return s.Query(raw, func(name, value string) bool {
		name, value = plainParameter(name), decoded(value)
		for segment := range strings.FieldsFuncSeq(client, func(r rune) bool { return r == '&' || r == ';' }) {
			if own, said, _ := strings.Cut(segment, "="); plainParameter(own) == name && decoded(said) == value {
				return true
			}
		}
		return false
	})
}
