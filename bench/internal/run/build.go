package run

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// CallDir is the directory of the package that has the plugin's benchmarks and the simulated
// fleet, relative to the bench directory.
const CallDir = "../internal/call"

// Go returns a go command. It ends with ctx, together with its compilers, and removes its
// temporary files.
func (r *Run) Go(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = append(os.Environ(), "GOTMPDIR="+r.Dir)
	return cmd
}

// BuildCaddy builds the Caddy that serves the plugin's and stock configurations, with extra
// flags for go build. It returns the path of the binary.
func (r *Run) BuildCaddy(ctx context.Context, flags ...string) (string, error) {
	binary := filepath.Join(r.Dir, "caddy"+strings.Join(flags, ""))
	args := append(append([]string{"build"}, flags...), "-o", binary, "./caddy")
	Say("building Caddy with the plugin: go %s", strings.Join(args, " "))
	if text, err := r.Go(ctx, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, text)
	}
	return binary, nil
}

// BuildTest builds the test binary of the package in a directory, which may be in another
// module. It returns the path of the binary.
func (r *Run) BuildTest(ctx context.Context, dir, name string) (string, error) {
	binary := filepath.Join(r.Dir, name)
	cmd := r.Go(ctx, "test", "-c", "-o", binary, ".")
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the tests in %s: %w\n%s", dir, err, text)
	}
	return binary, nil
}
