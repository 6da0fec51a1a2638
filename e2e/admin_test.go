package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// totals count the attempts at an endpoint by result.
type totals struct {
	Attempts, Successes, Failures, Cancelled uint64
}

// endpointStatus holds the fields of an endpoint's status that tests read.
type endpointStatus struct {
	Name, Address, URL, State, Reason string
	Priority                          int
	Weight, Share, Score, Traffic     float64
	Draining                          bool
	Since, Until                      time.Time
	HeldUntil                         time.Time `json:"held_until"`
	HeldReason                        string    `json:"held_reason"`
	Latency                           *struct{ P50 float64 }
	InFlight                          int64 `json:"in_flight"`
	totals
	LastOutcomes []string `json:"last_outcomes"`
	Cause        *failureStatus
	LastFailure  *failureStatus `json:"last_failure"`
	Check        *checkStatus
	SLA          *slaStatus
	Operator     *operatorStatus
	Override     *struct {
		Weight   *override[float64]
		Priority *override[int]
	}
}

// failureStatus says what went wrong.
type failureStatus struct {
	Outcome, What, Method, Path string
	Count                       uint64
}

// slaStatus compares objectives with results.
type slaStatus struct {
	Calls        uint64
	Failed       uint64
	Availability *struct{ Met bool }
	Target       float64 `json:"target_seconds"`
}

// operatorStatus is an operator's order in force.
type operatorStatus struct {
	Action, Reason string
	Since, Until   time.Time
}

// An override is a value that an operator set in place of the configured one.
type override[T any] struct {
	Value, Configured T
	Reason            string
}

type checkStatus struct {
	State         string
	LastResult    string `json:"last_result"`
	Sent, Skipped uint64
}

type poolStatus struct {
	Name          string
	At            time.Time
	Down          bool
	RetriesDenied int64 `json:"retries_denied"`
	SLA           *slaStatus
	Endpoints     []endpointStatus
}

// known is the state that a reload must keep unless the configuration changes it.
func (e endpointStatus) known() string {
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	return fmt.Sprintf("%s at %s: %s because of %q since %s until %s, held until %s, share %v, %+v, last %v, operator %+v",
		e.Name, e.Address, e.State, e.Reason, at(e.Since), at(e.Until), at(e.HeldUntil), e.Share, e.totals, e.LastOutcomes, e.Operator)
}

// lastOutcome is the result of the latest attempt; "" if there was none.
func (e endpointStatus) lastOutcome() string {
	if len(e.LastOutcomes) == 0 {
		return ""
	}
	return e.LastOutcomes[len(e.LastOutcomes)-1]
}

// An event is an event of a pool in the admin API.
type event struct {
	ID                               uint64
	Kind, Pool, Endpoint, To, Reason string
	Count                            int
	Details                          map[string]any
	Incident                         uint64
}

// send sends a request to the admin endpoint. It repeats a request that a reload drops, because the
// reload replaces the endpoint; the dropped request may have had its effect.
func (p *proxy) send(method, path, body string) (int, string, error) {
	for began := time.Now(); ; {
		status, text, err := p.trySend(method, path, body)
		if err == nil || !dropped(err) || time.Since(began) > patience {
			return status, text, err
		}
	}
}

func (p *proxy) trySend(method, path, body string) (int, string, error) {
	r, err := http.NewRequest(method, "http://"+p.adminHost+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := p.admin.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// dropped reports whether a connection was closed before an answer.
func dropped(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNREFUSED)
}

// exchange sends a request to the admin endpoint, repeats it if a reload drops it, and returns the
// answer with its headers.
func (p *proxy) exchange(method, path, body string, header ...string) (int, http.Header, string) {
	p.t.Helper()
	resp := p.open(method, path, body, header...)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// open sends a request to the admin endpoint until it gets an answer, whose body the caller reads.
func (p *proxy) open(method, path, body string, header ...string) *http.Response {
	p.t.Helper()
	for began := time.Now(); ; {
		r, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.adminHost+path, strings.NewReader(body))
		if err != nil {
			p.t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		r.Host = r.Header.Get("Host")
		resp, err := p.admin.Do(r)
		if err == nil {
			return resp
		}
		if !dropped(err) || time.Since(began) > patience {
			p.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
}

// An orderAnswer is the answer to an operator's order.
type orderAnswer struct {
	Pool, Endpoint, Action string
	InFlight               int64 `json:"in_flight"`
	Status                 endpointStatus
}

// receiveNoMore waits for the end of a stream and wants no more events from it.
func receiveNoMore(t testing.TB, stream <-chan streamed) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case s, ok := <-stream:
		if ok {
			t.Fatalf("got %+v", s)
		}
	case <-ctx.Done():
		t.Fatalf("the stream does not end within %v", patience)
	}
}

// order sends an operator's order, which must succeed. path is relative to /failover/pools/.
func (p *proxy) order(method, path, body string) (answer orderAnswer) {
	p.t.Helper()
	status, _, text := p.exchange(method, "/failover/pools/"+path, body)
	if status != http.StatusOK {
		p.t.Fatalf("%s %s %s: %d %s", method, path, body, status, text)
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		p.t.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	return answer
}

// A streamed event is an event in a stream of server-sent events.
type streamed struct{ name, id, data string }

// follow reads a stream of events from the admin endpoint until the test or the stream ends.
func (p *proxy) follow(path string, header ...string) <-chan streamed {
	p.t.Helper()
	resp := p.open(http.MethodGet, path, "", append(header, "Accept", "text/event-stream")...)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		p.t.Fatalf("GET %s: %d %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	out := make(chan streamed, 1000)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		var e streamed
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			case "":
				if e.data != "" {
					out <- e
				}
				e = streamed{}
			}
		}
	}()
	return out
}

// next returns the next event of a stream.
func next(t testing.TB, stream <-chan streamed) (e event, s streamed) {
	t.Helper()
	s = receive(t, "an event of the stream", stream)
	if err := json.Unmarshal([]byte(s.data), &e); err != nil {
		t.Fatalf("%v in %s", err, s.data)
	}
	return e, s
}

// read decodes the answer to a GET at the admin endpoint, which must be 200.
func (p *proxy) read(path string, into any) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(p.readText(path)), into); err != nil {
		p.t.Fatalf("GET %s: %v", path, err)
	}
}

func (p *proxy) readText(path string) string {
	p.t.Helper()
	status, text, err := p.send(http.MethodGet, path, "")
	if err != nil || status != http.StatusOK {
		p.t.Fatalf("GET %s: %d %s, %v", path, status, text, err)
	}
	return text
}

// pools returns all pools by name.
func (p *proxy) pools() (all []poolStatus) {
	p.t.Helper()
	p.read("/failover/pools", &all)
	return all
}

func (p *proxy) pool(name string) (status poolStatus) {
	p.t.Helper()
	p.read("/failover/pools/"+url.PathEscape(name), &status)
	return status
}

func (p *proxy) endpoint(pool, name string) (status endpointStatus) {
	p.t.Helper()
	p.read("/failover/pools/"+url.PathEscape(pool)+"/endpoints/"+url.PathEscape(name), &status)
	return status
}

// one returns an endpoint of the pool api.
func (p *proxy) one(name string) endpointStatus {
	p.t.Helper()
	return p.endpoint("api", name)
}

// known returns the known state of the pool api, by endpoint.
func (p *proxy) known() map[string]string {
	p.t.Helper()
	known := make(map[string]string)
	for _, e := range p.pool("api").Endpoints {
		known[e.Name] = e.known()
	}
	return known
}

// inFlight returns how many attempts are under way in all pools.
func (p *proxy) inFlight() (n int64) {
	p.t.Helper()
	for _, pool := range p.pools() {
		for _, e := range pool.Endpoints {
			n += e.InFlight
		}
	}
	return n
}

// quiet waits until nothing is in flight.
func (p *proxy) quiet() {
	p.t.Helper()
	eventually(p.t, "nothing is in flight", func() bool { return p.inFlight() == 0 })
}

// becomes waits until the breaker of an endpoint of the pool api is in a state.
func (p *proxy) becomes(name, state string) time.Duration {
	p.t.Helper()
	return eventually(p.t, name+" is "+state, func() bool { return p.one(name).State == state })
}

// back waits until an endpoint's breaker is closed, and all calls go there.
func (p *proxy) back(pool, name string) time.Duration {
	p.t.Helper()
	return eventually(p.t, name+" has its full share again", func() bool {
		e := p.endpoint(pool, name)
		return e.State == "closed" && e.Traffic > 0.99
	})
}

// wantState checks the breaker state of an endpoint of the pool api.
func (p *proxy) wantState(name, want string) {
	p.t.Helper()
	if got := p.one(name).State; got != want {
		p.t.Errorf("the breaker of %s is %s, want %s", name, got, want)
	}
}

// wantTotals waits until no attempt is in flight at an endpoint of the pool api, and checks the
// totals of its attempts.
func (p *proxy) wantTotals(name string, want totals) {
	p.t.Helper()
	var e endpointStatus
	eventually(p.t, "nothing is in flight at "+name, func() bool {
		e = p.one(name)
		return e.InFlight == 0
	})
	if e.totals != want {
		p.t.Errorf("endpoint %s has %+v, want %+v", name, e.totals, want)
	}
}

// events returns the events of the pool api after an ID.
func (p *proxy) events(after uint64) (list []event) {
	p.t.Helper()
	p.read("/failover/events?pool=api&since="+strconv.FormatUint(after, 10), &list)
	return list
}

// newestEvent returns the ID of the latest event of this process; 0 if there is none.
func (p *proxy) newestEvent() uint64 {
	p.t.Helper()
	var list []event
	p.read("/failover/events?limit=1", &list)
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].ID
}

// scraped are samples of metrics by name and labels.
type scraped map[string]float64

// metrics scrapes the plugin's metrics from the admin endpoint.
func (p *proxy) metrics() scraped {
	p.t.Helper()
	return parseMetrics(p.t, p.readText("/metrics"))
}

// parseMetrics returns the plugin's samples in a scrape.
func parseMetrics(t testing.TB, text string) scraped {
	t.Helper()
	samples := make(scraped)
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "caddy_failover_") {
			continue
		}
		space := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[space+1:], 64)
		if err != nil {
			t.Fatalf("sample %q: %v", line, err)
		}
		if _, twice := samples[line[:space]]; twice {
			t.Errorf("sample %s is there twice", line[:space])
		}
		samples[line[:space]] = value
	}
	return samples
}

// calls returns the calls of the pool api by what their clients got, without zero counts.
func (p *proxy) calls() map[string]int {
	p.t.Helper()
	return p.callsOf("api")
}

func (p *proxy) callsOf(pool string) map[string]int {
	p.t.Helper()
	calls := make(map[string]int)
	for name, value := range p.metrics() {
		rest, ok := strings.CutPrefix(name, `caddy_failover_calls_total{outcome="`)
		if outcome, labels, _ := strings.Cut(rest, `"`); ok && value > 0 && labels == `,pool="`+pool+`"}` {
			calls[outcome] = int(value)
		}
	}
	return calls
}

// sum returns the sum of counts.
func sum[K comparable](counts map[K]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

// TestAdminEndpointOfTheHarness checks that the harness reads an answer, a breaker and metrics.
func TestAdminEndpointOfTheHarness(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	p.get().want(t, "a call", 200, "one")
	p.wantState("one", "closed")
	p.wantTotals("one", totals{Attempts: 1, Successes: 1})
	if got := p.calls(); got["success"] != 1 || sum(got) != 1 {
		t.Errorf("calls are %v", got)
	}
	p.reload(site("timeout 1s", one))
	p.wantTotals("one", totals{Attempts: 1, Successes: 1})
}
