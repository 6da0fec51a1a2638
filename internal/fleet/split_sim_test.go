package fleet

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/quota"
)

// A sharer is an instance in the simulation: its calls come by chance, and once a second it splits the limit.
type sharer struct {
	demand func(at time.Duration) float64 // calls a second
	gone   time.Duration                  // when it is killed; 0: never

	bucket      quota.Bucket
	rate        quota.Rate
	asked, seen int
	need        Need
	claim       Claim // as the others know it
}

// sharing plays instances that share a limit, and returns when calls were let in.
func sharing(limit quota.Limit, lasts time.Duration, random *rand.Rand, sharers []*sharer) (let []time.Duration) {
	epoch := time.Unix(1e9, 0)
	whole := limit.Rate()
	capacity := float64(limit.Amount) / limit.Per.Seconds()
	var q moments
	call := func(i int, at time.Duration) {
		if d := sharers[i].demand(at); d > 0 {
			heap.Push(&q, moment{at + time.Duration(random.ExpFloat64()/d*float64(time.Second)), i, false})
		} else {
			heap.Push(&q, moment{at + 100*time.Millisecond, i, false})
		}
	}
	for i, s := range sharers {
		s.rate = whole
		call(i, 0)
		heap.Push(&q, moment{time.Duration(random.Float64() * float64(time.Second)), i, true})
	}
	for {
		m := heap.Pop(&q).(moment)
		if m.at > lasts {
			return let
		}
		s, now := sharers[m.who], epoch.Add(m.at)
		if s.gone > 0 && m.at >= s.gone {
			continue
		}
		if !m.splits {
			if s.demand(m.at) > 0 {
				s.asked++
				if s.bucket.Take(now, &s.rate, 1) {
					let = append(let, m.at)
				}
			}
			call(m.who, m.at)
			continue
		}
		told := s.need.Part
		s.need.Saw(float64(s.asked-s.seen), capacity)
		s.seen = s.asked
		instances := 1
		var others []Claim
		for i, o := range sharers {
			if i == m.who || o.gone > 0 && m.at > o.gone+3500*time.Millisecond {
				continue
			}
			instances++
			if o.claim.Part > 0 {
				others = append(others, o.claim)
			}
		}
		part := Split(Claim{told, s.claim.Part}, others, instances, m.at > 4*time.Second)
		s.claim = Claim{s.need.Part, part}
		rate := whole.Part(part, len(others)+1)
		s.bucket.Changed(now, &s.rate, &rate)
		s.rate = rate
		heap.Push(&q, moment{m.at + time.Second, m.who, true})
	}
}

type moment struct {
	at     time.Duration
	who    int
	splits bool
}

type moments []moment

func (q moments) Len() int           { return len(q) }
func (q moments) Less(i, j int) bool { return q[i].at < q[j].at }
func (q moments) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *moments) Push(m any)        { *q = append(*q, m.(moment)) }
func (q *moments) Pop() any {
	m := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return m
}

// TestInstancesUseALimitTogether: within 5 %, also after one of them was killed, and no minute has more.
func TestInstancesUseALimitTogether(t *testing.T) {
	const lasts, kill = 5 * time.Minute, 20 * time.Second
	for _, limit := range []quota.Limit{{Amount: 600, Per: time.Minute}, {Amount: 3600, Per: time.Minute}, {Amount: 600, Per: time.Minute, Burst: 60}} {
		capacity := float64(limit.Amount) / limit.Per.Seconds()
		for name, demand := range map[string][]float64{ // by the whole limit
			"uneven": {1.5, 0.25, 0.05}, "at one only": {1.8, 0, 0}, "even": {0.6, 0.6, 0.6}, "little more than there is": {0.9, 0.25, 0.1},
			"ten": {0.8, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05},
		} {
			for _, killed := range []bool{false, true} {
				var sharers []*sharer
				for _, d := range demand {
					sharers = append(sharers, &sharer{demand: func(time.Duration) float64 { return d * capacity }})
				}
				if killed { // and the last gets its calls
					sharers[0].gone = kill
					sharers[len(sharers)-1].demand = func(at time.Duration) float64 {
						if at < kill {
							return demand[len(demand)-1] * capacity
						}
						return (demand[len(demand)-1] + demand[0]) * capacity
					}
				}
				let := sharing(limit, lasts, rand.New(rand.NewPCG(1, 2)), sharers)
				from, n, most, oldest := kill+6*time.Second, 0, 0, 0
				for i, at := range let {
					if at >= from {
						n++
					}
					for at-let[oldest] >= time.Minute {
						oldest++
					}
					most = max(most, i-oldest+1)
				}
				used, atMost := float64(n)/(capacity*(lasts-from).Seconds()), float64(most)/(60*capacity)
				what := fmt.Sprintf("limit %d, burst %d, demand %s, one killed: %v: %+.1f %%, the most within a minute %+.1f %%",
					limit.Amount, limit.Burst, name, killed, 100*(used-1), 100*(atMost-1))
				t.Log(what)
				// Chance leaves more of ten small parts unused: a bucket is full while no call comes.
				if least := 0.95 - 0.003*float64(len(demand)-3); used < least || used > 1.01 || atMost > 1.05+float64(limit.Burst)/600 {
					t.Error(what)
				}
			}
		}
	}
}

// TestNeed: chance moves it slowly, more than chance at once.
func TestNeed(t *testing.T) {
	var n Need
	want := func(what string, want float64) {
		t.Helper()
		if math.Abs(n.Part-want) > 0.005 {
			t.Errorf("%s: %.3f, want %.3f", what, n.Part, want)
		}
	}
	n.Saw(0, 0)
	want("nothing is known of the limit", 0)
	n.Saw(50, 100)
	want("at first", 0.5)
	for range 100 {
		n.Saw(50, 100)
	}
	n.Saw(60, 100)
	want("a few more calls", 0.5+0.1/needLooks)
	n.Saw(300, 100)
	want("more calls than the limit has", 1)
	n.Saw(0, 100)
	want("no more calls", 0)
	n.Saw(8, 100)
	n.Saw(0, 100)
	want("a moment's calls", 0.04)
}
