package target

import (
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Local reports whether a dial address names this machine: a loopback or unspecified IP,
// localhost, no host, or a socket. It does not resolve names.
func Local(address string) bool {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return false
	}
	if parsed.IsUnixNetwork() || parsed.IsFdNetwork() || parsed.Host == "" {
		return true
	}
	host := strings.TrimSuffix(strings.ToLower(parsed.Host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsUnspecified()
}
