package notify

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// secrets are the parts of a URL that may be secret. The zero value has none.
type secrets []string

// leastSecret is the length of the shortest part that counts as a secret.
const leastSecret = 4

var words = regexp.MustCompile(`[0-9A-Za-z_]+`)

// secretsOf returns all parts of a URL except its scheme, and except its host if that looks like a
// host's name.
func secretsOf(u *url.URL) secrets {
	var parts []string
	if u.User != nil {
		password, _ := u.User.Password()
		parts = append(parts, u.User.Username(), password, u.User.String())
	}
	if host := u.Hostname(); u.Scheme != "http" && u.Scheme != "https" && !strings.Contains(host, ".") && host != "localhost" {
		parts = append(parts, host) // some services have a key there
	}
	parts = append(parts, u.Opaque, u.Path, u.EscapedPath(), u.RawQuery, u.Fragment, u.EscapedFragment())
	for _, values := range u.Query() {
		parts = append(parts, values...)
	}
	var all secrets
	for _, part := range parts {
		for _, piece := range append(strings.Split(part, "/"), words.FindAllString(part, -1)...) {
			for _, form := range []string{piece, url.QueryEscape(piece), url.PathEscape(piece)} {
				if len(form) >= leastSecret {
					all = append(all, form)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(all)
}

// longestError is the length of the longest text of an error, in bytes.
const longestError = 300

// redact returns the text of an error without secrets, as one line.
func (s secrets) redact(err error) string {
	text := err.Error()
	if u, ok := errors.AsType[*url.Error](err); ok {
		text = strings.ReplaceAll(text, u.URL, "the URL")
	}
	for _, secret := range s {
		text = replaceFold(text, secret)
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	return cut(text, longestError)
}

// replaceFold replaces a secret in a text, in any mix of upper and lower case.
func replaceFold(text, secret string) string {
	return regexp.MustCompile("(?i)"+regexp.QuoteMeta(secret)).ReplaceAllLiteralString(text, "xxxxx")
}

// joinNames sorts and joins names.
func joinNames(names []string) string { return strings.Join(slices.Sorted(slices.Values(names)), ", ") }
