package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/fleet"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/shelf"
)

func init() { caddy.RegisterModule(new(FleetStorage)) }

// Fleet is a group of Caddy instances that tell each other what they learn: cooldowns, operator
// actions, and which endpoints are out. See docs/fleet.md.
type Fleet struct {
	// The name of the fleet. Instances with the same name, engine and secret belong together.
	// Required.
	Name string `json:"name,omitempty"`

	// The name of this instance. No two instances may have the same. Default: the host name, and
	// a part of the ID that Caddy keeps in its data directory.
	Instance string `json:"instance,omitempty"`

	// The key that signs the messages of instances and hashes the identities of endpoints in them. It
	// must be the same at all instances. Placeholders {env.*} and {file.*} work. Default: none; then
	// everybody with access to the engine can speak for an instance.
	Secret string `json:"secret,omitempty"`

	// How instances reach each other: `storage` uses Caddy's own storage, `redis` uses a Redis or
	// Valkey server. The module `redis` is in a separate package, which a build includes with
	// `--with github.com/apifailover/caddy-failover/redis`. Required.
	EngineRaw json.RawMessage `json:"engine,omitempty" caddy:"namespace=failover.engines inline_key=engine"`
}

// FleetStorage carries the facts of a fleet in Caddy's storage, which its instances share. Each
// instance writes one value there.
type FleetStorage struct {
	// How often an instance reads what the others have written, 500ms to 1m. Default: 2s.
	Interval caddy.Duration `json:"interval,omitempty"`

	storage func(fleetName, instance string) fleet.Engine
}

// CaddyModule implements caddy.Module.
func (*FleetStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "failover.engines.storage", New: func() caddy.Module { return new(FleetStorage) }}
}

// Provision implements caddy.Provisioner.
func (s *FleetStorage) Provision(ctx caddy.Context) error {
	storage := ctx.Storage()
	s.storage = func(fleetName, instance string) fleet.Engine {
		return shelf.New(storage, fleetName, instance, time.Duration(s.Interval))
	}
	return nil
}

// Validate implements caddy.Validator.
func (s *FleetStorage) Validate() error {
	if i := time.Duration(s.Interval); i != 0 && (i < 500*time.Millisecond || i > time.Minute) {
		return fmt.Errorf("storage: the interval is %v: want 500ms to 1m", i)
	}
	return nil
}

// Engine returns the engine for an instance of a fleet.
func (s *FleetStorage) Engine(fleetName, instance string) (fleet.Engine, error) {
	return s.storage(fleetName, instance), nil
}

// UnmarshalCaddyfile reads `storage [<interval>]`.
func (s *FleetStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		interval, err := caddy.ParseDuration(d.Val())
		if err != nil {
			return d.Errf("storage: %q is no duration; write one such as 2s", d.Val())
		}
		s.Interval = caddy.Duration(interval)
	}
	if d.NextArg() {
		return d.Errf("storage: unexpected %q; it has one interval at most", d.Val())
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("storage: unexpected %q; it has no block", d.Val())
	}
	return wrap(d, s.Validate())
}

// A fleetEngine is a module of the namespace failover.engines.
type fleetEngine interface {
	// Engine returns the engine for an instance of a fleet. It does not connect.
	Engine(fleetName, instance string) (fleet.Engine, error)
}

// membership is the membership of an App's instance in a fleet.
type membership struct {
	settings fleetSettings
	engine   fleet.Engine
	source   *EventSource
	logger   *zap.Logger

	node       *fleet.Node
	leave      func()
	stopEvents context.CancelFunc // ends the goroutine that passes events to node; goes with node
}

// fleetSettings are the settings of a node. Another setting needs another node.
type fleetSettings struct{ name, instance, secret string }

// provision prepares the membership. It does not connect.
func (f *Fleet) provision(ctx caddy.Context) (*membership, error) {
	if f.Name == "" {
		return nil, errors.New("fleet: the name is missing")
	}
	if len(f.Name) > 64 || len(f.Instance) > 64 {
		return nil, errors.New("fleet: a name has more than 64 bytes")
	}
	if f.EngineRaw == nil {
		return nil, fmt.Errorf("fleet %s: the engine is missing: write storage, or redis and its URL", f.Name)
	}
	secret, err := expand(f.Secret)
	if err != nil {
		return nil, fmt.Errorf("fleet %s: secret: %w", f.Name, err)
	}
	if err := checkCredential(f.Secret); err != nil {
		return nil, fmt.Errorf("fleet %s: secret: %w", f.Name, err)
	}
	instance, err := expand(f.Instance)
	if err != nil {
		return nil, fmt.Errorf("fleet %s: instance: %w", f.Name, err)
	}
	if instance == "" {
		instance = instanceName()
	}
	module, err := ctx.LoadModule(f, "EngineRaw")
	if err != nil {
		return nil, fmt.Errorf("fleet %s: loading the engine: %w", f.Name, err)
	}
	m := &membership{settings: fleetSettings{f.Name, instance, secret}, logger: ctx.Logger()}
	maker, ok := module.(fleetEngine)
	if !ok {
		return nil, fmt.Errorf("fleet %s: the module %T is no engine", f.Name, module)
	}
	if m.engine, err = maker.Engine(f.Name, instance); err != nil {
		return nil, fmt.Errorf("fleet %s: %w", f.Name, err)
	}
	if m.source, err = newEventSource(ctx); err != nil {
		return nil, err
	}
	if err := m.source.app.On("started", fleetStart{m}); err != nil {
		return nil, fmt.Errorf("subscribing to the start: %w", err)
	}
	return m, nil
}

// fleetStart handles the start of its fleet's configuration.
type fleetStart struct{ *membership }

// Handle implements caddyevents.Handler.
func (s fleetStart) Handle(context.Context, caddy.Event) error {
	s.source.running.Store(true)
	return nil
}

// instanceName returns a name for this instance that stays the same over restarts.
func instanceName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "caddy"
	}
	if id, err := caddy.InstanceID(); err == nil {
		name += "-" + id.String()[:4]
	}
	return name
}

// fleets holds the memberships of the configurations that run, newest last. Configurations with the
// same settings share a node, so a reload loses nothing.
var fleets struct {
	sync.Mutex
	running []*membership
}

// start joins the fleet. It does not wait for the engine.
func (m *membership) start() {
	fleets.Lock()
	defer fleets.Unlock()
	for _, other := range fleets.running {
		if other.settings == m.settings {
			m.node, m.stopEvents = other.node, other.stopEvents
		}
	}
	if m.node == nil {
		m.node = newNode(m.settings)
		var ctx context.Context
		ctx, m.stopEvents = context.WithCancel(context.Background())
		go pool.ShareEvents(ctx, m.node)
	}
	fleets.running = append(fleets.running, m)
	pool.UseFleet(m.node)
	m.leave = m.node.Run(m.engine)
}

// stop leaves the fleet, unless a newer configuration is in it. If no configuration is left, it tells
// the other instances, and waits for that at most leaveWithin.
func (m *membership) stop() {
	fleets.Lock()
	defer fleets.Unlock()
	i := slices.Index(fleets.running, m)
	if i < 0 {
		return
	}
	fleets.running = slices.Delete(fleets.running, i, i+1)
	if len(fleets.running) == 0 {
		pool.UseFleet(nil)
		ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
		defer cancel()
		m.node.Leave(ctx)
	} else {
		pool.UseFleet(fleets.running[len(fleets.running)-1].node)
	}
	m.leave()
	if !slices.ContainsFunc(fleets.running, func(other *membership) bool { return other.node == m.node }) {
		m.stopEvents()
	}
}

// leaveWithin is how long an ending process waits for its engine.
const leaveWithin = 500 * time.Millisecond

// newestFleet returns the newest membership; nil if there is none.
func newestFleet() *membership {
	fleets.Lock()
	defer fleets.Unlock()
	if n := len(fleets.running); n > 0 {
		return fleets.running[n-1]
	}
	return nil
}

// newNode returns the node of an instance, which the pools use.
func newNode(s fleetSettings) *fleet.Node {
	return fleet.NewNode(fleet.Settings{
		Fleet: s.name, Secret: s.secret, Instance: s.instance, Release: release(),
		Take: pool.Hear, Active: pool.Active, Beat: pool.SplitLimits,
		Changed: func(c fleet.Change) { fleetChanged(s.name, c) },
		Renamed: func(name string) {
			if m := newestFleet(); m != nil {
				m.logger.Warn("another instance of the fleet has this one's name: give each its own name with instance",
					zap.String("fleet", s.name), zap.String("instance", s.instance), zap.String("now", name))
			}
		},
	})
}

// fleetChanged logs the loss or the return of an engine, and emits its event.
func fleetChanged(name string, c fleet.Change) {
	m := newestFleet()
	if m == nil {
		return
	}
	e := event.Event{At: time.Now(), Count: 1, Kind: event.FleetLost, Details: map[string]any{"fleet": name}}
	fields := []zap.Field{zap.String("fleet", name)}
	switch {
	case c.Err != nil && c.Connected:
		e.Reason = "full"
	case c.Err == nil:
		e.Kind = event.FleetBack
		e.Details["gone_seconds"] = c.Gone.Seconds()
		fields = append(fields, zap.Duration("gone", c.Gone))
	}
	if c.Err != nil {
		e.Details["error"] = c.Err.Error()
		fields = append(fields, zap.Error(c.Err))
	}
	e = event.Latest.Add(e)
	fields = append(fields, zap.Uint64("id", e.ID))
	if e.Kind == event.FleetBack {
		m.logger.Info(e.Kind, fields...)
	} else {
		m.logger.Warn(e.Kind, fields...)
	}
	if m.source.Usable() {
		m.source.Emit(e)
	}
}

// release returns the version of the plugin in this build; "" if it is unknown.
func release() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	const module = "github.com/apifailover/caddy-failover"
	for _, dep := range append(info.Deps, &info.Main) {
		if dep.Path == module {
			return dep.Version
		}
	}
	return ""
}

// parseFleet reads the block of a fleet:
//
//	fleet <name> {
//	    storage [<interval>]
//	    redis <url> { ... }
//	    secret <secret>
//	    instance <name>
//	}
func parseFleet(d *caddyfile.Dispenser) (*Fleet, error) {
	f := new(Fleet)
	if !d.AllArgs(&f.Name) {
		return nil, d.Err("fleet: want one name")
	}
	for d.NextBlock(1) {
		word := d.Val()
		switch word {
		case "secret", "instance":
			into := map[string]*string{"secret": &f.Secret, "instance": &f.Instance}[word]
			if *into != "" {
				return nil, d.Errf("%s appears twice; remove one", word)
			}
			if !d.AllArgs(into) {
				return nil, d.Errf("%s: want one %s", word, map[string]string{"secret": "text", "instance": "name"}[word])
			}
		default:
			id := "failover.engines." + word
			if _, err := caddy.GetModule(id); err != nil {
				if word == "redis" {
					return nil, d.Err("redis is not in this build: build it with --with github.com/apifailover/caddy-failover/redis")
				}
				return nil, d.Errf("unknown option %q of fleet%s", word, suggest(word, "storage", "redis", "secret", "instance"))
			}
			if f.EngineRaw != nil {
				return nil, d.Errf("%s: the fleet already has an engine; remove one", word)
			}
			module, err := caddyfile.UnmarshalModule(d, id)
			if err != nil {
				return nil, err
			}
			f.EngineRaw = caddyconfig.JSONModuleObject(module, "engine", word, nil)
		}
	}
	if f.EngineRaw == nil {
		return nil, d.Errf("fleet %s: the engine is missing: write storage, or redis and its URL", f.Name)
	}
	return f, nil
}

var (
	_ caddy.Provisioner     = (*FleetStorage)(nil)
	_ caddy.Validator       = (*FleetStorage)(nil)
	_ caddyfile.Unmarshaler = (*FleetStorage)(nil)
	_ fleetEngine           = (*FleetStorage)(nil)
)
