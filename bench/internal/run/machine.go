package run

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/peers"
)

// A Machine describes when a run took place and on which machine.
type Machine struct {
	Date     string            `json:"date"` // UTC, to the minute
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Kernel   string            `json:"kernel"`
	Versions map[string]string `json:"versions"` // versions of installed programs, by name
	Short    bool              `json:"short"`
}

// Names of versions other than those of the peers' programs.
const (
	pluginVersion = "plugin"
	goVersion     = "Go"
)

// Versioned returns the names of all versions in the order of reports.
func Versioned() []string {
	names := []string{pluginVersion}
	for _, p := range peers.Programs() {
		names = append(names, p.Name)
	}
	return append(names, goVersion)
}

// Machine describes this machine and this run.
func (r *Run) Machine() Machine {
	m := Machine{
		Date:     time.Now().UTC().Format("2006-01-02 15:04 MST"),
		Cores:    runtime.NumCPU(),
		Versions: map[string]string{goVersion: runtime.Version()},
		Short:    r.Short,
	}
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(cpu)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(kernel)), "-")
	if text, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		m.Versions[pluginVersion] = strings.TrimSpace(string(text))
	}
	for _, p := range peers.Programs() {
		if version := p.Version(); version != "" {
			m.Versions[p.Name] = version
		}
	}
	return m
}
