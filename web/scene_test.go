//go:build system

package web_test

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/web"
)

type object = map[string]any

// A scene is a source of data for a page, without a proxy. Its states rarely occur together.
type scene struct {
	mu      sync.Mutex
	pools   []object
	history object // pool → endpoint → columns
	events  []web.Event
	added   chan struct{}  // closed when there is a new event
	moving  bool           // every number changes with each snapshot
	working map[string]int // attempts between two snapshots, by endpoint

	incidents []object
	details   map[string]object // by pool, or pool and endpoint with a slash
	handlers  web.Handlers
}

func newScene() *scene { return &scene{added: make(chan struct{})} }

// happen adds an event with more fields.
func (s *scene) happen(at time.Time, kind, pool string, more object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := uint64(len(s.events) + 1)
	e := object{"id": id, "at": at, "kind": kind, "pool": pool, "count": 1}
	for name, value := range more {
		e[name] = value
	}
	s.events = append(s.events, web.Event{ID: id, Data: e})
	close(s.added)
	s.added = make(chan struct{})
}

// change calls f, which changes the scene.
func (s *scene) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *scene) source() web.Source {
	return web.Source{
		Pools: func(time.Time) any {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.moving {
				s.move()
			}
			for _, pool := range s.pools {
				for _, e := range pool["endpoints"].([]object) {
					e["attempts"] = e["attempts"].(int) + s.working[e["name"].(string)]
				}
			}
			return clone(s.pools)
		},
		History: func(now, from time.Time) any {
			s.mu.Lock()
			defer s.mu.Unlock()
			return object{"from": now.Add(-59*time.Minute).Unix() / 60, "pools": s.history}
		},
		Incidents: func() any {
			s.mu.Lock()
			defer s.mu.Unlock()
			return clone(append([]object{}, s.incidents...))
		},
		Detail: func(_ time.Time, pool, endpoint string) any {
			s.mu.Lock()
			defer s.mu.Unlock()
			d, ok := s.details[strings.TrimSuffix(pool+"/"+endpoint, "/")]
			if !ok {
				return nil
			}
			return clone(d)
		},
		Past: func(after uint64) []web.Event {
			s.mu.Lock()
			defer s.mu.Unlock()
			return append([]web.Event(nil), s.events[min(after, uint64(len(s.events))):]...)
		},
		Watch: func(ctx context.Context, after uint64, each func(web.Event)) {
			for {
				s.mu.Lock()
				news, added := s.events[min(after, uint64(len(s.events))):], s.added
				s.mu.Unlock()
				for _, e := range news {
					each(e)
					after = e.ID
				}
				select {
				case <-ctx.Done():
					return
				case <-added:
				}
			}
		},
	}
}

// clone copies a JSON value.
func clone(v any) any {
	switch v := v.(type) {
	case []object:
		list := make([]any, len(v))
		for i := range v {
			list[i] = clone(v[i])
		}
		return list
	case object:
		o := make(object, len(v))
		for name, value := range v {
			o[name] = clone(value)
		}
		return o
	}
	return v
}

// move changes every number.
func (s *scene) move() {
	for _, pool := range s.pools {
		pool["calls_per_second"] = 100 + 20*rand.Float64()
		endpoints := pool["endpoints"].([]object)
		parts, sum := make([]float64, len(endpoints)), 0.0
		for i := range parts {
			parts[i] = 1 + rand.Float64()
			sum += parts[i]
		}
		for i, e := range endpoints {
			e["traffic"] = parts[i] / sum
			e["attempts"] = e["attempts"].(int) + 5 + rand.IntN(20)
			e["in_flight"] = rand.IntN(9)
			e["score"] = 0.8 + 0.2*rand.Float64()
			e["last_outcomes"] = outcomes(20, 0.1)
		}
	}
}

// outcomes returns n outcomes. Each is a failure with a probability.
func outcomes(n int, failing float64) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = "success"
		if rand.Float64() < failing {
			list[i] = "status"
		}
	}
	return list
}

// endpoint returns the status of a healthy endpoint.
func endpoint(name, url string, priority int, weight, traffic float64) object {
	return object{
		"name": name, "url": url, "address": "192.0.2.7:443", "priority": priority, "weight": weight,
		"state": "closed", "draining": false, "share": 1.0, "score": 1.0, "traffic": traffic,
		"in_flight": 3, "attempts": 5200, "successes": 5190, "failures": 10, "cancelled": 2,
		"last_outcomes": outcomes(20, 0),
	}
}

// hour returns an invented history of an hour: calls per minute, median latency in seconds, and the
// minutes in [from, to) in which a part of the calls failed.
func hour(seed uint64, calls, median float64, from, to int, failing float64) object {
	random := rand.New(rand.NewPCG(seed, 1))
	n, failures := make([]int, 60), make([]int, 60)
	p50, p95 := make([]float64, 60), make([]float64, 60)
	for i := range n {
		wave := 1 + 0.15*math.Sin(float64(i)/9+float64(seed))
		n[i] = int(calls * wave * (0.9 + 0.2*random.Float64()))
		p50[i] = median * wave * (0.95 + 0.1*random.Float64())
		p95[i] = p50[i] * (2 + 0.6*random.Float64())
		if random.Float64() < 0.05 {
			failures[i] = 1
		}
		if i >= from && i < to {
			failures[i] = int(float64(n[i]) * failing * (0.6 + 0.4*random.Float64()))
			p50[i] *= 1.8
			p95[i] *= 2.5
		}
	}
	return object{"calls": n, "failures": failures, "p50": p50, "p95": p95}
}

// standing returns an objective and its result over 30 days.
func standing(objective, achieved, burn float64, burning bool) object {
	indicator := func(objective, achieved float64) object {
		return object{
			"objective": objective, "achieved": achieved, "met": achieved >= objective, "events": 1000000, "bad": 1,
			"budget_total": 1 - objective, "budget_left": 1 - (1-achieved)/(1-objective), "burning": burning,
			"burn": []object{{"long_seconds": 3600, "short_seconds": 300, "limit": 14.4, "long_rate": burn, "short_rate": burn}},
		}
	}
	latency := indicator(0.95, 0.981)
	latency["burning"], latency["burn"] = false, []object{{"long_rate": 0.4}}
	return object{
		"window_seconds": 30 * 24 * 3600, "calls": 1000000, "failed": 1, "down_seconds": 0,
		"availability": indicator(objective, achieved), "latency": latency, "quantile_seconds": 1.2, "target_seconds": 2,
	}
}

// addDetails adds the details that the views of all pools and endpoints show.
func (s *scene) addDetails(now time.Time) {
	s.details = map[string]object{}
	spans := func(seed uint64) object {
		all := object{}
		for name, step := range map[string]int64{"1h": 60, "24h": 900, "30d": 6 * 3600} {
			span := hour(seed, 900*float64(step)/60, 0.4, 20, 24, 0.3)
			span["from"], span["step"] = now.Unix()/step*step-60*step, step
			all[name] = span
		}
		return all
	}
	for i, pool := range s.pools {
		var at []int64
		var left, latency []float64
		for j := range 60 {
			at = append(at, now.Add(time.Duration(j-59)*12*time.Hour).Unix())
			fall := 0.002 * float64(j)
			if j > 30 {
				fall += 0.35
			}
			left, latency = append(left, 1-fall*float64(i+1)), append(latency, 1-0.004*float64(j))
		}
		name := pool["name"].(string)
		s.details[name] = object{"pool": name, "budget": object{"at": at, "availability": left, "latency": latency}}
		for k, e := range pool["endpoints"].([]object) {
			d := object{"pool": name, "endpoint": e["name"], "spans": spans(uint64(k)), "failures": []object{}}
			if k == 0 {
				d["failures"] = []object{
					{"outcome": "status", "what": "503", "method": "POST", "path": "/v1/chat/completions", "at": now.Add(-8 * time.Second)},
					{"outcome": "timeout", "what": "timeout after 2s", "method": "POST", "path": "/v1/embeddings", "at": now.Add(-31 * time.Second)},
					{"outcome": "dial", "what": "connection refused", "at": now.Add(-3 * time.Hour)},
				}
			}
			s.details[name+"/"+e["name"].(string)] = d
		}
	}
}

// showcase returns a scene with every state.
func showcase(now time.Time) *scene {
	s := newScene()
	openai := endpoint("openai", "https://api.openai.example/v1", 1, 3, 0)
	openai["state"], openai["reason"] = "open", "consecutive_failures"
	openai["since"], openai["until"] = now.Add(-9*time.Second), now.Add(12*time.Second)
	openai["share"], openai["score"], openai["in_flight"] = 0.0, 0.35, 0
	openai["last_outcomes"] = append(outcomes(11, 0), "status", "success", "success", "timeout", "status", "status", "status", "status", "status")
	azure := endpoint("azure-east", "https://east.openai.azure.example/openai/deployments/main", 1, 1, 0.2)
	azure["state"], azure["reason"], azure["since"] = "recovering", "open_period_over", now.Add(-2*time.Second)
	azure["share"], azure["score"] = 0.2, 0.8
	azure["last_outcomes"] = append(outcomes(8, 0), "reset", "reset", "success", "success", "success", "success")
	anthropic := endpoint("anthropic", "https://api.anthropic.example", 2, 1, 0.74)
	anthropic["in_flight"] = 41
	groq := endpoint("groq", "https://api.groq.example/openai/v1", 2, 1, 0.06)
	groq["held_until"] = now.Add(27 * time.Second)
	groq["traffic"] = 0.0
	anthropic["traffic"] = 0.8
	local := endpoint("vllm-local", "http://10.0.4.12:8000/v1", 3, 1, 0)
	local["draining"], local["in_flight"] = true, 2
	local["operator"] = object{"action": "drain", "reason": "new GPU driver", "since": now.Add(-5 * time.Minute), "until": now.Add(25 * time.Minute)}
	spare := endpoint("spare", "https://spare.example/v1", 3, 1, 0)
	spare["last_outcomes"] = []string{}
	anthropic["check"] = object{"state": "up", "last_result": "passed", "sent": 40, "skipped": 80}
	openai["check"] = object{"state": "down", "last_result": "status 503", "sent": 12, "skipped": 3}
	geo1 := endpoint("here", "https://geocode.here.example/v1", 1, 2, 0.667)
	geo2 := endpoint("mapbox", "https://api.mapbox.example/search", 1, 1, 0.333)
	geo3 := endpoint("nominatim", "http://10.0.4.30:8080", 2, 1, 0)
	geo3["operator"] = object{"action": "trip", "reason": "bad data since the import", "since": now.Add(-50 * time.Minute)}
	geo3["state"], geo3["share"], geo3["reason"] = "forced_open", 0.0, "operator"
	s.pools = []object{
		{"name": "geocoding", "at": now, "down": false, "calls_per_second": 86.4, "retries_denied": 0, "sla": standing(0.9995, 0.99982, 0.3, false), "endpoints": []object{geo1, geo2, geo3}},
		{"name": "llm", "at": now, "down": false, "calls_per_second": 23.7, "retries_denied": 14, "sla": standing(0.999, 0.99931, 15.2, true), "endpoints": []object{openai, azure, anthropic, groq, local, spare}},
	}
	s.history = object{
		"geocoding": object{"here": hour(1, 3400, 0.034, 0, 0, 0), "mapbox": hour(2, 1700, 0.051, 22, 25, 0.04), "nominatim": hour(3, 40, 0.009, 6, 10, 0.3)},
		"llm": object{
			"openai": hour(4, 900, 0.42, 55, 59, 0.6), "azure-east": hour(5, 300, 0.51, 44, 50, 0.9), "anthropic": hour(6, 200, 0.38, 0, 0, 0),
			"groq": hour(7, 160, 0.08, 31, 33, 0.2), "vllm-local": hour(8, 30, 1.3, 0, 0, 0),
		},
	}
	s.pools = append(s.pools, object{"name": "weather", "at": now, "down": false, "calls_per_second": 3.2, "retries_denied": 0,
		"sla": standing(0.99, 0.9991, 0.1, false), "endpoints": []object{endpoint("met", "https://api.met.example/v2", 1, 1, 1)}})
	openai["down_since"] = now.Add(-9 * time.Second)
	openai["cause"] = object{"outcome": "status", "what": "503", "method": "POST", "path": "/v1/chat/completions", "count": 5, "at": now.Add(-8 * time.Second)}
	anthropic["limits"] = []object{{"amount": 4000, "of": "requests", "per_seconds": 60, "left": 1210}, {"amount": 400000, "of": "tokens", "per_seconds": 60, "left": 81234}}
	anthropic["quotas"] = []object{{"of": "input tokens", "amount": 80000, "left": 0, "back_at": now.Add(40 * time.Second)}}
	anthropic["scopes"] = []object{
		{"scope": "claude-haiku", "state": "open", "reason": "failure_ratio", "since": now.Add(-time.Minute), "until": now.Add(20 * time.Second), "down_since": now.Add(-time.Minute),
			"cause": object{"what": "529", "method": "POST", "path": "/v1/messages", "at": now}, "share": 0.0, "score": 0.2, "attempts": 77},
		{"scope": "claude-opus", "state": "closed", "share": 1.0, "score": 1.0, "attempts": 1200, "latency": object{"p50": 0.4, "p95": 1.2, "p99": 2.5}},
	}
	openai["fleet"] = object{"open": 2, "instances": 5, "wary": true}
	openai["latency"] = object{"p50": 0.41, "p95": 1.3, "p99": 2.2}
	s.incidents = []object{
		{"id": 1, "pool": "llm", "kind": "down", "start": now.Add(-3 * time.Hour), "end": now.Add(-170 * time.Minute), "cause": "connection refused from POST /v1/chat", "down_seconds": 40,
			"endpoints": []object{{"name": "openai", "times": 3}, {"name": "azure-east", "times": 1}}, "calls_failed": 812, "calls_saved": 40},
		{"id": 2, "pool": "llm", "kind": "degraded", "start": now.Add(-9 * time.Second), "cause": "503 from POST /v1/chat/completions", "down_seconds": 0,
			"endpoints": []object{{"name": "openai", "times": 1}}, "calls_failed": 0, "calls_saved": 31},
	}
	s.addDetails(now)
	s.happen(now.Add(-58*time.Minute), "operator", "geocoding", object{"endpoint": "nominatim", "reason": "trip", "details": object{"note": "bad data since the import"}})
	s.happen(now.Add(-31*time.Minute), "endpoint_held", "llm", object{"endpoint": "groq", "reason": "rate_limited"})
	s.happen(now.Add(-16*time.Minute), "breaker_opened", "llm", object{"endpoint": "azure-east", "reason": "failure_ratio", "details": object{"until": now.Add(-15 * time.Minute)}})
	s.happen(now.Add(-5*time.Minute), "operator", "llm", object{"endpoint": "vllm-local", "reason": "drain", "details": object{"note": "new GPU driver"}})
	s.happen(now.Add(-3*time.Minute), "anomaly", "llm", object{"endpoint": "openai", "reason": "failure_ratio", "details": object{"expected": 0.01, "seen": 0.2}})
	s.happen(now.Add(-70*time.Second), "sla_burning", "llm", object{"reason": "availability"})
	for i := range 4 {
		s.happen(now.Add(time.Duration(i-14)*time.Second), "failover", "llm", object{"endpoint": "openai", "to": "anthropic", "reason": "status", "count": 3 * (i + 1), "details": object{"attempt": 1, "duration_seconds": 0.213}})
	}
	s.happen(now.Add(-9*time.Second), "breaker_opened", "llm", object{"endpoint": "openai", "reason": "consecutive_failures", "incident": 2, "details": object{"until": now.Add(12 * time.Second)}})
	s.happen(now.Add(-8*time.Second), "endpoint_held", "llm", object{"endpoint": "groq", "reason": "rate_limited", "details": object{"until": now.Add(27 * time.Second)}})
	s.happen(now.Add(-61*time.Second), "breaker_opened", "llm", object{"endpoint": "anthropic", "scope": "claude-haiku", "reason": "failure_ratio", "details": object{"cause": "529", "method": "POST", "path": "/v1/messages"}})
	s.happen(now.Add(-2*time.Second), "breaker_recovering", "llm", object{"endpoint": "azure-east", "reason": "open_period_over"})
	return s
}

// crowd returns a scene with a pool of n endpoints whose numbers change with each snapshot.
func crowd(n int) *scene {
	s := newScene()
	s.moving = true
	var endpoints []object
	hours := object{}
	for i := range n {
		name := "endpoint-" + string(rune('a'+i/10)) + string(rune('0'+i%10))
		endpoints = append(endpoints, endpoint(name, "https://"+name+".example/v1", 1+i/20, 1, 1/float64(n)))
		hours[name] = hour(uint64(i), 600, 0.05, 10, 12, 0.1)
		if i%3 == 0 {
			e := endpoints[i]
			now := time.Now()
			e["state"], e["share"], e["reason"], e["since"], e["until"] = "open", 0.0, "consecutive_failures", now, now.Add(5*time.Minute)
			e["down_since"], e["cause"] = now, object{"what": "503", "method": "POST", "path": "/v1/chat/completions", "count": 5, "at": now}
		}
	}
	s.pools = []object{{"name": "crowd", "at": time.Now(), "down": false, "calls_per_second": 100, "retries_denied": 3, "endpoints": endpoints}}
	s.history = object{"crowd": hours}
	return s
}

// picture returns a scene with a pool whose first endpoint has just started to recover.
func picture(now time.Time) *scene {
	s := newScene()
	one := endpoint("openai", "https://api.openai.example/v1", 1, 1, 0.2)
	one["state"], one["reason"], one["since"] = "recovering", "open_period_over", now.Add(-3*time.Second)
	one["share"], one["in_flight"], one["priority"] = 0.2, 5, 1
	one["last_outcomes"] = append(outcomes(9, 0), "status", "success", "status", "status", "status", "status", "status", "success", "success", "success", "success")
	two := endpoint("azure", "https://east.azure.example/openai", 2, 3, 0.6)
	three := endpoint("anthropic", "https://api.anthropic.example", 2, 1, 0.2)
	two["in_flight"], three["in_flight"] = 17, 6
	two["check"], three["check"], one["check"] = object{"state": "up"}, object{"state": "up"}, object{"state": "up"}
	s.pools = []object{{
		"name": "llm", "at": now, "down": false, "calls_per_second": 48.2, "retries_denied": 0,
		"sla": standing(0.999, 0.99962, 0.8, false), "endpoints": []object{one, two, three},
	}}
	s.working = map[string]int{"openai": 10, "azure": 29, "anthropic": 9}
	s.addDetails(now)
	s.incidents = []object{{"id": 1, "pool": "llm", "kind": "degraded", "start": now.Add(-13 * time.Second), "cause": "503 from POST /v1/chat/completions", "down_seconds": 0,
		"endpoints": []object{{"name": "openai", "times": 1}}, "calls_failed": 0, "calls_saved": 14}}
	one["down_since"] = now.Add(-13 * time.Second)
	one["cause"] = object{"what": "503", "method": "POST", "path": "/v1/chat/completions", "count": 5, "at": now.Add(-13 * time.Second)}
	s.history = object{"llm": object{
		"openai": hour(4, 2300, 0.42, 57, 60, 0.4), "azure": hour(5, 240, 0.38, 30, 31, 0.02), "anthropic": hour(6, 90, 0.51, 0, 0, 0),
	}}
	s.happen(now.Add(-41*time.Minute), "operator", "llm", object{"endpoint": "azure", "reason": "set", "details": object{"weight": 3, "note": "new quota"}})
	s.happen(now.Add(-17*time.Minute), "endpoint_held", "llm", object{"endpoint": "anthropic", "reason": "rate_limited", "details": object{"until": now.Add(-16 * time.Minute)}})
	s.happen(now.Add(-95*time.Second), "failover", "llm", object{"endpoint": "openai", "to": "azure", "reason": "timeout", "details": object{"attempt": 1, "duration_seconds": 2.004}})
	s.happen(now.Add(-14*time.Second), "failover", "llm", object{"endpoint": "openai", "to": "azure", "reason": "status", "count": 3, "incident": 1, "details": object{"attempt": 1, "duration_seconds": 0.318}})
	s.happen(now.Add(-13*time.Second), "failover", "llm", object{"endpoint": "openai", "to": "anthropic", "reason": "status", "count": 2, "incident": 1, "details": object{"attempt": 1, "duration_seconds": 0.207}})
	s.happen(now.Add(-13*time.Second), "breaker_opened", "llm", object{"endpoint": "openai", "reason": "consecutive_failures", "incident": 1, "details": object{"until": now.Add(-3 * time.Second)}})
	s.happen(now.Add(-13*time.Second), "failover", "llm", object{"endpoint": "openai", "to": "azure", "reason": "rescued", "count": 7, "incident": 1, "details": object{"attempt": 1, "duration_seconds": 0.151}})
	s.happen(now.Add(-3*time.Second), "breaker_recovering", "llm", object{"endpoint": "openai", "reason": "open_period_over", "incident": 1})
	return s
}
