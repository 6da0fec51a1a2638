// Command bench compares the failover plugin with other proxies and with
// variants of itself, by real processes on loopback and by simulation.
//
//	go run . faults    failures that clients see while upstreams fail
//	go run . speed     CPU, latency, throughput and memory while all is well
//	go run . micro     Go benchmarks of Select and of circuit breakers
//	go run . soak      mixed traffic, random faults and reloads, counts that add up
//	go run . fleet     1,000 instances under virtual time
//	go run . report    docs/benchmarks.md and its charts from the results of all
//
// Results go to out/. Each command stops by itself; -short makes it last about
// two minutes. Linux only: it reads /proc.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A bench is one run of a command.
type bench struct {
	ctx   context.Context
	dir   string // for what goes with the run
	out   string // for what stays
	short bool
	flags *flag.FlagSet
}

var commands = map[string]func(*bench, []string) error{
	"faults": faults,
	"fleet":  fleet,
	"micro":  micro,
	"report": report,
	"soak":   soak,
	"speed":  speed,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go run . faults|speed|micro|soak|fleet|report [-short] [flags]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(command string, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, err := os.Stat("caddy/main.go"); err != nil {
		return errors.New("run it in the bench directory")
	}
	dir, err := os.MkdirTemp("", "failover-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir, out: "out", flags: flag.NewFlagSet(command, flag.ExitOnError)}
	b.flags.BoolVar(&b.short, "short", false, "a run of about two minutes")
	b.flags.StringVar(&b.out, "out", b.out, "directory of the results")
	err = commands[command](b, args)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// parse reads the flags that the command has defined.
func (b *bench) parse(args []string) error {
	if err := b.flags.Parse(args); err != nil {
		return err
	}
	if b.flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", b.flags.Arg(0))
	}
	return os.MkdirAll(b.out, 0o755)
}

// command is a go command that ends with the bench and leaves nothing behind.
func (b *bench) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.ctx, "go", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with compilers and linkers
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = append(os.Environ(), "GOTMPDIR="+b.dir)
	return cmd
}

// buildCaddy builds the Caddy that serves both the plugin's configurations and
// stock ones.
func (b *bench) buildCaddy(flags ...string) (string, error) {
	binary := filepath.Join(b.dir, "caddy"+strings.Join(flags, ""))
	args := append(append([]string{"build"}, flags...), "-o", binary, "./caddy")
	say("building Caddy with the plugin: go %s", strings.Join(args, " "))
	cmd := b.command(args...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, text)
	}
	return binary, nil
}

// buildTest builds the test binary of the package in a directory.
func (b *bench) buildTest(dir, name string) (string, error) {
	binary := filepath.Join(b.dir, name)
	cmd := b.command("test", "-c", "-o", binary, ".")
	cmd.Dir = dir // the plugin's tests have a module of their own
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the tests in %s: %w\n%s", dir, err, text)
	}
	return binary, nil
}

// save writes results as JSON.
func (b *bench) save(name string, results any) error {
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(b.out, name+".json")
	say("results: %s", path)
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// sleep waits; it returns early, and false, when the run is interrupted.
func (b *bench) sleep(d time.Duration) bool {
	select {
	case <-b.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// say tells what is going on.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// A machine is what a run ran on.
type machine struct {
	Date     string            `json:"date"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Kernel   string            `json:"kernel"`
	Versions map[string]string `json:"versions"`
	Short    bool              `json:"short"`
}

func (b *bench) machine() machine {
	m := machine{
		Date:     time.Now().UTC().Format("2006-01-02 15:04 MST"),
		Cores:    runtime.NumCPU(),
		Versions: map[string]string{"Go": runtime.Version()},
		Short:    b.short,
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
	for name, argv := range map[string][]string{
		"Caddy":   {"go", "list", "-m", "-f", "{{.Version}}", "github.com/caddyserver/caddy/v2"},
		"plugin":  {"git", "describe", "--always", "--dirty"},
		"HAProxy": {"haproxy", "-v"},
		"nginx":   {"nginx", "-v"},
	} {
		text, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(string(text), "\n")
		for _, cut := range []string{"HAProxy version ", "nginx version: nginx/"} {
			first = strings.TrimPrefix(first, cut)
		}
		first, _, _ = strings.Cut(first, " ")
		m.Versions[name] = first
	}
	return m
}
