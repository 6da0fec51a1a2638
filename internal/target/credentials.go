package target

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// credentialFields are the request headers in which clients send credentials, as Plain
// writes them. An endpoint that sets one of them, except the last two, has its own credentials.
var credentialFields = []string{
	"authorization", "api-key", "apikey", "x-api-key", "x-apikey", "xi-api-key", "x-goog-api-key", "x-goog-iam-authorization-token",
	"ocp-apim-subscription-key", "x-subscription-token", "x-functions-key", "x-rapidapi-key", "x-amz-security-token", "x-vault-token",
	"x-auth-token", "x-auth-key", "x-access-token", "x-access-key", "x-api-token", "x-authorization", "x-forwarded-authorization",
	"x-original-authorization", "x-forwarded-access-token", "private-token", "access-token", "auth-token", "x-token", "token",
	"proxy-authorization", "cookie",
}

// credentialParameters are the query parameters in which clients send credentials, as Plain
// writes them, in addition to the names of credentialFields.
var credentialParameters = []string{"key", "access-key", "bearer-token", "client-secret", "oauth-token", "subscription-key"}

// urlFields are the request headers with a URL, which may contain credentials.
var urlFields = []string{"referer", "x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-uri", "x-forwarded-url"}

// protocolPrefixes are the prefixes of WebSocket protocols that contain a credential.
var protocolPrefixes = []string{"openai-insecure-api-key.", "base64url.bearer.authorization."}

// plainFields are headers that hold no credentials even if an endpoint sets them; other
// endpoints get the client's own.
var plainFields = []string{
	"cache-control", "connection", "date", "expect", "forwarded", "host", "idempotency-key", "incremental", "last-event-id",
	"origin", "pragma", "prefer", "priority", "range", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade",
	"user-agent", "via", "x-request-id",
}

// plainPrefixes are prefixes of more such headers.
var plainPrefixes = []string{"accept", "content-", "if-", "sec-", "x-forwarded-"}

// Plain returns the name of a header or parameter in lower case with - for _. Names that
// some server considers the same are equal in this form.
func Plain(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// SetsCredential reports whether an endpoint that sets this header has its own credentials.
func SetsCredential(field string) bool {
	return slices.Contains(credentialFields[:len(credentialFields)-2], Plain(field))
}

// screening is what a Screen does with a header; 0: nothing.
type screening int

const (
	drops screening = iota + 1
	cleansURL
	cleansProtocols
)

// A Screen removes clients' credentials from requests. It is read-only. Its names are as
// Plain writes them.
type Screen struct {
	Fields  []string // the headers that it drops or cleans, sorted
	fields  map[string]screening
	params  map[string]bool
	filters struct{ fields, params nameFilter }
}

// A nameFilter passes the names that were added to it, in every form that is equal in Plain,
// and few others. It saves most of the lookups in maps.
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

// folded returns a byte of a name as Plain writes it.
func folded(c byte) byte {
	if c == '_' {
		return '-'
	}
	return c | 0x20
}

// NewScreen returns a screen that also drops the headers of set, which endpoints set
// themselves, except those that hold no credentials (plainFields, plainPrefixes).
func NewScreen(set []string) *Screen {
	s := &Screen{fields: make(map[string]screening), params: make(map[string]bool)}
	for _, field := range set {
		field = Plain(field)
		if !slices.Contains(plainFields, field) && !slices.ContainsFunc(plainPrefixes, func(p string) bool { return strings.HasPrefix(field, p) }) {
			s.fields[field] = drops
		}
	}
	for _, field := range credentialFields {
		s.fields[field] = drops
		s.params[field] = field != "cookie"
	}
	for _, field := range urlFields {
		if s.fields[field] == 0 {
			s.fields[field] = cleansURL
		}
	}
	s.fields["sec-websocket-protocol"] = cleansProtocols
	for _, name := range credentialParameters {
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

// Header removes credentials from a request's header or trailer.
func (s *Screen) Header(h http.Header) {
	for field, values := range h {
		if how := s.screening(field); how != 0 {
			s.clean(h, field, values, how)
		}
	}
}

// Own returns a copy of the fields that Header would drop or clean; nil if there are none.
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

// HeaderOf is Header for the fields that are still as in own, the client's.
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

// url removes the user, the password, and credentials in query and fragment from a URL.
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

// cleanProtocols removes the WebSocket protocols that contain a credential.
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

// Query removes parameters with credentials from a query and changes nothing else. It keeps
// those for which own, given the raw name and value, is false; nil: it removes all. A
// semicolon separates parameters too, as for some servers.
func (s *Screen) Query(raw string, own func(name, value string) bool) string {
	var out strings.Builder
	from := 0 // start of the part to keep
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
		if (!simple || s.filters.params.passes(name)) && s.params[plainParameter(name)] && (own == nil || own(name, raw[min(equals+1, end):end])) {
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

// plainParameter returns Plain of the raw name of a query parameter: without escapes, and
// without the index of an array.
func plainParameter(name string) string {
	name = strings.TrimSpace(decoded(name))
	if end := strings.IndexAny(name, "[\x00"); end >= 0 {
		name = name[:end]
	}
	return Plain(dashes.Replace(name))
}

// dashes replaces the characters that some servers consider equal to a dash.
var dashes = strings.NewReplacer(".", "-", " ", "-")

// decoded returns a raw name or value of a query without escapes, however often it was escaped.
func decoded(text string) string { return unmask(strings.ReplaceAll(text, "+", " ")) }

// QueryOf removes from a query the credentials that the client's query contains too.
func (s *Screen) QueryOf(client, raw string) string {
	return s.Query(raw, func(name, value string) bool {
		name, value = plainParameter(name), decoded(value)
		for segment := range strings.FieldsFuncSeq(client, func(r rune) bool { return r == '&' || r == ';' }) {
			if n, v, _ := strings.Cut(segment, "="); plainParameter(n) == name && decoded(v) == value {
				return true
			}
		}
		return false
	})
}
