package report

import (
	"strings"
	"testing"

	"github.com/apifailover/caddy-failover/bench/internal/faults"
	"github.com/apifailover/caddy-failover/bench/internal/run"
)

func TestBetterThanFirst(t *testing.T) {
	table := faults.Table{Fault: "crash", Calls: 100, Results: []faults.Result{
		{Proxy: "failover", Failed: 1, P99: 30, Max: 40, AtFaulty: 5, Back: 4},
		{Proxy: "Caddy", Failed: 0, P99: 29, Max: 45, AtFaulty: 4, Back: 3.9},
		{Proxy: "nginx", Failed: 1, P99: 5, Max: 400, AtFaulty: 51, Back: 1},
		{Proxy: "quick failure", Failed: 2, P99: 1, Max: 1, Back: 0},
		{Proxy: "HAProxy", Failed: 1, P99: 30, Max: 40, AtFaulty: 5, Back: -1},
	}}
	got := strings.Join(betterThanFirst(table), "\n")
	want := "crash: fewer failures: Caddy (0); this plugin: 1\n" +
		"crash: a lower p99: nginx (5 ms); this plugin: 30 ms\n" +
		"crash: a primary that is back sooner: nginx (never left it); this plugin: 4.0 s"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestOthers compares the first proxy neither with its own variants nor with proxies that took no
// part, and shows the variants beside it.
func TestOthers(t *testing.T) {
	table := faults.Table{Fault: "POST 503", About: "a fault", Calls: 100, Results: []faults.Result{
		{Proxy: "failover", AtFaulty: 90, RefusedDuring: 40, Served: 0.3},
		{Proxy: "failover with scope", Variant: true, RefusedDuring: 1, Served: 0.5},
		{Proxy: "Caddy", AtFaulty: 80, RefusedDuring: 20, Served: 0.2},
		{Proxy: "nginx", Cannot: "it speaks only HTTP/1 to endpoints"},
	}}
	got := strings.Join(betterThanFirst(table), "\n")
	if want := "POST 503: fewer attempts refused by the failing primary: Caddy (20); this plugin: 40"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	table.Machine = &run.Machine{Date: "2026-01-31", Versions: map[string]string{"plugin": "abcdef0"}}
	var p page
	if err := p.faultsInShort(faults.Report{Machine: run.Machine{Date: "2026-01-30"}, Tables: []faults.Table{table}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Measured 2026-01-31 on 0 cores of , Linux : plugin abcdef0.",
		"| 0 requests | this plugin | with scope | best of the others |",
		"| of these refused | 40 | 1 | 20 (Caddy) |",
		"| requests that the failing primary served | 30 % | 50 % | 20 % (Caddy) |",
		"nginx takes no part: it speaks only HTTP/1 to endpoints.",
	} {
		if !strings.Contains(p.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, p.String())
		}
	}
}

// TestNeverBack has a primary that the first proxy never returns to. A proxy that returns
// is better; another that does not is not.
func TestNeverBack(t *testing.T) {
	table := faults.Table{Fault: "crash", Calls: 100, Results: []faults.Result{
		{Proxy: "failover", Back: -1}, {Proxy: "Caddy", Back: 3}, {Proxy: "nginx", Back: -1},
	}}
	got := strings.Join(betterThanFirst(table), "\n")
	want := "crash: a primary that is back sooner: Caddy (3.0 s); this plugin: not by the end"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
