package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
)

// orderCommand returns the command for an operator's action.
func orderCommand(action, short string) *cobra.Command {
	use := action + " [<pool>] <endpoint> "
	if action == api.Set {
		use += "[--weight <n>|configured] [--priority <n>|configured] "
	}
	if action != api.Reset {
		use += "[--for <duration>] "
	}
	use += "[--reason <text>] [--fleet | --here] [--json]"
	if action == api.Drain {
		use += " [--wait <duration>]"
	}
	cmd := &cobra.Command{Use: use, Short: short, Args: anEndpoint, ValidArgsFunction: completeNames(true)}
	cmd.RunE = commandRun(func(c *client, cmd *cobra.Command, args []string) error {
		return runOrder(c, cmd, action, args)
	})
	cmd.Flags().String("reason", "", "Why; shown with the endpoint")
	cmd.Flags().Bool(api.InFleet, false, "At all instances of the fleet; the default in a fleet")
	cmd.Flags().Bool(api.Here, false, "At this instance alone")
	cmd.Flags().Bool("json", false, "Print the admin API's response")
	if action != api.Reset {
		cmd.Flags().String("for", "", "How long it lasts, such as 10m; default: until undone")
	}
	if action == api.Set {
		cmd.Flags().String(api.Weight, "", "Its part of its tier, 0: no traffic; or \"configured\"")
		cmd.Flags().String(api.Priority, "", "Its tier, from 1; or \"configured\"")
	}
	if action == api.Drain {
		cmd.Flags().Duration("wait", 0, "Wait at most this long for requests in flight to finish")
	}
	return cmd
}

// runOrder sends an order for an endpoint. args are the pool and the endpoint, or only the endpoint
// if there is only one pool.
func runOrder(c *client, cmd *cobra.Command, action string, args []string) error {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	body, err := orderBody(cmd)
	if err != nil {
		return err
	}
	pool, err := c.poolOf(args[:len(args)-1])
	if err != nil {
		return err
	}
	endpoint := args[len(args)-1]
	path := api.Root + "pools/" + url.PathEscape(pool) + "/endpoints/" + url.PathEscape(endpoint)
	method, uri := http.MethodPost, path+"/"+action
	if action == api.Set {
		method, uri = http.MethodPatch, path
	}
	var answer api.OperatorAnswer
	text, err := c.exchange(method, uri, body, &answer)
	if err != nil {
		return err
	}
	if flags.Bool("json") {
		fmt.Fprintln(cmd.OutOrStdout(), api.PrintableJSON(text))
	} else {
		fmt.Fprintln(cmd.OutOrStdout(), describeAnswer(&answer))
	}
	if action != api.Drain || answer.InFlight == 0 || !cmd.Flags().Changed("wait") {
		return nil
	}
	return waitDrained(c, cmd, path, answer.Status, flags.Duration("wait"))
}

// orderBody returns the body of an order, from the flags that were given.
func orderBody(cmd *cobra.Command) (map[string]any, error) {
	body := make(map[string]any)
	for _, name := range []string{"for", "reason", api.Weight, api.Priority} {
		flag := cmd.Flags().Lookup(name)
		if flag == nil || !flag.Changed {
			continue
		}
		text := flag.Value.String()
		switch {
		case name == "for" || name == "reason":
			body[name] = text
		case text == api.AsConfigured:
			body[name] = nil
		default:
			value, err := strconv.ParseFloat(text, 64)
			if err != nil || math.IsInf(value, 0) || math.IsNaN(value) {
				return nil, fmt.Errorf("--%s: want a number or %q, not %q", name, api.AsConfigured, text)
			}
			body[name] = value
		}
	}
	fleet, here := cmd.Flags().Lookup(api.InFleet), cmd.Flags().Lookup(api.Here)
	switch {
	case fleet.Changed && here.Changed:
		return nil, fmt.Errorf("--fleet and --here contradict each other")
	case fleet.Changed:
		body["where"] = api.InFleet
	case here.Changed:
		body["where"] = api.Here
	}
	return body, nil
}

// waitDrained waits until an endpoint has no calls in flight, but no longer than atMost.
func waitDrained(c *client, cmd *cobra.Command, path string, status api.EndpointStatus, atMost time.Duration) error {
	ctx, cancel := context.WithTimeout(c.ctx, atMost)
	defer cancel()
	waiting := *c
	waiting.ctx = ctx
	for {
		err := waiting.follow(path, drainedEvery, func(text string) error {
			if err := json.Unmarshal([]byte(text), &status); err != nil {
				return fmt.Errorf("reading a status: %w", err)
			}
			if status.InFlight == 0 {
				return errDrained
			}
			return nil
		})
		switch {
		case err == errDrained:
			fmt.Fprintln(cmd.ErrOrStderr(), countCalls(0))
			return nil
		case c.ctx.Err() != nil:
			return c.ctx.Err()
		case ctx.Err() != nil:
			return &commandError{exitInFlight, fmt.Errorf("%s after %v", countCalls(status.InFlight), atMost)}
		case err != nil:
			return err
		}
		waiting.pause(drainedEvery)
	}
}

// drainedEvery is the time between two statuses of a draining endpoint.
const drainedEvery = 200 * time.Millisecond

// errDrained ends the stream of statuses when the endpoint is drained.
var errDrained = errors.New("drained")

// describeAnswer describes the endpoint after an order.
func describeAnswer(a *api.OperatorAnswer) string {
	e := &a.Status
	what := "is " + stateOf(e.State)
	switch {
	case a.Action == api.Set:
		return api.Printable(fmt.Sprintf("%s/%s has %s%s", a.Pool, a.Endpoint, describeSettings(e), describeFleet(a)))
	case e.Draining && a.InFlight == 0:
		what = "is drained, " + countCalls(0)
	case e.Draining:
		what = "is draining, " + countCalls(a.InFlight)
	case e.State == breaker.ForcedOpen.String():
		what = "is tripped, " + countCalls(a.InFlight)
	}
	if e.Operator != nil {
		what += describeUntil(e.Operator.Until)
	}
	return api.Printable(fmt.Sprintf("%s/%s %s%s", a.Pool, a.Endpoint, what, describeFleet(a)))
}

// describeFleet says whether the order went to other instances, to follow other text.
func describeFleet(a *api.OperatorAnswer) string {
	if !a.Fleet {
		return ""
	}
	return "; the fleet was told"
}

// describeSettings returns the weight and priority in force.
func describeSettings(e *api.EndpointStatus) string {
	weight, priority := fmt.Sprintf("weight %v", e.Weight), fmt.Sprintf("priority %d", e.Priority)
	if e.Override != nil {
		if w := e.Override.Weight; w != nil {
			weight += fmt.Sprintf(" instead of %v", w.Configured) + describeUntil(w.Until)
		}
		if p := e.Override.Priority; p != nil {
			priority += fmt.Sprintf(" instead of %d", p.Configured) + describeUntil(p.Until)
		}
	}
	return weight + "; " + priority
}

// describeUntil returns the end of an order, to follow other text; "" without an end.
func describeUntil(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return ", until " + formatTime(until)
}

// countCalls says how many calls are in flight.
func countCalls(n int64) string {
	switch n {
	case 0:
		return "no request is in flight"
	case 1:
		return "1 request is in flight"
	}
	return fmt.Sprintf("%d requests are in flight", n)
}
