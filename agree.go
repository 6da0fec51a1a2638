package failover

import (
	"fmt"
	"reflect"

	"github.com/apifailover/caddy-failover/internal/pool"
)

// AgreesWith implements pool.Terms.
func (p *Policy) AgreesWith(terms pool.Terms) error {
	other := terms.(*Policy)
	if p.Breaker != nil && other.Breaker != nil && !reflect.DeepEqual(p.Breaker, other.Breaker) {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different breakers; "+
			"make them equal, set only one, or give the pools different names", p.Name, p.where(), other.where())
	}
	if p.Health != nil && other.Health != nil && !reflect.DeepEqual(p.Health, other.Health) {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different health checks; "+
			"make them equal, set only one, or give the pools different names", p.Name, p.where(), other.where())
	}
	if p.SLA != nil && other.SLA != nil && p.SLA.objective() != other.SLA.objective() {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different SLAs; "+
			"make them equal, set only one, or give the pools different names", p.Name, p.where(), other.where())
	}
	if mine, theirs := p.scope(), other.scope(); mine != nil && theirs != nil && *mine != *theirs {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different scopes; "+
			"make them equal, give one only, or name the pools apart", p.Name, p.where(), other.where())
	}
	for _, mine := range p.Endpoints {
		for _, theirs := range other.Endpoints {
			if mine.Name == theirs.Name && mine.Upstream == theirs.Upstream &&
				mine.Health != nil && theirs.Health != nil && *mine.Health != *theirs.Health {
				return fmt.Errorf("pool %q: the handlers of %s and %s give endpoint %q different health checks",
					p.Name, p.where(), other.where(), mine.Name)
			}
			if mine.Name == theirs.Name && mine.Upstream == theirs.Upstream &&
				mine.Limits != nil && theirs.Limits != nil && !reflect.DeepEqual(mine.Limits, theirs.Limits) {
				return fmt.Errorf("pool %q: the handlers of %s and %s give endpoint %q different limits",
					p.Name, p.where(), other.where(), mine.Name)
			}
			if mine.Name == theirs.Name && mine.Upstream == theirs.Upstream &&
				mine.Schedules != nil && theirs.Schedules != nil && !reflect.DeepEqual(mine.Schedules, theirs.Schedules) {
				return fmt.Errorf("pool %q: the handlers of %s and %s give endpoint %q different schedules",
					p.Name, p.where(), other.where(), mine.Name)
			}
			if mine.Name == theirs.Name && mine.Upstream == theirs.Upstream &&
				mine.URL != "" && theirs.URL != "" && mine.URL != theirs.URL {
				return fmt.Errorf("pool %q: the handlers of %s and %s give endpoint %q different URLs",
					p.Name, p.where(), other.where(), mine.Name)
			}
		}
	}
	return nil
}

// where returns the handler's place for an error message.
func (p *Policy) where() string {
	if len(p.Endpoints) > 0 {
		return p.Endpoints[0].at()
	}
	if len(p.handler.Targets) > 0 {
		return p.handler.Targets[0].Name
	}
	return "dynamic upstreams"
}
