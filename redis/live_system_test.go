//go:build system

package redis

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/fleet"
)

// patience is the longest time that a test waits.
const patience = 30 * time.Second

// eventually waits until something holds, and returns how long that took.
func eventually(t testing.TB, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		if time.Since(began) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-ticker.C
	}
	return time.Since(began)
}

// freePort returns a port on which nothing listens.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A live is a redis-server process that a test can end and start again.
type live struct {
	t       testing.TB
	port    int
	args    []string
	process *exec.Cmd
	out     *bytes.Buffer
}

// startLive starts a server on a free port. Without --port in args, that port is for plain TCP. In args,
// PORT stands for the port, and PORT2 for another free port.
func startLive(t testing.TB, args ...string) *live {
	t.Helper()
	s := &live{t: t}
	for tries := 0; ; tries++ { // another process may take the port first
		s.port = freePort(t)
		dir, err := os.MkdirTemp("", "redis")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		ports := strings.NewReplacer("PORT2", fmt.Sprint(freePort(t)), "PORT", fmt.Sprint(s.port))
		s.args = nil
		for _, arg := range args {
			s.args = append(s.args, ports.Replace(arg))
		}
		if !slices.Contains(args, "--port") {
			s.args = append(s.args, "--port", fmt.Sprint(s.port))
		}
		s.args = append(s.args, "--bind", "127.0.0.1", "--dir", dir)
		if !slices.Contains(args, "--sentinel") {
			s.args = append(s.args, "--save", "", "--appendonly", "no")
		}
		s.start()
		if s.listens() {
			break
		}
		if tries == 4 {
			t.Fatalf("redis-server %q does not listen: %s", s.args, s.out)
		}
		s.end()
	}
	t.Cleanup(s.end)
	return s
}

func (s *live) start() {
	s.t.Helper()
	s.out = new(bytes.Buffer)
	s.process = exec.Command("redis-server", s.args...)
	s.process.Stdout, s.process.Stderr = s.out, s.out
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// listens waits until the server listens. It is false if the process ends first.
func (s *live) listens() bool {
	ended := make(chan struct{})
	process := s.process
	go func() {
		_, _ = process.Process.Wait()
		close(ended)
	}()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		conn, err := net.Dial("tcp", s.addr())
		if err == nil {
			conn.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-ticker.C:
		}
	}
}

func (s *live) addr() string { return fmt.Sprint("127.0.0.1:", s.port) }

func (s *live) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// end kills the process, and waits until nothing listens.
func (s *live) end() {
	_ = s.process.Process.Kill()
	eventually(s.t, "the server is gone", func() bool {
		conn, err := net.Dial("tcp", s.addr())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}

// cli runs redis-cli at the server, and returns its output.
func (s *live) cli(args ...string) string {
	s.t.Helper()
	args = append([]string{"-h", "127.0.0.1", "-p", fmt.Sprint(s.port)}, args...)
	out, err := exec.CommandContext(s.t.Context(), "redis-cli", args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("redis-cli %q: %v: %s", args, err, out)
	}
	return string(out)
}

// engineOf returns the engine that a Caddyfile configures for a fleet.
func engineOf(t *testing.T, line, name string) fleet.Engine {
	t.Helper()
	r, err := provisioned(t, line)
	if err != nil {
		t.Fatal(err)
	}
	e, err := r.Engine(name, "")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// wantCarried checks that the records that one engine publishes reach another's watcher and snapshot.
func wantCarried(t *testing.T, from, to fleet.Engine) {
	t.Helper()
	got := watch(t, to)
	records := []fleet.Record{
		{Key: "order/x/state", Data: []byte("drained"), Left: time.Hour}, {Data: []byte("told once")},
		{Key: "hold/x", Data: []byte("held"), Left: time.Minute},
	}
	if _, err := from.Publish(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	var told []string // a cluster has no order
	for range records {
		told = append(told, <-got)
	}
	if slices.Sort(told); !slices.Equal(told, []string{"drained", "held", "told once"}) {
		t.Errorf("the watcher got %q", told)
	}
	stored, err := to.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, r := range stored {
		texts = append(texts, string(r.Data))
	}
	slices.Sort(texts)
	if !slices.Equal(texts, []string{"drained", "held"}) {
		t.Errorf("the snapshot has %q", texts)
	}
}

// certificates writes the certificates and keys of a new authority and of a server at 127.0.0.1 to a
// directory.
func certificates(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, kind string, der []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sign := func(name string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, signer = template, key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
		write(name+".key", "PRIVATE KEY", secret)
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate, key
	}
	ca, key := sign("ca", &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	sign("server", &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{{127, 0, 0, 1}}}, ca, key)
	return dir
}

// documented are the rules that docs/fleet.md lists for a user.
const documented = "~failover:* &failover:* +@read +@write +@pubsub +ping"

// withUser returns the arguments for a server whose only user, caddy, has the documented rules and
// more.
func withUser(password, more string) []string {
	args := append([]string{"--user", "caddy", "on", password, "resetkeys", "resetchannels", "-@all"}, strings.Fields(documented+" "+more)...)
	return append(args, "--user", "default", "off")
}

// TestServerWithTLSAndUser checks a server with TLS and a user, and errors that show no password.
func TestServerWithTLSAndUser(t *testing.T) {
	t.Parallel()
	dir := certificates(t)
	server := startLive(t, append(withUser(">p@ss:w/rd", ""), "--port", "0", "--tls-port", "PORT", "--tls-cert-file", filepath.Join(dir, "server.pem"),
		"--tls-key-file", filepath.Join(dir, "server.key"), "--tls-ca-cert-file", filepath.Join(dir, "ca.pem"), "--tls-auth-clients", "no")...)
	ca := "\n ca " + filepath.Join(dir, "ca.pem")
	inURL := fmt.Sprintf("redis rediss://caddy:p%%40ss%%3Aw%%2Frd@%s {%s\n}", server.addr(), ca)
	wantCarried(t, engineOf(t, inURL, "eu"), engineOf(t, fmt.Sprintf("redis rediss://%s {\n username caddy\n password p@ss:w/rd%s\n}", server.addr(), ca), "eu"))
	for what, line := range map[string]string{
		"without the authority": fmt.Sprintf("redis rediss://caddy:p%%40ss%%3Aw%%2Frd@%s", server.addr()),
		"without TLS":           fmt.Sprintf("redis redis://caddy:p%%40ss%%3Aw%%2Frd@%s", server.addr()),
		"with another password": fmt.Sprintf("redis rediss://caddy:wrong@%s {%s\n}", server.addr(), ca),
		"with no user":          fmt.Sprintf("redis rediss://%s {%s\n}", server.addr(), ca),
	} {
		e := engineOf(t, line, "eu")
		if _, err := e.Publish(t.Context(), []fleet.Record{{Data: []byte("x")}}); err == nil || strings.Contains(err.Error(), "p@ss") {
			t.Errorf("%s: got error %v", what, err)
		}
		if err := e.Watch(t.Context(), func() { t.Errorf("%s: it is ready", what) }, func(fleet.Record) {}); err == nil {
			t.Errorf("%s: a watcher ended without an error", what)
		}
	}
}

// TestDatabasesAreApart checks that fleets of one name in two databases get nothing from each other.
func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	server := startLive(t, withUser(">pw", "+select")...)
	inURL := engineOf(t, fmt.Sprintf("redis redis://caddy:pw@%s/3", server.addr()), "eu")
	byOption := engineOf(t, fmt.Sprintf("redis redis://caddy:pw@%s {\n database 3\n}", server.addr()), "eu")
	other := engineOf(t, fmt.Sprintf("redis redis://caddy:pw@%s", server.addr()), "eu")
	heard := watch(t, other)
	wantCarried(t, inURL, byOption)
	stored, err := other.Snapshot(t.Context())
	if err != nil || len(stored) > 0 {
		t.Errorf("another database has %v, error %v", stored, err)
	}
	if _, err := other.Publish(t.Context(), []fleet.Record{{Data: []byte("the first that it hears")}}); err != nil {
		t.Fatal(err)
	}
	if text := <-heard; text != "the first that it hears" {
		t.Errorf("it got %q from another database", text)
	}
}

// A liveNode is an instance of a fleet over a live engine.
type liveNode struct {
	*fleet.Node
	mu    sync.Mutex
	heard []string // reasons of holds
}

// join starts an instance that leaves when the test ends.
func join(t *testing.T, line, name string) *liveNode {
	t.Helper()
	n := new(liveNode)
	n.Node = fleet.NewNode(fleet.Settings{Fleet: "eu", Secret: "s3cret", Instance: name, Take: func(f *fleet.Fact, _ bool, _ time.Time) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.heard = append(n.heard, f.Reason)
	}})
	stop := n.Run(engineOf(t, line, "eu"))
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		n.Leave(ctx)
		stop()
	})
	return n
}

// tell tells the fleet of a hold with a reason, and checks that this does not block.
func (n *liveNode) tell(t *testing.T, reason string) {
	t.Helper()
	began := time.Now()
	n.Tell(fleet.Fact{Kind: fleet.Hold, Endpoint: n.ID("api", "https://one.test", reason), Left: time.Minute, Reason: reason}, time.Now())
	if took := time.Since(began); took > time.Second {
		t.Errorf("telling took %v", took)
	}
}

// hears reports whether the instance has got the hold with a reason.
func (n *liveNode) hears(reason string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.heard, reason)
}

// survives checks that facts from the time between lose, which makes the engine unreachable, and back
// arrive afterwards, also at an instance that joins later.
func survives(t *testing.T, line string, lose, back func()) {
	t.Helper()
	a, b := join(t, line, "a"), join(t, line, "b")
	connected := func(nodes ...*liveNode) func() bool {
		return func() bool {
			return !slices.ContainsFunc(nodes, func(n *liveNode) bool { return !n.Connected() })
		}
	}
	eventually(t, "both are connected", connected(a, b))
	before, meanwhile := t.Name()+" before", t.Name()+" meanwhile"
	a.tell(t, before)
	eventually(t, "the other hears", func() bool { return b.hears(before) })
	lose()
	eventually(t, "both have lost it", func() bool { return !a.Connected() && !b.Connected() })
	a.tell(t, meanwhile)
	back()
	took := eventually(t, "both are connected again", connected(a, b))
	eventually(t, "the other hears of what was told meanwhile", func() bool { return b.hears(meanwhile) })
	t.Logf("connected again after %v", took)
	late := join(t, line, "late")
	eventually(t, "a latecomer hears all", func() bool { return late.hears(before) && late.hears(meanwhile) })
}

// TestCluster checks a cluster of three nodes, and that a fleet survives the loss of one.
func TestCluster(t *testing.T) {
	t.Parallel()
	var servers []*live
	create := []string{"--cluster", "create"}
	for range 3 {
		s := startLive(t, "--cluster-enabled", "yes", "--cluster-port", "PORT2", "--cluster-node-timeout", "3000")
		s.cli(append([]string{"acl", "setuser"}, strings.Fields("caddy on >pw resetkeys resetchannels -@all "+documented+" +cluster|slots")...)...)
		servers, create = append(servers, s), append(create, s.addr())
	}
	servers[0].cli(append(create, "--cluster-yes")...)
	eventually(t, "the cluster is up", func() bool {
		return !slices.ContainsFunc(servers, func(s *live) bool { return !strings.Contains(s.cli("cluster", "info"), "cluster_state:ok") })
	})
	lines := []string{
		fmt.Sprintf("redis redis://caddy:pw@%s?addr=%s&addr=%s", servers[0].addr(), servers[1].addr(), servers[2].addr()),
		fmt.Sprintf("redis redis://caddy:pw@%s {\n cluster\n}", servers[2].addr()),
	}
	wantCarried(t, engineOf(t, lines[0], "one"), engineOf(t, lines[1], "one"))
	wantCarried(t, engineOf(t, lines[1], "two"), engineOf(t, lines[0], "two"))
	// Find the node that has the fleet's keys.
	slot := strings.TrimSpace(servers[0].cli("cluster", "keyslot", "failover:{eu}"))
	var number int
	if _, err := fmt.Sscan(slot, &number); err != nil {
		t.Fatal(err)
	}
	owner := min(2, number*3/16384)
	for what, server := range map[string]*live{"the node that has the keys": servers[owner], "another": servers[(owner+1)%3]} {
		t.Run(what, func(t *testing.T) {
			survives(t, lines[0], func() { server.signal(syscall.SIGSTOP) }, func() { server.signal(syscall.SIGCONT) })
		})
	}
}

// TestSentinel checks that a fleet survives the loss of a server that a sentinel replaces.
func TestSentinel(t *testing.T) {
	t.Parallel()
	master := startLive(t)
	replica := startLive(t, "--replicaof", "127.0.0.1 "+fmt.Sprint(master.port), "--repl-diskless-sync-delay", "0")
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf(`sentinel monitor main 127.0.0.1 %d 1
sentinel down-after-milliseconds main 500
sentinel failover-timeout main 2000
`, master.port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := startLive(t, config, "--sentinel")
	eventually(t, "the replica is in step", func() bool { return strings.Contains(replica.cli("info", "replication"), "master_link_status:up") })
	eventually(t, "the sentinel knows the replica", func() bool {
		return strings.Contains(sentinel.cli("sentinel", "replicas", "main"), fmt.Sprint(replica.port))
	})
	line := fmt.Sprintf("redis redis://%s?master_name=main", sentinel.addr())
	wantCarried(t, engineOf(t, line, "one"), engineOf(t, line, "one"))
	survives(t, line, master.end, func() {})
	if role := replica.cli("role"); !strings.HasPrefix(role, "master") {
		t.Errorf("the replica is %q", role)
	}
}
