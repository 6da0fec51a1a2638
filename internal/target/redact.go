package target

import (
	"net/url"
	"strings"
	"unicode"
)

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
	segments := strings.Split(u.EscapedPath(), "/")
	for i, segment := range segments {
		if looksLikeKey(segment) {
			segments[i] = "xxxxx"
		}
	}
	return shown + strings.Join(segments, "/")
}

// looksLikeKey tells whether a segment of a path may be a secret: 16 characters
// or more, with letters and digits.
func looksLikeKey(segment string) bool {
	return len(segment) >= 16 && strings.ContainsAny(segment, "0123456789") &&
		strings.ContainsFunc(segment, unicode.IsLetter)
}
