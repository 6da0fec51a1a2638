package lab

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestIncidentCountsFromItsFirstFailure checks that an incident starts with the first failure that a client
// saw, and counts all of them, however slowly they came and whatever opened the breaker.
func TestIncidentCountsFromItsFirstFailure(t *testing.T) {
	cut := func(*http.Request) (*http.Response, error) { return nil, errCut }
	var n int
	var mu sync.Mutex
	most := func(r *http.Request) (*http.Response, error) { // four of five fail
		mu.Lock()
		defer mu.Unlock()
		if n++; n%5 == 0 {
			return answers200(r)
		}
		return respond(r, http.StatusServiceUnavailable, ""), nil
	}
	for name, test := range map[string]struct {
		options string
		every   time.Duration
		fault   roundTrip
		late    time.Duration // how long after the fault the start may be, if that is not exact
	}{
		"each second":        {"", time.Second, answersWith(503), 0},
		"each minute":        {"", time.Minute, answersWith(503), 0},
		"slow timeouts":      {"timeout 3s", 5 * time.Second, hangs, 4 * time.Second},
		"busy":               {"", 10 * time.Millisecond, cut, 0},
		"most calls":         {"breaker {\nconsecutive_failures 50\n}", 200 * time.Millisecond, most, 2 * time.Second},
		"seen by checks":     {"health {\nuri /check\ninterval 10s\n}", 30 * time.Second, cut, 0},
		"for one kind":       {"scope {path}", 2 * time.Second, answersWith(503), 0},
		"refused logins":     {"endpoint http://three {\nkey abc\n}\napi openai", 2 * time.Second, answersWith(401), 0},
		"while one is saved": {"retry {\nmethods any\n}", time.Second, answersWith(503), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				endpoint := "endpoint http://one\n"
				if strings.HasPrefix(test.options, "endpoint") {
					endpoint = ""
				}
				l := openLab(t, "failover {\nname lab\n"+endpoint+test.options+"\n}")
				defer func() { l.close() }()
				var failed []time.Time
				var all sync.WaitGroup
				call := func() {
					all.Go(func() {
						if w := l.call(http.MethodPost, "/v1/chat", `{"model":"a"}`); w.Code != http.StatusOK {
							mu.Lock()
							failed = append(failed, time.Now())
							mu.Unlock()
						}
					})
					time.Sleep(test.every)
				}
				for range 40 {
					call()
				}
				began := time.Now()
				l.on("one:80", test.fault)
				l.on("three:80", test.fault)
				for range 60 {
					call()
				}
				all.Wait()
				time.Sleep(time.Second)
				saw := slices.MinFunc(failed, time.Time.Compare)
				var incidents []struct {
					ID    uint64
					Start time.Time
					Fail  int `json:"calls_failed"`
				}
				admin(t, http.MethodGet, "incidents?pool=lab", "", &incidents)
				found := 0
				for _, i := range incidents {
					if opened := l.happened("breaker_opened"); len(opened) == 0 || opened[0].Incident != i.ID {
						continue
					}
					found++
					since := 0 // failures that clients saw since the start
					for _, at := range failed {
						if !at.Before(i.Start) {
							since++
						}
					}
					if i.Fail < since || i.Fail > len(failed) || test.late == 0 && i.Fail != since || i.Start.Before(began.Add(-min(test.late, time.Second))) || i.Start.Sub(began) > test.late || test.late == 0 && i.Start.After(saw) {
						t.Errorf("it starts %v after the fault, the first client saw it after %v; %d failed, clients saw %d", i.Start.Sub(began), saw.Sub(began), i.Fail, since)
					}
				}
				if found != 1 {
					t.Errorf("%d incidents", found)
				}
			})
		})
	}
}

// TestAnOutageThatEndsWhileCaddyIsDown restarts Caddy during an outage. The outage must be over, once, when each endpoint that
// was out has served a call or passed a check again, and not before.
func TestAnOutageThatEndsWhileCaddyIsDown(t *testing.T) {
	for name, checks := range map[string]string{"without checks": "", "with checks": "health {\ninterval 1s\n}\n"} {
		synctest.Test(t, func(t *testing.T) {
			config := handlerJSON(t, "failover {\nname lab\n"+checks+"endpoint http://one:80\nendpoint http://two:80\n}")
			l := openLabJSON(t, config)
			defer func() { l.close() }()
			l.on("one:80", answersWith(http.StatusServiceUnavailable))
			l.load(20, 3*time.Second)
			time.Sleep(20 * time.Second) // until it is saved
			restart := func(then roundTrip) {
				l.close()
				l.on("one:80", then)
				l.provision(config)
				time.Sleep(time.Second)
			}
			over := func() (n int) {
				for _, e := range l.events() {
					if e.Kind == "incident_over" {
						n++
					}
				}
				return n
			}
			restart(refusesConnections) // so that the call goes to two
			l.call(http.MethodGet, "/", "")
			time.Sleep(time.Second)
			if n := over(); n > 0 {
				t.Errorf("%s: while one endpoint is out, the outage is over", name)
			}
			restart(answers200)
			if checks == "" {
				l.call(http.MethodGet, "/", "")
			}
			time.Sleep(10 * time.Second)
			if n := over(); n != 1 {
				t.Errorf("%s: %d outages are over", name, n)
			}
		})
	}
}
