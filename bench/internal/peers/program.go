package peers

import (
	"fmt"
	"os/exec"
	"strings"
)

// A Program is the software of a peer.
type Program struct {
	Name    string // name in reports
	binary  string // name in PATH; empty if it is built for the run
	version []string
	cut     string // text before the version in the command's output
	argv    func(caddy, dir, config string) []string
}

// Programs.
var (
	Caddy = &Program{
		Name:    "Caddy",
		version: []string{"go", "list", "-m", "-f", "{{.Version}}", "github.com/caddyserver/caddy/v2"},
		argv: func(caddy, _, config string) []string {
			return []string{caddy, "run", "--adapter", "caddyfile", "--config", config}
		},
	}
	HAProxy = &Program{
		Name:    "HAProxy",
		binary:  "haproxy",
		version: []string{"haproxy", "-v"},
		cut:     "HAProxy version ",
		argv: func(_, _, config string) []string {
			return []string{"haproxy", "-db", "-f", config}
		},
	}
	NGINX = &Program{
		Name:    "nginx",
		binary:  "nginx",
		version: []string{"nginx", "-v"},
		cut:     "nginx version: nginx/",
		argv: func(_, dir, config string) []string {
			return []string{"nginx", "-p", dir, "-e", "stderr", "-c", config}
		},
	}
)

// Programs returns all programs in the order of reports.
func Programs() []*Program { return []*Program{Caddy, HAProxy, NGINX} }

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

// Version returns the program's version, or "" if it is not installed.
func (p *Program) Version() string {
	text, err := exec.Command(p.version[0], p.version[1:]...).CombinedOutput()
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), "\n")
	first, _, _ = strings.Cut(strings.TrimPrefix(first, p.cut), " ")
	return first
}
