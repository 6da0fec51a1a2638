package soak

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// An adminView reads the admin endpoint of one process. Only one goroutine may call follow at a
// time; the other methods are safe for concurrent use.
type adminView struct {
	address string
	client  *http.Client

	lastEvent uint64
	moves     map[string]*moves // by pool
}

// moves counts events of requests that moved to another endpoint.
type moves struct {
	failovers int
	rescued   int // those from an endpoint whose breaker had just opened
}

func newAdminView(address string) *adminView {
	a := &adminView{address: address, client: &http.Client{Timeout: time.Minute}, moves: make(map[string]*moves)}
	for _, pool := range pools {
		a.moves[pool] = new(moves)
	}
	return a
}

// get reads a page. It tries up to five times, because a reload restarts the admin endpoint
// and cuts connections.
func (a *adminView) get(path string) (text string, err error) {
	for range 5 {
		var status int
		if text, status, err = a.getOnce(path); err == nil && status != http.StatusOK {
			return "", fmt.Errorf("%s: status %d: %s", path, status, text)
		}
		if err == nil {
			return text, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", err
}

func (a *adminView) getOnce(path string) (text string, status int, err error) {
	resp, err := a.client.Get("http://" + a.address + path)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	return string(all), resp.StatusCode, err
}

// read reads JSON.
func (a *adminView) read(path string, into any) error {
	text, err := a.get(path)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

// load loads a Caddyfile and returns the status of the response.
func (a *adminView) load(config string) (status int, err error) {
	return a.post("/load", "text/caddyfile", config)
}

// drain stops new requests to an endpoint for a time, at all instances. It tries up to five times,
// as get does.
func (a *adminView) drain(pool, endpoint string, lasting time.Duration) (err error) {
	for range 5 {
		var status int
		status, err = a.post(fmt.Sprintf("/failover/pools/%s/endpoints/%s/drain", pool, endpoint), "application/json",
			fmt.Sprintf(`{"for":%q,"reason":"soak"}`, lasting))
		if err == nil && status != http.StatusOK {
			return fmt.Errorf("status %d", status)
		}
		if err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

func (a *adminView) post(path, kind, body string) (status int, err error) {
	r, err := http.NewRequest(http.MethodPost, "http://"+a.address+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Cache-Control", "must-revalidate")
	resp, err := a.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// A poolView is the admin endpoint's view of a pool.
type poolView struct {
	Endpoints []endpointView `json:"endpoints"`
	Waiting   waitingView    `json:"waiting"`
}

type endpointView struct {
	Name      string      `json:"name"`
	State     string      `json:"state"`
	Draining  bool        `json:"draining"`
	Share     float64     `json:"share"`
	InFlight  int64       `json:"in_flight"`
	Attempts  uint64      `json:"attempts"`
	Successes uint64      `json:"successes"`
	Failures  uint64      `json:"failures"`
	Cancelled uint64      `json:"cancelled"`
	Scopes    []scopeView `json:"scopes"`
}

// A scopeView is how an endpoint does for one model.
type scopeView struct {
	Scope    string  `json:"scope"`
	State    string  `json:"state"`
	Share    float64 `json:"share"`
	Attempts uint64  `json:"attempts"`
}

// A waitingView counts the requests that wait, and waits by how they ended.
type waitingView struct {
	Calls      int `json:"calls"`
	LetIn      int `json:"let_in"`
	TimeOver   int `json:"time_over"`
	Left       int `json:"left"`
	TurnedAway int `json:"turned_away"`
}

// unwell describes what at an endpoint is not as it was before any fault; "": nothing.
func (e endpointView) unwell() string {
	if e.Draining {
		return fmt.Sprintf(" %s is draining", e.Name)
	}
	if e.State != "closed" || e.Share < 1 {
		return fmt.Sprintf(" %s is %s with share %.2f", e.Name, e.State, e.Share)
	}
	for _, s := range e.Scopes {
		if s.State != "closed" || s.Share < 1 {
			return fmt.Sprintf(" %s is %s for %s with share %.2f", e.Name, s.State, s.Scope, s.Share)
		}
	}
	return ""
}

func (a *adminView) pool(name string) (pool poolView, err error) {
	return pool, a.read("/failover/pools/"+name, &pool)
}

// A fleetView is the admin endpoint's view of the fleet.
type fleetView struct {
	Connected bool `json:"connected"`
	Instances []struct {
		Name string `json:"name"`
	} `json:"instances"`
}

func (a *adminView) fleet() (f fleetView, err error) {
	return f, a.read("/failover/fleet", &f)
}

// An slaView is the admin endpoint's report of the calls that clients saw.
type slaView struct {
	Total struct {
		Calls     int `json:"calls"` // calls that were not cancelled
		Failed    int `json:"failed"`
		Cancelled int `json:"cancelled"`
	} `json:"total"`
}

func (a *adminView) sla(pool string) (report slaView, err error) {
	return report, a.read("/failover/report?pool="+pool+"&from=24h", &report)
}

// minus returns the report without what an earlier one has.
func (s slaView) minus(before slaView) slaView {
	s.Total.Calls -= before.Total.Calls
	s.Total.Failed -= before.Total.Failed
	s.Total.Cancelled -= before.Total.Cancelled
	return s
}

// follow counts the events since its last call.
func (a *adminView) follow() error {
	var events []struct {
		ID     uint64 `json:"id"`
		Kind   string `json:"kind"`
		Pool   string `json:"pool"`
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
		if of := a.moves[e.Pool]; of != nil && e.Kind == "failover" {
			of.failovers += e.Count
			if e.Reason == "rescued" {
				of.rescued += e.Count
			}
		}
	}
	return nil
}
