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

// PluginDir is the plugin's directory, seen from the bench directory.
const PluginDir = ".."

// Go returns a go command. It ends with ctx, together with the compilers that it
// has started, and leaves nothing behind.
func (r *Run) Go(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = append(os.Environ(), "GOTMPDIR="+r.Dir)
	return cmd
}

// BuildCaddy builds the Caddy that serves both the plugin's configurations and
// stock ones, with flags for go build, and returns its path.
func (r *Run) BuildCaddy(ctx context.Context, flags ...string) (string, error) {
	binary := filepath.Join(r.Dir, "caddy"+strings.Join(flags, ""))
	args := append(append([]string{"build"}, flags...), "-o", binary, "./caddy")
	Say("building Caddy with the plugin: go %s", strings.Join(args, " "))
	if text, err := r.Go(ctx, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, text)
	}
	return binary, nil
}

// BuildTest builds the test binary of the package in a directory, which may be of
// another module, and returns its path.
func (r *Run) BuildTest(ctx context.Context, dir, name string) (string, error) {
	binary := filepath.Join(r.Dir, name)
	cmd := r.Go(ctx, "test", "-c", "-o", binary, ".")
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the tests in %s: %w\n%s", dir, err, text)
	}
	return binary, nil
}
