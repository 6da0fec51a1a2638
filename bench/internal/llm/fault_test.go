package llm

import (
	"errors"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/client"
)

// of returns the fault with an ID.
func of(id string) fault {
	for _, f := range faults {
		if f.ID == id {
			return f
		}
	}
	panic(id)
}

// TestJudge checks verdicts of the catalogue.
func TestJudge(t *testing.T) {
	at := func(seconds ...float64) (list []asked) {
		for _, s := range seconds {
			list = append(list, asked{At: time.Duration(s * float64(time.Second))})
		}
		return list
	}
	whole := reply{text: canonical, model: defaultFallback, usage: true}
	for _, test := range []struct {
		id   string
		name string
		o    outcome
		want string
	}{
		{"S01", "waited", outcome{reply: whole, whole: true, primary: at(0, 2)}, pass},
		{"S01", "moved on", outcome{reply: whole, whole: true, primary: at(0)}, partial},
		{"S01", "hammered", outcome{reply: whole, whole: true, primary: at(0, 0.1, 0.2)}, fail},
		{"S02", "moved on", outcome{reply: whole, whole: true, primary: at(0)}, pass},
		{"S04", "an error", outcome{reply: reply{err: errors.New("status 503")}, primary: at(0)}, safe},
		{"S06", "in vain", outcome{reply: reply{hang: true, err: errors.New("timeout")}}, fail},
		{"S07", "late", outcome{reply: reply{text: canonical, took: 20 * time.Second}, whole: true}, partial},
		{"S08", "truncated", outcome{reply: reply{text: "Any"}}, fail},
		{"S08", "aborted", outcome{reply: reply{text: "Any", err: errors.New("unexpected EOF")}}, safe},
		{"S12", "asked again", outcome{reply: whole, whole: true, primary: at(0, 1)}, fail},
		{"S13", "refused", outcome{reply: reply{err: errors.New("status 400")}, primary: at(0)}, pass},
		{"S13", "moved on", outcome{reply: whole, whole: true, primary: at(0)}, partial},
		{"S14", "masked", outcome{reply: reply{err: errors.New("status 400")}, fallback: []asked{{Prefix: true}}}, fail},
		{"S15", "back", outcome{reply: whole, whole: true, duringDown: 3, servedDown: 3, back: time.Second}, pass},
		{"S15", "never back", outcome{reply: whole, whole: true, duringDown: 3, servedDown: 3, back: -1}, fail},
		{"S16", "the wrong model", outcome{reply: reply{text: canonical, model: "s16", usage: true}, whole: true, fallback: at(0)}, fail},
	} {
		if got := of(test.id).judge(test.o); got.Verdict != test.want {
			t.Errorf("%s, %s: %s (%s), want %s", test.id, test.name, got.Verdict, got.Why, test.want)
		}
	}
}

// TestProvider asks the provider itself for each model: without a gateway the client sees each fault.
func TestProvider(t *testing.T) {
	pace := fast
	pace.FirstToken, pace.Stall, pace.Silence, pace.Down, pace.Token = 1, 1, 1, time.Hour, 0
	for _, stream := range []bool{false, true} {
		p, err := newProvider(pace)
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		s := direct(p)
		for _, f := range faults {
			p.reset()
			r := s.ask(t.Context(), f.model, "", stream, time.Minute)
			// a careful client skips the malformed event
			well := f.ID == "S07" || f.ID == "S11" || f.ID == "S10" && stream
			if r.whole() != well || len(p.seen()) != 1 {
				t.Errorf("%s, streaming %t: whole %t, %v; asked %v", f.ID, stream, r.whole(), r.err, p.seen())
			}
		}
		if r := s.ask(t.Context(), defaultFallback, "", stream, time.Minute); !r.whole() || !r.usage || r.model != defaultFallback {
			t.Errorf("a model that works, streaming %t: %+v", stream, r)
		}
	}
}

// direct is no program: its clients ask the provider.
func direct(p *provider) *system {
	return &system{kind: kind{Name: "direct"}, provider: p, url: "http://" + p.Address, client: client.New(client.H1, nil)}
}
