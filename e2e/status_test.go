package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestStatus(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, `failover {
	name api
	endpoint http://user:hunter2@`+one.address+`/v1/0123456789abcdef0123456789abcdef {
		name one
		header X-Api-Key sesame
		weight 2
	}
	endpoint http://`+two.address+` {
		name two
	}
	quota client
	breaker {
		consecutive_failures 2
		open_for 1m
	}
}`)
	one.answer(http.StatusServiceUnavailable)
	for range 4 {
		p.get().want(t, "a call", 200, "two")
	}
	eventually(t, "one gets no traffic", func() bool {
		return p.endpoint("api", "one").Traffic == 0
	})
	all := p.pools()
	if len(all) != 1 || all[0].Name != "api" || all[0].Down || len(all[0].Endpoints) != 2 {
		t.Fatalf("got %+v", all)
	}
	first, second := all[0].Endpoints[0], all[0].Endpoints[1]
	if first.Name != "one" || first.State != "open" || first.Reason != "consecutive_failures" || first.Until.IsZero() ||
		first.Share != 0 || first.Traffic != 0 || first.Weight != 2 || first.Priority != 1 {
		t.Errorf("one: %+v", first)
	}
	if !slices.Equal(first.LastOutcomes, []string{"status", "status"}) || first.Failures != 2 || first.Attempts != 2 {
		t.Errorf("one: %d of %d failed, last %q", first.Failures, first.Attempts, first.LastOutcomes)
	}
	if second.Name != "two" || second.State != "closed" || second.Share != 1 || second.Traffic != 1 ||
		second.Successes != 4 || second.InFlight != 0 || second.URL != "http://"+two.address {
		t.Errorf("two: %+v", second)
	}
	text := p.readText("/failover/pools")
	for _, secret := range []string{"user", "hunter2", "sesame", "0123456789abcdef"} {
		if strings.Contains(text, secret) {
			t.Errorf("the status shows %q: %s", secret, text)
		}
	}
	if want := "http://" + one.address + "/v1/xxxxx"; first.URL != want {
		t.Errorf("the URL is %q, want %q", first.URL, want)
	}

	for _, a := range []*api{one, two} {
		a.down()
	}
	eventually(t, "the pool is down", func() bool {
		p.get()
		return p.pool("api").Down
	})
}

// TestStatusIsWholeWhileReloading checks that the status has all endpoints at any time during reloads.
func TestStatusIsWholeWhileReloading(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	quit := make(chan struct{})
	var lookers sync.WaitGroup
	for range 4 {
		lookers.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				status, text, err := p.send(http.MethodGet, "/failover/pools/api", "")
				var got poolStatus
				if err == nil {
					err = json.Unmarshal([]byte(text), &got)
				}
				if err != nil || status != http.StatusOK || len(got.Endpoints) != 2 {
					t.Errorf("there are %d endpoints: %d %s, %v", len(got.Endpoints), status, text, err)
					return
				}
			}
		})
	}
	for n := range 30 {
		if err := p.load(site(fmt.Sprintf("\toverflow %d", 2+n), one, two)); err != nil {
			t.Error(err)
		}
	}
	close(quit)
	lookers.Wait()
}
