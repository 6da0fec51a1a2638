package lab

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestAStatedQuotaHoldsBeforeThe429 checks that an endpoint gets no calls between an answer, of any
// status, that says that a quota is used up, and the time when the quota is back.
func TestAStatedQuotaHoldsBeforeThe429(t *testing.T) {
	for _, test := range []struct {
		name, api, quota string
		status           int
		header           []string
		back             time.Duration // 0: calls go on
	}{
		{"requests", "openai", "", 200, []string{"X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "1m30s"}, 90 * time.Second},
		{"tokens", "openai", "", 200, []string{"X-Ratelimit-Remaining-Requests", "9", "X-Ratelimit-Remaining-Tokens", "0", "X-Ratelimit-Reset-Tokens", "7.66s"}, 7660 * time.Millisecond},
		{"a short time", "openai", "", 200, []string{"X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "120ms"}, 120 * time.Millisecond},
		{"a mistake of the call", "openai", "", 400, []string{"X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "30s"}, 30 * time.Second},
		{"Anthropic's requests", "anthropic", "", 200, []string{"Anthropic-Ratelimit-Requests-Remaining", "0", "Anthropic-Ratelimit-Requests-Reset", "2000-01-01T00:01:00Z"}, time.Minute},
		{"Anthropic's output tokens", "anthropic", "", 200, []string{"Anthropic-Ratelimit-Tokens-Remaining", "900", "Anthropic-Ratelimit-Output-Tokens-Remaining", "0", "Anthropic-Ratelimit-Output-Tokens-Reset", "2000-01-01T00:00:20Z"}, 20 * time.Second},
		{"a clock an hour ahead", "anthropic", "", 200, []string{"Date", "Sat, 01 Jan 2000 01:00:00 GMT", "Anthropic-Ratelimit-Requests-Remaining", "0", "Anthropic-Ratelimit-Requests-Reset", "2000-01-01T01:00:25Z"}, 25 * time.Second},
		{"Cerebras's tokens", "openai", "", 200, []string{"X-Ratelimit-Remaining-Requests-Day", "900", "X-Ratelimit-Remaining-Tokens-Minute", "0", "X-Ratelimit-Reset-Tokens-Minute", "11.5"}, 11500 * time.Millisecond},
		{"not counted", "openai", "", 200, []string{"X-Ratelimit-Limit-Tokens", "-1", "X-Ratelimit-Remaining-Tokens", "-1", "X-Ratelimit-Reset-Tokens", "60"}, 0},
		{"no API", "", "endpoint", 200, []string{"X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "946684830"}, 30 * time.Second},
		{"the IETF's field", "", "endpoint", 200, []string{"Ratelimit", `"default";r=0;t=40`}, 40 * time.Second},
		{"the IETF's older fields", "", "endpoint", 200, []string{"Ratelimit-Limit", "100", "Ratelimit-Remaining", "0", "Ratelimit-Reset", "50"}, 50 * time.Second},
		{"a day", "openai", "", 200, []string{"X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "24h0m0s"}, 5 * time.Minute},
		{"some are left", "openai", "", 200, []string{"X-Ratelimit-Remaining-Requests", "1", "X-Ratelimit-Reset-Requests", "1m30s"}, 0},
		{"no reset", "openai", "", 200, []string{"X-Ratelimit-Remaining-Requests", "0"}, 0},
		{"a reset of long ago", "anthropic", "", 200, []string{"Anthropic-Ratelimit-Requests-Remaining", "0", "Anthropic-Ratelimit-Requests-Reset", "1999-01-01T00:01:00Z"}, 0},
		{"another API's field", "anthropic", "", 200, []string{"X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "1m30s"}, 0},
		{"a client's quota", "", "client", 200, []string{"X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "60"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				options := ""
				if test.api != "" {
					options += "api " + test.api + "\n"
				}
				if test.quota != "" {
					options += "quota " + test.quota + "\n"
				} else {
					options += "quota endpoint\n"
				}
				l := openLab(t, "failover {\nname lab\n"+options+"endpoint http://one:1\nendpoint http://two:1\n}")
				defer l.close()
				l.on("one:1", answersWith(test.status, test.header...))
				ask := func(want string) {
					t.Helper()
					l.call(http.MethodGet, "/", "")
					if asked := l.takeAsked(); fmt.Sprint(asked) != "["+want+":1]" {
						t.Errorf("%v were asked, want %s", asked, want)
					}
				}
				ask("one")
				if test.back == 0 {
					ask("one")
					return
				}
				ask("two")
				time.Sleep(test.back - time.Millisecond)
				ask("two")
				time.Sleep(time.Millisecond)
				synctest.Wait()
				ask("one")
				if s := l.endpoint("one:1").status(); s.State != "closed" || s.Failures > 0 {
					t.Errorf("the endpoint is %+v", s)
				}
			})
		})
	}
}

// TestAQuotaStaysUsedUpWhileOthersAreStated checks that an answer that states other quotas brings no used up
// quota back.
func TestAQuotaStaysUsedUpWhileOthersAreStated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\napi openai\nquota endpoint\nendpoint http://one:1\nendpoint http://two:1\n}")
		defer l.close()
		l.on("one:1", func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/late" { // begins later, and is answered later
				time.Sleep(time.Second)
				return respond(r, 200, "", "X-Ratelimit-Remaining-Requests", "50", "X-Ratelimit-Reset-Requests", "1s"), nil
			}
			time.Sleep(500 * time.Millisecond)
			return respond(r, 200, "", "X-Ratelimit-Remaining-Tokens", "0", "X-Ratelimit-Reset-Tokens", "20s"), nil
		})
		go l.call(http.MethodGet, "/", "")
		time.Sleep(time.Millisecond)
		l.call(http.MethodGet, "/late", "")
		l.takeAsked()
		for range 18 {
			l.call(http.MethodGet, "/", "")
			time.Sleep(time.Second)
		}
		if asked := strings.Join(l.takeAsked(), " "); strings.Contains(asked, "one") {
			t.Errorf("%s were asked while the tokens of the first were used up", asked)
		}
	})
}

// TestAHedgeThatLosesStatesQuotas checks that the quotas count that the answer of a hedge states, although it loses.
func TestAHedgeThatLosesStatesQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\napi openai\nquota endpoint\nretry {\nhedge 50ms max 1\n}\nendpoint http://one:1\nendpoint http://two:1\n}")
		defer l.close()
		l.on("one:1", after(200*time.Millisecond, 200))
		l.on("two:1", answersWith(500, "X-Ratelimit-Remaining-Tokens", "0", "X-Ratelimit-Reset-Tokens", "20s"))
		for _, want := range []string{"[one:1 two:1]", "[one:1]"} {
			l.call(http.MethodGet, "/", "")
			if asked := l.takeAsked(); fmt.Sprint(asked) != want {
				t.Errorf("%v were asked, want %s", asked, want)
			}
		}
	})
}

// TestAStatedQuotaClosesNoLastEndpoint checks that a used-up quota does not take out the last endpoint,
// and that the status shows it.
func TestAStatedQuotaClosesNoLastEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\napi openai\nquota endpoint\nendpoint http://one:1\nendpoint http://two:1\n}")
		defer l.close()
		usedUp := answersWith(200, "X-Ratelimit-Limit-Requests", "60", "X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "1m0s")
		l.on("one:1", usedUp)
		l.on("two:1", usedUp)
		for range 20 {
			if got := l.call(http.MethodGet, "/", ""); got.Code != 200 {
				t.Errorf("a call got %d", got.Code)
			}
		}
		var s struct {
			HeldUntil  time.Time `json:"held_until"`
			HeldReason string    `json:"held_reason"`
			Quotas     []struct {
				Of           string
				Amount, Left int64
				BackAt       time.Time `json:"back_at"`
			}
		}
		admin(t, http.MethodGet, "pools/lab/endpoints/one:1", "", &s)
		if s.HeldReason != "quota" || len(s.Quotas) != 1 || s.Quotas[0].Of != "requests" || s.Quotas[0].Amount != 60 || s.Quotas[0].Left != 0 || !s.Quotas[0].BackAt.Equal(s.HeldUntil) {
			t.Errorf("the status is %+v", s)
		}
		held := 0
		for _, e := range l.events() {
			if e.Kind != "endpoint_held" || e.Reason != "quota" {
				t.Errorf("event %+v", e)
			}
			held++
		}
		if held != 2 {
			t.Errorf("%d events", held)
		}
	})
}

// TestNearItsEndAnEndpointGetsLess checks that an endpoint with less than 5 % left of a quota, or of its
// own limit, gets proportionally less of its tier's load; all of it if it is alone in its tier.
func TestNearItsEndAnEndpointGetsLess(t *testing.T) {
	const tier = "failover {\nname lab\napi openai\nquota endpoint\nendpoint http://one:1 {\npriority 1\n%s}\nendpoint http://two:1 {\npriority %d\n}\n}"
	share := func(l *lab, calls int) float64 {
		l.takeAsked()
		for range calls {
			l.call(http.MethodGet, "/", "")
			time.Sleep(50 * time.Millisecond)
		}
		return float64(strings.Count(strings.Join(l.takeAsked(), " "), "one")) / float64(calls)
	}
	for _, test := range []struct {
		left     int
		priority int
		least    float64
		most     float64
	}{{1000, 1, 0.45, 0.55}, {60, 1, 0.45, 0.55}, {25, 1, 0.3, 0.37}, {1, 1, 0.02, 0.15}, {1, 2, 1, 1}} {
		synctest.Test(t, func(t *testing.T) {
			l := openLab(t, fmt.Sprintf(tier, "", test.priority))
			defer l.close()
			l.on("one:1", answersWith(200, "X-Ratelimit-Limit-Requests", "1000", "X-Ratelimit-Remaining-Requests", fmt.Sprint(test.left), "X-Ratelimit-Reset-Requests", "1m0s"))
			share(l, 20)
			if got := share(l, 400); got < test.least || got > test.most {
				t.Errorf("%d of 1000 left, the other in tier %d: a share of %.3f, want %.2f to %.2f", test.left, test.priority, got, test.least, test.most)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // its own limit
		l := openLab(t, fmt.Sprintf(tier, "limit 400 requests per 1h burst 400\n", 1))
		defer l.close()
		if before := share(l, 600); before < 0.45 || before > 0.55 {
			t.Errorf("a share of %.3f at first", before)
		}
		share(l, 170)
		if after := share(l, 40); after > 0.45 || after == 0 {
			t.Errorf("a share of %.3f near the end, %d left", after, l.endpoint("one:1").left())
		}
	})
}
