package dialect

import (
	"net/url"
	"strings"
)

// PathModel returns the model that a URL's path names after its last segment `models`:
// gemini-2.0-flash for /v1beta/models/gemini-2.0-flash:generateContent. Empty: it names none.
func PathModel(u *url.URL) string {
	from, to := span(u.Path)
	return u.Path[from:to]
}

// WithPathModel returns a copy of a URL whose path names model instead, or the URL itself if its
// path names no model.
func WithPathModel(u *url.URL, model string) *url.URL {
	escaped := u.EscapedPath()
	from, to := span(escaped)
	if from == to {
		return u
	}
	escaped = escaped[:from] + url.PathEscape(model) + escaped[to:]
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return u
	}
	changed := *u
	changed.Path, changed.RawPath = path, escaped
	return &changed
}

// span returns the offsets of the model in a path, escaped or not; they are equal if it has none.
func span(path string) (from, to int) {
	const before = "/models/"
	from = strings.LastIndex(path, before)
	if from < 0 {
		return 0, 0
	}
	from += len(before)
	to = len(path)
	for _, end := range [...]string{":", "/", "%3A", "%3a", "%2F", "%2f"} {
		if i := strings.Index(path[from:to], end); i >= 0 {
			to = from + i
		}
	}
	return from, to
}
