package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ordered is the state of an endpoint that follows from the acknowledged operator actions.
type ordered struct {
	action   string // "": none
	weight   *float64
	priority *int
}

// An operator is one of many concurrent clients of the admin API. It acts on its own endpoint, reads everything, and
// sends many bad requests.
type operator struct {
	p        *proxy
	endpoint string
	dice     *rand.Rand
	ordered  ordered
	answers  map[int]int // by status
}

// expect makes a request and checks the status.
func (o *operator) expect(want int, method, path, body string) {
	status, text, err := o.p.send(method, path, body)
	if err != nil || status != want {
		o.p.t.Errorf("%s %s %s: got %d %s, %v; want %d", method, path, body, status, text, err, want)
	}
	o.answers[status]++
}

func (o *operator) pick(of ...string) string { return of[o.dice.IntN(len(of))] }

// act makes one request of any kind.
func (o *operator) act() {
	at := "/failover/pools/api/endpoints/" + url.PathEscape(o.endpoint)
	other := fmt.Sprintf("/failover/pools/api/endpoints/e%%2F%d", o.dice.IntN(20))
	switch o.dice.IntN(10) {
	case 0, 1, 2:
		o.operate(at)
	case 3, 4:
		o.set(at)
	case 5:
		o.expect(200, http.MethodGet, o.pick("/failover/pools", "/failover/pools/api", other, "/failover/events?limit=20", "/failover/events?pool=api&since=1m"), "")
	case 6:
		o.expect(404, o.pick("GET", "PATCH"), o.pick("/failover/pools/x/endpoints/y", at+"x"), `{"weight":1}`)
	case 7:
		o.expect(404, http.MethodPost, o.pick(at+"/stop", "/failover/pools/y/endpoints/x/drain", at+"x/trip", "/failover/x"), "")
	case 8:
		body := o.pick(`{`, `[]`, `null`, `{"for":"-1s"}`, `{"for":""}`, `{"reason":[]}`, `{"x":1}`, `{"for":"1h"}x`, `{"weight":-1}`)
		o.expect(400, "PATCH", other, body)
		o.expect(400, http.MethodPost, other+o.pick("/drain", "/trip", "/enable", "/reset"), body)
	case 9:
		o.expect(405, o.pick("PUT", "DELETE", "POST"), o.pick(other, "/failover/pools", "/failover/events"), "{}")
		o.expect(405, http.MethodGet, other+o.pick("/drain", "/trip", "/enable", "/reset"), "")
	}
}

// operate drains, trips, enables or resets the operator's endpoint.
func (o *operator) operate(at string) {
	action := o.pick("drain", "trip", "enable", "reset")
	body, lasts := "", false
	if action != "reset" && o.dice.IntN(2) == 0 {
		body, lasts = `{"for":"1h","reason":"stress"}`, true
	}
	o.expect(200, http.MethodPost, at+"/"+action, body)
	o.ordered.action = action
	if action == "reset" || action == "enable" && !lasts {
		o.ordered.action = ""
	}
}

// set changes weight, priority or both of the operator's endpoint, or resets them.
func (o *operator) set(at string) {
	fields := map[string]any{}
	if o.dice.IntN(2) == 0 {
		weight := float64(o.dice.IntN(5))
		fields["weight"], o.ordered.weight = weight, &weight
		if o.dice.IntN(3) == 0 {
			fields["weight"], o.ordered.weight = nil, nil
		}
	}
	if len(fields) == 0 || o.dice.IntN(2) == 0 {
		priority := 1 + o.dice.IntN(3)
		fields["priority"], o.ordered.priority = priority, &priority
		if o.dice.IntN(3) == 0 {
			fields["priority"], o.ordered.priority = nil, nil
		}
	}
	body, err := json.Marshal(fields)
	if err != nil {
		o.p.t.Error(err)
	}
	o.expect(200, http.MethodPatch, at, string(body))
}

// check returns an error if the status of the endpoint is not the ordered one.
func (o *ordered) check(e endpointStatus) error {
	action := ""
	if e.Operator != nil {
		action = e.Operator.Action
	}
	if action != o.action || e.Draining != (action == "drain") ||
		(e.State == "forced_open") != (action == "trip") || (e.State == "forced_closed") != (action == "enable") {
		return fmt.Errorf("the operator action is %q and the breaker %s, draining %v; want %q", action, e.State, e.Draining, o.action)
	}
	var weight *float64
	var priority *int
	if e.Override != nil && e.Override.Weight != nil {
		weight = &e.Override.Weight.Value
	}
	if e.Override != nil && e.Override.Priority != nil {
		priority = &e.Override.Priority.Value
	}
	if !same(weight, o.weight) || !same(priority, o.priority) || weight != nil && e.Weight != *weight || priority != nil && e.Priority != *priority {
		return fmt.Errorf("weight %v and priority %v, override %+v; want %+v", e.Weight, e.Priority, e.Override, o)
	}
	return nil
}

func same[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// TestAdminUnderStress makes 10,000 requests from 20 operators, good and bad, during calls and reloads, some of which
// fail. No answer may be a server error, no call may fail, and in the end each endpoint must be in the state that its
// operator's last actions ordered.
func TestAdminUnderStress(t *testing.T) {
	const operators, requests = 20, 4_000
	api := newAPI(t, "api")
	config := func(options string) string {
		var b strings.Builder
		b.WriteString("failover {\n\tname api\n")
		for i := range operators {
			fmt.Fprintf(&b, "\tendpoint http://%s {\n\t\tname e/%d\n\t\tpriority %d\n\t}\n", api.address, i, 1+i%3)
		}
		fmt.Fprintf(&b, "\tendpoint http://%s {\n\t\tname anchor\n\t\tpriority 2\n\t}\n%s\n}", api.address, options)
		return b.String()
	}
	contradiction := config("") + "\nfailover /x {\n\tname api\n\tendpoint http://" + api.address + "/x {\n\t\tname anchor\n\t}\n}"
	p := startCaddy(t, config(""))

	quit := make(chan struct{})
	var background sync.WaitGroup
	reloads, refused := 0, 0
	background.Go(func() {
		options := []string{"\tbalance least_latency", "\tbreaker off", "\toverflow 1.4", ""}
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-quit:
				return
			case <-ticker.C:
			}
			if n%5 == 4 {
				if err := p.load(contradiction); err == nil {
					t.Error("a configuration with two URLs of one endpoint has loaded")
				}
				refused++
				continue
			}
			if err := p.load(config(options[n%len(options)])); err != nil {
				t.Errorf("reloading: %v", err)
			}
			reloads++
		}
	})
	var answered, failed atomic.Int64
	for range 5 { // or the operators leave them little of the machine
		background.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				resp, err := p.do(http.MethodGet, "/", nil)
				if err != nil {
					continue // a reload has closed the connection
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				answered.Add(1)
				if resp.StatusCode != http.StatusOK {
					failed.Add(1)
				}
			}
		})
	}

	began := time.Now()
	team := make([]*operator, operators)
	var clients sync.WaitGroup
	for i := range team {
		team[i] = &operator{p: p, endpoint: fmt.Sprintf("e/%d", i), dice: rand.New(rand.NewPCG(uint64(i), 1)), answers: make(map[int]int)}
		clients.Go(func() {
			for n := 0; n < requests/operators && !t.Failed(); n = sum(team[i].answers) {
				team[i].act()
			}
		})
	}
	clients.Wait()
	took := time.Since(began)
	close(quit)
	background.Wait()
	calls, bad := answered.Load(), failed.Load()

	answers := make(map[int]int)
	for _, o := range team {
		for status, n := range o.answers {
			answers[status] += n
			if status >= 500 {
				t.Errorf("%d answers were %d", n, status)
			}
		}
		if err := o.ordered.check(p.one(o.endpoint)); err != nil {
			t.Errorf("%s: %v", o.endpoint, err)
		}
	}
	t.Logf("%d answers in %v: %v; %d reloads, %d refused; %d calls, %d failed", sum(answers), took, answers, reloads, refused, calls, bad)
	if sum(answers) < requests || reloads < 5 || refused < 1 || calls < 100 || answers[200] < requests/4 || answers[400] < requests/20 {
		t.Error("too few requests, reloads or calls for this test")
	}
	if bad > 0 {
		t.Errorf("%d of %d calls failed", bad, calls)
	}
}
