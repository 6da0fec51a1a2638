package failover

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/apifailover/caddy-failover"
	caddys = "github.com/caddyserver/caddy/v2"
	zaps   = "go.uber.org/zap"
)

// sources returns the module's Go files without tests, except those of bench/.
func sources(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (file == "bench" || entry.Name() == "testdata" || strings.HasPrefix(file, ".") && file != "."):
			return filepath.SkipDir
		case strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go"):
			files = append(files, filepath.ToSlash(file))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// rooms reads from docs/architecture.md what each package may import: packages under
// internal/ by their names, web, Caddy, and zap.
func rooms(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	rooms := make(map[string][]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `(?:internal/|web/internal/)?([a-z]+)` \\| [^|]+ \\| ([^|]*) \\|$").FindAllStringSubmatch(string(text), -1) {
		if rooms[m[1]] != nil {
			t.Errorf("docs/architecture.md has the package %s twice", m[1])
		}
		rooms[m[1]] = append(strings.Fields(strings.ReplaceAll(m[2], ",", " ")), m[1])
	}
	return rooms
}

// TestWalls checks that every package under internal/ imports only what docs/architecture.md allows.
func TestWalls(t *testing.T) {
	rooms := rooms(t)
	seen := map[string]bool{}
	for _, file := range sources(t) {
		in := path.Dir(file)
		if in == "." {
			continue
		}
		room := path.Base(in)
		seen[room] = true
		allowed, known := rooms[room]
		if !known {
			t.Errorf("docs/architecture.md does not say what %s may import", in)
			rooms[room] = []string{}
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			needs := ""
			switch {
			case imported == module:
				needs = "the root"
			case strings.HasPrefix(imported, module+"/"):
				needs = path.Base(imported)
			case strings.HasPrefix(imported, caddys):
				needs = "Caddy"
			case imported == zaps || strings.HasPrefix(imported, zaps+"/"):
				needs = "zap"
			}
			if needs != "" && !slices.Contains(allowed, needs) {
				t.Errorf("%s imports %s, which docs/architecture.md does not let %s do", file, imported, in)
			}
		}
	}
	for _, room := range slices.Sorted(maps.Keys(rooms)) {
		if !seen[room] {
			t.Errorf("docs/architecture.md names the package %s, which is not there", room)
		}
	}
}

// TestArchitectureNamesEveryFile checks that docs/architecture.md lists every file of the root.
func TestArchitectureNamesEveryFile(t *testing.T) {
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	var patterns []string
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|").FindAllStringSubmatch(string(text), -1) {
		for _, m := range regexp.MustCompile("`([a-z_*]+\\.go)`").FindAllStringSubmatch(m[1], -1) {
			patterns = append(patterns, m[1])
			if found, _ := filepath.Glob(m[1]); len(found) == 0 {
				t.Errorf("docs/architecture.md names %s, which is not there", m[1])
			}
		}
	}
	for _, file := range sources(t) {
		if path.Dir(file) == "." && !slices.ContainsFunc(patterns, func(p string) bool {
			ok, _ := path.Match(p, file)
			return ok
		}) {
			t.Errorf("docs/architecture.md does not name %s", file)
		}
	}
}
