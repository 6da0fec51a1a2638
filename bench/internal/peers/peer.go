// Package peers configures and starts the proxies that are compared.
package peers

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/client"
)

// A Peer is a proxy to compare.
type Peer struct {
	Name  string
	About string // how it is configured, for readers
	*Program

	// Resends is how large a POST's body may be, in bytes, so that the proxy
	// sends it to another endpoint after one has failed; 0: it never does.
	Resends int

	// Config returns the peer's configuration in front of endpoints, which are
	// addresses. The launcher replaces {{dir}} in it by a directory of the
	// peer's own, where its certificate is (see certify).
	Config func(at Listen, endpoints []string) string
}

// Listen is where a peer listens on loopback, and for which protocol.
type Listen struct {
	Port     int
	Protocol client.Protocol
}

// Choose returns those of the peers that are named and can run here. Names are
// separated by commas; none means all peers. It says of each that it leaves out
// because it cannot run.
func Choose(all []Peer, names string, say func(format string, args ...any)) ([]Peer, error) {
	var chosen []Peer
	for _, p := range all {
		if names != "" && !slices.Contains(strings.Split(names, ","), p.Name) {
			continue
		}
		if err := p.Missing(); err != nil {
			say("notice: %s is skipped: %v", p.Name, err)
			continue
		}
		chosen = append(chosen, p)
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no proxy of %q is known or installed", names)
	}
	return chosen, nil
}

// About returns what readers should know of each peer, by its name.
func About(list []Peer) map[string]string {
	about := make(map[string]string)
	for _, p := range list {
		about[p.Name] = p.About
	}
	return about
}

// lines returns one line for each endpoint.
func lines(endpoints []string, line func(i int, address string) string) string {
	var b strings.Builder
	for i, address := range endpoints {
		b.WriteString(line(i, address))
		b.WriteByte('\n')
	}
	return b.String()
}
