//go:build system

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/apifailover/caddy-failover/redis"
)

// A child is a process that a test may start again.
type child struct {
	t       testing.TB
	command func() *exec.Cmd
	process *exec.Cmd
	out     bytes.Buffer
	done    chan struct{}
}

func (c *child) start() {
	c.t.Helper()
	c.process = c.command()
	c.process.Stdout, c.process.Stderr = &c.out, &c.out
	if err := c.process.Start(); err != nil {
		c.t.Fatal(err)
	}
	process, done := c.process, make(chan struct{})
	c.done = done
	go func() {
		defer close(done)
		_ = process.Wait()
	}()
}

// end sends the process a signal that ends it, and waits for its end.
func (c *child) end(signal os.Signal) {
	_ = c.process.Process.Signal(syscall.SIGCONT)
	_ = c.process.Process.Signal(signal)
	<-c.done
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.process.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// A redisServer is a real one, on a unix socket.
type redisServer struct {
	child
	socket string
}

func startRedis(t testing.TB) *redisServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	r := &redisServer{socket: filepath.Join(dir, "socket")}
	r.t = t
	r.command = func() *exec.Cmd {
		return exec.Command("redis-server", "--port", "0", "--unixsocket", r.socket, "--save", "", "--appendonly", "no", "--dir", dir)
	}
	r.start()
	t.Cleanup(func() {
		r.end(syscall.SIGKILL)
		os.RemoveAll(dir)
	})
	return r
}

// say sends an inline command, and returns the first line of the answer.
func (r *redisServer) say(command string) string {
	r.t.Helper()
	var answer string
	eventually(r.t, "Redis answers "+command, func() bool {
		conn, err := net.Dial("unix", r.socket)
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
			return false
		}
		line := make([]byte, 256)
		n, err := conn.Read(line)
		answer, _, _ = strings.Cut(string(line[:n]), "\r\n")
		return err == nil && !strings.HasPrefix(answer, "-LOADING")
	})
	return answer
}

// An edgeCaddy is an instance of a fleet: a Caddy of its own process.
type edgeCaddy struct {
	*proxy
	run          child
	engine, site string
}

// startEdge starts an instance and waits until it answers.
func startEdge(t testing.TB, name, engine, site string) *edgeCaddy {
	t.Helper()
	e := prepareEdge(t, name, engine, site)
	e.launch()
	return e
}

// prepareEdge returns an instance that does not run yet. It belongs to no fleet if it has no engine.
func prepareEdge(t testing.TB, name, engine, site string) *edgeCaddy {
	t.Helper()
	dir, err := os.MkdirTemp("", "edge")
	if err != nil {
		t.Fatal(err)
	}
	e := &edgeCaddy{proxy: &proxy{t: t, dir: dir, adminHost: "127.0.0.1"}, engine: engine, site: site}
	e.run.t = t
	e.client, e.admin = clientOf(e.file("site"), true), clientOf(e.file("admin"), false)
	e.write(name)
	e.run.command = func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), actAsCaddy+"=run\n--config\n"+e.file("Caddyfile"), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "FLEET_SECRET=s3cret")
		return cmd
	}
	t.Cleanup(func() {
		if e.run.process != nil {
			e.run.end(syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("%s: %s", name, e.tail())
		}
		os.RemoveAll(dir)
	})
	return e
}

func (e *edgeCaddy) tail() string {
	text := e.run.out.String()
	return text[max(0, len(text)-2000):]
}

// fleetStorages has the directory of each test.
var fleetStorages sync.Map

// fleetStorage returns the directory of the storage that a test's instances share. No other test has it, not even one of an
// earlier process with the same ID.
func fleetStorage(t testing.TB) string {
	t.Helper()
	if dir, ok := fleetStorages.Load(t); ok {
		return dir.(string)
	}
	dir, err := os.MkdirTemp("", "e2e-fleet-storage")
	if err != nil {
		t.Fatal(err)
	}
	fleetStorages.Store(t, dir)
	t.Cleanup(func() {
		fleetStorages.Delete(t)
		os.RemoveAll(dir)
	})
	return dir
}

func (e *edgeCaddy) write(name string) {
	e.t.Helper()
	text := fmt.Sprintf(`{
	admin unix/%s
	persist_config off
	auto_https off
	grace_period 1s
	storage file_system %s
	%s
}
http://api.test {
	bind unix/%s
	%s
}
`, e.file("admin"), fleetStorage(e.t), fleetOptions(name, e.engine), e.file("site"), indent(e.site))
	if err := os.WriteFile(e.file("Caddyfile"), []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// launch starts the process and waits until the site answers.
func (e *edgeCaddy) launch() time.Duration {
	e.t.Helper()
	e.run.start()
	return eventually(e.t, "an instance answers", e.answers)
}

// answers reports whether the site answers.
func (e *edgeCaddy) answers() bool {
	r, _ := http.NewRequest(http.MethodGet, "http://api.test/.up", nil)
	resp, err := e.client.Do(r)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}

type fleetAnswer struct {
	Connected bool
	Instances []struct {
		Name string
		Open []struct{ Endpoint, State string }
	}
}

func (e *edgeCaddy) fleet() (f fleetAnswer) {
	e.t.Helper()
	status, _, text := e.exchange(http.MethodGet, "/failover/fleet", "")
	if status != 200 || json.Unmarshal([]byte(text), &f) != nil {
		e.t.Fatalf("the fleet: %d %s", status, text)
	}
	return f
}

// withUp is a site that also answers /.up by itself.
func withUp(site string) string { return "respond /.up ok\n" + site }

// fleetOver starts three instances that know each other.
func fleetOver(t testing.TB, engine string, sites ...string) []*edgeCaddy {
	t.Helper()
	var edges []*edgeCaddy
	for i := range 3 {
		edges = append(edges, startEdge(t, fmt.Sprint("edge-", i+1), engine, withUp(sites[min(i, len(sites)-1)])))
	}
	known(t, edges)
	return edges
}

func known(t testing.TB, edges []*edgeCaddy) {
	t.Helper()
	eventually(t, "the instances know each other", func() bool {
		return !slices.ContainsFunc(edges, func(e *edgeCaddy) bool {
			f := e.fleet()
			return !f.Connected || len(f.Instances) != len(edges)
		})
	})
}

// everywhere waits until something holds at all instances, and returns how long that took.
func everywhere(t testing.TB, what string, edges []*edgeCaddy, holds func(*edgeCaddy) bool) time.Duration {
	t.Helper()
	return eventually(t, what, func() bool {
		return !slices.ContainsFunc(edges, func(e *edgeCaddy) bool { return !holds(e) })
	})
}

func isHeld(e *edgeCaddy) bool    { return !e.one("one").HeldUntil.IsZero() }
func isDrained(e *edgeCaddy) bool { return e.one("one").Draining }

func TestFleetSharesHoldsAndOrders(t *testing.T) {
	for name, engine := range map[string]func() string{
		"redis":   func() string { return "redis unix://" + startRedis(t).socket },
		"storage": func() string { return "storage" },
	} {
		t.Run(name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			edges := fleetOver(t, engine(), site("quota endpoint", one, two))
			one.answer(http.StatusTooManyRequests, "Retry-After", "30")
			edges[0].get().want(t, "while one asks to wait", 200, "two")
			took := everywhere(t, "all hold", edges, isHeld)
			t.Logf("a hold at one is a hold at all after %v", took)
			hits := one.hits.Load()
			for _, e := range edges {
				e.get().want(t, "while one is held", 200, "two")
			}
			if one.hits.Load() != hits {
				t.Error("an endpoint on hold was asked")
			}
			edges[1].order(http.MethodPost, "api/endpoints/one/drain", `{"reason":"moving"}`)
			took = everywhere(t, "all drain", edges, isDrained)
			t.Logf("a drain at one is a drain at all after %v", took)
			for _, e := range edges {
				e.run.end(syscall.SIGTERM)
				e.client.CloseIdleConnections()
				os.Remove(e.file("site"))
				os.Remove(e.file("admin"))
			}
			for _, e := range edges {
				e.launch()
			}
			took = everywhere(t, "all drain after a restart of all", edges, isDrained)
			t.Logf("after a restart of all, all drain after %v", took)
			edges[2].order(http.MethodPost, "api/endpoints/one/enable", "")
			everywhere(t, "none drains", edges, func(e *edgeCaddy) bool { return !isDrained(e) })
		})
	}
}

// TestFleetAndOneBrokenNetwork: an endpoint that one instance cannot reach is open there alone. If two of
// three cannot reach it, the third is wary. The command shows both.
func TestFleetAndOneBrokenNetwork(t *testing.T) {
	redis := startRedis(t)
	one, two := newAPI(t, "one"), newAPI(t, "two")
	const slow = "breaker {\n\topen_for 10m\n}" + evenIfSlow
	broken := strings.Replace(site(slow, one, two), "\n\tendpoint", "\n\ttransport http {\n\t\tnetwork_proxy url http://127.0.0.1:1\n\t}\n\tendpoint", 1)
	edges := fleetOver(t, "redis unix://"+redis.socket, broken, site(slow, one, two))
	for range 10 {
		edges[0].get()
	}
	everywhere(t, "the others know", edges[1:], func(e *edgeCaddy) bool {
		return slices.ContainsFunc(e.fleet().Instances, func(i struct {
			Name string
			Open []struct{ Endpoint, State string }
		}) bool {
			return i.Name == "edge-1" && len(i.Open) > 0
		})
	})
	for range 20 {
		for _, e := range edges[1:] {
			e.get().want(t, "at an instance whose network is well", 200, "one")
		}
	}
	if s := edges[1].one("one"); s.State != "closed" || s.Share != 1 {
		t.Errorf("it is %s with a share of %v", s.State, s.Share)
	}
	// now it fails at the second instance too
	one.answer(http.StatusServiceUnavailable)
	eventually(t, "the second has opened it", func() bool {
		edges[1].get() // its failures lower the score, so some requests go elsewhere
		return edges[1].one("one").State == "open"
	})
	everywhere(t, "the third is wary", edges[2:], func(e *edgeCaddy) bool { return e.one("one").Share == 0.25 })
	fleetCommands(t, edges)
	before := one.hits.Load()
	eventually(t, "its first failure opens", func() bool {
		edges[2].get()
		return edges[2].one("one").State == "open"
	})
	if n := one.hits.Load() - before; n != 1 {
		t.Errorf("it took %d failures", n)
	}
}

// config returns the instance's Caddyfile.
func (e *edgeCaddy) config() string {
	e.t.Helper()
	text, err := os.ReadFile(e.file("Caddyfile"))
	if err != nil {
		e.t.Fatal(err)
	}
	return string(text)
}

// ask sends so many requests a second until stop is called. It wants them answered.
func (e *edgeCaddy) ask(rate int) (stop func()) {
	quit := make(chan struct{})
	var calls sync.WaitGroup
	calls.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
				calls.Go(func() {
					r, _ := http.NewRequest(http.MethodGet, "http://api.test/", nil)
					if resp, err := e.client.Do(r); err == nil {
						resp.Body.Close()
					}
				})
			}
		}
	})
	return func() {
		close(quit)
		calls.Wait()
	}
}

// after waits for a time.
func after(t testing.TB, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// TestFleetKeepsALimitTogether at uneven demand, and after one instance was killed.
func TestFleetKeepsALimitTogether(t *testing.T) {
	redis := startRedis(t)
	one, two := newAPI(t, "one"), newAPI(t, "two")
	const perSecond = 60
	edges := fleetOver(t, "redis unix://"+redis.socket, edited("api", "", []*api{one, two}, fmt.Sprintf("limit %d requests per 1m", 60*perSecond)))
	stops := make([]func(), 3)
	began := time.Now()
	for i, rate := range []int{90, 15, 3} {
		stops[i] = edges[i].ask(rate)
	}
	measure := func(what string) {
		t.Helper()
		rate := 0.0
		for range 6 { // a machine that is busy elsewhere takes part of the demand away
			after(t, 2*time.Second)
			before, began := one.hits.Load(), time.Now()
			after(t, 3*time.Second)
			rate = float64(one.hits.Load()-before) / time.Since(began).Seconds()
			t.Logf("%s: %.1f requests a second reach the endpoint, its limit is %d (%+.1f %%)", what, rate, perSecond, 100*(rate/perSecond-1))
			if rate <= 1.05*perSecond && rate >= 0.95*perSecond {
				return
			}
		}
		t.Errorf("%s: %.1f requests a second, want %d", what, rate, perSecond)
	}
	measure("three instances")
	edges[0].run.end(syscall.SIGKILL)
	stops[0]()
	more := edges[2].ask(70)
	measure("two instances, after one was killed")
	for _, stop := range append(stops[1:], more) {
		stop()
	}
	// The limit's burst is a fiftieth of a minute's requests; instances that have rested may use it twice.
	if all, may := float64(one.hits.Load()), perSecond*(time.Since(began).Seconds()+2*60/50.0); all > may {
		t.Errorf("%.0f requests in all, %.0f may be", all, may)
	}
}
