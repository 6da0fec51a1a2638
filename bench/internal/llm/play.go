package llm

import (
	"context"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// play asks a system for each model in a row, and judges each.
func (s *system) play(ctx context.Context, p *provider, stream bool) (results []Result) {
	for _, f := range faults {
		if ctx.Err() != nil {
			break
		}
		p.reset()
		var o outcome
		if f.sequence {
			o = s.many(ctx, f, p, stream)
		} else {
			o.reply = s.ask(ctx, f.model, f.fallbackModel(), stream, f.longest)
			o.whole = o.reply.whole()
		}
		for _, one := range p.seen() {
			switch one.Model {
			case f.model:
				o.primary = append(o.primary, one)
			case f.fallbackModel():
				o.fallback = append(o.fallback, one)
			}
		}
		alive := s.ask(ctx, defaultFallback, "", false, 10*time.Second)
		o.alive = alive.whole()
		results = append(results, f.judge(o))
	}
	return results
}

// many calls a model again and again while its provider is down, and after.
func (s *system) many(ctx context.Context, f fault, p *provider, stream bool) (o outcome) {
	began := time.Now()
	o.whole = true
	for i := range p.pace.Calls {
		run.Sleep(ctx, time.Until(began.Add(time.Duration(i)*p.pace.Between)))
		down := time.Since(began) < p.pace.Down
		r := s.ask(ctx, f.model, f.fallbackModel(), stream, f.longest)
		o.calls++
		if r.hang {
			o.hangs++
		}
		if r.err != nil && o.err == nil {
			o.err = r.err
		}
		o.whole = o.whole && r.whole()
		if down {
			o.duringDown++
			if r.err == nil {
				o.servedDown++
			}
		}
	}
	o.took, o.back = time.Since(began), -1
	seen := p.seen()
	if i := slices.IndexFunc(seen, func(a asked) bool { return a.Model == f.model && a.Status == 200 }); i >= 0 {
		o.back = max(0, seen[i].At-p.pace.Down)
	}
	return o
}
