package failover

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/target"
)

// loadPlaceholders matches the placeholders that have values when Caddy loads a configuration.
var loadPlaceholders = regexp.MustCompile(`\{(env|file)\.([^{}]+)\}`)

// placeholder matches any placeholder.
var placeholder = regexp.MustCompile(`\{[^{}\s]+\}`)

// hasPlaceholder reports whether a text has a placeholder of the environment or of a file.
func hasPlaceholder(text string) bool { return loadPlaceholders.MatchString(text) }

// expand replaces {env.*} and {file.*} in a text. A placeholder without a value is an error. The
// error names the placeholder, and shows no value.
func expand(text string) (string, error) {
	var out strings.Builder
	last := 0
	for _, m := range loadPlaceholders.FindAllStringSubmatchIndex(text, -1) {
		if m[0] > 0 && text[m[0]-1] == '\\' {
			continue // escaped
		}
		name := text[m[4]:m[5]]
		value, err := valueOf(text[m[2]:m[3]], name)
		if plain, _, ok := strings.Cut(name, ":"); err != nil && ok && text[m[2]:m[3]] == "env" { // what follows may be a secret
			return "", fmt.Errorf("{env.%s:...}: the environment variable is not set, and this form has no default: write {$%[1]s:<default>}", plain)
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", text[m[0]:m[1]], err)
		}
		out.WriteString(text[last:m[0]])
		out.WriteString(value)
		last = m[1]
	}
	out.WriteString(text[last:])
	return out.String(), nil
}

// valueOf returns the value of a placeholder of the environment or of a file.
func valueOf(kind, name string) (string, error) {
	if kind == "file" {
		if _, err := os.ReadFile(name); err != nil {
			var path *os.PathError
			if errors.As(err, &path) {
				err = path.Err
			}
			return "", fmt.Errorf("reading the file: %w", err)
		}
	} else if _, ok := os.LookupEnv(name); !ok {
		return "", errors.New("the environment variable is not set")
	}
	value, _ := caddy.NewReplacer().GetString(kind + "." + name)
	if strings.TrimSpace(value) == "" {
		return "", errors.New("the value is empty")
	}
	return value, nil
}

// resolve replaces placeholders in the addresses of the endpoints and of the proxy's upstreams. A
// placeholder's value may be a base URL.
func (p *Policy) resolve(handler *reverseproxy.Handler) error {
	for _, e := range p.Endpoints {
		if err := e.resolve(); err != nil {
			return e.wrap(err)
		}
	}
	p.urls = make(map[*reverseproxy.Upstream]string)
	for _, u := range handler.Upstreams {
		if !hasPlaceholder(u.Dial) {
			continue
		}
		base, dial, err := expandAddress(u.Dial)
		if err != nil {
			return fmt.Errorf("upstream %s: %w", u.Dial, err)
		}
		u.Dial, p.urls[u] = dial, base
	}
	return nil
}

func (e *Endpoint) resolve() error {
	if hasPlaceholder(e.URL) {
		base, dial, err := expandAddress(e.URL)
		switch {
		case err != nil:
			return err
		case base == "":
			return fmt.Errorf("%s: %w", e.URL, noScheme(dial))
		}
		if e.Upstream == "" || e.Upstream == e.URL {
			e.Upstream = dial
		}
		e.URL = base
	}
	if hasPlaceholder(e.Upstream) {
		base, dial, err := expandAddress(e.Upstream)
		if err != nil {
			return err
		}
		e.Upstream = dial
		if e.URL == "" {
			e.URL = base
		}
	}
	return nil
}

// expandAddress replaces placeholders in an address or a base URL, and parses it. base is "" for an
// address.
func expandAddress(text string) (base, dial string, err error) {
	value, err := expand(text)
	if err != nil {
		return "", "", err
	}
	value = strings.TrimSpace(value)
	if !strings.Contains(value, "://") {
		if dial, err = parseDial("endpoint", value); err != nil {
			return "", "", fmt.Errorf("%s: %w", text, err)
		}
		return "", dial, nil
	}
	u, err := parseBaseURL(value)
	if err != nil {
		if parse, ok := errors.AsType[*url.Error](err); ok {
			err = fmt.Errorf("parsing base URL: %w", parse.Err) // the value may be a secret
		}
		return "", "", fmt.Errorf("%s: %w", text, err)
	}
	return value, dialAddress(u), nil
}

// withoutPort returns an address without the default port of its scheme.
func withoutPort(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && (port == "80" || port == "443") {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return address
}

// parseDial parses an address without a scheme: host, host:port or network/address. word is the
// option that has the address. Errors show nothing that may contain a password.
func parseDial(word, address string) (dial string, err error) {
	parsed, err := caddy.ParseNetworkAddress(address)
	switch {
	case err == nil && parsed.IsUnixNetwork() && strings.Trim(parsed.Host, "/") == "":
		return "", fmt.Errorf("invalid address of an %s: %q: the path of the socket is missing", word, address)
	case strings.Contains(address, "@"):
		return "", errors.New("malformed address (not shown, because it may contain a password): want a base URL such as https://api.example, or host:port")
	case err == nil && (parsed.IsUnixNetwork() || parsed.IsFdNetwork()):
		return address, nil
	case err == nil && !strings.Contains(address, "{") && slices.Contains([]string{"tcp", "tcp4", "tcp6"}, parsed.Network) &&
		parsed.Host == "" && parsed.StartPort == 0:
		return "", errors.New("the address is empty: want a base URL such as https://api.example, or host:port")
	case strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "//"):
		return "", fmt.Errorf("invalid address of an %s: %q is a path: want a base URL such as https://api.example%[2]s, or host:port", word, address)
	case err == nil && parsed.PortRangeSize() > 1:
		return "", fmt.Errorf("invalid address of an %s: %q has several ports; write each endpoint on its own line", word, address)
	case mendScheme(address) != "" || strings.HasPrefix(address, "http:") || strings.HasPrefix(address, "https:"):
		return "", noScheme(address)
	case checkCredential(address) != nil:
		return "", fmt.Errorf("invalid address of an %s: %w", word, checkCredential(address))
	case strings.HasSuffix(address, ":0"):
		return "", fmt.Errorf("invalid address of an %s: %q: the port must be from 1 to 65535", word, address)
	case !strings.Contains(address, "{") && (strings.HasPrefix(address, "//") || err == nil && !dialable(parsed.Network)):
		return "", noScheme(address)
	case err != nil || strings.Contains(parsed.Host, ":") && net.ParseIP(parsed.Host) == nil || strings.ContainsAny(parsed.Host, "?#"):
		return "", fmt.Errorf("invalid address of an %s: %q: want a base URL or host:port", word, address)
	case strings.Contains(address, "{") || parsed.Host == "": // a placeholder, or a port of this machine
		return address, nil
	}
	host, err := asciiHost(parsed.Host)
	port := fmt.Sprint(parsed.StartPort)
	switch {
	case err != nil:
		return "", fmt.Errorf("invalid address of an %s: %q: %w", word, address, err)
	case parsed.StartPort == 0:
		port = "80"
	case host == parsed.Host || word == "upstream": // the proxy has this address
		return address, nil
	}
	return caddy.JoinNetworkAddress(networkOf(address, parsed.Network), host, port), nil
}

// isSocket reports whether an address is a Unix socket or a file descriptor.
func isSocket(address string) bool {
	parsed, err := caddy.ParseNetworkAddress(address)
	return err == nil && (parsed.IsUnixNetwork() || parsed.IsFdNetwork())
}

// networkOf returns the network of an address if the address names it, else "".
func networkOf(address, network string) string {
	if strings.HasPrefix(strings.ToLower(address), network+"/") {
		return network
	}
	return ""
}

// dialable reports whether HTTP works over a network.
func dialable(network string) bool {
	return slices.Contains([]string{"tcp", "tcp4", "tcp6"}, network) || caddy.IsUnixNetwork(network) || caddy.IsFdNetwork(network)
}

// checkSchemes refuses endpoints whose credentials would go out in plain text without an explicit
// http://. It returns the addresses that get plain HTTP because they have no scheme.
func (p *Policy) checkSchemes(handler *reverseproxy.Handler) (plain []string, err error) {
	byProxy := handler.Headers != nil && handler.Headers.Request != nil && p.isDirective() && setsCredentials(handler.Headers.Request)
	for _, e := range p.Endpoints {
		if e.URL != "" || !plainAt(handler, e.Upstream) {
			continue
		}
		if (e.ownCredentials() || byProxy) && !target.Local(e.Upstream) {
			host := withoutPort(e.Upstream)
			if p.isDirective() {
				return nil, e.wrap(fmt.Errorf("a scheme is missing, and its credentials would go out in plain text: "+
					"write endpoint https://%s, or http://%[1]s to allow that", host))
			}
			return nil, e.wrap(fmt.Errorf("its credentials would go out in plain text: "+
				"give it the url https://%s, or http://%[1]s to allow that, or give the proxy a transport with TLS", host))
		}
		if p.isDirective() && !isSocket(e.Upstream) {
			plain = append(plain, e.Upstream)
		}
	}
	return plain, nil
}

// plainAt reports whether the proxy uses plain HTTP for an address without a scheme.
func plainAt(handler *reverseproxy.Handler, address string) bool {
	if t, ok := handler.Transport.(*reverseproxy.HTTPTransport); ok && t.TLS != nil {
		parsed, err := caddy.ParseNetworkAddress(address)
		return err == nil && slices.Contains(t.TLS.ExceptPorts, fmt.Sprint(parsed.StartPort))
	}
	t, ok := handler.Transport.(reverseproxy.TLSTransport)
	return handler.Transport == nil || ok && !t.TLSEnabled()
}

// matchUpstreams creates a target for every upstream of the handler, in order, with the
// configuration of the endpoint at that address, if there is one.
func (p *Policy) matchUpstreams(handler *reverseproxy.Handler) error {
	free := slices.Clone(p.Endpoints)
	names := make(map[string]bool)
	hosts := make(map[string]string)
	place := 0
	for _, upstream := range handler.Upstreams {
		if !p.copies[upstream] {
			place++
		}
		e := &Endpoint{Name: upstream.Dial, Upstream: upstream.Dial, URL: p.urls[upstream]}
		if at := slices.IndexFunc(free, func(e *Endpoint) bool { return e.Upstream == upstream.Dial }); at >= 0 {
			e = free[at]
			free = slices.Delete(free, at, at+1)
		}
		if names[e.Name] {
			return e.wrap(errors.New("the name is used twice"))
		}
		names[e.Name] = true
		t := p.newTarget(e, place)
		t.Upstream = upstream
		if t.URL != nil && t.URL.Scheme == "https" {
			// net/http pools TLS connections by the URL's host.
			if other, ok := hosts[t.URL.Host]; ok && other != t.Address {
				return e.wrap(fmt.Errorf("%s is also dialed at %s; one TLS host has one address", t.URL.Host, other))
			}
			hosts[t.URL.Host] = t.Address
		}
		p.handler.Targets = append(p.handler.Targets, t)
	}
	if p.handler.Dynamic == nil && len(free) > 0 {
		return free[0].wrap(fmt.Errorf("no upstream of the proxy has the address %s%s", free[0].Upstream, listUpstreams(free[0].Upstream, handler.Upstreams)))
	}
	slices.SortStableFunc(p.handler.Targets, func(a, b *target.Target) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, t := range p.handler.Targets {
		p.handler.Strips = p.handler.Strips || t.Strip
		p.handler.HasQuotas = p.handler.HasQuotas || t.Quota
	}
	for _, e := range p.Endpoints {
		p.readEdits(e)
		p.handler.Below = p.handler.Below || e.below()
		p.handler.Strips = p.handler.Strips || e.ownCredentials() || p.ClientCredentials == credentialsStrip
	}
	p.handler.StripsAll = p.handler.Strips && p.ClientCredentials != credentialsPass
	if p.handler.Strips {
		p.handler.Screen = target.NewScreen(p.setFields())
	}
	if p.handler.Dynamic != nil {
		for _, e := range append(slices.Clone(p.Endpoints), new(Endpoint)) {
			p.handler.HasQuotas = p.handler.HasQuotas || p.newTarget(e, 1).Quota
		}
		// Select finds static upstreams by address too, when dynamic ones fall back to them.
		p.handler.Targets = nil
	}
	return nil
}

// endpointAt returns the configuration of the dynamic upstream at an address.
func (p *Policy) endpointAt(address string) *Endpoint {
	for _, e := range p.Endpoints {
		if e.Upstream == address {
			return e
		}
	}
	return &Endpoint{Name: address, Upstream: address}
}

// defaultName returns the name of a pool that has none: that of its first endpoint.
func (p *Policy) defaultName() string {
	switch {
	case len(p.handler.Targets) > 0:
		first := p.handler.Targets[0]
		for _, t := range p.handler.Targets {
			if t.Upstream != nil && len(p.Endpoints) > 0 && t.Name == p.Endpoints[0].Name {
				first = t
			}
		}
		return first.Name
	case len(p.Endpoints) > 0:
		return p.Endpoints[0].Name
	}
	return "dynamic"
}

// listUpstreams returns the end of the error that no upstream has an address: the addresses that the
// upstreams have.
func listUpstreams(address string, upstreams reverseproxy.UpstreamPool) string {
	const most = 5
	var others []string
	for _, upstream := range upstreams {
		switch {
		case upstream.Dial == address:
			return ": more endpoints than upstreams have it"
		case len(others) == most:
			return "; it has " + strings.Join(others, ", ") + ", ..."
		case !slices.Contains(others, upstream.Dial):
			others = append(others, upstream.Dial)
		}
	}
	if len(others) == 0 {
		return ""
	}
	return "; it has " + strings.Join(others, ", ")
}
