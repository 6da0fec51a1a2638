package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A process can run one Caddy at a time, and most tests wait most of the time. So TestMain starts
// this binary several times, each time for a few tests, and prints what each printed when it ends.

const (
	processesPerCore = 2
	testsPerProcess  = 3
)

// partEnv is set in a process that runs a part of the tests.
const partEnv = "E2E_PART"

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(partEnv) != "" || !all() {
		os.Exit(m.Run())
	}
	os.Exit(runInParts())
}

// all reports whether all tests run, and nothing is measured over all of them.
func all() bool {
	all := true
	flag.Visit(func(f *flag.Flag) {
		switch name := strings.TrimPrefix(f.Name, "test."); name {
		case "timeout", "v", "count", "failfast", "short", "paniconexit0", "testlogfile", "parallel", "skip":
		default: // run, list, bench, fuzz and profiles
			all = false
		}
	})
	return all
}

// runInParts runs all tests and returns the exit code.
func runInParts() (code int) {
	self, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	listed, err := command(self, "-test.list=.").Output()
	if err != nil {
		fmt.Println("listing tests:", err)
		return 1
	}
	var tests []string
	for line := range strings.Lines(string(listed)) {
		if name := strings.TrimSpace(line); strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Example") || strings.HasPrefix(name, "Fuzz") {
			tests = append(tests, name)
		}
	}
	// The log of files that a test opens lets Go cache its result. Each part would overwrite it.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		return strings.HasPrefix(arg, "-test.testlogfile") || strings.HasPrefix(arg, "--test.testlogfile")
	})
	parts := make(chan []string)
	var workers sync.WaitGroup
	var mu sync.Mutex
	for range processesPerCore * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for part := range parts {
				run := "-test.run=^(" + strings.Join(part, "|") + ")$"
				output, err := command(self, append(slices.Clone(args), run)...).CombinedOutput()
				mu.Lock()
				show(output, err)
				if err != nil {
					code = 1
				}
				mu.Unlock()
			}
		})
	}
	for part := range slices.Chunk(tests, testsPerProcess) {
		parts <- part
	}
	close(parts)
	workers.Wait()
	if code == 0 {
		fmt.Println("PASS")
	} else {
		fmt.Println("FAIL")
	}
	return code
}

func command(self string, args ...string) *exec.Cmd {
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), partEnv+"=1")
	return c
}

// show prints what a part printed, without its last line, which is PASS or FAIL for the part alone.
// Of a part that passes quietly it prints nothing.
func show(output []byte, err error) {
	if err == nil && !testing.Verbose() {
		return
	}
	for line := range bytes.Lines(output) {
		switch string(bytes.TrimSpace(line)) {
		case "PASS", "FAIL":
			continue
		}
		os.Stdout.Write(line)
	}
	if err != nil {
		fmt.Println("a part of the tests ended with", err)
	}
}
