package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A process can run one Caddy at a time, and most tests wait most of the time. So TestMain starts this binary
// several times. Each of these workers runs one test after the other, and TestMain prints what a test printed
// when it ends.

// workerEnv is set in a worker.
const workerEnv = "E2E_WORKER"

// A worker has two files beside its standard ones. It reads from the first what it is to run, a line each: the name
// of a test, or of a part of one. It writes an answer to the second.
const (
	ordersFile  = 3
	answersFile = 4
)

// These are the answers. A worker that has none ends.
const (
	passed = "passed"
	found  = "found " // and the name of a part, which is to run apart
)

// tellApart is set while a worker runs a whole test: it takes the names of the parts, which do not run.
var tellApart func(part string)

// apart runs a subtest that needs nothing of the others, maybe in another process. The test does nothing after its
// parts.
func apart(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		if tellApart != nil {
			tellApart(t.Name())
			return
		}
		f(t)
	})
}

func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case os.Getenv(workerEnv) != "":
		os.Exit(work(m))
	case all():
		os.Exit(runWorkers())
	}
	os.Exit(m.Run())
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

// work follows orders until a test fails. What a failed test leaves behind, a race that was found above all, must
// not make others fail.
func work(m *testing.M) (code int) {
	syscall.CloseOnExec(ordersFile)
	syscall.CloseOnExec(answersFile)
	answers := os.NewFile(answersFile, "answers")
	for orders := bufio.NewScanner(os.NewFile(ordersFile, "orders")); orders.Scan(); {
		test := orders.Text()
		if tellApart = nil; !strings.Contains(test, "/") {
			tellApart = func(part string) { fmt.Fprintln(answers, found+part) }
		}
		if err := flag.Set("test.run", "^"+strings.ReplaceAll(regexp.QuoteMeta(test), "/", "$/^")+"$"); err != nil {
			fmt.Println(err)
			return 2
		}
		if code := m.Run(); code != 0 {
			return code
		}
		fmt.Fprintln(answers, passed)
	}
	return 0
}

// runWorkers runs all tests and returns the exit code.
func runWorkers() (code int) {
	tests, err := list()
	if err != nil {
		fmt.Println("listing tests:", err)
		return 1
	}
	q := newQueue(tests)
	var workers sync.WaitGroup
	var mu sync.Mutex
	ended := func(test string, output []byte, err error) {
		mu.Lock()
		defer mu.Unlock()
		show(test, output, err)
		if err != nil {
			code = 1
		}
	}
	for range workersPerCore * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			var w worker
			for test, ok := q.next(); ok; test, ok = q.next() {
				parts, output, err := w.run(test)
				q.done(parts)
				if len(parts) > 0 && err == nil {
					continue // the parts print it
				}
				ended(test, output, err)
			}
			if output, err := w.stop(); err != nil {
				ended("ending a worker", output, err)
			}
		})
	}
	workers.Wait()
	fmt.Println([]string{"PASS", "FAIL"}[code])
	return code
}

// list returns the names of all tests.
func list() (tests []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, "-test.list=.")
	c.Env = append(os.Environ(), workerEnv+"=")
	listed, err := c.Output()
	for line := range strings.Lines(string(listed)) {
		if name := strings.TrimSpace(line); strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Example") || strings.HasPrefix(name, "Fuzz") {
			tests = append(tests, name)
		}
	}
	return tests, err
}

// A queue holds the tests that are to run. Its methods may be called concurrently.
type queue struct {
	mu      sync.Mutex
	changed sync.Cond
	tests   []string
	running int
}

func newQueue(tests []string) *queue {
	q := &queue{tests: tests}
	q.changed.L = &q.mu
	return q
}

// next returns the next test, of which done must be told. It waits while a test runs that may have parts. It
// returns false when all have run.
func (q *queue) next() (test string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.tests) == 0 && q.running > 0 {
		q.changed.Wait()
	}
	if len(q.tests) == 0 {
		return "", false
	}
	test, q.tests = q.tests[0], q.tests[1:]
	q.running++
	return test, true
}

// done says that a test has run, and which of its parts are to run: these are next, because they tend to take long.
func (q *queue) done(parts []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	q.tests = slices.Concat(parts, q.tests)
	q.changed.Broadcast()
}

// A worker is a process that runs tests. The zero value starts it for the first one.
type worker struct {
	process *exec.Cmd // nil: there is none
	orders  io.WriteCloser
	answers *bufio.Scanner
	output  *os.File // what it prints
	read    int64    // how much of that was returned
}

// run runs a test. It returns the parts that are to run apart, what the test printed, and an error if it failed.
func (w *worker) run(test string) (parts []string, output []byte, err error) {
	if w.process == nil {
		if err := w.start(); err != nil {
			return nil, nil, err
		}
	}
	_, _ = fmt.Fprintln(w.orders, test) // a worker that has ended has no answer
	for w.answers.Scan() {
		if w.answers.Text() == passed {
			return parts, w.printed(), nil
		}
		parts = append(parts, strings.TrimPrefix(w.answers.Text(), found))
	}
	output, err = w.stop()
	return parts, output, cmp.Or(err, errors.New("the process has ended"))
}

func (w *worker) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	output, err := os.CreateTemp("", "e2e-output")
	if err != nil {
		return err
	}
	if err := os.Remove(output.Name()); err != nil {
		return err
	}
	theirOrders, orders, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirOrders.Close()
	answers, theirAnswers, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirAnswers.Close()
	// From the log of what tests open, Go learns when it may reuse a result. No worker knows all of that.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		return strings.HasPrefix(arg, "-test.testlogfile") || strings.HasPrefix(arg, "--test.testlogfile")
	})
	process := exec.Command(self, args...)
	process.Env = append(os.Environ(), workerEnv+"=1")
	process.Stdout, process.Stderr = output, output
	process.ExtraFiles = []*os.File{theirOrders, theirAnswers}
	if err := process.Start(); err != nil {
		return err
	}
	*w = worker{process: process, orders: orders, answers: bufio.NewScanner(answers), output: output}
	return nil
}

// printed returns what the process printed since the last call.
func (w *worker) printed() []byte {
	output, err := io.ReadAll(io.NewSectionReader(w.output, w.read, math.MaxInt64-w.read))
	w.read += int64(len(output))
	if err != nil {
		return fmt.Appendln(output, "reading what a worker printed:", err)
	}
	return output
}

// stop ends the process, if there is one, and returns what it printed since the last test.
func (w *worker) stop() ([]byte, error) {
	if w.process == nil {
		return nil, nil
	}
	w.orders.Close()
	err := w.process.Wait()
	output := w.printed()
	w.output.Close()
	*w = worker{}
	return output, err
}

// show prints what a test printed, without its last line, which is PASS or FAIL for the test alone.
// Of a test that passes quietly it prints nothing.
func show(test string, output []byte, err error) {
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
		fmt.Printf("%s: %v\n", test, err)
	}
}
