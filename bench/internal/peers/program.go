package peers

import (
	"fmt"
	"os/exec"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/npm"
)

// A Program is the software of a peer.
type Program struct {
	Name    string // name in reports
	binary  string // name in PATH; empty if it is built for the run
	npm     string // its npm package; empty if it is none
	version []string
	cut     string // text before the version in the command's output
	argv    func(l Launcher, port int, dir, config string) []string
}

// Programs.
var (
	Caddy = &Program{
		Name:    "Caddy",
		version: []string{"go", "list", "-m", "-f", "{{.Version}}", "github.com/caddyserver/caddy/v2"},
		argv: func(l Launcher, _ int, _, config string) []string {
			return []string{l.Caddy, "run", "--adapter", "caddyfile", "--config", config}
		},
	}
	HAProxy = &Program{
		Name:    "HAProxy",
		binary:  "haproxy",
		version: []string{"haproxy", "-v"},
		cut:     "HAProxy version ",
		argv: func(_ Launcher, _ int, _, config string) []string {
			return []string{"haproxy", "-db", "-f", config}
		},
	}
	NGINX = &Program{
		Name:    "nginx",
		binary:  "nginx",
		version: []string{"nginx", "-v"},
		cut:     "nginx version: nginx/",
		argv: func(_ Launcher, _ int, dir, config string) []string {
			return []string{"nginx", "-p", dir, "-e", "stderr", "-c", config}
		},
	}
	Portkey = &Program{
		Name:   "Portkey",
		binary: "node",
		npm:    npm.Gateway,
		argv: func(l Launcher, port int, _, _ string) []string {
			return PortkeyCommand(l.NPM, port)
		},
	}
)

// Programs returns all programs in the order of reports.
func Programs() []*Program { return []*Program{Caddy, HAProxy, NGINX, Portkey} }

// Missing returns why the program cannot run here, or nil if it can.
func (p *Program) Missing() error {
	if p.binary == "" {
		return nil
	}
	if _, err := exec.LookPath(p.binary); err != nil {
		return fmt.Errorf("%s is not installed", p.binary)
	}
	return nil
}

// NeedsNPM reports whether the launcher must know where npm packages are.
func (p *Program) NeedsNPM() bool { return p.npm != "" }

// Version returns the program's version, or "" if it is not installed.
func (p *Program) Version() string {
	if p.npm != "" {
		if p.Missing() != nil {
			return ""
		}
		return npm.Version(p.npm)
	}
	text, err := exec.Command(p.version[0], p.version[1:]...).CombinedOutput()
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), "\n")
	first, _, _ = strings.Cut(strings.TrimPrefix(first, p.cut), " ")
	return first
}
