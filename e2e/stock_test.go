//go:build system

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// differs has the tests of Caddy's own suites that may fail with this policy, each with the reason.
var differs = map[string]string{
	"TestRequestTrailersRetry/consumed_stream_cannot_replay":           "bodies are kept, so that they can be sent again",
	"TestRequestTrailersRetry/partially_buffered_stream_cannot_replay": "bodies are kept, so that they can be sent again",
	"TestRequestTrailersCancellation":                                  "no attempt closes the client's body, which the server does",
}

// suites has the packages, each with a pattern of the tests that concern the proxy.
var suites = map[string]string{
	"modules/caddyhttp/reverseproxy": ".",
	"caddytest/integration":          "ReverseProxy|Dial|H2To|ForwardAuth|Intercept|ProxyProtocol|Adapt|FastCGI|RequestBody|Stream",
}

// hooks are edits of a copy of Caddy, by which each of its proxies gets this policy.
var hooks = []struct{ file, before, after string }{
	{"context.go", "\n// Modules returns", `
// WithAncestor returns a context in which a module is being loaded.
func (ctx Context) WithAncestor(m Module) Context {
	ctx.ancestry = append(ctx.ancestry[:len(ctx.ancestry):len(ctx.ancestry)], m)
	return ctx
}

// Modules returns`},
	{"modules/caddyhttp/reverseproxy/reverseproxy.go", "\nfunc init() {", `
// BeforeProvision and BeforeServe are called with each handler.
var BeforeProvision, BeforeServe func(*Handler)

func init() {`},
	{"modules/caddyhttp/reverseproxy/reverseproxy.go", "func (h *Handler) Provision(ctx caddy.Context) error {\n", `func (h *Handler) Provision(ctx caddy.Context) error {
	if BeforeProvision != nil {
		BeforeProvision(h)
	}
`},
	{"modules/caddyhttp/reverseproxy/reverseproxy.go", "func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {\n", `func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if BeforeServe != nil {
		BeforeServe(h)
	}
`},
}

// TestCaddysOwnSuitesPass runs Caddy's own tests with this policy in every proxy, in a copy of Caddy's source from the
// module cache. All must pass except those in differs.
func TestCaddysOwnSuitesPass(t *testing.T) {
	dir := t.TempDir()
	copied := filepath.Join(dir, "caddy")
	copyOfCaddy(t, copied)
	for _, h := range hooks {
		replaceIn(t, filepath.Join(copied, h.file), h.before, h.after)
	}
	policy, err := os.ReadFile("testdata/stock/policy.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	for suite, name := range map[string]string{"modules/caddyhttp/reverseproxy": "reverseproxy_test", "caddytest/integration": "integration"} {
		text := bytes.Replace(policy, []byte("PACKAGE"), []byte(name), 1)
		if err := os.WriteFile(filepath.Join(copied, suite, "failover_test.go"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	module := filepath.Join(dir, "go.mod")
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	run(t, exec.Command("go", "mod", "edit", "-replace", "github.com/caddyserver/caddy/v2="+copied, module))
	unseen := maps.Clone(differs)
	for suite, tests := range suites {
		for _, failed := range failuresOf(t, module, suite, tests, false) {
			if differs[failed.name] != "" {
				delete(unseen, failed.name)
				continue
			}
			alone := "^" + strings.ReplaceAll(strings.ReplaceAll(failed.name, "(", `\(`), "/", "$/^") + "$"
			switch {
			case len(failuresOf(t, module, suite, alone, false)) == 0:
				t.Logf("%s of %s passes alone", failed.name, suite)
				continue
			case len(failuresOf(t, module, suite, alone, true)) > 0:
				t.Logf("%s of %s fails without the policy as well", failed.name, suite)
				continue
			}
			t.Errorf("%s of %s:\n%s", failed.name, suite, failed.output)
		}
	}
	for name := range unseen {
		t.Errorf("%s is in differs, but passes", name)
	}
}

// copyOfCaddy copies the source of this module's Caddy to the directory to.
func copyOfCaddy(t *testing.T, to string) {
	t.Helper()
	from := strings.TrimSpace(run(t, exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/caddyserver/caddy/v2")))
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), text, 0o600)
	})
	if err != nil {
		t.Fatalf("copying Caddy: %v", err)
	}
}

func replaceIn(t *testing.T, file, before, after string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte(before)); n == 0 {
		t.Fatalf("%s has no %q", file, before)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte(before), []byte(after), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, command *exec.Cmd) string {
	t.Helper()
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	return string(out)
}

// A failure is a failed test with its output.
type failure struct{ name, output string }

// failuresOf runs tests of a package of Caddy, without the policy if stock is set, and returns those that fail. If
// subtests fail, it returns these and not their test.
func failuresOf(t *testing.T, module, suite, tests string, stock bool) (failed []failure) {
	t.Helper()
	command := exec.Command("go", "test", "-json", "-mod=mod", "-modfile", module, "-count", "1", "-run", tests, "github.com/caddyserver/caddy/v2/"+suite)
	command.Dir, command.Env = "..", os.Environ()
	if stock {
		command.Env = append(command.Env, "STOCK=1")
	}
	out, _ := command.Output() // the output shows failed tests, so the error is not needed
	outputs, passed := make(map[string]string), 0
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		outputs[e.Test] += e.Output
		switch {
		case e.Action == "pass" && e.Test != "":
			passed++
		case e.Action == "fail" && e.Test != "":
			failed = append(failed, failure{name: e.Test})
		}
	}
	if passed+len(failed) == 0 {
		t.Fatalf("%v: no test ran\n%s", command, out)
	}
	failed = slices.DeleteFunc(failed, func(f failure) bool {
		return slices.ContainsFunc(failed, func(sub failure) bool { return strings.HasPrefix(sub.name, f.name+"/") })
	})
	for i := range failed {
		failed[i].output = outputs[failed[i].name]
	}
	t.Logf("%s: %d tests passed, %d failed", suite, passed, len(failed))
	return failed
}
