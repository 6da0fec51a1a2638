package command

import (
	"fmt"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
)

// fleetColumns are the columns of the table of instances.
var fleetColumns = []column{{"INSTANCE", 0}, {"VERSION", 2}, {"SEEN", 0}, {"OUT", 1}}

// fleet returns a table of the instances and, for each open endpoint, at how many of them it is open.
func (l layout) fleet(f *api.FleetStatus, now time.Time) string {
	var b strings.Builder
	state := "connected, " + formatSeconds(f.Lag) + " behind"
	if !f.Connected {
		state = l.paint(red, "NOT CONNECTED") + ", " + formatSeconds(f.Lag) + " behind"
	}
	b.WriteString(l.fill(fmt.Sprintf("fleet %s: %s, %d instances", l.paint(bold, api.Printable(f.Name)), state, len(f.Instances)), "  ") + "\n")
	var rows []row
	var order []string
	count := make(map[string]int)
	for _, i := range f.Instances {
		seen, open := "this one", []string{}
		if !i.Self {
			seen = max(0, now.Sub(i.Seen)).Round(time.Second).String() + " ago"
		}
		for _, o := range i.Open {
			name := o.Pool + "/" + o.Endpoint
			if o.Scope != "" {
				name += " (" + o.Scope + ")"
			}
			if count[name] == 0 {
				order = append(order, name)
			}
			count[name]++
			if o.State != "open" {
				name += " " + o.State
			}
			open = append(open, name)
		}
		release := i.Release
		if release == "" {
			release = "-"
		}
		r := row{cells: []string{api.Printable(i.Name), api.Printable(release), seen, fmt.Sprint(len(open))}}
		if len(open) > 0 {
			r.below = []string{api.Printable("out: " + strings.Join(open, ", "))}
		}
		rows = append(rows, r)
	}
	l.table(&b, "  ", fleetColumns, rows)
	for _, name := range order {
		b.WriteString(l.fill(fmt.Sprintf("%s: open at %d of %d", api.Printable(name), count[name], len(f.Instances)), "  ") + "\n")
	}
	return b.String()
}
