package endpoint

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// byFirstByte is a heap of attempts by the time of their first byte.
type byFirstByte []firstByteAt

type firstByteAt struct {
	at time.Time
	a  *trip
}

func (c byFirstByte) Len() int           { return len(c) }
func (c byFirstByte) Less(i, j int) bool { return c[i].at.Before(c[j].at) }
func (c byFirstByte) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *byFirstByte) Push(x any)        { *c = append(*c, x.(firstByteAt)) }
func (c *byFirstByte) Pop() any {
	old := *c
	last := old[len(old)-1]
	*c = old[:len(old)-1]
	return last
}

// TestNoFalseAlarm simulates a day with 10 calls a second, whose latencies have a heavy tail: the p99 is
// 10 times the p50. The endpoint must never be a suspect.
func TestNoFalseAlarm(t *testing.T) {
	const day = 24 * time.Hour
	sigma := math.Log(10) / 2.326
	for name, swing := range map[string]float64{"stationary": 1, "swinging by 3": 3} {
		for _, median := range []time.Duration{20 * time.Millisecond, 800 * time.Millisecond} {
			r := rand.New(rand.NewPCG(uint64(swing), uint64(median)))
			start := time.Unix(1e9, 0)
			now := start
			cfg := defaultBreaker()
			s := &State{Owner: heedless{}}
			suspects, slow := 0, 0
			var highest time.Duration
			var due byFirstByte
			nextWatch, nextTick := now, now
			for now.Sub(start) < day {
				now = now.Add(time.Duration(r.ExpFloat64() * float64(100*time.Millisecond)))
				for {
					at := Earliest(nextWatch, nextTick)
					if len(due) > 0 {
						at = Earliest(at, due[0].at)
					}
					if at.After(now) {
						break
					}
					switch {
					case len(due) > 0 && at.Equal(due[0].at):
						a := heap.Pop(&due).(firstByteAt).a
						a.latency = max(1, at.Sub(a.began))
						s.Settle(a, at, cfg, outcome.Success, true, NoDoubt)
						if a.slower {
							slow++
						}
					case at.Equal(nextWatch):
						s.Watch(at, cfg)
						nextWatch = nextWatch.Add(50 * time.Millisecond)
					default:
						s.Tick(at, cfg)
						highest = max(highest, s.own.slowness.Limit)
						nextTick = nextTick.Add(250 * time.Millisecond)
					}
					if s.own.slowness.Suspect() {
						suspects++
					}
				}
				phase := 2 * math.Pi * now.Sub(start).Hours() / 24
				typical := float64(median) * math.Exp(math.Log(swing)/2*math.Sin(phase))
				a := &trip{began: now}
				if !s.Acquire(a, now, cfg, nil, AdmitNormally) {
					t.Fatal("not let in")
				}
				heap.Push(&due, firstByteAt{now.Add(time.Duration(typical * math.Exp(sigma*r.NormFloat64()))), a})
			}
			t.Logf("%s, median %v: %d attempts in a day, %d slow, limit at most %v; suspect %d times",
				name, median, s.totals.Attempts, slow, highest.Round(time.Millisecond), suspects)
			if suspects > 0 {
				t.Errorf("%s, median %v: suspect %d times", name, median, suspects)
			}
		}
	}
}
