package failover

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/apifailover/caddy-failover/internal/target"
)

// parseBaseURL parses and checks a base URL. The host of the result is ASCII. Its errors never show anything that may be a
// credential: user and password, a query, a fragment, or a URL with an @ that cannot be parsed.
func parseBaseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	private := strings.Contains(s, "@")
	withoutQuery, _, _ := strings.Cut(s, "?")
	switch {
	case !private && strings.Trim(s, quotes) != s:
		return nil, fmt.Errorf("base URL %q is in quotation marks: remove them", withoutQuery)
	case !private && strings.ContainsAny(s, unmeant):
		advice := ""
		if strings.Contains(strings.Trim(s, unmeant), " ") {
			advice = "; a space of a path is %20"
		}
		return nil, fmt.Errorf("base URL %q has a %q: remove it%s", withoutQuery, firstOf(s, unmeant), advice)
	case !private && (!strings.Contains(s, "://") && (err != nil || u.Scheme == "") || mendScheme(s) != ""):
		return nil, noScheme(s)
	case !private && (placeholder.MatchString(s) || strings.ContainsAny(s, "{,*")) && badBaseURL(s) != nil:
		return nil, badBaseURL(s)
	case err != nil && private:
		return nil, errors.New("malformed base URL (not shown, because it may contain a password; " +
			"characters such as / and % in a password must be escaped)")
	case err != nil && looksLikeIPv6(s):
		return nil, fmt.Errorf("parsing base URL: %w; an IPv6 address stands in brackets, as in http://[::1]:8080", err)
	case err != nil:
		return nil, fmt.Errorf("parsing base URL: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" && u.Opaque != "" && !private:
		return nil, fmt.Errorf("base URL %s: the scheme must be http or https, as in https://%s", target.RedactURL(u), s)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("base URL %s: the scheme must be http or https%s", target.RedactURL(u), otherSchemes[u.Scheme])
	case u.Hostname() == "":
		return nil, fmt.Errorf("base URL %s: the host is missing", target.RedactURL(u))
	case u.Host == "unix" && strings.HasPrefix(u.Path, "//"):
		return nil, fmt.Errorf("base URL %s: a socket has no scheme; write unix%s", target.RedactURL(u), u.Path)
	case slices.Contains([]string{"http", "https"}, strings.ToLower(u.Hostname())) && strings.HasPrefix(u.Path, "//"):
		return nil, fmt.Errorf("base URL %s: it has two schemes; remove one", target.RedactURL(u))
	case u.Port() != "" && !isPort(u.Port()):
		return nil, fmt.Errorf("base URL %s: the port must be from 1 to 65535", target.RedactURL(u))
	case u.RawQuery != "" || u.ForceQuery:
		return nil, fmt.Errorf("base URL %s: a query is not allowed", target.RedactURL(u))
	case u.Fragment != "":
		return nil, fmt.Errorf("base URL %s: a fragment is not allowed", target.RedactURL(u))
	case hasDotSegment(u.Path):
		return nil, fmt.Errorf("base URL %s: a dot segment is not allowed", target.RedactURL(u))
	}
	host, err := asciiHost(u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("base URL %s: %w", target.RedactURL(u), err)
	}
	if host != u.Hostname() {
		u.Host = host + strings.TrimPrefix(u.Host, u.Hostname())
	}
	return u, nil
}

// unmeant are characters that no base URL has, but copied text.
const unmeant = " \t\r\n<>\"“”"

// quotes are characters around copied text.
const quotes = "\"'`“”‘’"

// firstOf returns the first of some characters in a text.
func firstOf(text, characters string) string {
	for _, c := range text {
		if strings.ContainsRune(characters, c) {
			return string(c)
		}
	}
	return ""
}

// otherSchemes maps schemes that people write to the end of an error about them.
var otherSchemes = map[string]string{
	"ws": "; write http, which carries websockets too", "wss": "; write https, which carries websockets too",
	"h2c": "; write http, and transport http { versions h2c }", "grpc": "; write http, and transport http { versions h2c }", "grpcs": "; write https",
}

// afterScheme matches a scheme and the characters after it.
var afterScheme = regexp.MustCompile(`^(?i:(https?))([:;：]?[/\\]+|[;：])(.+)$`)

// mendScheme returns a base URL with :// after its scheme; "" if it has them already, or no scheme.
func mendScheme(address string) string {
	m := afterScheme.FindStringSubmatch(address)
	if m == nil || strings.HasPrefix(m[2], "://") {
		return ""
	}
	return strings.ToLower(m[1]) + "://" + m[3]
}

// noScheme returns the error of a base URL without a scheme.
func noScheme(address string) error {
	if mended := mendScheme(address); mended != "" {
		return fmt.Errorf("malformed base URL %s: write %s", address, mended)
	}
	for _, scheme := range []string{"http:", "https:"} {
		if rest, ok := strings.CutPrefix(strings.ToLower(address), scheme); ok {
			return fmt.Errorf("malformed base URL %s: write %s//%s", address, scheme, strings.TrimLeft(rest, "/"))
		}
	}
	address = strings.TrimLeft(address, "/")
	return fmt.Errorf("a scheme is missing: write https://%s, or http://%[1]s", withoutPort(address))
}

// looksLikeIPv6 reports whether the host of a base URL has several colons and no bracket.
func looksLikeIPv6(s string) bool {
	_, rest, _ := strings.Cut(s, "://")
	host, _, _ := strings.Cut(rest, "/")
	return strings.Count(host, ":") > 1 && strings.Trim(host, "0123456789abcdefABCDEF:") == "" && strings.Contains(host, "::")
}

// asciiHost returns a host as DNS has it. It refuses hosts that cannot exist.
func asciiHost(host string) (string, error) {
	if net.ParseIP(host) != nil || strings.ContainsAny(host, "%{") { // a zone, or a placeholder
		return host, nil
	}
	ascii := true
	for _, c := range host {
		ascii = ascii && c < unicode.MaxASCII
		if c < unicode.MaxASCII && strings.ContainsRune("-._", c) || unicode.In(c, unicode.L, unicode.M, unicode.N) {
			continue
		}
		return "", fmt.Errorf("the host has a %q; write the name of one host", string(c))
	}
	if labels := strings.Split(strings.TrimSuffix(host, "."), "."); slices.Contains(labels, "") {
		return "", fmt.Errorf("the host %q has an empty part", host)
	}
	if strings.Trim(host, "0123456789.") == "" && strings.Contains(host, ".") {
		return "", fmt.Errorf("%s is not an IP address", host)
	}
	if ascii {
		return host, nil
	}
	converted, err := idna.Lookup.ToASCII(host)
	if err != nil {
		return "", fmt.Errorf("the host %q: %w", host, err)
	}
	return converted, nil
}

// badBaseURL returns an error if a base URL contains a placeholder, ends with a brace, or names several
// hosts or a wildcard. The URL must not contain a password.
func badBaseURL(s string) error {
	_, rest, _ := strings.Cut(s, "://")
	host, _, _ := strings.Cut(rest, "/")
	if found := placeholder.FindString(s); found != "" {
		advice := ""
		if strings.Contains(found, "uri") || strings.Contains(found, "path") {
			advice = ", and the path of a request follows the base URL anyway"
		}
		return fmt.Errorf("base URL %s: %s has no value when Caddy loads the configuration; only {env.*} and {file.*} have one%s", s, found, advice)
	}
	switch {
	case strings.HasSuffix(s, "{"):
		return fmt.Errorf("base URL %s: write a space before the {", s)
	case strings.Contains(host, ","):
		return fmt.Errorf("base URL %s: the host has a \",\"; write each endpoint on its own line", s)
	case strings.Contains(host, "*"):
		return fmt.Errorf("base URL %s: the host has a \"*\"; write the name of one host", s)
	}
	return nil
}

// isPort reports whether an endpoint can listen at a port.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// hasDotSegment reports whether a decoded path has a segment . or ..
func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// dialAddress returns the address at which the API of a base URL listens.
func dialAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}
