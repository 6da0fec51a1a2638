// Package process runs servers and measures their resource use.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Process is a server in its own process group, so that its workers end with it.
type Process struct {
	Dir string // working directory and home

	name string
	cmd  *exec.Cmd
	log  string // log file
	done chan struct{}
	once sync.Once
}

// Start runs a command in a directory, which also holds its log. The command ends at Stop,
// or when the thread that started it ends.
func Start(name, dir string, argv []string, env ...string) (*Process, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &Process{Dir: dir, name: name, cmd: exec.Command(argv[0], argv[1:]...), log: log.Name(), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), append([]string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}, env...)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Stop ends the process and its group, by force after 3 s, and waits for the process.
// Further calls do nothing.
func (p *Process) Stop() {
	p.once.Do(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(3 * time.Second):
		}
		p.kill()
	})
}

// Kill is Stop by force, without a warning.
func (p *Process) Kill() { p.once.Do(p.kill) }

func (p *Process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// ErrEnded is the error of a process that ended when it should have listened, as it does if its
// port is taken.
var ErrEnded = errors.New("it ended at once")

// settling is how long Await watches the process after an answer, which may be that of another
// process at the same port.
const settling = 100 * time.Millisecond

// Await waits up to 20 s until the process accepts connections at an address. The error is
// ErrEnded if it ends first.
func (p *Process) Await(ctx context.Context, address string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
			select {
			case <-p.done:
			case <-time.After(settling):
				return nil
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("starting %s: %w:\n%s", p.name, ErrEnded, p.Tail())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen at %s:\n%s", p.name, address, p.Tail())
		}
	}
}

// Log returns all output of the process.
func (p *Process) Log() (string, error) {
	text, err := os.ReadFile(p.log)
	return string(text), err
}

// Tail returns the last 4,000 bytes of the log.
func (p *Process) Tail() string {
	text, _ := p.Log()
	return text[max(0, len(text)-4000):]
}

// Members returns the IDs of the group's living processes.
func (p *Process) Members() []int {
	group := strconv.Itoa(p.cmd.Process.Pid)
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// The fields are pid (comm) state ppid pgrp.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 2 && fields[2] == group && fields[0] != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}
