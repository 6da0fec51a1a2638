package speed

import (
	"slices"
	"testing"

	"github.com/apifailover/caddy-failover/bench/internal/client"
)

func TestParseScenarios(t *testing.T) {
	const h1, h2c, h2tls = client.H1, client.H2C, client.H2TLS
	for words, want := range map[string][]Scenario{
		"h1:0:3,h2c:2048:30":      {{h1, 0, 3}, {h2c, 2048, 30}},
		"h2tls+h1:0+1048576:3":    {{h2tls, 0, 3}, {h2tls, 1 << 20, 3}, {h1, 0, 3}, {h1, 1 << 20, 3}},
		"h1:0:3+30,h1+h2c:0:30+3": {{h1, 0, 3}, {h1, 0, 30}, {h2c, 0, 30}, {h2c, 0, 3}},
	} {
		if got, err := parseScenarios(words); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v; want %v", words, got, err, want)
		}
	}
	usual, err := parseScenarios("")
	all, err2 := parseScenarios("all")
	if err != nil || err2 != nil || len(usual) != 13 || len(all) != 27 {
		t.Errorf("%d scenarios by default, %d in all (%v, %v)", len(usual), len(all), err, err2)
	}
	for _, s := range usual {
		if !slices.Contains(all, s) {
			t.Errorf("%v is not among all scenarios", s)
		}
	}
	for _, wrong := range []string{",", "h3:0:3", "h2:0:3", "h1:0", "h1:x:3", "h1:0:0", "h1:-1:3", "h1:2000000:3", "h1:0+:3", "h1+:0:3"} {
		if _, err := parseScenarios(wrong); err == nil {
			t.Errorf("%q was accepted", wrong)
		}
	}
}
