package faults

import (
	"net/http"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/load"
	"github.com/apifailover/caddy-failover/bench/internal/peers"
)

// A script is a fault: it changes what is around a proxy while clients send requests.
type script struct {
	name  string
	about string
	begin func(*scene)
	heal  func(*scene) error

	clients load.Clients
	set     set
	also    []peers.Peer // variants of the plugin to compare, beside the usual peers
}

// peers returns the peers of the script in the order of its table.
func (s script) peers() []peers.Peer {
	if s.set.http2 {
		return peers.ForHTTP2()
	}
	return slices.Insert(peers.ForFaults(), 1, s.also...)
}

// crashing returns a script that crashes the first n endpoints.
func crashing(n int, name, about string) script {
	return script{name: name, about: about, begin: func(s *scene) { s.crash(n) }, heal: (*scene).heal}
}

// playing returns a script in which the primary has the given behaviour. b creates one for
// each proxy.
func playing(name, about string, b func() actor.Behaviour) script {
	return script{name: name, about: about, begin: func(s *scene) { s.primary().Play(b()) }, heal: (*scene).heal}
}

// by returns the script with other clients.
func (s script) by(c load.Clients) script {
	s.clients = c
	return s
}

// beside returns the script with variants of the plugin.
func (s script) beside(also ...peers.Peer) script {
	s.also = also
	return s
}

func always(b actor.Behaviour) func() actor.Behaviour { return func() actor.Behaviour { return b } }

var scripts = []script{
	crashing(1, "crash", "the primary refuses new connections and cuts existing ones"),
	playing("hang", "the primary accepts requests and checks and never responds", always(actor.Hang)),
	playing("503", "the primary responds with 503, also to checks", always(actor.Unavailable)),
	playing("30 % 500", "the primary responds with 500 to 30 % of the requests; checks pass", always(actor.OnlyCalls(actor.Sometimes(0.3)))),
	playing("POST 503", "the primary responds with 503 to every POST; GETs and checks pass", always(actor.FailPOST)).
		beside(peers.Scoped("scope {method}")),
	playing("slow", "the primary takes 700 ms instead of 2 ms, also for checks", always(actor.Slow)),
	playing("flapping", "the primary alternates: it cuts every connection for 1.5 s and is healthy for 1.5 s", func() actor.Behaviour { return actor.Flap(1500 * time.Millisecond) }),
	{name: "cold return", about: "the primary crashes, and returns with a capacity of 10 requests a second that grows by 40 a second each second",
		begin: func(s *scene) { s.crash(1) }, heal: func(s *scene) error {
			err := s.heal()
			s.primary().Play(actor.Cold(10, 40, 400))
			return err
		}},
	playing("429", "the primary responds with 429 and Retry-After: 2; checks pass", always(actor.OnlyCalls(actor.AskToWait(2)))),
	playing("cut bodies", "the primary's responses break off half way; checks pass", always(actor.OnlyCalls(actor.CutBodies))),
	playing("clients give up", "the primary takes 900 ms instead of 2 ms, also for checks; clients give up after 500 ms", always(actor.After(900*time.Millisecond, actor.Well))).
		by(load.Clients{Patience: 500 * time.Millisecond}),
	playing("lost connections", "the primary never responds on connections that are open; new ones work", actor.LoseConnections),
	{name: "dead HTTP/2 connections", about: "the endpoints speak HTTP/2 over TLS, and nothing passes on connections to the primary that are open; new ones work", set: set{http2: true},
		begin: func(s *scene) { s.line.Lose() }, heal: (*scene).heal},
	playing("error in a 200", "the primary responds with 200 and a JSON error; checks pass", always(actor.OnlyCalls(actor.Says(http.StatusOK, "internal_error")))),
	playing("stalled bodies", "the primary's responses stop half way, and the connection stays open; checks pass", always(actor.OnlyCalls(actor.StallBodies))),
	playing("no such model", "the primary responds with 404 and the JSON error model_not_found; checks pass", always(actor.OnlyCalls(actor.Says(http.StatusNotFound, "model_not_found")))),
	playing("a model is out", "the primary responds with 503 and a JSON error to requests for one of two models, in turn; the other model and checks are well", always(actor.FailModel(load.ModelOut))).
		by(load.Clients{Models: true}).beside(peers.Scoped("scope json model")),
	playing("quota used up", "the primary responds with 429 and the JSON error insufficient_quota, without Retry-After; checks pass", always(actor.OnlyCalls(actor.Says(http.StatusTooManyRequests, "insufficient_quota")))),
	playing("query of death", "every twentieth request gets 500 from every endpoint, all the time; those do not count as failed", always(actor.Well)).by(load.Clients{Deadly: 20}),
	{name: "engine hangs", about: "the engine of the fleet accepts connections and never answers, and meanwhile the primary responds with 503, also to checks", set: set{engine: true},
		begin: func(s *scene) {
			s.engineLine.Deafen()
			s.primary().Play(actor.Unavailable)
		}, heal: (*scene).heal, also: []peers.Peer{peers.InFleet()}},
	crashing(2, "two of three down", "the primary and the second crash"),
	crashing(3, "all down", "all three crash"),
}
