// Package run has the commands' common parts: flags, directories and results.
package run

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A Run is one run of a command.
type Run struct {
	Dir   string // temporary directory; exists from Parse to Close
	Out   string // directory of results; exists from Parse on
	Short bool
	Flags *flag.FlagSet
}

// New starts a run of a command in the bench directory. Close ends it.
func New(command string) (*Run, error) {
	if _, err := os.Stat("caddy/main.go"); err != nil {
		return nil, errors.New("run this in the bench directory")
	}
	r := &Run{Out: "out", Flags: flag.NewFlagSet(command, flag.ExitOnError)}
	r.Flags.BoolVar(&r.Short, "short", false, "take about two minutes")
	r.Flags.StringVar(&r.Out, "out", r.Out, "directory of the results")
	return r, nil
}

// Close removes the temporary directory, if there is one.
func (r *Run) Close() {
	if r.Dir != "" {
		os.RemoveAll(r.Dir)
	}
}

// Parse parses the command's flags and creates the directories. If it fails or ends the
// process to print the usage, it leaves no directory behind.
func (r *Run) Parse(args []string) error {
	if err := r.Flags.Parse(args); err != nil {
		return err
	}
	if r.Flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", r.Flags.Arg(0))
	}
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return err
	}
	var err error
	r.Dir, err = os.MkdirTemp("", "failover-bench-")
	return err
}

// Default sets a flag that was not given: to usual, or to short in a short run.
func Default[T comparable](r *Run, flag *T, usual, short T) {
	var none T
	switch {
	case *flag != none:
	case r.Short:
		*flag = short
	default:
		*flag = usual
	}
}

// resultPath returns the path of a command's results.
func (r *Run) resultPath(command string) string { return filepath.Join(r.Out, command+".json") }

// Save writes the results of the command as JSON.
func (r *Run) Save(results any) error {
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	path := r.resultPath(r.Flags.Name())
	Say("results: %s", path)
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Load reads the saved results of a command. Its error is fs.ErrNotExist if there are none.
func (r *Run) Load(command string, into any) error {
	text, err := os.ReadFile(r.resultPath(command))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// Sleep waits for d, or returns false early when ctx ends.
func Sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Say prints a message for the user to standard error.
func Say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
