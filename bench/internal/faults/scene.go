package faults

import (
	"errors"

	"github.com/alicebob/miniredis/v2"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/relay"
)

// A set says what a script needs beside endpoints. The zero value is nothing.
type set struct {
	http2  bool // endpoints speak HTTP/2 over TLS, and a relay leads to the primary
	engine bool // a Redis server for fleets, behind a relay
}

// A scene is what is around one proxy: the primary and two backups, and what its script needs.
type scene struct {
	endpoints  [3]*actor.Actor
	line       *relay.Relay // to the primary; nil if the set has none
	engine     *miniredis.Miniredis
	engineLine *relay.Relay // to the engine
}

// primaryName is the name of the first endpoint.
const primaryName = "a"

// newScene returns a scene in which all is well. close ends it.
func newScene(needs set) (*scene, error) {
	s := new(scene)
	if err := s.build(needs); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *scene) build(needs set) (err error) {
	start := actor.New
	if needs.http2 {
		start = actor.NewSecure
	}
	for i, name := range []string{primaryName, "b", "c"} {
		if s.endpoints[i], err = start(name); err != nil {
			return err
		}
	}
	if needs.http2 {
		if s.line, err = relay.New(s.primary().Address); err != nil {
			return err
		}
	}
	if needs.engine {
		if s.engine, err = miniredis.Run(); err != nil {
			return err
		}
		s.engineLine, err = relay.New(s.engine.Addr())
	}
	return err
}

func (s *scene) primary() *actor.Actor { return s.endpoints[0] }

// addresses are those of the endpoints for the proxy.
func (s *scene) addresses() (list []string) {
	for _, a := range s.endpoints {
		list = append(list, a.Address)
	}
	if s.line != nil {
		list[0] = s.line.Address
	}
	return list
}

// engineAddress is that of the engine for the proxy, or "".
func (s *scene) engineAddress() string {
	if s.engineLine == nil {
		return ""
	}
	return s.engineLine.Address
}

// crash crashes the first n endpoints.
func (s *scene) crash(n int) {
	for _, a := range s.endpoints[:n] {
		a.Crash()
	}
}

// heal makes everything well.
func (s *scene) heal() error {
	var errs []error
	for _, a := range s.endpoints {
		errs = append(errs, a.Heal())
	}
	if s.engineLine != nil {
		s.engineLine.Heal()
	}
	return errors.Join(errs...)
}

// close ends everything.
func (s *scene) close() {
	for _, a := range s.endpoints {
		if a != nil {
			a.Crash()
		}
	}
	for _, r := range []*relay.Relay{s.line, s.engineLine} {
		if r != nil {
			r.Close()
		}
	}
	if s.engine != nil {
		s.engine.Close()
	}
}

// counts holds the attempts at the primary, those of them that it refused, and those at all endpoints.
type counts struct{ primary, refused, all int64 }

func (s *scene) attempts() counts {
	n := counts{primary: s.primary().Attempts.Load(), refused: s.primary().Refused.Load()}
	for _, a := range s.endpoints {
		n.all += a.Attempts.Load()
	}
	return n
}

func (s *scene) checks() (n int64) {
	for _, a := range s.endpoints {
		n += a.Checks.Load()
	}
	return n
}
