package notify

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/incident"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// A Notice is the JSON that a URL gets.
type Notice struct {
	// The kind of the event, such as `all_down`. docs/events.md lists the kinds. Of several events, the
	// notice names the most important one, and of equal ones the latest.
	Event string `json:"event"`

	Pool string `json:"pool"` // empty for the events of a fleet

	// The pool's state: `down` if no endpoint is available, `degraded` during an incident, else
	// `well`.
	State string `json:"state"`

	// The notice for people, in a few lines.
	Text string `json:"text"`

	At   time.Time `json:"at"`   // of the event
	Host string    `json:"host"` // name of the machine

	// The number of events that the notice stands for.
	Count int `json:"count"`

	// The event's fields. Absent if they are empty.
	Endpoint string         `json:"endpoint,omitempty"`
	Scope    string         `json:"scope,omitempty"`
	To       string         `json:"to,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Details  map[string]any `json:"details,omitempty"`

	// The incident, as in the admin API. Absent without one.
	Incident *incident.Incident `json:"incident,omitempty"`
}

// Values of Notice.State.
const (
	stateDown     = "down"
	stateDegraded = "degraded"
	stateWell     = "well"
)

// notice composes the notice of an item.
func (s *story) notice(i *item, of *incident.Incident) *Notice {
	e := i.main
	host, _ := os.Hostname()
	n := &Notice{
		Event: e.Kind, Pool: s.pool, State: stateWell, At: e.At, Host: host, Count: i.count,
		Endpoint: e.Endpoint, Scope: e.Scope, To: e.To, Reason: e.Reason, Details: e.Details, Incident: of,
	}
	switch {
	case s.down:
		n.State = stateDown
	case s.incident != 0 && !s.over:
		n.State = stateDegraded
	}
	n.Text = strings.Join(append([]string{n.headline(s.out)}, n.lines()...), "\n")
	return n
}

// incidentOf returns an incident of a pool; nil if it is not known.
func incidentOf(name string, id uint64) *incident.Incident {
	p := pool.Find(name)
	if p == nil || id == 0 {
		return nil
	}
	all := p.Incidents.Incidents()
	for i := range all {
		if all[i].ID == id {
			return &all[i]
		}
	}
	return nil
}

// headline says in one line what happened. out are the endpoints that are out.
func (n *Notice) headline(out []string) string {
	switch n.Event {
	case event.BreakerOpened, event.AllDown:
		switch {
		case n.State == stateDown && n.Details["scopes"] != nil:
			return fmt.Sprintf("%s is down: no endpoint takes requests of scope %s", n.Pool, n.Details["scopes"])
		case n.State == stateDown:
			return fmt.Sprintf("%s is down: every endpoint is out", n.Pool)
		case len(out) == 1:
			return fmt.Sprintf("%s: endpoint %s is out, others serve its requests", n.Pool, out[0])
		case len(out) > 1:
			return fmt.Sprintf("%s: %d endpoints are out: %s", n.Pool, len(out), listed(out))
		case n.State == stateDegraded:
			return fmt.Sprintf("%s: endpoints were out, and are coming back", n.Pool)
		}
		return fmt.Sprintf("%s: an endpoint was out", n.Pool)
	case event.PoolUp:
		return fmt.Sprintf("%s is up again: an endpoint is back", n.Pool)
	case event.IncidentOver:
		if n.Incident != nil && !n.Incident.End.IsZero() && !n.Incident.Interrupted {
			return fmt.Sprintf("%s is well again after %s", n.Pool, rounded(n.Incident.End.Sub(n.Incident.Start)))
		}
		return fmt.Sprintf("%s is well again", n.Pool)
	case event.BreakerRecovering:
		return fmt.Sprintf("%s: endpoint %s is on trial", n.Pool, n.Endpoint)
	case event.BreakerClosed:
		return fmt.Sprintf("%s: endpoint %s is in service again", n.Pool, n.Endpoint)
	case event.EndpointHeld:
		return fmt.Sprintf("%s: endpoint %s is in cooldown (%s)", n.Pool, n.Endpoint, n.Reason)
	case event.Failover:
		return fmt.Sprintf("%s: requests move from %s to %s (%s)", n.Pool, n.Endpoint, n.To, n.Reason)
	case event.SLABurning:
		return fmt.Sprintf("%s spends its error budget for %s too fast", n.Pool, n.Reason)
	case event.SLAMetAgain:
		return fmt.Sprintf("%s no longer spends its error budget for %s too fast", n.Pool, n.Reason)
	case event.FleetLost:
		if n.Reason == "full" {
			return fmt.Sprintf("fleet %v cannot store what instances tell each other", n.Details["fleet"])
		}
		return fmt.Sprintf("fleet %v cannot be reached: this instance is on its own", n.Details["fleet"])
	case event.FleetBack:
		return fmt.Sprintf("fleet %v works again", n.Details["fleet"])
	case event.Anomaly:
		if began, _ := n.Details["began"].(bool); !began {
			return fmt.Sprintf("%s: %s of endpoint %s is as usual again", n.Pool, n.Reason, n.Endpoint)
		}
		return fmt.Sprintf("%s: %s of endpoint %s is unusual", n.Pool, n.Reason, n.Endpoint)
	}
	// operator and scheduled
	return fmt.Sprintf("%s: %s %s of endpoint %s", n.Pool, n.Event, n.Reason, n.Endpoint)
}

// maxListed is how many endpoints a notice names at most.
const maxListed = 5

// listed sorts names, joins at most maxListed of them, and says how many more there are.
func listed(names []string) string {
	names = slices.Sorted(slices.Values(names))
	if more := len(names) - maxListed; more > 0 {
		return strings.Join(names[:maxListed], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}

// lines returns the lines below the headline: details of the incident, and the host.
func (n *Notice) lines() (lines []string) {
	if i := n.Incident; i != nil {
		for k, one := range i.Endpoints {
			if k == maxListed {
				lines = append(lines, fmt.Sprintf("and %d more", len(i.Endpoints)-maxListed))
				break
			}
			lines = append(lines, fmt.Sprintf("%s: %s", one.Name, cmp.Or(one.Cause, one.Reason)))
		}
		lines = append(lines, "since "+i.Start.Local().Format("2006-01-02 15:04:05 MST"))
		if i.Down > 0 {
			lines = append(lines, fmt.Sprintf("down for %s", rounded(time.Duration(i.Down*float64(time.Second)))))
		}
		if i.Failed+i.Saved > 0 {
			lines = append(lines, fmt.Sprintf("%d requests failed, %d were saved by failover", i.Failed, i.Saved))
		}
	} else if cause, _ := n.Details["cause"].(string); cause != "" {
		lines = append(lines, cause)
	}
	if n.Host != "" {
		lines = append(lines, "host "+n.Host)
	}
	return lines
}

// rounded writes a duration rounded to seconds, or to tenths below 10 s, without trailing units
// that are 0.
func rounded(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	text := d.Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
