package command

import (
	"strings"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
)

// stateWords are the words for the states of a breaker. The dashboard uses the same words.
var stateWords = map[string]string{
	breaker.Closed.String():       "in service",
	breaker.Open.String():         "out",
	breaker.Recovering.String():   "on trial",
	breaker.ForcedOpen.String():   "taken out",
	breaker.ForcedClosed.String(): "kept in service",
}

// stateOf returns the words for a breaker's state; an unknown state stays as it is.
func stateOf(state string) string {
	if words, ok := stateWords[state]; ok {
		return words
	}
	return state
}

// reasonWords are the words for the reasons of a breaker's state and of an outage. The dashboard uses the same words.
var reasonWords = map[string]string{
	"consecutive_failures": "failures in a row",
	"failure_ratio":        "many failures",
	"denied":               "credentials refused",
	"slow":                 "too slow",
	"slower_than_usual":    "far slower than usual",
	"unanswered":           "clients gave up waiting",
	"check_failed":         "health checks failed",
	"checks_passed":        "health checks pass again",
	"open_period_over":     "open period is over",
	"trial_failed":         "trial failed",
	"all_down":             "every endpoint is out",
	"relapse":              "failed again while recovering",
	"recovered":            "recovered",
	"operator":             "by an operator",
	"failed_while_wary":    "failed while other instances had it out",
	"scopes":               "out for all its scopes",
	"forgotten":            "no longer used",
	"breaker_off":          "the breaker is off",
	"breaker":              "all out",
	"hold":                 "all in cooldown",
	"breaker_and_hold":     "out or in cooldown",
}

// reasonOf returns the words for a reason. An unknown reason gets spaces instead of underscores.
func reasonOf(reason string) string {
	if words, ok := reasonWords[reason]; ok {
		return words
	}
	return strings.ReplaceAll(reason, "_", " ")
}

// causeOf returns the words for the cause of an outage: a reason, or a failure, which stays as it is.
func causeOf(cause string) string {
	if words, ok := reasonWords[cause]; ok {
		return words
	}
	return cause
}

// remedies say what usually helps against a kind of failure. The dashboard uses the same words.
var remedies = map[string]string{
	"host":    "check the name of its host in the configuration, and the DNS of this machine",
	"refused": "check that it runs, and that its address and port are right",
	"reach":   "check that this machine can reach its address and port",
	"tls":     "check its certificate, and the clock and the CA certificates of this machine",
	"denied":  "check its key and the account at its provider; then reload Caddy, or restart it if the key is in the environment",
	"limited": "send it fewer requests (limit, max_requests), or give it another key",
	"closed":  "look at its log, and at proxies between here and there: it ends connections early",
	"status":  "look at its log, or at the status page of its provider",
	"slow":    "look at its load, and at the network between here and there",
	"check":   "request the uri of its health check yourself",
}

// remedy returns advice for an endpoint that is out for the reason, because of the failure; "" if there
// is none.
func remedy(reason string, f *api.FailureStatus) string {
	if f == nil {
		return ""
	}
	switch f.Outcome {
	case "dial":
		switch {
		case strings.HasPrefix(f.What, "no such host"):
			return remedies["host"]
		case strings.HasPrefix(f.What, "connection refused"):
			return remedies["refused"]
		}
		return remedies["reach"]
	case "rate_limited":
		return remedies["limited"]
	case "reset", "truncated":
		return remedies["closed"]
	case "timeout", "stalled":
		return remedies["slow"]
	case "":
		switch reason {
		case "slow", "slower_than_usual", "unanswered":
			return remedies["slow"]
		case "check_failed":
			return remedies["check"]
		}
		return ""
	}
	return remedies[f.Outcome]
}
