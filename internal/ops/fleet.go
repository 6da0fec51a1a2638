package ops

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/fleet"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// fleet answers with the status of the fleet.
func (a *AdminAPI) fleet(w http.ResponseWriter, r *http.Request) error {
	if done, err := allow(w, r, http.MethodGet); done {
		return err
	}
	if _, err := parameters(r); err != nil {
		return err
	}
	n := pool.FleetNode()
	if n == nil {
		return errNoFleet()
	}
	return writeJSON(w, fleetStatus(n, time.Now()))
}

func errNoFleet() error {
	return apiError(http.StatusNotFound, "this instance belongs to no fleet; configure one in the global options")
}

func fleetStatus(n *fleet.Node, now time.Time) api.FleetStatus {
	status := api.FleetStatus{
		Name: n.Fleet(), Instance: n.Instance(), Connected: n.Connected(), Lag: api.Tidy(n.Lag(now).Seconds()),
		Instances: []api.InstanceStatus{{Name: n.Instance(), Self: true, Release: n.Release(), Open: opened(pool.OpenHere())}},
	}
	open := n.OpenAt(now)
	for _, p := range n.Peers(now) {
		status.Instances = append(status.Instances, api.InstanceStatus{
			Name: p.Instance, Release: p.Release, Since: p.Since, Seen: p.Seen, Open: opened(open[p.Instance]),
		})
	}
	return status
}

func opened(facts []fleet.Fact) []api.OpenStatus {
	list := []api.OpenStatus{}
	for _, f := range facts {
		list = append(list, api.OpenStatus{Pool: f.Pool, Endpoint: f.Name, Scope: f.Scope, State: f.State, Reason: f.Reason})
	}
	return list
}

// fleetEvents returns the events of all instances, oldest first.
func fleetEvents(n *fleet.Node) []event.Event {
	all := event.Latest.Since(0)
	for i := range all {
		all[i].Instance = n.Instance()
	}
	for _, h := range n.Events() {
		e := event.Event{
			ID: h.Version, At: h.At, Kind: h.What, Pool: h.Pool, Endpoint: h.Name, Scope: h.Scope, To: h.To, Reason: h.Reason,
			Count: max(1, h.Count), Instance: h.Instance, Incident: h.Incident, Details: maps.Clone(h.Details),
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b event.Event) int { return a.At.Compare(b.At) })
	return all
}

var fleetMetrics = struct{ connected, instances, facts, dropped, lag *prometheus.Desc }{
	connected: describe("fleet_connected", "1 while the fleet's engine is reachable, else 0.", "fleet"),
	instances: describe("fleet_instances", "Instances that are in the fleet now, including this one.", "fleet"),
	facts:     describe("fleet_facts_total", "Facts sent to the other instances (out) and received from them (in).", "fleet", "kind", "direction"),
	dropped:   describe("fleet_dropped_total", "Facts that were dropped, by reason.", "fleet", "reason"),
	lag:       describe("fleet_lag_seconds", "Age of the newest information about this instance that the others have.", "fleet"),
}

// describeFleet sends the descriptions of the fleet's metrics.
func describeFleet(ch chan<- *prometheus.Desc) {
	m := &fleetMetrics
	for _, d := range []*prometheus.Desc{m.connected, m.instances, m.facts, m.dropped, m.lag} {
		ch <- d
	}
}

// collectFleet sends the fleet's metrics; none without a fleet.
func collectFleet(ch chan<- prometheus.Metric, now time.Time) {
	n := pool.FleetNode()
	if n == nil {
		return
	}
	m, name := &fleetMetrics, n.Fleet()
	gauge := func(d *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, name)
	}
	connected := 0.0
	if n.Connected() {
		connected = 1
	}
	gauge(m.connected, connected)
	gauge(m.instances, float64(n.Others(now)+1))
	gauge(m.lag, n.Lag(now).Seconds())
	for _, kind := range fleet.Kinds {
		out, in := n.Counted(kind)
		ch <- prometheus.MustNewConstMetric(m.facts, prometheus.CounterValue, float64(out), name, string(kind), "out")
		ch <- prometheus.MustNewConstMetric(m.facts, prometheus.CounterValue, float64(in), name, string(kind), "in")
	}
	for _, reason := range fleet.DropReasons {
		ch <- prometheus.MustNewConstMetric(m.dropped, prometheus.CounterValue, float64(n.Dropped(reason)), name, reason)
	}
}
