// Package peers configures and starts the proxies to compare.
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
	About string // description of its configuration for readers
	*Program

	Variant bool // of the peer that is compared with the others

	// Resends is the largest POST body, in bytes, that the proxy sends to another endpoint
	// after one has failed. 0 means never.
	Resends int

	// Most is the largest number of endpoints that it can have over HTTP/1.1, the only protocol
	// that it speaks; 0: it can have any number, and speaks all protocols.
	Most int
	// Asks returns how its requests must look for the addresses of endpoints; nil: in no special way.
	Asks func(endpoints []string) client.Ask

	// Cannot says why the peer cannot do what is compared; "": it can. Then Config is nil.
	Cannot string

	// Config returns the peer's configuration for the addresses of endpoints. The launcher
	// replaces {{dir}} with the peer's own directory, which holds its certificate (see
	// certify).
	Config func(at Listen, endpoints []string) string
}

// Serves reports whether the peer speaks the protocol and can have so many endpoints.
func (p Peer) Serves(protocol client.Protocol, endpoints int) bool {
	return p.Most == 0 || protocol == client.H1 && endpoints <= p.Most
}

// Listen is the port on loopback and the protocol of a peer.
type Listen struct {
	Port     int
	Protocol client.Protocol
}

// Choose returns the named peers that can run here. Names are separated by commas; "" means
// all peers. It calls say for each peer that it skips because it cannot run.
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

// About returns the descriptions of peers by name.
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
