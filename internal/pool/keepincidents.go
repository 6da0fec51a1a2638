package pool

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/incident"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// Incidents are kept even if the pool has no objective.

// incidentStorage returns the storage of the running configuration, or of the latest one; nil
// if there was none.
func (k *keeping) incidentStorage(p *Pool) sla.Storage {
	if source := p.Source(); source != nil {
		if storage := source.Storage(); storage != nil {
			k.incidents.storage = storage
		}
	}
	return k.incidents.storage
}

// loadIncidents adds the incidents that an earlier process stored, once. It reports whether
// they are loaded.
func (k *keeping) loadIncidents(ctx context.Context, p *Pool) bool {
	storage := k.incidentStorage(p)
	if storage == nil || k.incidents.loaded {
		return k.incidents.loaded
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	err := p.Incidents.Load(ctx, storage, p.incidentsKey(), p.Name)
	damaged, isDamage := errors.AsType[*incident.DamageError](err)
	if isDamage {
		k.complain(p, []error{damaged}, nil)
		err = nil
	}
	k.complain(p, nil, err)
	if k.incidents.loaded = err == nil; k.incidents.loaded {
		p.Poke() // for leftOpenLocked
	}
	return k.incidents.loaded
}

// keepIncidents saves the incidents if they have changed.
func (k *keeping) keepIncidents(ctx context.Context, p *Pool, now time.Time, timeout time.Duration) {
	if !p.Incidents.Changed() || !k.loadIncidents(ctx, p) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	k.complain(p, nil, p.Incidents.Save(ctx, k.incidents.storage, p.incidentsKey(), now))
}

// untriedFor is for how long a pool must be well until an endpoint that gets no calls keeps an incident open no more.
const untriedFor = 5 * time.Minute

// leftOpenLocked returns the event of the end of an incident before which an earlier process ended: each of its endpoints
// that the pool still has has served an attempt or passed a check since, or has had none for untriedFor while others served. It also returns
// when to call it again; zero: after an event. It needs Pool.Mu.
func (p *Pool) leftOpenLocked(now time.Time) (over *event.Event, due time.Time) {
	names, open := p.Incidents.LeftOpen()
	if !open || p.down.Load() || p.someOutLocked() {
		p.wellSince = time.Time{}
		return nil, time.Time{}
	}
	some, untried := false, false
	for _, m := range p.Members {
		well := m.total.Attempts.Successes() > 0 || m.PassedChecks()
		some = some || well
		if well || !slices.Contains(names, m.Name) {
			continue
		}
		if m.total.Attempts.Counts().Calls > 0 {
			return nil, time.Time{} // it has failed
		}
		untried = true
	}
	if !some {
		return nil, time.Time{}
	}
	if p.wellSince.IsZero() || now.Before(p.wellSince) {
		p.wellSince = now
	}
	if at := p.wellSince.Add(untriedFor); untried && now.Before(at) {
		return nil, at
	}
	return p.Incidents.EndLeftOpen(now), time.Time{}
}

// incidentsKey returns the storage key of the incidents.
func (p *Pool) incidentsKey() string {
	return sla.KeyBeside(storagePrefix, p.Name, instanceName(), "incidents")
}
