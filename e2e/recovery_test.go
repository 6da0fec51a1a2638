package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// TestSuccessesCountOnce checks that each success of a recovering primary adds 1 % to its share, with every value of
// `commit`.
func TestSuccessesCountOnce(t *testing.T) {
	for _, commit := range []string{"headers", "first_byte", "complete"} {
		apart(t, commit, func(t *testing.T) {
			const n = 30
			apis := newAPIs(t, "one", "two")
			one := apis[0]
			p := startCaddy(t, site("commit "+commit+"\nbreaker {\nopen_for 300ms\nopen_max 300ms\nstart 50%\nstep 3s\n}", apis...))
			one.answer(http.StatusServiceUnavailable)
			p.gets(10)
			p.becomes("one", "open")
			one.behave(one.fine)
			eventually(t, "a trial has succeeded", func() bool { p.get(); return p.one("one").Share > 0 })
			for before := one.hits.Load(); one.hits.Load() < before+n; {
				p.get()
			}
			eventually(t, "a step is over", func() bool { return p.one("one").Share >= 0.5+0.01*n })
			if got := p.one("one").Share; got > 0.5+0.01*n+0.1 {
				t.Errorf("%d successes raised the share from 0.5 to %v", n, got)
			}
		})
	}
}

// TestTrialsAreRequestsThatCanMoveOn checks that an endpoint on trial gets no requests that cannot be sent again, by
// their method or their body, but does get one that can.
func TestTrialsAreRequestsThatCanMoveOn(t *testing.T) {
	large := strings.Repeat("x", 64<<10)
	for name, send := range map[string]func(p *proxy) answer{
		"PUT, chunked": func(p *proxy) answer { return p.callWith(http.MethodPut, "/", unknownLength("hello")) },
		"PUT, larger than the buffer": func(p *proxy) answer {
			return p.call(http.MethodPut, "/", large)
		},
		"POST with an Idempotency-Key, chunked": func(p *proxy) answer {
			return p.callWith(http.MethodPost, "/", unknownLength("hello"), "Idempotency-Key", "1")
		},
		"POST": func(p *proxy) answer { return p.call(http.MethodPost, "/", "hello") },
	} {
		t.Run(name, func(t *testing.T) {
			apis := newAPIs(t, "one", "two")
			one := apis[0]
			p := startCaddy(t, site("breaker {\nopen_for 300ms\nopen_max 300ms\n}\nretry {\nbuffer 16KiB\n}", apis...))
			one.answer(http.StatusServiceUnavailable)
			p.gets(10)
			p.becomes("one", "open")
			hits := one.hits.Load()
			p.becomes("one", "recovering")
			for i := range 20 {
				if got := send(p); got.status != http.StatusOK {
					t.Errorf("request %d got %d", i, got.status)
				}
			}
			if got := one.hits.Load() - hits; got > 0 {
				t.Errorf("the endpoint on trial got %d of them", got)
			}
			p.get()
			if one.hits.Load() == hits {
				t.Errorf("a GET did not go to the endpoint on trial, which is %s", p.one("one").State)
			}
		})
	}
}
