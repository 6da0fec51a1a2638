package peers

import (
	"fmt"
	"os/exec"
	"strings"
)

// A Program is what runs a peer.
type Program struct {
	Name    string // in reports
	binary  string // in PATH; empty: it is built for the run
	version []string
	cut     string // in front of the version in what the command prints
	argv    func(caddy, dir, config string) []string
}

// The programs.
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

// Programs returns all programs, in the order in which reports name them.
func Programs() []*Program { return []*Program{Caddy, HAProxy, NGINX} }

// Missing says why the program cannot run here; it is nil if it can.
func (p *Program) Missing() error {
	if p.binary == "" {
		return nil
	}
	if _, err := exec.LookPath(p.binary); err != nil {
		return fmt.Errorf("%s is not installed", p.binary)
	}
	return nil
}

// Version asks the program for its version, "" if it is not installed.
func (p *Program) Version() string {
	text, err := exec.Command(p.version[0], p.version[1:]...).CombinedOutput()
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), "\n")
	first, _, _ = strings.Cut(strings.TrimPrefix(first, p.cut), " ")
	return first
}
