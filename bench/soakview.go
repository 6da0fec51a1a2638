package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An adminView reads a Caddy's admin endpoint.
type adminView struct {
	address string
	client  *http.Client

	lastEvent uint64
	failovers int // by events
	rescued   int // of these, from an endpoint that had just opened
}

type poolView struct {
	RetriesDenied int64 `json:"retries_denied"`
	Endpoints     []struct {
		Name      string  `json:"name"`
		State     string  `json:"state"`
		Share     float64 `json:"share"`
		InFlight  int64   `json:"in_flight"`
		Attempts  uint64  `json:"attempts"`
		Successes uint64  `json:"successes"`
		Failures  uint64  `json:"failures"`
		Cancelled uint64  `json:"cancelled"`
	} `json:"endpoints"`
}

// get reads a page. A reload restarts the admin endpoint, and with it ends
// connections: what has met that is asked for again.
func (a *adminView) get(path string) (text []byte, status int, err error) {
	for range 5 {
		var resp *http.Response
		if resp, err = a.client.Get("http://" + a.address + path); err == nil {
			text, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			return text, resp.StatusCode, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, 0, err
}

func (a *adminView) read(path string, into any) error {
	text, status, err := a.get(path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s: status %d: %s", path, status, text)
	}
	return json.Unmarshal(text, into)
}

func (a *adminView) pool() (pool poolView, err error) {
	return pool, a.read("/failover/pools/soak", &pool)
}

// load loads a Caddyfile.
func (a *adminView) load(config string) (int, error) {
	r, err := http.NewRequest(http.MethodPost, "http://"+a.address+"/load", strings.NewReader(config))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "text/caddyfile")
	r.Header.Set("Cache-Control", "must-revalidate")
	resp, err := a.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// follow counts the events since it was called last.
func (a *adminView) follow() error {
	var events []struct {
		ID     uint64 `json:"id"`
		Kind   string `json:"kind"`
		Reason string `json:"reason"`
		Count  int    `json:"count"`
	}
	if err := a.read(fmt.Sprintf("/failover/events?since=%d", a.lastEvent), &events); err != nil {
		return err
	}
	for _, e := range events {
		if e.ID > a.lastEvent+1 && a.lastEvent > 0 {
			return fmt.Errorf("events %d to %d were lost", a.lastEvent+1, e.ID-1)
		}
		a.lastEvent = e.ID
		if e.Kind == "failover" {
			a.failovers += e.Count
			if e.Reason == "rescued" {
				a.rescued += e.Count
			}
		}
	}
	return nil
}

// size is how many goroutines the process has, and its live heap in MiB after a
// collection.
func (a *adminView) size() (goroutines int, heap float64, err error) {
	text, _, err := a.get("/debug/pprof/goroutine?debug=1")
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscanf(string(text), "goroutine profile: total %d", &goroutines); err != nil {
		return 0, 0, fmt.Errorf("reading the goroutine profile: %w", err)
	}
	if text, _, err = a.get("/debug/pprof/heap?gc=1&debug=1"); err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "# HeapAlloc = "); ok {
			bytes, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return goroutines, bytes / (1 << 20), err
		}
	}
	return goroutines, 0, fmt.Errorf("the heap profile does not say how large the heap is")
}

// metrics are the sums of the pool's counters by name, and by name and outcome or
// reason.
func (a *adminView) metrics() (map[string]float64, error) {
	text, status, err := a.get("/metrics")
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("reading metrics: status %d, %w", status, err)
	}
	sums := make(map[string]float64)
	for s := bufio.NewScanner(strings.NewReader(string(text))); s.Scan(); {
		name, rest, ok := strings.Cut(s.Text(), "{")
		if !ok || !strings.HasPrefix(name, "caddy_failover_") || !strings.Contains(rest, `pool="soak"`) {
			continue
		}
		labels, value, ok := strings.Cut(rest, "} ")
		number, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			continue
		}
		sums[name] += number
		for _, label := range []string{`outcome="`, `reason="`} {
			if _, value, ok := strings.Cut(labels, label); ok {
				value, _, _ = strings.Cut(value, `"`)
				sums[name+" "+value] += number
			}
		}
	}
	return sums, nil
}

// soakCounts are the same things counted in several places.
type soakCounts struct {
	Attempts        uint64 `json:"attempts"`
	Successes       uint64 `json:"successes"`
	Failures        uint64 `json:"failures"`
	Cancelled       uint64 `json:"cancelled"`
	FailoverEvents  int    `json:"failovers_by_events"`
	FailoverMetrics int    `json:"failovers_by_metrics"`
	Rescued         int    `json:"rescued_by_events"` // of the failovers; their attempts are cancelled
	LeftLate        int    `json:"left_late"`         // clients that left when the whole answer was on its way
	MetricAttempts  int    `json:"attempts_by_metrics"`
	MetricCalls     int    `json:"calls_by_metrics"`
	SLACalls        int    `json:"calls_by_sla"`
	SLAFailed       int    `json:"failed_by_sla"`
	SLACancelled    int    `json:"cancelled_by_sla"`
}

// count compares what clients, endpoints' states, events, metrics and the SLA
// have counted.
func (s *soakRun) count() {
	pool, err := s.admin.pool()
	if err != nil {
		s.problem("reading the pool: %v", err)
		return
	}
	n := &s.Counts
	for _, e := range pool.Endpoints {
		if e.InFlight != 0 {
			s.problem("endpoint %s has %d attempts in flight when all is quiet", e.Name, e.InFlight)
		}
		if e.Attempts != e.Successes+e.Failures+e.Cancelled {
			s.problem("endpoint %s: %d attempts, but %d successes + %d failures + %d cancelled", e.Name, e.Attempts, e.Successes, e.Failures, e.Cancelled)
		}
		n.Attempts += e.Attempts
		n.Successes += e.Successes
		n.Failures += e.Failures
		n.Cancelled += e.Cancelled
	}
	n.FailoverEvents = s.admin.failovers
	if calls := int(n.Attempts) - n.FailoverEvents; calls != s.Calls.Sent {
		s.problem("clients sent %d calls; %d attempts less %d failovers by events are %d", s.Calls.Sent, n.Attempts, n.FailoverEvents, calls)
	}
	// a call's last attempt came to what its client got, and those before it failed
	// or were ended for another
	n.Rescued = s.admin.rescued
	c := s.Calls
	// The whole answer may be on its way already when a client leaves, which cannot
	// know that. There are few such, and everybody must count them as successes.
	n.LeftLate = int(n.Successes) - c.OK - c.SocketsCut
	if n.LeftLate < 0 || n.LeftLate > 1+c.Cancelled/500 {
		s.problem("%d good answers, but %d successes", c.OK+c.SocketsCut, n.Successes)
	}
	if want := c.Cancelled - n.LeftLate + n.Rescued; int(n.Cancelled) != want {
		s.problem("%d clients cancelled and %d attempts were rescued, but %d were cancelled", c.Cancelled, n.Rescued, n.Cancelled)
	}
	if want := c.Explained + c.Unexplained + n.FailoverEvents - n.Rescued; int(n.Failures) != want {
		s.problem("%d calls failed and %d more attempts did, but %d failures", c.Explained+c.Unexplained, n.FailoverEvents-n.Rescued, n.Failures)
	}
	s.countSLA()
	sums, err := s.admin.metrics()
	if err != nil {
		s.problem("%v", err)
		return
	}
	if len(sums) == 0 {
		s.problem("there are no metrics of the pool")
	} else {
		n.MetricAttempts = int(sums["caddy_failover_attempts_total"])
		n.FailoverMetrics = int(sums["caddy_failover_failovers_total"])
		if n.MetricAttempts != int(n.Attempts) {
			s.problem("%d attempts, %d by metrics", n.Attempts, n.MetricAttempts)
		}
		if n.FailoverMetrics != n.FailoverEvents {
			s.problem("%d failovers by events, %d by metrics", n.FailoverEvents, n.FailoverMetrics)
		}
		if rescued := int(sums["caddy_failover_failovers_total rescued"]); rescued != n.Rescued {
			s.problem("%d rescued by events, %d by metrics", n.Rescued, rescued)
		}
		if successes := int(sums["caddy_failover_attempts_total success"]); successes != int(n.Successes) {
			s.problem("%d successes, %d by metrics", n.Successes, successes)
		}
		if cancelled := int(sums["caddy_failover_attempts_total cancelled"]); cancelled != int(n.Cancelled) {
			s.problem("%d cancelled, %d by metrics", n.Cancelled, cancelled)
		}
		n.MetricCalls = int(sums["caddy_failover_calls_total"])
		if n.MetricCalls != s.Calls.Sent {
			s.problem("clients sent %d calls, %d by metrics", s.Calls.Sent, n.MetricCalls)
		}
		// the answer to a WebSocket is whole when the protocol has been switched
		good := int(sums["caddy_failover_calls_total success"])
		if want := c.OK + c.SocketsCut + n.LeftLate; good != want {
			s.problem("%d good answers, %d by metrics", want, good)
		}
		cancelled := int(sums["caddy_failover_calls_total cancelled"])
		if want := c.Cancelled - n.LeftLate; cancelled != want {
			s.problem("%d clients cancelled, %d by metrics", want, cancelled)
		}
		if failed, want := n.MetricCalls-good-cancelled, c.Explained+c.Unexplained; failed != want {
			s.problem("%d calls of clients failed, %d by metrics", want, failed)
		}
	}
}

// countSLA compares what clients saw with what the SLA's history says they saw.
func (s *soakRun) countSLA() {
	var report struct {
		Total struct {
			Calls     int `json:"calls"` // that were not cancelled
			Failed    int `json:"failed"`
			Cancelled int `json:"cancelled"`
		} `json:"total"`
	}
	if err := s.admin.read("/failover/report?pool=soak&from=24h", &report); err != nil {
		s.problem("reading the report: %v", err)
		return
	}
	n, c := &s.Counts, s.Calls
	n.SLACalls, n.SLAFailed, n.SLACancelled = report.Total.Calls+report.Total.Cancelled, report.Total.Failed, report.Total.Cancelled
	if n.SLACalls != c.Sent {
		s.problem("clients sent %d calls, the SLA has %d", c.Sent, n.SLACalls)
	}
	if failed := c.Explained + c.Unexplained; n.SLAFailed != failed {
		s.problem("%d calls of clients failed, %d by the SLA", failed, n.SLAFailed)
	}
	if want := c.Cancelled - n.LeftLate; n.SLACancelled != want {
		s.problem("%d clients cancelled, %d by the SLA", want, n.SLACancelled)
	}
}
