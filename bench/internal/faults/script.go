package faults

import (
	"errors"
	"net/http"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/load"
)

// endpoints are the endpoints of one proxy: the primary and two backups.
type endpoints [3]*actor.Actor

// primaryName is the name of the first endpoint.
const primaryName = "a"

func newEndpoints() (e endpoints, err error) {
	for i, name := range []string{primaryName, "b", "c"} {
		if e[i], err = actor.New(name); err != nil {
			e.crash(i)
			return e, err
		}
	}
	return e, nil
}

// crash crashes the first n endpoints.
func (e endpoints) crash(n int) {
	for _, a := range e[:n] {
		a.Crash()
	}
}

// heal makes all endpoints healthy.
func (e endpoints) heal() error {
	var errs []error
	for _, a := range e {
		errs = append(errs, a.Heal())
	}
	return errors.Join(errs...)
}

// A script is a fault: it changes the endpoints while clients send requests.
type script struct {
	name  string
	about string
	begin func(e endpoints)
	heal  func(e endpoints) error

	clients load.Clients
}

// crashing returns a script that crashes the first n endpoints.
func crashing(n int, name, about string) script {
	return script{name: name, about: about, begin: func(e endpoints) { e.crash(n) }, heal: endpoints.heal}
}

// playing returns a script in which the primary has the given behaviour. b creates one for
// each proxy.
func playing(name, about string, b func() actor.Behaviour) script {
	return script{name: name, about: about, begin: func(e endpoints) { e[0].Play(b()) }, heal: endpoints.heal}
}

// by returns the script with other clients.
func (s script) by(c load.Clients) script {
	s.clients = c
	return s
}

func always(b actor.Behaviour) func() actor.Behaviour { return func() actor.Behaviour { return b } }

var scripts = []script{
	crashing(1, "crash", "the primary refuses new connections and cuts existing ones"),
	playing("hang", "the primary accepts requests and checks and never responds", always(actor.Hang)),
	playing("503", "the primary responds with 503, also to checks", always(actor.Unavailable)),
	playing("30 % 500", "the primary responds with 500 to 30 % of the requests; checks pass", always(actor.OnlyCalls(actor.Sometimes(0.3)))),
	playing("POST 503", "the primary responds with 503 to every POST; GETs and checks pass", always(actor.FailPOST)),
	playing("slow", "the primary takes 700 ms instead of 2 ms, also for checks", always(actor.Slow)),
	playing("flapping", "the primary alternates: it cuts every connection for 1.5 s and is healthy for 1.5 s", func() actor.Behaviour { return actor.Flap(1500 * time.Millisecond) }),
	{name: "cold return", about: "the primary crashes, and returns with a capacity of 10 requests a second that grows by 40 a second each second",
		begin: func(e endpoints) { e.crash(1) }, heal: func(e endpoints) error {
			err := e.heal()
			e[0].Play(actor.Cold(10, 40, 400))
			return err
		}},
	playing("429", "the primary responds with 429 and Retry-After: 2; checks pass", always(actor.OnlyCalls(actor.AskToWait(2)))),
	playing("cut bodies", "the primary's responses break off half way; checks pass", always(actor.OnlyCalls(actor.CutBodies))),
	playing("clients give up", "the primary takes 900 ms instead of 2 ms, also for checks; clients give up after 500 ms", always(actor.After(900*time.Millisecond, actor.Well))).
		by(load.Clients{Patience: 500 * time.Millisecond}),
	playing("lost connections", "the primary never responds on connections that are open; new ones work", actor.LoseConnections),
	playing("error in a 200", "the primary responds with 200 and a JSON error; checks pass", always(actor.OnlyCalls(actor.Says(http.StatusOK, "internal_error")))),
	playing("stalled bodies", "the primary's responses stop half way, and the connection stays open; checks pass", always(actor.OnlyCalls(actor.StallBodies))),
	playing("no such model", "the primary responds with 404 and the JSON error model_not_found; checks pass", always(actor.OnlyCalls(actor.Says(http.StatusNotFound, "model_not_found")))),
	playing("quota used up", "the primary responds with 429 and the JSON error insufficient_quota, without Retry-After; checks pass", always(actor.OnlyCalls(actor.Says(http.StatusTooManyRequests, "insufficient_quota")))),
	playing("query of death", "every twentieth request gets 500 from every endpoint, all the time; those do not count as failed", always(actor.Well)).by(load.Clients{Deadly: 20}),
	crashing(2, "two of three down", "the primary and the second crash"),
	crashing(3, "all down", "all three crash"),
}
