package target

import (
	"net/url"
	"strings"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// hidden replaces a possible secret.
const hidden = "xxxxx"

// RedactURL returns a base URL without user, password, query and fragment, and with path
// segments that look like keys hidden; RPC providers put keys there. It is "" for nil.
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
	// longestPath is the maximum length of a shown path, in bytes.
	longestPath = 100
	// readPath is how many bytes of a path ShownPath reads.
	readPath = 512
)

// ShownPath returns the path of a request for logs, events and the API: escaped as in the
// request line, without the query, with segments that look like keys hidden, at most 100 bytes.
func ShownPath(u *url.URL) string {
	shown := u.EscapedPath()
	cut := len(shown) > readPath
	if cut {
		shown = shown[:strings.LastIndexByte(shown[:readPath], '/')+1] // the beginning of a cut key would not look like a key
	}
	if shown = redacted(shown, looksLikeKey); cut || len(shown) > longestPath {
		shown = shown[:min(len(shown), longestPath-3)] + "..."
	}
	return shown
}

// redacted hides the segments of an escaped path for which secret is true.
func redacted(path string, secret func(segment string) bool) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if secret(segment) {
			segments[i] = hidden
		}
	}
	return strings.Join(segments, "/")
}

// looksLikeKey reports whether an escaped segment may be a secret.
func looksLikeKey(segment string) bool {
	text, err := url.PathUnescape(segment)
	return err != nil || outcome.LooksLikeKey(text)
}

// longestMethod is the maximum length of a shown method, in bytes.
const longestMethod = 20

// ShownMethod returns the method of a request for logs, events and the API: the printable
// ASCII in its first 20 bytes.
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
