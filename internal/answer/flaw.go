package answer

import (
	"bytes"
	"mime"
	"net/http"
	"strings"
)

// What a body may be where an API promises data. The words end the sentence "200 with ...".
const (
	FlawPage  = "an HTML page"
	FlawEmpty = "an empty body"
	FlawEnded = "a stream that ends before its first event"
	FlawCut   = "malformed JSON"
)

// IsPage reports whether a response is a web page, by its Content-Type.
func IsPage(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (kind == "text/html" || kind == "application/xhtml+xml")
}

// Flaw returns what the body is instead of data; empty: it may be data. Call it after End. ended says
// that End was called at the end of the body.
func (e *Examiner) Flaw(ended bool) string {
	switch {
	case e.page:
		return FlawPage
	case !ended || e.full:
		return ""
	case e.shape == events && e.heaviest < Content:
		return FlawEnded
	case e.shape != events && !e.begun:
		return FlawEmpty
	case e.cut:
		return FlawCut
	}
	return ""
}

// begins notes the first byte of the body that is not blank.
func (e *Examiner) begins() {
	body := bytes.TrimLeft(e.plain, "\xef\xbb\xbf \t\r\n")
	if e.begun = len(body) > 0; e.begun && body[0] == '<' {
		e.page = e.shape != text || isJSON(e.header) || hasPrefixFold(body, "<!doctype html") || hasPrefixFold(body, "<html")
	}
}

func hasPrefixFold(text []byte, prefix string) bool {
	return len(text) >= len(prefix) && strings.EqualFold(string(text[:len(prefix)]), prefix)
}

// Blank reports whether the bytes at the beginning of a body say nothing yet: the body is JSON, and they
// are only space. Some APIs send such bytes to keep a connection alive.
func Blank(h http.Header, data []byte) bool {
	return len(data) > 0 && data[0] <= ' ' && len(bytes.TrimLeft(data, " \t\r\n")) == 0 && isJSON(h)
}
