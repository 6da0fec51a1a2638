package faults

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/load"
	"github.com/apifailover/caddy-failover/bench/internal/stats"
)

func TestMeasure(t *testing.T) {
	// There are 100 calls a second. The fault lasts from 1 s to 3 s. Every tenth call fails
	// in its first second, and one fails afterwards. The primary is back half a second
	// after the heal.
	c := Course{time.Second, 2 * time.Second, 3 * time.Second}
	var samples []load.Sample
	for i := range 600 {
		s := load.Sample{At: time.Duration(i) * 10 * time.Millisecond, Took: time.Millisecond, OK: true, Endpoint: "a"}
		if s.At >= c.Before && s.At < c.heal()+500*time.Millisecond {
			s.Endpoint, s.Took = "b", 5*time.Millisecond
		}
		if s.At >= c.Before && s.At < 2*time.Second && i%10 == 0 || i == 310 {
			s.OK, s.What, s.Endpoint = false, "503", ""
		}
		samples = append(samples, s)
	}
	var r Result
	r.measure(samples, c)
	if r.Calls != 600 || r.Failed != 11 || r.FirstSecond != 10 || r.AfterHeal != 1 || r.What["503"] != 11 {
		t.Errorf("failures: %+v", r)
	}
	samples[7].Late = 30 * time.Millisecond
	r = Result{}
	r.measure(samples, c)
	if late := (Table{Results: []Result{{}, r}}).late(); late != 30 {
		t.Errorf("clients were late by %v ms, want 30", late)
	}
	if r.P50 != 5 || r.Max != 5 {
		t.Errorf("latency during the fault: p50 %v, max %v, want 5 and 5", r.P50, r.Max)
	}
	if r.Served < 0 || r.Served > 0.01 {
		t.Errorf("the primary served %v of the calls during the fault, want 0", r.Served)
	}
	// The first second with 90 % starts a tenth of a second before the primary has all
	// calls.
	if r.Back < 0.39 || r.Back > 0.41 {
		t.Errorf("the primary was back after %v s, want 0.4", r.Back)
	}
	if len(r.Series) != 24 || r.Series[0].Primary != 1 || r.Series[8].Primary != 0 || r.Series[23].Success != 1 {
		t.Errorf("series: %+v", r.Series)
	}
	for i := range samples {
		samples[i].Endpoint = "b"
	}
	if back := primaryBack(samples, 3*time.Second); back != stats.Never {
		t.Errorf("a primary that never answers was back after %v", back)
	}
}

func TestListed(t *testing.T) {
	want := "no answer ×7, 502 ×2, 503 ×2"
	if got := listed(map[string]int{"503": 2, "no answer": 7, "502": 2}); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
