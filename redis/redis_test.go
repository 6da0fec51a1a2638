package redis

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/redis/go-redis/v9"

	"github.com/apifailover/caddy-failover/internal/fleet"
)

// provisioned returns the module that a Caddyfile configures.
func provisioned(t *testing.T, text string) (*Redis, error) {
	t.Helper()
	r := new(Redis)
	if err := r.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
		return nil, err
	}
	if err := r.Provision(caddy.Context{}); err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = r.Cleanup() })
	return r, nil
}

func engineAt(t *testing.T, server *miniredis.Miniredis) fleet.Engine {
	t.Helper()
	r, err := provisioned(t, "redis redis://"+server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	e, err := r.Engine("eu", "")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// watch starts to watch, and returns the data of the records that come.
func watch(t *testing.T, e fleet.Engine) <-chan string {
	t.Helper()
	got, ready := make(chan string, 100), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-over
	})
	var err error
	go func() {
		defer close(over)
		err = e.Watch(ctx, func() { close(ready) }, func(r fleet.Record) { got <- string(r.Data) })
	}()
	select {
	case <-ready:
	case <-over:
		t.Fatalf("watching: %v", err)
	}
	return got
}

// TestRecordsAreToldAndStored checks that watchers get all records at once, and that a snapshot has
// those that are stored and not over.
func TestRecordsAreToldAndStored(t *testing.T) {
	server := miniredis.RunT(t)
	a, b := engineAt(t, server), engineAt(t, server)
	got := watch(t, b)
	records := []fleet.Record{
		{Key: "hold/x", Data: []byte("held"), Left: 20 * time.Second},
		{Key: "order/x", Data: []byte("drained"), Left: time.Hour},
		{Data: []byte("told once")},
	}
	if forgotten, err := a.Publish(t.Context(), records); err != nil || forgotten {
		t.Fatalf("forgotten: %v, error %v", forgotten, err)
	}
	for _, want := range []string{"held", "drained", "told once"} {
		if text := <-got; text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	}
	server.FastForward(15 * time.Second)
	wantStored := func(what string, want map[string]time.Duration) {
		t.Helper()
		stored, err := b.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(stored) != len(want) {
			t.Errorf("%s: %d records are stored: %v", what, len(stored), stored)
		}
		for _, r := range stored {
			if r.Left != want[string(r.Data)] {
				t.Errorf("%s: %v are left of %q (%s)", what, r.Left, r.Data, r.Key)
			}
		}
	}
	wantStored("after 15 s", map[string]time.Duration{"held": 5 * time.Second, "drained": time.Hour - 15*time.Second})
	server.FastForward(10 * time.Second)
	wantStored("after 25 s", map[string]time.Duration{"drained": time.Hour - 25*time.Second})
	if members, err := server.SMembers("failover:{eu}:keys"); err != nil || len(members) != 1 {
		t.Errorf("the set has %v, error %v", members, err)
	}
	if _, err := a.Publish(t.Context(), []fleet.Record{{Key: "order/x", Data: []byte("over")}}); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "over" {
		t.Errorf("got %q", text)
	}
	wantStored("after its end", nil)
}

// TestForgettingIsNoticed checks that Publish notices if the server has lost a record or the set.
func TestForgettingIsNoticed(t *testing.T) {
	server := miniredis.RunT(t)
	e := engineAt(t, server)
	hello := []fleet.Record{{Key: "hello/a", Data: []byte("a"), Left: 3 * time.Second}}
	for i, want := range []bool{false, false, true, false, true} {
		switch i {
		case 2:
			server.FlushAll()
		case 4:
			server.Del("failover:{eu}:keys")
		}
		hello[0].Proof = i > 0
		forgotten, err := e.Publish(t.Context(), hello)
		if err != nil || forgotten != want {
			t.Errorf("publication %d: forgotten is %v, error %v", i, forgotten, err)
		}
	}
}

// TestValuesOfAWrongTypeAreLeftOut checks that a key of a stranger does not hide the records.
func TestValuesOfAWrongTypeAreLeftOut(t *testing.T) {
	server := miniredis.RunT(t)
	e := engineAt(t, server)
	if _, err := e.Publish(t.Context(), []fleet.Record{{Key: "hello/a", Data: []byte("a"), Left: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"another", "zebra"} {
		if _, err := server.Push("failover:{eu}:"+key, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := server.SAdd("failover:{eu}:keys", key); err != nil {
			t.Fatal(err)
		}
	}
	if records, err := e.Snapshot(t.Context()); err != nil || len(records) != 1 {
		t.Errorf("got %d records, error %v", len(records), err)
	}
}

// TestServerThatIsFullStillTells checks that a full server is ErrFull, and that it still passes
// records on.
func TestServerThatIsFullStillTells(t *testing.T) {
	server := miniredis.RunT(t)
	e := engineAt(t, server)
	got := watch(t, e)
	for text, full := range map[string]bool{
		"OOM command not allowed when used memory > 'maxmemory'.":                                          true,
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist on disk.": true,
		"NOREPLICAS Not enough good replicas to write.":                                                    true,
		"READONLY You can't write against a read only replica.":                                            false,
		"NOPERM User caddy has no permissions to run the 'set' command":                                    false,
		"LOADING Redis is loading the dataset in memory":                                                   false,
	} {
		server.SetError(text)
		_, err := e.Publish(t.Context(), []fleet.Record{{Key: "hold/x", Data: []byte("held"), Left: time.Second}})
		if err == nil || errors.Is(err, fleet.ErrFull) != full {
			t.Errorf("%s: got error %v", text, err)
		}
	}
	server.SetError("")
	if _, err := e.Publish(t.Context(), []fleet.Record{{Data: []byte("told")}}); err != nil {
		t.Error(err)
	}
	if text := <-got; text != "told" {
		t.Errorf("got %q", text)
	}
}

// TestServerThatStoresSomeStillTells checks that a server that refuses to store is ErrFull, whichever command it refuses, and that it
// still passes records on.
func TestServerThatStoresSomeStillTells(t *testing.T) {
	server := miniredis.RunT(t)
	e := engineAt(t, server)
	got := watch(t, e)
	var refused string
	server.Server().SetPreHook(func(c *miniserver.Peer, command string, _ ...string) bool {
		if command == refused {
			c.WriteError("NOPERM User caddy has no permissions to run the '" + command + "' command")
		}
		return command == refused
	})
	tells := func(what string) {
		t.Helper()
		_, err := e.Publish(t.Context(), []fleet.Record{
			{Key: "hello/a", Data: []byte("a"), Left: time.Second, Proof: true}, {Key: "hold/x", Data: []byte("over")},
		})
		if !errors.Is(err, fleet.ErrFull) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got error %v", what, err)
		}
		if first, second := <-got, <-got; first != "a" || second != "over" {
			t.Errorf("%s: got %q and %q", what, first, second)
		}
	}
	for _, refused = range []string{"EXISTS", "SET", "SADD", "PEXPIRE", "DEL", "SREM"} {
		tells(refused)
	}
	refused = "PUBLISH"
	if _, err := e.Publish(t.Context(), []fleet.Record{{Data: []byte("x")}}); err == nil || errors.Is(err, fleet.ErrFull) {
		t.Errorf("%s: got error %v", refused, err)
	}
	refused = ""
	server.Del("failover:{eu}:keys")
	if err := server.Set("failover:{eu}:keys", "a stranger's"); err != nil {
		t.Fatal(err)
	}
	tells("failover:{eu}:keys")
	if records, err := e.Snapshot(t.Context()); err != nil || len(records) > 0 {
		t.Errorf("got %d records, error %v", len(records), err)
	}
}

// TestLostServerEndsTheWatcher checks that Watch and Publish fail when the server ends.
func TestLostServerEndsTheWatcher(t *testing.T) {
	server := miniredis.RunT(t)
	e := engineAt(t, server)
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() { ended <- e.Watch(t.Context(), func() { close(ready) }, func(fleet.Record) {}) }()
	<-ready
	server.Close()
	if err := <-ended; err == nil {
		t.Error("the watcher ended without an error")
	}
	if _, err := e.Publish(t.Context(), []fleet.Record{{Data: []byte("x")}}); err == nil {
		t.Error("publishing did not fail")
	}
}

// TestURLsAreReadAsGoRedisReadsThem checks the options that URLs and the Caddyfile set, and the kind of
// client.
func TestURLsAreReadAsGoRedisReadsThem(t *testing.T) {
	t.Setenv("REDIS_URL", "redis://user:p%40ss@one:6380/3?dial_timeout=7s&pool_size=9")
	t.Setenv("REDIS_PASSWORD", "s3cret")
	single := func(text string) *redis.Options {
		t.Helper()
		r, err := provisioned(t, text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return r.client.(*redis.Client).Options()
	}
	o := single("redis {env.REDIS_URL}")
	if o.Addr != "one:6380" || o.Username != "user" || o.Password != "p@ss" || o.DB != 3 || o.DialTimeout != 7*time.Second || o.ReadTimeout != ioTimeout || o.PoolSize != 9 {
		t.Errorf("got %+v", o)
	}
	o = single("redis rediss://one {\n username me\n password {env.REDIS_PASSWORD}\n database 2\n}")
	if o.Addr != "one:6379" || o.Username != "me" || o.Password != "s3cret" || o.DB != 2 || o.TLSConfig == nil || o.PoolSize != connections {
		t.Errorf("got %+v", o)
	}
	for _, text := range []string{"redis redis://one?addr=two:6379", "redis rediss://one {\n cluster\n}"} {
		r, err := provisioned(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := r.client.(*redis.ClusterClient); !ok {
			t.Errorf("%s: got a %T", text, r.client)
		}
	}
	if r, err := provisioned(t, "redis redis://one?master_name=main&addr=two:26379"); err != nil {
		t.Error(err)
	} else if c, ok := r.client.(*redis.Client); !ok || !strings.Contains(c.String(), "Failover") {
		t.Errorf("sentinels: got a %T", r.client)
	}
}

// TestErrorsSayWhatIsWrongAndNoPassword checks that errors name the wrong part, and show no password.
func TestErrorsSayWhatIsWrongAndNoPassword(t *testing.T) {
	for text, want := range map[string]string{
		"redis":                                            "one URL",
		"redis a b":                                        "one URL",
		"redis localhost:6379":                             "write redis://localhost:6379",
		"redis http://:s3cret@one":                         "scheme",
		"redis redis://:s3cret@one:port":                   "parsing the URL",
		"redis redis://:s3cret@one/x":                      "database",
		"redis redis://:s3cret#x@one":                      "escaped",
		"redis redis://me:s3cret/x@one:6379/0":             "escaped",
		"redis redis://me:1/s3cret@one:6379/0":             "escaped",
		"redis redis://me:1?s3cret@one:6379":               "escaped",
		"redis redis://me:1#s3cret@one:6379":               "escaped",
		"redis redis://me:a@b/s3cret@one":                  "escaped",
		"redis redis://me:s3cret%zz@one":                   "escaped",
		"redis redis://:s3cret@one?wrong=1":                "wrong",
		"redis {env.FLEET_TEST_UNSET}":                     "FLEET_TEST_UNSET",
		"redis redis://one {\n database -1\n}":             "database",
		"redis redis://one {\n database 1x\n}":             "database",
		"redis redis://one {\n cluster yes\n}":             "argument",
		"redis redis://one {\n cluster\n database 1\n}":    "only one",
		"redis redis://one {\n tls\n}":                     "unknown option",
		"redis redis://one {\n password a\n password b\n}": "twice",
		"redis redis://one {\n ca /nonexistent\n}":         "reading ca",
	} {
		_, err := provisioned(t, text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", text, err, want)
			continue
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error shows the password: %v", text, err)
		}
	}
}
