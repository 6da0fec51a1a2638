package command

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/event"
)

func eventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [--follow] [--pool <pool>] [--since <id|time|duration>] [--limit <n>] [--fleet] [--json]",
		Short: "Shows what happened: failovers, breakers, cooldowns, actions",
		Args:  noArguments,
		RunE:  commandRun(runEvents),
	}
	cmd.Flags().BoolP("follow", "f", false, "Print new events as they happen")
	addPoolFlag(cmd, "Only events of this pool")
	cmd.Flags().String("since", "", "Only later ones: an ID, RFC 3339 time, date, or duration")
	cmd.Flags().Bool("fleet", false, "Events of all instances of the fleet")
	cmd.Flags().Int("limit", 50, "Maximum number; the newest are shown")
	cmd.Flags().Bool("json", false, "Print one JSON object per line")
	return cmd
}

// runEvents shows events, and with --follow new ones as they happen.
func runEvents(c *client, cmd *cobra.Command, _ []string) error {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	out, asJSON := cmd.OutOrStdout(), flags.Bool("json")
	show := func(e *event.Event, text string) {
		if asJSON {
			fmt.Fprintln(out, api.PrintableJSON(text))
			return
		}
		fmt.Fprintln(out, layoutOf(out).event(e))
	}
	query := url.Values{}
	for _, name := range []string{"pool", "since"} {
		if value := flags.String(name); value != "" {
			query.Set(name, value)
		}
	}
	if flags.Bool("fleet") {
		if flags.Bool("follow") {
			return followFleet(c, cmd, query, show)
		}
		query.Set("where", api.InFleet)
	}
	var newest []event.Event
	if flags.Bool("follow") {
		// The stream begins after this event. Reading it before the list loses none.
		if _, err := c.exchange(http.MethodGet, api.Root+"events?limit=1", nil, &newest); err != nil {
			return err
		}
	}
	after := uint64(0)
	if len(newest) > 0 {
		after = newest[0].ID
	}
	query.Set("limit", flags.String("limit"))
	var raw []json.RawMessage
	if _, err := c.exchange(http.MethodGet, api.Root+"events?"+query.Encode(), nil, &raw); err != nil {
		return err
	}
	for _, text := range raw {
		var e event.Event
		if err := json.Unmarshal(text, &e); err != nil {
			return fmt.Errorf("reading an event: %w", err)
		}
		if !flags.Bool("follow") || e.ID <= after {
			show(&e, string(text))
		}
	}
	if !flags.Bool("follow") {
		return nil
	}
	return followEvents(c, cmd, flags.String("pool"), after, show)
}

// followFleet shows the events of all instances, and looks for new ones every second.
func followFleet(c *client, cmd *cobra.Command, query url.Values, show func(*event.Event, string)) error {
	query.Set("where", api.InFleet)
	query.Set("limit", cmd.Flags().Lookup("limit").Value.String())
	type identity struct {
		instance string
		id       uint64
		at       time.Time
	}
	shown := make(map[identity]bool)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		var raw []json.RawMessage
		_, err := c.exchange(http.MethodGet, api.Root+"events?"+query.Encode(), nil, &raw)
		if err != nil && len(shown) == 0 {
			return err
		}
		query.Set("limit", "1000")
		seen := make(map[identity]bool, len(raw))
		for _, text := range raw {
			var e event.Event
			if err := json.Unmarshal(text, &e); err != nil {
				return fmt.Errorf("reading an event: %w", err)
			}
			key := identity{e.Instance, e.ID, e.At}
			if seen[key] = true; !shown[key] {
				show(&e, string(text))
			}
		}
		if err == nil {
			shown = seen
		}
		select {
		case <-c.ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// followEvents shows events as they happen. Every reload ends the stream. Then followEvents connects
// again and continues where the stream ended.
func followEvents(c *client, cmd *cobra.Command, pool string, after uint64, show func(*event.Event, string)) error {
	uri := api.Root + "events"
	if pool != "" {
		uri += "?" + url.Values{"pool": {pool}}.Encode()
	}
	last := strconv.FormatUint(after, 10)
	warned := false // about the current interruption
	for {
		resp, err := c.send(http.MethodGet, uri, nil, "Accept", "text/event-stream", "Last-Event-ID", last)
		if err == nil {
			warned = false
			err = messages(resp.Body, func(m message) bool {
				if m.id != "" {
					last = m.id
				}
				switch {
				case m.data == "":
				case m.name != "":
					fmt.Fprintf(cmd.ErrOrStderr(), "caddy failover: %s: %s\n", api.Printable(m.name), api.Printable(m.data))
				default:
					var e event.Event
					if json.Unmarshal([]byte(m.data), &e) == nil {
						show(&e, m.data)
					}
				}
				return true
			})
			resp.Body.Close()
		}
		if c.ctx.Err() != nil {
			return nil
		}
		if err != nil && !warned {
			fmt.Fprintf(cmd.ErrOrStderr(), "caddy failover: %s\ntrying again\n", api.PrintableLines(err.Error()))
			warned = true
		}
		if !c.pause(api.StreamRetry) {
			return nil
		}
	}
}

// event returns an event in one line or more: when, what, where and why, then the details.
func (l layout) event(e *event.Event) string {
	where := e.Pool
	if e.Instance != "" {
		where = e.Instance + ": " + where
	}
	if e.Endpoint != "" {
		where += "/" + e.Endpoint
	}
	if e.Scope != "" {
		where += " (" + e.Scope + ")"
	}
	if e.To != "" {
		where += " -> " + e.To
	}
	parts := []string{
		e.At.Local().Format("2006-01-02 15:04:05.000 MST"), l.paint(colourOf(e.Kind), api.Printable(fmt.Sprintf("%-14s", e.Kind))), api.Printable(where),
	}
	if e.Reason != "" {
		parts = append(parts, api.Printable(e.Reason))
	}
	if e.Count > 1 {
		parts = append(parts, fmt.Sprintf("x%d", e.Count))
	}
	cause, isText := e.Details["cause"].(string)
	if isText {
		method, _ := e.Details["method"].(string)
		path, _ := e.Details["path"].(string)
		parts = append(parts, api.Printable((&api.FailureStatus{What: cause, Method: method, Path: path}).String()))
	}
	for _, name := range e.DetailNames() {
		if isText && (name == "cause" || name == "method" || name == "path") {
			continue
		}
		parts = append(parts, api.Printable(fmt.Sprintf("%s=%v", name, plainValue(e.Details[name]))))
	}
	return l.parts("    ", parts...)
}

// colourOf returns the colour of a kind of event.
func colourOf(kind string) colour {
	switch kind {
	case event.AllDown, event.BreakerOpened:
		return red
	case event.PoolUp, event.BreakerClosed, event.IncidentOver, event.SLAMetAgain:
		return green
	case event.BreakerRecovering, event.EndpointHeld, event.SLABurning, event.Anomaly:
		return yellow
	}
	return ""
}

// plainValue returns a time in text in the local zone, a fraction with three digits, and any other value as it
// is.
func plainValue(value any) any {
	switch v := value.(type) {
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return at.Local().Format("2006-01-02T15:04:05.000Z07:00")
		}
	case float64:
		if v != math.Trunc(v) {
			return strconv.FormatFloat(v, 'g', max(3, len(strconv.Itoa(int(v)))), 64)
		}
	}
	return value
}
