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

	// How instances reach each other: `storage` uses Caddy's own storage, `redis` a Redis or
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
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("storage: unexpected %q; it has no block", d.Val())
	}
	return wrap(d, s.Validate())
}

// A fleetEngine is a module of the namespace failover.engines.
type fleetEngine interface {
	// Engine returns the engine for an instance of a fleet. It does not wait for it.
	Engine(fleetName, instance string) (fleet.Engine, error)
}

// fleetPart is the App's part in a fleet.
type fleetPart struct {
	settings fleetSettings
	engine   fleet.Engine
	source   *EventSource
	logger   *zap.Logger

	node  *fleet.Node
	leave func()
	quiet context.CancelFunc // ends what tells the node of events; it is handed on with the node
}

// fleetSettings are the settings of a node. If one of them changes, a new node is needed.
type fleetSettings struct{ name, instance, secret string }

// provision prepares an App's part in a fleet.
func (f *Fleet) provision(ctx caddy.Context) (*fleetPart, error) {
	if f.Name == "" {
		return nil, errors.New("fleet: the name is missing")
	}
	if len(f.Name) > 64 || len(f.Instance) > 64 {
		return nil, errors.New("fleet: a name has more than 64 bytes")
	}
	if f.EngineRaw == nil {
		return nil, fmt.Errorf("fleet %s: the engine is missing: write storage, or redis and its URL", f.Name)
	}
	secret, err := given(f.Secret)
	if err != nil {
		return nil, fmt.Errorf("fleet %s: secret: %w", f.Name, err)
	}
	instance, err := given(f.Instance)
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
	j := &fleetPart{settings: fleetSettings{f.Name, instance, secret}, logger: ctx.Logger()}
	maker, ok := module.(fleetEngine)
	if !ok {
		return nil, fmt.Errorf("fleet %s: the module %T is no engine", f.Name, module)
	}
	if j.engine, err = maker.Engine(f.Name, instance); err != nil {
		return nil, fmt.Errorf("fleet %s: %w", f.Name, err)
	}
	if j.source, err = newEventSource(ctx); err != nil {
		return nil, err
	}
	if err := j.source.app.On("started", fleetStart{j}); err != nil {
		return nil, fmt.Errorf("subscribing to the start: %w", err)
	}
	return j, nil
}

// fleetStart is told when the configuration of its fleet has started.
type fleetStart struct{ *fleetPart }

// Handle implements caddyevents.Handler.
func (s fleetStart) Handle(context.Context, caddy.Event) error {
	s.source.running.Store(true)
	return nil
}

// instanceName returns a name for this instance that it keeps over restarts.
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

// fleets are the parts in fleets of the configurations that run; the newest is the last. One
// node serves configurations with the same settings, so that a reload loses nothing.
var fleets struct {
	sync.Mutex
	running []*fleetPart
}

// start joins the fleet. It does not wait for the engine.
func (j *fleetPart) start() {
	fleets.Lock()
	defer fleets.Unlock()
	for _, other := range fleets.running {
		if other.settings == j.settings {
			j.node, j.quiet = other.node, other.quiet
		}
	}
	if j.node == nil {
		j.node = newNode(j.settings)
		var ctx context.Context
		ctx, j.quiet = context.WithCancel(context.Background())
		go pool.ShareEvents(ctx, j.node)
	}
	fleets.running = append(fleets.running, j)
	pool.UseFleet(j.node)
	j.leave = j.node.Run(j.engine)
}

// stop leaves the fleet, unless a newer configuration is in it. When the process ends, it tells the
// other instances, if the engine is reachable.
func (j *fleetPart) stop() {
	fleets.Lock()
	defer fleets.Unlock()
	i := slices.Index(fleets.running, j)
	if i < 0 {
		return
	}
	fleets.running = slices.Delete(fleets.running, i, i+1)
	if len(fleets.running) == 0 {
		pool.UseFleet(nil)
		ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
		defer cancel()
		j.node.Leave(ctx)
	} else {
		pool.UseFleet(fleets.running[len(fleets.running)-1].node)
	}
	j.leave()
	if !slices.ContainsFunc(fleets.running, func(other *fleetPart) bool { return other.node == j.node }) {
		j.quiet()
	}
}

// leaveWithin is how long an ending process waits for its engine.
const leaveWithin = 500 * time.Millisecond

// newestFleet returns the newest part in a fleet; nil: there is none.
func newestFleet() *fleetPart {
	fleets.Lock()
	defer fleets.Unlock()
	if n := len(fleets.running); n > 0 {
		return fleets.running[n-1]
	}
	return nil
}

func newNode(s fleetSettings) *fleet.Node {
	return fleet.NewNode(fleet.Settings{
		Fleet: s.name, Secret: s.secret, Instance: s.instance, Release: release(),
		Take: pool.Hear, Active: pool.Active, Beat: pool.SplitLimits,
		Changed: func(c fleet.Change) { fleetChanged(s.name, c) },
		Renamed: func(name string) {
			if j := newestFleet(); j != nil {
				j.logger.Warn("another instance of the fleet has this one's name: give each its own name with instance",
					zap.String("fleet", s.name), zap.String("instance", s.instance), zap.String("now", name))
			}
		},
	})
}

// fleetChanged logs the loss or the return of an engine, and emits its event.
func fleetChanged(name string, c fleet.Change) {
	j := newestFleet()
	if j == nil {
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
		j.logger.Info(e.Kind, fields...)
	} else {
		j.logger.Warn(e.Kind, fields...)
	}
	if j.source.Usable() {
		j.source.Emit(e)
	}
}

// release returns the version of the plugin in this build.
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
				return nil, d.Errf("unknown option %q of fleet%s", word, meant(word, "storage", "redis", "secret", "instance"))
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
