// Package redis carries the facts of a fleet in Redis or Valkey. A build includes it with
//
//	xcaddy build --with github.com/apifailover/caddy-failover --with github.com/apifailover/caddy-failover/redis
package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/apifailover/caddy-failover/internal/fleet"
)

func init() {
	caddy.RegisterModule(new(Redis))
	redis.SetLogger(silent{}) // the client logs every try; the fleet logs only when it loses the engine
}

// silent logs nothing.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

const (
	// dialTimeout and ioTimeout are the timeouts of a command, unless the URL sets others.
	dialTimeout = time.Second
	ioTimeout   = time.Second
	// connections is the maximum number of connections, without that of the subscription.
	connections = 4
)

// Redis carries the facts of a fleet in a Redis or Valkey server, a cluster, or a server that
// sentinels watch.
type Redis struct {
	// The URL, in the form of go-redis: `redis://user:password@host:6379/0`, `rediss://` for TLS, or
	// `unix://`. With `?master_name=<name>` it names sentinels, with `?addr=<host:port>` nodes of a
	// cluster; `addr` may repeat. Placeholders such as {env.REDIS_URL} work. Required.
	URL string `json:"url,omitempty"`

	// The user. Placeholders work. Default: as in the URL.
	Username string `json:"username,omitempty"`

	// The password. Placeholders work. Default: as in the URL.
	Password string `json:"password,omitempty"`

	// The number of the database. Default: as in the URL, else 0.
	Database int `json:"database,omitempty"`

	// Whether the URL is that of a cluster. Default: true if the URL has `addr` and no
	// `master_name`.
	Cluster bool `json:"cluster,omitempty"`

	// A PEM file with the certificates of the authorities to trust, for `rediss`. Default: those of
	// the system.
	CA string `json:"ca,omitempty"`

	client redis.UniversalClient
}

// CaddyModule implements caddy.Module.
func (*Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "failover.engines.redis", New: func() caddy.Module { return new(Redis) }}
}

// Provision implements caddy.Provisioner. It does not connect.
func (r *Redis) Provision(caddy.Context) error {
	repl := caddy.NewReplacer()
	values := make([]string, 4)
	for i, text := range []string{r.URL, r.Username, r.Password, r.CA} {
		value, err := repl.ReplaceOrErr(text, true, true)
		if err != nil {
			return fmt.Errorf("redis: %w", err)
		}
		values[i] = value
	}
	client, err := r.connect(values[0], values[1], values[2], values[3])
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	r.client = client
	return nil
}

// Cleanup implements caddy.CleanerUpper.
func (r *Redis) Cleanup() error {
	if r.client == nil {
		return nil
	}
	return r.client.Close()
}

// Engine returns the engine for an instance of a fleet. It does not connect.
func (r *Redis) Engine(fleetName, _ string) (fleet.Engine, error) {
	return newEngine(r.client, fleetName), nil
}

// connect returns a client. The client connects at its first command.
func (r *Redis) connect(address, username, password, ca string) (redis.UniversalClient, error) {
	if address == "" {
		return nil, errors.New("the URL is missing")
	}
	u, err := url.Parse(address)
	if err != nil || hasPassword(u) { // errors would show a part of the password
		return nil, errors.New("parsing the URL: characters such as / ? # % and spaces in a user or password must be escaped, and a port is a number")
	}
	authorities, err := readCA(ca)
	if err != nil {
		return nil, err
	}
	trust := func(c *tls.Config) error {
		if authorities == nil {
			return nil
		}
		if c == nil {
			return errors.New("ca: the URL is not rediss://")
		}
		c.RootCAs = authorities
		return nil
	}
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	query := u.Query()
	switch {
	case query.Has("master_name"):
		o, err := redis.ParseFailoverURL(address)
		if err != nil {
			return nil, err
		}
		o.Username, o.Password, o.DB = cmp.Or(username, o.Username), cmp.Or(password, o.Password), cmp.Or(r.Database, o.DB)
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = bounded(o.DialTimeout, o.ReadTimeout, o.WriteTimeout)
		o.MaxRetries, o.DialerRetries, o.PoolSize, o.ContextTimeoutEnabled = cmp.Or(o.MaxRetries, -1), 1, cmp.Or(o.PoolSize, connections), true
		return redis.NewFailoverClient(o), trust(o.TLSConfig)
	case r.Cluster || query.Has("addr"):
		o, err := redis.ParseClusterURL(address)
		if err != nil {
			return nil, err
		}
		if r.Database != 0 {
			return nil, errors.New("database: a cluster has only one")
		}
		o.Username, o.Password = cmp.Or(username, o.Username), cmp.Or(password, o.Password)
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = bounded(o.DialTimeout, o.ReadTimeout, o.WriteTimeout)
		o.DialerRetries, o.PoolSize, o.ContextTimeoutEnabled, o.MaintNotificationsConfig = 1, cmp.Or(o.PoolSize, connections), true, quiet
		return redis.NewClusterClient(o), trust(o.TLSConfig)
	}
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, err
	}
	o.Username, o.Password, o.DB = cmp.Or(username, o.Username), cmp.Or(password, o.Password), cmp.Or(r.Database, o.DB)
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = bounded(o.DialTimeout, o.ReadTimeout, o.WriteTimeout)
	o.MaxRetries, o.DialerRetries, o.PoolSize = cmp.Or(o.MaxRetries, -1), 1, cmp.Or(o.PoolSize, connections)
	o.ContextTimeoutEnabled, o.MaintNotificationsConfig = true, quiet
	if err := trust(o.TLSConfig); err != nil {
		return nil, err
	}
	return redis.NewClient(o), nil
}

// hasPassword reports whether a part of a URL that errors show may be the rest of a password with a character that is not escaped.
func hasPassword(u *url.URL) bool {
	if u.Scheme == "unix" {
		return false // any path is one
	}
	parts := append(slices.Collect(maps.Keys(u.Query())), u.Opaque, u.Path, u.Fragment)
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(part, "@") })
}

// bounded returns timeouts, with the defaults for those that are 0.
func bounded(dial, read, write time.Duration) (time.Duration, time.Duration, time.Duration) {
	return cmp.Or(dial, dialTimeout), cmp.Or(read, ioTimeout), cmp.Or(write, ioTimeout)
}

// readCA returns the certificates of a PEM file; nil if none is named.
func readCA(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading ca: %s has no certificate", file)
	}
	return pool, nil
}

// UnmarshalCaddyfile reads the engine of a fleet:
//
//	redis <url> {
//	    username <name>
//	    password <password>
//	    database <number>
//	    cluster
//	    ca <file>
//	}
func (r *Redis) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&r.URL) {
		return d.Err("redis: want one URL, such as redis://localhost:6379")
	}
	if !strings.Contains(r.URL, "://") && !strings.ContainsAny(r.URL, "{@") { // it shows no password
		return d.Errf("redis: the scheme is missing: write redis://%s", r.URL)
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		if seen[word] {
			return d.Errf("%s appears twice; remove one", word)
		}
		seen[word] = true
		switch word {
		case "username", "password", "ca":
			into := map[string]*string{"username": &r.Username, "password": &r.Password, "ca": &r.CA}[word]
			if !d.AllArgs(into) {
				return d.Errf("%s: want one value", word)
			}
		case "database":
			var text string
			if !d.AllArgs(&text) {
				return d.Err("database: want one number")
			}
			if _, err := fmt.Sscanf(text, "%d", &r.Database); err != nil || fmt.Sprint(r.Database) != text || r.Database < 0 {
				return d.Errf("database: %q is no number of a database", text)
			}
		case "cluster":
			if d.NextArg() {
				return d.ArgErr()
			}
			r.Cluster = true
		default:
			return d.Errf("unknown option %q of redis; it has username, password, database, cluster and ca", word)
		}
	}
	return nil
}

var (
	_ caddy.Provisioner     = (*Redis)(nil)
	_ caddy.CleanerUpper    = (*Redis)(nil)
	_ caddyfile.Unmarshaler = (*Redis)(nil)
)
