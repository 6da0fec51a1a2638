package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMeasure(t *testing.T) {
	// 100 calls a second. The fault lasts from 1 s to 3 s; every tenth call fails
	// in its first second, one after it; the primary is back half a second later.
	c := course{time.Second, 2 * time.Second, 3 * time.Second}
	var samples []sample
	for i := range 600 {
		s := sample{At: time.Duration(i) * 10 * time.Millisecond, Took: time.Millisecond, OK: true, Endpoint: "a"}
		if s.At >= c.Before && s.At < c.Before+c.During+500*time.Millisecond {
			s.Endpoint, s.Took = "b", 5*time.Millisecond
		}
		if s.At >= c.Before && s.At < 2*time.Second && i%10 == 0 || i == 310 {
			s.OK, s.What, s.Endpoint = false, "503", ""
		}
		samples = append(samples, s)
	}
	var r faultResult
	r.measure(samples, c)
	if r.Calls != 600 || r.Failed != 11 || r.FirstSecond != 10 || r.AfterHeal != 1 || r.What["503"] != 11 {
		t.Errorf("failures: %+v", r)
	}
	if r.P50 != 5 || r.Max != 5 {
		t.Errorf("latency during the fault: p50 %v, max %v, want 5 and 5", r.P50, r.Max)
	}
	// 90 % of a second: it begins a tenth of a second before the primary has all
	if r.Back < 0.39 || r.Back > 0.41 {
		t.Errorf("the primary was back after %v s, want 0.4", r.Back)
	}
	if len(r.Series) != 24 || r.Series[0].Primary != 1 || r.Series[8].Primary != 0 || r.Series[23].Success != 1 {
		t.Errorf("series: %+v", r.Series)
	}
	for i := range samples {
		samples[i].Endpoint = "b"
	}
	if back := primaryBack(samples, 3*time.Second); back != -1 {
		t.Errorf("a primary that never answers was back after %v", back)
	}
}

func TestBetterThanFirst(t *testing.T) {
	table := faultTable{Fault: "crash", Calls: 100, Results: []faultResult{
		{Proxy: "failover", Failed: 1, P99: 30, Max: 40, AtFaulty: 5, Back: 4},
		{Proxy: "Caddy", Failed: 0, P99: 29, Max: 45, AtFaulty: 4, Back: 3.9},
		{Proxy: "nginx", Failed: 1, P99: 5, Max: 400, AtFaulty: 51, Back: 1},
		{Proxy: "quick failure", Failed: 2, P99: 1, Max: 1, Back: 0},
		{Proxy: "HAProxy", Failed: 1, P99: 30, Max: 40, AtFaulty: 5, Back: -1},
	}}
	got := strings.Join(table.betterThanFirst(), "\n")
	want := "crash: fewer failures: Caddy (0); this plugin: 1\n" +
		"crash: a lower p99: nginx (5 ms); this plugin: 30 ms\n" +
		"crash: a primary that is back sooner: nginx (never left it); this plugin: 4.0 s"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRatios(t *testing.T) {
	ours := []slice{{CPU: 11}, {CPU: 22}, {CPU: 33}}
	stock := []slice{{CPU: 10}, {CPU: 20}, {CPU: 30}}
	ratio, between := ratios(ours, stock, func(s slice) float64 { return s.CPU })
	if ratio < 1.0999 || ratio > 1.1001 || between[0] < 1.0999 || between[1] > 1.1001 {
		t.Errorf("ratio %v in %v, want 1.1", ratio, between)
	}
}

// TestRatiosOfLives has two lives, one dear and one cheap, of many rounds each: what
// is not known is which of them is usual, however many rounds there were.
func TestRatiosOfLives(t *testing.T) {
	var ours, stock []slice
	for round := range 100 {
		life := round / 50
		ours = append(ours, slice{CPU: 10 + float64(life), life: life})
		stock = append(stock, slice{CPU: 10, life: life})
	}
	_, between := ratios(ours, stock, func(s slice) float64 { return s.CPU })
	if between[0] != 1 || between[1] != 1.1 {
		t.Errorf("the ratio is in %v, want 1 to 1.1", between)
	}
}

func TestParseScenarios(t *testing.T) {
	for words, want := range map[string][]scenario{
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

// TestSink talks to the endpoint that speed is measured with as proxies do.
func TestSink(t *testing.T) {
	s, err := newSink()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, body := range []io.Reader{nil, strings.NewReader("with a length"), io.MultiReader(strings.NewReader("in chunks"))} {
		resp, err := http.Post("http://"+s.address()+"/2048", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(text) != 2048 {
			t.Errorf("%d bytes, %v; want 2048", len(text), err)
		}
	}
	loop, err := newClosedLoop(s.address(), h1, nil, 100, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer loop.close()
	took, _, err := loop.send(t.Context(), 50)
	if err != nil || len(took) != 50 || quantile(took, 0) <= 0 {
		t.Errorf("took %v, %v", took, err)
	}
}

func TestSkipChunks(t *testing.T) {
	in := bufio.NewReader(strings.NewReader("3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\nnext"))
	if err := skipChunks(in); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(in); string(rest) != "next" {
		t.Errorf("what follows is %q", rest)
	}
}

// TestProcessGroup stops a process that has a child of its own, and reads the
// CPU time of both.
func TestProcessGroup(t *testing.T) {
	p, err := startProcess("shell", t.TempDir(), []string{"sh", "-c", "sh -c 'while :; do :; done' & wait"})
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for deadline := time.Now().Add(10 * time.Second); len(pids) < 2 || cpuClock(pids) < 20*time.Millisecond; {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v have used %v", pids, cpuClock(pids))
		}
		pids = p.members()
	}
	if now, peak := memory(pids); now <= 0 || peak < now {
		t.Errorf("memory is %d, at most %d", now, peak)
	}
	p.stop()
	for deadline := time.Now().Add(5 * time.Second); len(p.members()) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v are still there", p.members())
		}
	}
}

// TestOpenLoop counts latency from the time at which a request was meant to be
// sent, and knows a wrong answer.
func TestOpenLoop(t *testing.T) {
	a, err := newActor("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.crash()
	play := func(b behaviour) []sample {
		a.play(b)
		return newOpenLoop(a.address, 100).run(context.Background(), time.Now(), 200*time.Millisecond)
	}
	for _, s := range play(well) {
		if !s.OK || s.Endpoint != "a" || s.Took < quickAnswer {
			t.Errorf("well: %+v", s)
		}
	}
	for _, s := range play(cutsBodies) {
		if s.What != "cut or wrong body" {
			t.Errorf("cut bodies: %+v", s)
		}
	}
	for i, s := range play(failsPOST) {
		if post := i%2 == 1; s.OK == post || post && s.What != "503" {
			t.Errorf("POST 503: %+v", s)
		}
	}
	if a.checks.Load() != 0 || a.attempts.Load() != 60 || a.refused.Load() != 10 {
		t.Errorf("%d checks, %d attempts, %d refused", a.checks.Load(), a.attempts.Load(), a.refused.Load())
	}
}

func TestJudgeLog(t *testing.T) {
	const line = "==================\n"
	race := func(frames ...string) string {
		return line + "WARNING: DATA RACE\nRead at 0x00c0004529a0 by goroutine 1:\n  " + strings.Join(frames, "()\n\nPrevious write at 0x00c0004529a0 by goroutine 2:\n  ") +
			"()\n\nGoroutine 1 (running) created at:\n  github.com/apifailover/caddy-failover.start()\n" + line
	}
	const (
		closes = "caddyhttp.(*hijackedConn).Write()\n  reverseproxy.writeCloseControl"
		copies = "caddyhttp.(*hijackedConn).ReadFrom"
	)
	for _, step := range []struct {
		log   string
		bad   int
		known int
	}{
		{"{\"level\":\"error\"}\n", 0, 0},
		{race(closes, copies) + "{\"level\":\"error\"}\n" + race(copies, closes), 0, 2},
		{race(closes, "[failed to restore the stack]"), 0, 1},
		{race(closes, "github.com/apifailover/caddy-failover.(*upgraded).Close"), 1, 0},
		{race(closes, "github.com/apifailover/caddy-failover.(*upgraded).Read()\n  "+copies), 1, 0},
		{race(copies, copies) + race(closes, copies) + "panic: nil\n", 2, 1},
		{"fatal error: concurrent map writes\n", 1, 0},
	} {
		if bad, known := judgeLog(step.log); len(bad) != step.bad || known != step.known {
			t.Errorf("%s\ngot %d problems and %d known races, want %d and %d", step.log, len(bad), known, step.bad, step.known)
		}
	}
}
