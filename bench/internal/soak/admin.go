package soak

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// An adminView reads a Caddy's admin endpoint. Only one goroutine may call follow; the
// other methods are safe for concurrent use.
type adminView struct {
	address string
	client  *http.Client

	lastEvent uint64
	failovers int // failover events
	rescued   int // failovers from an endpoint whose breaker had just opened
}

func newAdminView(address string) *adminView {
	return &adminView{address: address, client: &http.Client{Timeout: 20 * time.Second}}
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

// A poolView is the admin endpoint's view of a pool.
type poolView struct {
	Endpoints []endpointView `json:"endpoints"`
}

type endpointView struct {
	Name      string  `json:"name"`
	State     string  `json:"state"`
	Share     float64 `json:"share"`
	InFlight  int64   `json:"in_flight"`
	Attempts  uint64  `json:"attempts"`
	Successes uint64  `json:"successes"`
	Failures  uint64  `json:"failures"`
	Cancelled uint64  `json:"cancelled"`
}

func (a *adminView) pool() (pool poolView, err error) {
	return pool, a.read("/failover/pools/"+poolName, &pool)
}

// An slaView is the admin endpoint's report of the calls that clients saw.
type slaView struct {
	Total struct {
		Calls     int `json:"calls"` // calls that were not cancelled
		Failed    int `json:"failed"`
		Cancelled int `json:"cancelled"`
	} `json:"total"`
}

func (a *adminView) sla() (report slaView, err error) {
	return report, a.read("/failover/report?pool="+poolName+"&from=24h", &report)
}

// follow counts the events since its last call.
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
