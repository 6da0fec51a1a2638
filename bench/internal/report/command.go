// Package report writes docs/benchmarks.md, docs/benchmarks/ and their charts.
package report

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// summaryFile is the page with the summaries of all commands. Everything outside its marked
// sections is written by hand.
const summaryFile = "benchmarks.md"

// Command writes the results of the other commands: for each a page in docs/benchmarks with
// all tables, and a section of docs/benchmarks.md. It leaves the page and the section of a
// command without results as they are.
func Command(_ context.Context, r *run.Run, args []string) error {
	docs := r.Flags.String("docs", "../docs", "directory of benchmarks.md")
	if err := r.Parse(args); err != nil {
		return err
	}
	path := filepath.Join(*docs, summaryFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	s := &summary{docs: *docs, text: string(text)}
	for _, err := range []error{
		part(r, s, "faults", "Faults", (*page).faults, (*page).faultsInShort),
		part(r, s, "speed", "Speed", (*page).speed, (*page).speedInShort),
		part(r, s, "llm", "LLM APIs", (*page).llm, (*page).llmInShort),
		part(r, s, "micro", "Go benchmarks", (*page).micro, (*page).microInShort),
		part(r, s, "soak", "Soak", (*page).soak, (*page).soakInShort),
		part(r, s, "fleet", "Fleet", (*page).fleet, (*page).fleetInShort),
	} {
		if err != nil {
			return err
		}
	}
	run.Say("written: %s", path)
	return os.WriteFile(path, []byte(s.text), 0o644)
}

// A summary is docs/benchmarks.md while sections of it are replaced.
type summary struct {
	docs string // its directory
	text string
}

// part writes the page of a command, and replaces its section of the summary, if there are
// results.
func part[R any](r *run.Run, s *summary, command, title string, whole, short func(*page, R) error) error {
	var results R
	err := r.Load(command, &results)
	if errors.Is(err, fs.ErrNotExist) {
		run.Say("notice: %s has no results; its page and section stay as they are", command)
		return nil
	}
	if err != nil {
		return fmt.Errorf("reporting %s: %w", command, err)
	}
	p, section := &page{docs: s.docs}, &page{docs: s.docs}
	p.line("# %s\n\n[Benchmarks](../%s) has the summary and says how to measure this yourself.", title, summaryFile)
	if err := errors.Join(whole(p, results), short(section, results)); err != nil {
		return fmt.Errorf("reporting %s: %w", command, err)
	}
	if err := s.replace(command, section.String()); err != nil {
		return err
	}
	path := filepath.Join(s.docs, "benchmarks", command+".md")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	run.Say("written: %s", path)
	return os.WriteFile(path, []byte(trimmed(p.String())), 0o644)
}

// replace replaces the section of a command, which stands between two comments.
func (s *summary) replace(command, section string) error {
	begin, end := "<!-- "+command+": begin -->\n", "<!-- "+command+": end -->\n"
	before, rest, found := strings.Cut(s.text, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return fmt.Errorf("%s has no section between %q and %q", summaryFile, begin, end)
	}
	s.text = before + begin + "\n" + trimmed(section) + "\n" + end + after
	return nil
}

// trimmed returns text without empty lines at its ends or more than one in a row.
func trimmed(text string) string {
	for strings.Contains(text, "\n\n\n") {
		text = strings.ReplaceAll(text, "\n\n\n", "\n\n")
	}
	return strings.Trim(text, "\n") + "\n"
}
