package pool

import (
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

const (
	// TickEvery is the time between two ticks.
	TickEvery = 250 * time.Millisecond
	// A timeout is noticed late by at most a 64th of it, within the bounds below.
	watchFraction = 64
	// watchAtMost and watchAtLeast bound how late a timeout is noticed.
	watchAtMost            = 50 * time.Millisecond
	watchAtLeast           = 5 * time.Millisecond
	idleTicksBeforeParking = 2
)

// A loop is the goroutine that ticks four times a second and watches the attempts in
// flight. It sleeps while the pool is idle.
type loop struct {
	parked atomic.Bool
	Poked  atomic.Bool
	every  atomic.Int64 // time between two looks at attempts, nanoseconds
	hasty  atomic.Bool  // an attempt that needs a look more often than watchAtMost has begun lately
	Wake   chan struct{}
	quit   chan struct{}
	done   chan struct{} // no tick will follow
}

// start starts the loop of a pool.
func (l *loop) start(p *Pool) {
	l.Wake, l.quit, l.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	l.every.Store(int64(watchAtMost))
	go l.run(p)
}

// stop ends the ticks. The loop goes on watching the attempts in flight to their end.
func (l *loop) stop() {
	close(l.quit)
	<-l.done
}

// drain watches the attempts in flight after stop, and returns with the last of them. A
// later attempt of an earlier request starts it again.
func (l *loop) drain(p *Pool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for range timer.C {
		if inFlight, _ := p.endOverdue(time.Now()); inFlight == 0 {
			l.parked.Store(true)
			if !p.busy() || !l.parked.CompareAndSwap(true, false) {
				return
			}
		}
		timer.Reset(time.Duration(l.every.Load()))
	}
}

// watchEvery returns the time between two looks at an attempt with this timeout.
func watchEvery(timeout time.Duration) time.Duration {
	return min(watchAtMost, max(watchAtLeast, timeout/watchFraction))
}

// watch makes sure that the loop looks at an attempt with this timeout often enough.
func (l *loop) watch(p *Pool, timeout time.Duration) {
	every := int64(watchEvery(timeout))
	if every < int64(watchAtMost) || every < l.every.Load() || l.parked.Load() {
		l.watchMore(p, every)
	}
}

// watchMore makes the loop look at attempts at least this often.
func (l *loop) watchMore(p *Pool, every int64) {
	if every < int64(watchAtMost) && !l.hasty.Load() {
		l.hasty.Store(true)
	}
	for {
		old := l.every.Load()
		if old <= every {
			break
		}
		if l.every.CompareAndSwap(old, every) {
			l.nudge()
			break
		}
	}
	if l.parked.Load() && l.parked.CompareAndSwap(true, false) {
		select {
		case <-l.quit:
			go l.drain(p)
		default:
			l.nudge()
		}
	}
}

// relax makes the loop look only as often as the attempts in flight need, if no hasty
// attempt has begun since the latest call.
func (l *loop) relax(shortest time.Duration) {
	if l.hasty.Swap(false) {
		return
	}
	l.every.Store(int64(watchEvery(shortest)))
	if l.hasty.Load() { // just now
		l.every.Store(int64(watchAtLeast))
	}
}

// poke makes the loop tick at once.
func (l *loop) poke() {
	l.Poked.Store(true)
	l.nudge()
}

func (l *loop) takePoke() bool { return l.Poked.Swap(false) }

func (l *loop) nudge() {
	select {
	case l.Wake <- struct{}{}:
	default:
	}
}

func (l *loop) run(p *Pool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var nextTick time.Time
	idle := 0
	for {
		select {
		case <-l.quit:
			close(l.done)
			l.drain(p)
			return
		case <-l.Wake:
		case <-timer.C:
		}
		now := time.Now()
		inFlight, shortest := p.endOverdue(now)
		if inFlight > 0 {
			idle = 0
		}
		if l.Poked.Load() {
			idle, nextTick = 0, now
		}
		if !now.Before(nextTick) || nextTick.Sub(now) > TickEvery {
			due := p.Tick(now)
			nextTick = now.Add(TickEvery)
			p.Loop.relax(shortest)
			if !due.IsZero() {
				nextTick = endpoint.Earliest(nextTick, due)
				idle = 0
			}
			idle++
		}
		if idle > idleTicksBeforeParking && inFlight == 0 {
			p.Budget.Rest(now)
			l.parked.Store(true)
			if !p.busy() {
				timer.Stop()
				if step := p.wakesAt(now); !step.IsZero() {
					nextTick = step
					timer.Reset(max(0, step.Sub(now)))
				}
				continue
			}
			l.parked.Store(false) // an attempt began meanwhile
		}
		wait := max(0, nextTick.Sub(now))
		if inFlight > 0 || idle <= idleTicksBeforeParking {
			wait = min(wait, time.Duration(l.every.Load()))
		}
		timer.Reset(wait)
	}
}

// busy reports whether attempts are in flight.
func (p *Pool) busy() bool {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	for _, s := range p.awakeLocked() {
		if s.Busy.Load() > 0 {
			return true
		}
	}
	return len(p.leaving.busy()) > 0
}
