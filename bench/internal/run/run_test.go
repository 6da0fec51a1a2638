package run

import (
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestDefault(t *testing.T) {
	for _, step := range []struct {
		short       bool
		given, want time.Duration
	}{
		{false, 0, time.Minute},
		{true, 0, time.Second},
		{false, time.Hour, time.Hour},
		{true, time.Hour, time.Hour},
	} {
		got := step.given
		Default(&Run{Short: step.short}, &got, time.Minute, time.Second)
		if got != step.want {
			t.Errorf("short %t, given %v: got %v, want %v", step.short, step.given, got, step.want)
		}
	}
}

// TestSave checks that another command can load saved results.
func TestSave(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	out := filepath.Join(t.TempDir(), "out")
	speed := &Run{Out: out, Flags: flag.NewFlagSet("speed", flag.ContinueOnError)}
	report := &Run{Out: out, Flags: flag.NewFlagSet("report", flag.ContinueOnError)}
	var loaded map[string]int
	if err := report.Load("speed", &loaded); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a command that has not been run: %v", err)
	}
	if err := speed.Parse(nil); err != nil {
		t.Fatal(err)
	}
	if err := speed.Save(map[string]int{"rounds": 3}); err != nil {
		t.Fatal(err)
	}
	if err := report.Load("speed", &loaded); err != nil || loaded["rounds"] != 3 {
		t.Errorf("loaded %v, %v", loaded, err)
	}
}

// TestTemporary checks that no temporary directory is left, with valid flags and with
// invalid ones.
func TestTemporary(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, args := range [][]string{nil, {"-h"}, {"-unknown"}, {"more"}} {
		flags := flag.NewFlagSet("speed", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		r := &Run{Out: t.TempDir(), Flags: flags}
		if err := r.Parse(args); (err == nil) != (args == nil) {
			t.Errorf("%v: %v", args, err)
		}
		if left, err := os.ReadDir(dir); err != nil || (len(left) > 0) != (args == nil) {
			t.Errorf("%v: %v are there before Close, %v", args, left, err)
		}
		r.Close()
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v: %v are left, %v", args, left, err)
		}
	}
}
