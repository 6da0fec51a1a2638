package target

import (
	"net/url"
	"strings"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// hidden stands for what may be a secret.
const hidden = "xxxxx"

// RedactURL returns a base URL without user, password, and segments of the path
// that look like keys, as RPC providers have them.
func RedactURL(u *url.URL) string {
	if u == nil {
		return ""
	}
	shown := "//" + u.Host
	if u.Scheme != "" {
		shown = u.Scheme + ":" + shown
	}
	return shown + redacted(u.EscapedPath(), func(segment string) bool { return outcome.LooksLikeKey(segment) || looksLikeKey(segment) })
}

const (
	// longestPath is how long a path is shown at most, in bytes.
	longestPath = 100
	// pathLooks is how much of a path is looked at.
	pathLooks = 512
)

// ShownPath returns the path of a request for people: as it stands in the request line,
// so in ASCII without control characters, without the query, without segments that look
// like keys, and at most 100 bytes of it.
func ShownPath(u *url.URL) string {
	shown := u.EscapedPath()
	cut := len(shown) > pathLooks
	if cut {
		shown = shown[:strings.LastIndexByte(shown[:pathLooks], '/')+1] // a part of a key does not look like one
	}
	if shown = redacted(shown, looksLikeKey); cut || len(shown) > longestPath {
		shown = shown[:min(len(shown), longestPath-3)] + "..."
	}
	return shown
}

// redacted hides the segments of an escaped path that may be secrets.
func redacted(path string, secret func(segment string) bool) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if secret(segment) {
			segments[i] = hidden
		}
	}
	return strings.Join(segments, "/")
}

// looksLikeKey tells whether what an escaped segment stands for may be a secret.
func looksLikeKey(segment string) bool {
	text, err := url.PathUnescape(segment)
	return err != nil || outcome.LooksLikeKey(text)
}

// longestMethod is how long a method is shown at most, in bytes.
const longestMethod = 20

// ShownMethod returns the method of a request for people: at most 20 bytes of it, if
// those are printable ASCII.
func ShownMethod(method string) string {
	if method == "" {
		return "GET"
	}
	shown := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, method[:min(len(method), longestMethod)])
	return shown
}
