package failover

import (
	"strings"
	"testing"
)

// TestMisspeltWordsAreRecognized checks that errors suggest the known word for a misspelt one, in every
// place.
func TestMisspeltWordsAreRecognized(t *testing.T) {
	directive := func(lines string) string {
		return ":80 {\nfailover {\nendpoint http://one:1\n" + lines + "\n}\n}\n"
	}
	for lines, want := range map[string]string{
		"breker off":                                   "unknown option breker of failover; did you mean breaker?, at Caddyfile:4",
		"timout 5s":                                    "unknown option timout of failover; did you mean timeout?",
		"heder_up X y":                                 "unknown option heder_up of failover; did you mean header_up?",
		"weight 3":                                     "unknown option weight of failover; it is an option of an endpoint",
		"open_for 3s":                                  "it is an option of the block breaker",
		"xyzzy":                                        "unknown option xyzzy of failover, at Caddyfile:4",
		"endpoint http://b {\npriorty 1\n}":            "unknown option priorty of endpoint; did you mean priority?, at Caddyfile:5",
		"endpoint http://b {\nretry off\n}":            "unknown option retry of endpoint; it is an option of the pool",
		"breaker {\nconsecutive_failure 3\n}":          "did you mean consecutive_failures?",
		"breaker {\nfailures 3\n}":                     "did you mean consecutive_failures?",
		"health {\nintervall 3s\n}":                    "did you mean interval?",
		"health {\nstatus 200\n}":                      "did you mean expect_status?",
		"health {\nhealth_uri /x\n}":                   "did you mean uri?",
		"retry {\nattemps 3\n}":                        "did you mean attempts?",
		"sla {\navailabilty 99%\n}":                    "did you mean availability?",
		"breaker of":                                   "want off or a block; did you mean off?",
		"quota endpiont":                               `not "endpiont"; did you mean endpoint?`,
		"client_credentials stripp":                    "did you mean strip?",
		"balance least_latncy":                         "did you mean least_latency?",
		"all_down failfast":                            "did you mean fail_fast?",
		"commit first-byte":                            "did you mean first_byte?",
		"retry {\nmethods idempotant\n}":               "did you mean idempotent?",
		"endpoint http://b {\nset_json a 1 optionl\n}": "did you mean optional?",
		"to two:1 https://three":                       "write endpoint http://two:1, endpoint https://three, at Caddyfile:4",
		"failover {\n}":                                "lb_policy failover",
		"overflow strickt":                             "did you mean strict?",
	} {
		if got := adaptError(directive(lines)); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", lines, got, want)
		}
	}
	policy := ":80 {\nreverse_proxy one:1 {\nlb_policy failover {\nhelth {\n}\n}\n}\n}\n"
	if got := adaptError(policy); !strings.Contains(got, "did you mean health?, at Caddyfile:4") {
		t.Errorf("in a policy: got %q", got)
	}
	if got := adaptError("{\nfailover {\nmemroy 1MiB\n}\n}\n:80 {\n}\n"); !strings.Contains(got, "did you mean memory") {
		t.Errorf("in the global options: got %q", got)
	}
}

// TestAFallbackOfAnotherPolicyIsRefused checks that failover cannot be the fallback of another policy,
// because it would get only some calls and retry none.
func TestAFallbackOfAnotherPolicyIsRefused(t *testing.T) {
	for policy, want := range map[string]string{"cookie": "affinity cookie", "header X-User": "affinity {header.<field>}", "query user": "affinity {query.<key>}"} {
		got := loadError(t, "reverse_proxy one:1 two:1 {\nlb_policy "+policy+" {\nfallback failover\n}\n}\n")
		name, _, _ := strings.Cut(policy, " ")
		if !strings.Contains(got, want) || !strings.Contains(got, "Caddyfile:8: failover: ") && !strings.Contains(got, "Caddyfile:8: failover stands") || !strings.Contains(got, "lb_policy "+name) {
			t.Errorf("%s: got %q", policy, got)
		}
	}
}
