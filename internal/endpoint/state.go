package endpoint

import (
	"cmp"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/score"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

const (
	firstHold  = time.Second
	longHold   = time.Minute
	peakDecay  = 10 * time.Second
	PollAllIn  = 250 * time.Millisecond // between trials while all endpoints are down
	ForgetSeen = 10 * time.Minute       // dynamic endpoints not seen for so long
	driftEvery = time.Second            // between looks at scores that drift, of a pool that is idle
)

// Key tells endpoints of a pool apart: two may share an address, and
// one that moves to another address is another endpoint.
type Key struct{ Name, Address string }

// State is what is known about an endpoint. It belongs to the pool and
// outlives configurations; methods take the configuration they need.
type State struct {
	Key
	Owner owner

	Busy atomic.Int64  // attempts in flight
	peak atomic.Uint64 // float64 bits: peak EWMA of latency, seconds

	begun uint64 // attempts; guarded by mu

	Mu        sync.Mutex
	breaker   breaker.Breaker
	holdUntil time.Time
	holdStep  time.Duration
	holdBy    *Ticket       // what brought the hold about; nil once it is over
	holdSoft  bool          // it may be the request's own: it ends with a success, and takes no last endpoint out
	served    time.Time     // the latest success, as far as it has been counted
	passing   passing       // whether calls pass it over
	doubts    []failure     // in doubt, oldest first
	news      []event.Event // to be emitted when mu is free
	refused   int           // requests in a row that the peer's HTTP/2 layer refused alone
	inFlight  inFlight
	Left      bool // the pool; attempts of requests from before that go on
	samples   samples
	tally     score.Tally // since the last tick
	Scorer    score.Scorer
	slowness  slowness.Detector
	inVain    unanswered
	quiet     quiet
	checks    checks
	sample    score.StepTally // since the trend's last step
	peakAt    time.Time
	lastTried time.Time // while it was not closed
	totals    totals
	last      lastOutcomes
	lever     *Lever    // that an operator holds, nil for none
	barred    bool      // by the lever, or the plan: no attempts
	vacant    int       // attempts in flight that fill no slot
	quotas    []metered // one for each limit
	relieved  time.Time // when such attempts were looked for last, since the endpoint was full

	turnedAway bool // an attempt has been, for want of room, since one ended last; guarded by mu

	settings atomic.Pointer[settings] // by an operator; nil: as configured; written under mu
	planned  atomic.Pointer[Plan]     // by a schedule; nil: as configured; written under mu

	fresh       *Counted // since the last fold
	spare       *Counted // empty, or nil
	lastFailure outcome.Outcome

	failures causes // of attempts, since the breaker was closed last
	cause    Cause  // what opened the breaker; empty while it is closed
	causedAt time.Time
	caused   uint64 // how often that had come then
	slowest  Cause  // the latest slow attempt
	heldFor  Cause  // what brought the latest hold about
}

// totals count attempts since the state was made. They are up to date after
// CountLocked.
type totals struct{ Attempts, Successes, Failures, Cancelled uint64 }

// Admission is how hard an attempt tries to get in.
type Admission uint8

const (
	AdmitNormally Admission = iota // as the breaker and holds allow
	AdmitProven                    // only where the endpoint is not recovering
	AdmitHeld                      // past a hold, which the call has waited for
	AdmitAllDown                   // past an open period, since every endpoint is out
	AdmitInNeed                    // the same for an endpoint that still answers some calls; it is no trial
	AdmitAnyway                    // past everything but the operator and the bounds
	AdmitPassed                    // as the trial of an endpoint that is passed over
)

// wellLocked tells whether the endpoint takes whatever comes, as nearly always.
func (s *State) wellLocked() bool {
	return s.breaker.State == breaker.Closed && s.holdUntil.IsZero() && !s.barred && !s.Left
}

func (s *State) acquireLocked(f Watched, now time.Time, cfg *breaker.Config, b *Bounds, how Admission) (ok bool) {
	if s.barred {
		return false
	}
	if s.fullLocked(b) && !s.relieveLocked(b, now) {
		s.turnedAway = true
		return false
	}
	if s.readyLocked(b, now).After(now) {
		s.turnedAway = true
		return false
	}
	if now.Before(s.holdUntil) && !s.holdSoft && how != AdmitAnyway && how != AdmitHeld {
		return false
	}
	t := f.own()
	if how == AdmitPassed && !s.passing.due(now) {
		return false
	}
	switch how {
	case AdmitProven:
		if s.breaker.State == breaker.Recovering && !cfg.Off {
			return false
		}
		fallthrough
	case AdmitNormally, AdmitHeld, AdmitPassed:
		t.Permit, ok = s.breaker.Acquire(now, cfg)
	case AdmitAllDown:
		t.Permit, ok = s.breaker.AcquireLast(now, cfg)
	case AdmitInNeed:
		t.Permit, ok = breaker.Permit{Generation: s.breaker.Generation}, s.breaker.State == breaker.Open
	case AdmitAnyway:
		if t.Permit, ok = s.breaker.AcquireLast(now, cfg); !ok && s.breaker.State != breaker.ForcedOpen {
			t.Permit, ok = breaker.Permit{Generation: s.breaker.Generation}, true
		}
	}
	if !ok {
		return false
	}
	if how == AdmitPassed {
		s.passing.trial, s.passing.since = t, now
	}
	t.Watchful = s.breaker.State == breaker.Recovering
	if s.breaker.State != breaker.Closed {
		s.lastTried = now
	}
	s.begun++
	s.useLocked(b, now)
	s.linkLocked(f)
	return true
}

func (s *State) linkLocked(f Watched) {
	s.Busy.Add(1)
	s.inFlight.add(f)
	if s.Left {
		s.Owner.BusyOutside(s)
	}
}

func (s *State) unlinkLocked(t *Ticket) {
	if s.inFlight.remove(t) {
		s.Busy.Add(-1)
		if t.pace != nil {
			s.vacateLocked(t.pace, false)
		}
		if s.turnedAway {
			s.turnedAway = false
			s.Owner.HasRoom()
		}
	}
}

// BeganAnswer notes that an attempt has begun to answer well. One that has been settled,
// as with an answer that was held until its end, has been counted already.
func (s *State) BeganAnswer(f Watched, now time.Time, cfg *breaker.Config) {
	t, latency := f.own(), f.FirstByte()
	s.tell(s.update(func() (changed bool) {
		if t.Outcome != outcome.Pending {
			return false
		}
		s.countLocked(now)
		changed = s.judgeLocked(f, now, outcome.Success, latency)
		if s.breaker.Opened == breaker.ReasonSlower && s.isSlowerLocked(t, now) {
			return s.reportSlowLocked(t, now, cfg) || changed
		}
		return s.breaker.Answered(now, cfg, &t.Permit, isSlow(f, now, cfg)) || changed
	}))
}

// Settle takes what an attempt came to, once; release is set when the attempt is no
// longer in flight either.
func (s *State) Settle(f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, release bool, doubt DoubtStage) {
	s.settle(f, now, cfg, end{outcome: o, release: release, doubt: doubt})
}

// SettleFor is Settle for an attempt of which it is known in a few words what went wrong:
// a status, or what outcome.Short makes of an error.
func (s *State) SettleFor(what string, f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, release bool, doubt DoubtStage) {
	s.settle(f, now, cfg, end{outcome: o, release: release, doubt: doubt, what: what})
}

// SettleAnswer settles an attempt whose answer has come to its end, and releases it. Final
// tells that the answer has gone to the client: the call is recorded with it.
func (s *State) SettleAnswer(f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, final bool) {
	s.settle(f, now, cfg, end{outcome: o, release: true, final: final})
}

// SettleAnswerFor is SettleAnswer where it is known in a few words what went wrong.
func (s *State) SettleAnswerFor(what string, f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, final bool) {
	s.settle(f, now, cfg, end{outcome: o, release: true, final: final, what: what})
}

// An end is how an attempt ends.
type end struct {
	outcome        outcome.Outcome
	release, final bool
	doubt          DoubtStage
	what           string // went wrong; empty: what the outcome's name says
}

func (s *State) settle(f Watched, now time.Time, cfg *breaker.Config, end end) {
	t, latency := f.own(), f.FirstByte()
	var cause Cause
	if end.outcome.Failed() {
		cause = causeOf(f, cmp.Or(end.what, end.outcome.String()))
	}
	s.tell(s.update(func() bool {
		if end.release {
			s.unlinkLocked(t)
		}
		if t.Outcome != outcome.Pending {
			return false
		}
		if end.outcome.Failed() {
			s.noteFailureLocked(end.outcome, cause, now)
		}
		changed := s.settleLocked(f, now, cfg, end, latency)
		s.recordLocked(f, now, end, latency)
		return changed
	}))
}

func (s *State) settleLocked(f Watched, now time.Time, cfg *breaker.Config, end end, latency time.Duration) (changed bool) {
	t, o := f.own(), end.outcome
	s.countLocked(now)
	t.Outcome, t.doubt = o, end.doubt
	s.last.add(o)
	changed = s.judgeLocked(f, now, o, latency)
	switch {
	case o == outcome.Cancelled || o == outcome.Unsent:
		s.totals.Cancelled++
		changed = s.cancelledLocked(f, now, cfg) || changed
	case o == outcome.RateLimited:
		s.totals.Failures++
		s.breaker.Cancel(now, t.Permit)
		if end.doubt == NoDoubt {
			s.holdLocked(t, now, t.RetryAfter, false)
			changed = true
		} else {
			s.doubts = append(s.doubts, failure{t, now, breaker.Result{}})
		}
	case o.Failed() && t.RefusedAlone && !s.refusedAgainLocked():
		s.totals.Failures++
		t.doubt = cleared
		changed = s.breaker.Cancel(now, t.Permit) || changed
	default:
		r := breaker.Result{Failed: o.Failed(), Denied: o == outcome.Denied, Slow: isSlow(f, now, cfg), Slower: s.isSlowerLocked(t, now)}
		if r.Slow {
			s.slowest = slowerThan(f, cfg.SlowAfter)
		}
		changed = s.decideLocked(t, now, cfg, r) || changed
	}
	return s.trialOverLocked(t, o) || changed
}

// OutcomeSoFar is what an attempt was settled with, or success while a good answer is
// under way.
func (s *State) OutcomeSoFar(f Watched) outcome.Outcome {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if o := f.own().Outcome; o != outcome.Pending || f.FirstByte() == 0 {
		return o
	}
	return outcome.Success
}

// decideLocked takes a success, or a failure that is the endpoint's as far as is known.
func (s *State) decideLocked(t *Ticket, now time.Time, cfg *breaker.Config, r breaker.Result) (changed bool) {
	if s.breaker.State != breaker.Closed {
		s.breaker.AttemptEnded(r.Failed)
	}
	if r.Failed {
		s.totals.Failures++
		if t.doubt != NoDoubt {
			return s.doubtLocked(t, now, cfg, r)
		}
		s.tally.Failures++
	} else {
		s.totals.Successes++
		s.holdStep, s.refused, s.served = 0, 0, now
		s.inVain.answer(now)
		if !t.MovedOn {
			changed = s.answeredLocked(t)
		}
		if s.holdSoft {
			s.endHoldLocked()
			changed = true
		}
	}
	s.tally.Calls++
	if t.reported && !r.Failed {
		return changed // it was a slow call, whatever came later
	}
	return s.breaker.Report(now, cfg, t.Permit, r) || changed
}

// refusedAgainLocked notes a request that the peer's HTTP/2 layer refused alone, which
// may be because of the request, and tells whether another one has been refused since
// the latest success.
func (s *State) refusedAgainLocked() bool {
	s.refused++
	return s.refused > 1
}

// isSlow tells whether the first byte took, or has taken by now, longer than
// what the pool calls slow.
func isSlow(f Watched, now time.Time, cfg *breaker.Config) bool {
	return cfg.SlowRatio > 0 && taken(f, now) > cfg.SlowAfter
}

// holdLocked keeps calls away for a time because of an attempt's answer: for as long as
// the endpoint asked for, or a second that doubles to a minute. Soft says that the
// answer may be the request's own.
func (s *State) holdLocked(t *Ticket, now time.Time, pause time.Duration, soft bool) {
	switch {
	case pause <= 0 && now.Before(s.holdUntil):
		return // an answer to a call that was under way already
	case pause <= 0:
		s.holdStep = min(longHold, max(firstHold, 2*s.holdStep))
		pause = s.holdStep
	}
	until := now.Add(min(pause, outcome.MaxHold))
	if !until.After(s.holdUntil) {
		return
	}
	if last := s.failures.latest(); last != nil {
		s.heldFor = last.Cause
	}
	s.holdUntil, s.holdBy, s.holdSoft = until, t, soft
	s.news = append(s.news, *s.heldLocked(now))
}

func (s *State) endHoldLocked() {
	s.holdUntil, s.holdBy, s.holdSoft = time.Time{}, nil, false
}

// peakLocked follows latency up at once and down slowly (Finagle's peak EWMA).
func (s *State) peakLocked(now time.Time, latency time.Duration) {
	sample, old := latency.Seconds(), math.Float64frombits(s.peak.Load())
	if sample < old {
		keep := math.Exp(-float64(max(0, now.Sub(s.peakAt))) / float64(peakDecay))
		sample = old*keep + sample*(1-keep)
	}
	s.peakAt = now
	s.peak.Store(math.Float64bits(sample))
}

// Load is what balance least_latency compares: expected wait, in seconds.
func (s *State) Load() float64 {
	return float64(s.Busy.Load()+1) * math.Float64frombits(s.peak.Load())
}

// Tick does what time brings about and returns whether the routing tables have
// to be built anew, when there is something to do next, and the events of what it
// brought about.
func (s *State) Tick(now time.Time, cfg *breaker.Config) (changed bool, due time.Time, news []event.Event) {
	changed, news = s.update(func() (changed bool) {
		changed, due = s.tickLocked(now, cfg)
		return changed
	})
	return changed, due, news
}

func (s *State) tickLocked(now time.Time, cfg *breaker.Config) (changed bool, due time.Time) {
	s.countLocked(now)
	changed = s.doubtsOverLocked(now, cfg)
	changed = s.breaker.Tick(now, cfg) || changed
	s.Scorer.Fold(now, s.tally)
	s.sample.Add(s.tally)
	s.tally = score.Tally{}
	if s.breaker.State == breaker.Open {
		s.Scorer.Forget()
		s.slowness.Opened()
		s.inVain.run = 0
	}
	changed = s.watchQuietLocked(now, cfg) || changed
	s.slowness.Refresh(now, cfg.SlowFactor)
	due = s.breaker.Due(cfg)
	if s.Scorer.Drifts() {
		due = Earliest(due, now.Add(driftEvery))
	}
	if now.Before(s.passing.until) {
		due = Earliest(due, s.passing.until)
	} else if s.passing.due(now) && !s.passing.shown {
		s.passing.shown, changed = true, true
	}
	if now.Before(s.holdUntil) {
		due = Earliest(due, s.holdUntil)
	} else if !s.holdUntil.IsZero() {
		s.endHoldLocked()
		changed = true
	}
	return changed, due
}

// Available is how much of its normal traffic the endpoint can have now.
func (s *State) Available(now time.Time, cfg *breaker.Config) float64 {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.availableLocked(now, cfg, false)
}

// availableLocked is available, past a hold that is in doubt if that is set.
func (s *State) availableLocked(now time.Time, cfg *breaker.Config, pastDoubt bool) float64 {
	if s.barred || now.Before(s.holdUntil) && !(pastDoubt && s.holdSoft) {
		return 0
	}
	return s.breaker.Allowed(cfg) * (1 - s.Scorer.Lost)
}

// Assess is how much of its normal traffic the endpoint can have now, past a hold that is soft if
// that is set; whether it is in want of a call; and whether it is passed over.
func (s *State) Assess(now time.Time, cfg *breaker.Config, soft bool) (available float64, trial, passed bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.barred || now.Before(s.holdUntil) && !(soft && s.holdSoft) {
		return 0, false, false
	}
	wants, _ := s.breaker.WantsTrial(now, cfg)
	trial = wants || s.breaker.OnTrial(cfg) || s.wantsCallLocked(now, cfg)
	available = s.availableLocked(now, cfg, soft)
	if s.passing.over() && !soft && available > 0 {
		return 0, trial || s.passing.due(now), true
	}
	return available, trial, false
}

// WantsTrial tells whether the endpoint is recovering, or has too low a score to get calls,
// and wants to be tried, and whether it has waited for that for long.
func (s *State) WantsTrial(now time.Time, cfg *breaker.Config) (wants, urgent bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.wantsCallLocked(now, cfg) {
		return true, false
	}
	return s.breaker.WantsTrial(now, cfg)
}

// KeptAway tells whether an operator, or else a hold, keeps calls away.
func (s *State) KeptAway(now time.Time) (barred, held bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.barred, !s.barred && now.Before(s.holdUntil)
}

// Leave notes that the pool has given up the state, and tells whether attempts are in
// flight. The owner is told of those that begin later.
func (s *State) Leave() (busy bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.Left = true
	return !s.inFlight.empty()
}

// Usual is the latency of the endpoint's good answers; 0 where it is not known, or calls
// are kept away.
func (s *State) Usual(now time.Time, cfg *breaker.Config) time.Duration {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.breaker.Allowed(cfg) == 0 || now.Before(s.holdUntil) {
		return 0
	}
	return s.Scorer.Typical()
}

// TakeStep returns whether the endpoint is in service, whether an operator has put it in
// or out, and what happened since the trend's last step, which another one follows
// if over is set.
func (s *State) TakeStep(cfg *breaker.Config, over bool) (serving, forced bool, sample score.StepTally) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	sample = s.sample
	if over {
		s.sample = score.StepTally{}
	}
	return s.breaker.Allowed(cfg) > 0, s.breaker.State >= breaker.ForcedOpen, sample
}

// SetAllOut tells the breaker whether every endpoint of the pool is out.
func (s *State) SetAllOut(out bool) {
	s.Mu.Lock()
	s.breaker.AllOut = out
	s.Mu.Unlock()
}

// ToldOut tells whether the latest event of the breaker says that it is not closed, by
// nobody's order.
func (s *State) ToldOut() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	told := s.breaker.Told.State
	return told == breaker.Open || told == breaker.Recovering
}

// SetFlapping tells the breaker whether it opens and closes unusually often.
func (s *State) SetFlapping(flapping bool) {
	s.Mu.Lock()
	s.breaker.Flapping = flapping
	s.Mu.Unlock()
}

// Returns is when the endpoint will be tried again at the earliest, now if
// nothing keeps it from that and zero if only an operator can bring it about;
// and whether a hold is all that keeps calls away.
func (s *State) Returns(now time.Time, cfg *breaker.Config) (at time.Time, held bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.breaker.State == breaker.ForcedOpen {
		return time.Time{}, false
	}
	at = now
	open := s.breaker.State == breaker.Open && !cfg.Off
	if open && s.breaker.Until.After(at) {
		at = s.breaker.Until
	}
	if s.holdUntil.After(at) {
		return s.holdUntil, !open
	}
	return at, false
}

// ServesSome is the part of the calls, 0 to 1, that an endpoint which is open still
// answers well; 0 where it cannot be reached, or something else keeps calls away.
func (s *State) ServesSome(now time.Time) float64 {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.breaker.State != breaker.Open || s.barred || now.Before(s.holdUntil) ||
		s.breaker.Latest == breaker.CheckHasFailed || !s.lastFailure.MayBeTheRequests() {
		return 0
	}
	return s.breaker.Served
}

// IdleSince is when the endpoint was last tried, and whether it could be tried
// now in spite of an open period.
func (s *State) IdleSince(now time.Time, cfg *breaker.Config, b *Bounds) (at time.Time, free bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	free = s.breaker.State != breaker.ForcedOpen && !now.Before(s.holdUntil) &&
		!s.breaker.TrialTaken(now, cfg) && !s.fullLocked(b) && !s.readyLocked(b, now).After(now)
	if s.lastTried.Before(s.breaker.Changed) {
		return s.breaker.Changed, free // until when it was closed
	}
	return s.lastTried, free
}

// Earliest is the earlier of two times; the zero time is none.
func Earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Acquire asks for one attempt. On success the attempt is in flight and holds a
// permit.
func (s *State) Acquire(f Watched, now time.Time, cfg *breaker.Config, b *Bounds, how Admission) bool {
	s.Mu.Lock()
	if s.slowness.Episode.Due(now) {
		s.countLocked(now)
		s.slowness.Episode.Mark(now, s.slowness.Limit)
	}
	if s.wellLocked() && b == nil && how != AdmitPassed {
		f.own().Permit.Generation = s.breaker.Generation
		s.begun++
		s.Busy.Add(1)
		s.inFlight.add(f)
		s.Mu.Unlock()
		return true
	}
	before := s.breaker.Told.Turn
	ok := s.acquireLocked(f, now, cfg, b, how)
	s.tell(false, s.unlock(before))
	return ok
}

const hedgeAtLeast = 10 * time.Millisecond

// Typically is how long a part q of the endpoint's answers took to begin at most; 0
// if too few are known.
func (s *State) Typically(now time.Time, q float64) time.Duration {
	s.Mu.Lock()
	s.countLocked(now)
	known := s.slowness.Known
	s.Mu.Unlock()
	total := known.Total()
	if total < slowness.MinKnown {
		return 0
	}
	return max(hedgeAtLeast, known.Quantile(float32(q), total))
}

// Beaten takes the one thing that an attempt says which lost a race: that its answer
// took longer than this to begin.
func (s *State) Beaten(f Watched, now time.Time) {
	took := max(1, taken(f, now))
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if f.own().Outcome == outcome.Pending {
		s.countLocked(now)
		s.tally.Latencies++
		s.tally.LogLatency += math.Log(took.Seconds())
		s.peakLocked(now, took)
	}
}

// Rescore publishes a score that moved by score.Step or more, or back to full.
func (s *State) Rescore(cfg *breaker.Config, reference, usual time.Duration) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	lost := 1 - s.Scorer.Score(cfg.FailureRatio, reference, usual)
	if diff := lost - s.Scorer.Lost; diff < score.Step && diff > -score.Step && (lost != 0 || s.Scorer.Lost == 0) {
		return false
	}
	s.Scorer.Lost = lost
	return true
}

// Forgettable tells whether nothing is lost with the state but its past.
func (s *State) Forgettable() bool {
	if s.Steered() {
		return false
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.Busy.Load() == 0 && s.breaker.State == breaker.Closed
}
