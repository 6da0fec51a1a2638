package faults

import (
	"errors"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
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
}

// crashing returns a script that crashes the first n endpoints.
func crashing(n int, name, about string) script {
	return script{name, about, func(e endpoints) { e.crash(n) }, endpoints.heal}
}

// playing returns a script in which the primary has the given behaviour. b creates one for
// each proxy.
func playing(name, about string, b func() actor.Behaviour) script {
	return script{name, about, func(e endpoints) { e[0].Play(b()) }, endpoints.heal}
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
	{"cold return", "the primary crashes, and returns with a capacity of 10 requests a second that grows by 40 a second each second",
		func(e endpoints) { e.crash(1) }, func(e endpoints) error {
			err := e.heal()
			e[0].Play(actor.Cold(10, 40, 400))
			return err
		}},
	playing("429", "the primary responds with 429 and Retry-After: 2; checks pass", always(actor.OnlyCalls(actor.AskToWait(2)))),
	playing("cut bodies", "the primary's responses break off half way; checks pass", always(actor.OnlyCalls(actor.CutBodies))),
	crashing(2, "two of three down", "the primary and the second crash"),
	crashing(3, "all down", "all three crash"),
}
