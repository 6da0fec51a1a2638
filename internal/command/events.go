package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/event"
)

// runEvents shows events, and with --follow new ones as they happen.
func runEvents(c *client, cmd *cobra.Command, _ []string) error {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	out, asJSON := cmd.OutOrStdout(), flags.Bool("json")
	show := func(e *event.Event, text string) {
		if asJSON {
			fmt.Fprintln(out, api.PrintableJSON(text))
			return
		}
		fmt.Fprintln(out, formatEvent(e))
	}
	query := url.Values{}
	for _, name := range []string{"pool", "since"} {
		if value := flags.String(name); value != "" {
			query.Set(name, value)
		}
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

// followEvents shows events as they happen. If the stream ends, as it does with every
// reload, it connects again and goes on where the stream ended.
func followEvents(c *client, cmd *cobra.Command, pool string, after uint64, show func(*event.Event, string)) error {
	uri := api.Root + "events"
	if pool != "" {
		uri += "?" + url.Values{"pool": {pool}}.Encode()
	}
	last := strconv.FormatUint(after, 10)
	complained := false // about the same outage of the stream
	for {
		resp, err := c.send(http.MethodGet, uri, nil, "Accept", "text/event-stream", "Last-Event-ID", last)
		if err == nil {
			complained = false
			err = messages(resp.Body, func(m Message) bool {
				if m.ID != "" {
					last = m.ID
				}
				switch {
				case m.Data == "":
				case m.Name != "":
					fmt.Fprintf(cmd.ErrOrStderr(), "caddy failover: %s: %s\n", api.Printable(m.Name), api.Printable(m.Data))
				default:
					var e event.Event
					if json.Unmarshal([]byte(m.Data), &e) == nil {
						show(&e, m.Data)
					}
				}
				return true
			})
			resp.Body.Close()
		}
		if c.ctx.Err() != nil {
			return nil
		}
		if err != nil && !complained {
			fmt.Fprintf(cmd.ErrOrStderr(), "caddy failover: %s\ntrying again\n", api.PrintableLines(err.Error()))
			complained = true
		}
		retry := time.NewTimer(api.StreamRetry)
		select {
		case <-c.ctx.Done():
			retry.Stop()
			return nil
		case <-retry.C:
		}
	}
}

// formatEvent returns an event as a line.
func formatEvent(e *event.Event) string {
	where := e.Pool
	if e.Endpoint != "" {
		where += "/" + e.Endpoint
	}
	if e.Scope != "" {
		where += " (" + e.Scope + ")"
	}
	if e.To != "" {
		where += " -> " + e.To
	}
	line := fmt.Sprintf("%s  %-18s  %-32s  %s", e.At.Local().Format("2006-01-02 15:04:05.000"), e.Kind, where, e.Reason)
	if e.Count > 1 {
		line += fmt.Sprintf("  x%d", e.Count)
	}
	cause, isText := e.Details["cause"].(string)
	if isText {
		method, _ := e.Details["method"].(string)
		path, _ := e.Details["path"].(string)
		line += "  " + (&api.FailureStatus{What: cause, Method: method, Path: path}).String()
	}
	for _, name := range e.DetailNames() {
		if isText && (name == "cause" || name == "method" || name == "path") {
			continue
		}
		line += fmt.Sprintf("  %s=%v", name, localTime(e.Details[name]))
	}
	return api.Printable(line)
}

// localTime returns a value; if it is a time, in local time like the line's own.
func localTime(value any) any {
	if text, ok := value.(string); ok {
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return at.Local().Format("2006-01-02T15:04:05.000")
		}
	}
	return value
}
