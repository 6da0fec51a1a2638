package failover

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/anomaly"
)

// A snippet is a fenced block of a document.
type snippet struct {
	file     string
	line     int
	language string
	text     string
}

func (s snippet) String() string { return fmt.Sprintf("%s:%d", s.file, s.line) }

// snippets returns the fenced blocks of a document, in order.
func snippets(t *testing.T, file string) []snippet {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []snippet
	inside := false
	for i, line := range strings.Split(string(text), "\n") {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !inside:
			inside = true
			found = append(found, snippet{file: file, line: i + 1, language: language})
		case fence:
			inside = false
		case inside:
			found[len(found)-1].text += line + "\n"
		}
	}
	if inside {
		t.Fatalf("%s: a fenced block has no end", file)
	}
	return found
}

func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/benchmarks/*.md", "bench/*.md", "deploy/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	return files
}

// wholeSite matches a Caddyfile with sites or global options, but not one with only the directives of a
// site.
var wholeSite = regexp.MustCompile(`(?m)^(\{|[^\s#{}]+(, [^\s{}]+)* \{)$`)

var directives = regexp.MustCompile(`^(failover|failover_dashboard|reverse_proxy|handle|handle_path|route|log|log_append|@|forward_auth|basic_auth|encode|import)\b`)

// TestSnippetsOfTheDocumentsWork checks that every Caddyfile and JSON handler in the documents adapts and
// provisions.
func TestSnippetsOfTheDocumentsWork(t *testing.T) {
	for _, name := range []string{"ONE_KEY", "TWO_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "BACKUP_API_KEY", "OPENROUTER_API_KEY"} {
		t.Setenv(name, "key")
	}
	checked := 0
	for _, file := range documents(t) {
		for _, s := range snippets(t, file) {
			switch s.language {
			case "caddyfile":
				checked++
				if err := validates(t, s.text); err != nil {
					t.Errorf("%v: %v\n%s", s, err, s.text)
				}
			case "json":
				if !strings.Contains(s.text, `"handler": "reverse_proxy"`) {
					continue
				}
				checked++
				config := fmt.Sprintf(`{"admin": {"disabled": true}, "apps": {"http": {"servers": {"s": {"listen": ["127.0.0.1:0"], "routes": [{"handle": [%s]}]}}}}}`, s.text)
				if err := validate(config); err != nil {
					t.Errorf("%v: %v", s, err)
				}
			}
		}
	}
	if checked == 0 {
		t.Error("no document has a snippet")
	}
}

// validates adapts and provisions a Caddyfile, or directives of a site.
func validates(t *testing.T, text string) error {
	first := strings.TrimSpace(text)
	for strings.HasPrefix(first, "#") {
		_, first, _ = strings.Cut(first, "\n")
		first = strings.TrimSpace(first)
	}
	switch {
	case !wholeSite.MatchString(text) || directives.MatchString(first):
		text = "{\n\tadmin off\n\tauto_https off\n}\nhttp://127.0.0.1:8080 {\n" + text + "}\n"
	case !strings.HasPrefix(first, "{"):
		text = "{\n\tadmin off\n\tauto_https off\n}\n" + text
	}
	config, err := tryAdapt(text)
	if err != nil {
		return err
	}
	return validate(string(config))
}

func validate(config string) error {
	var parsed caddy.Config
	if err := caddy.StrictUnmarshalJSON([]byte(config), &parsed); err != nil {
		return err
	}
	return caddy.Validate(&parsed)
}

// TestExampleWorks checks that Caddyfile.example provisions.
func TestExampleWorks(t *testing.T) {
	text, err := os.ReadFile("Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	config, err := tryAdapt(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(string(config)); err != nil {
		t.Error(err)
	}
}

// TestTranslationsAgree checks that the two READMEs have the same commands and snippets, except for
// comments.
func TestTranslationsAgree(t *testing.T) {
	comment := regexp.MustCompile(`(?m)(^|\s)#.*$`)
	blocks := func(file string) []string {
		var list []string
		for _, s := range snippets(t, file) {
			list = append(list, s.language+"\n"+comment.ReplaceAllString(s.text, ""))
		}
		return list
	}
	english, chinese := blocks("README.md"), blocks("README.zh-CN.md")
	if !slices.Equal(english, chinese) {
		for i := range max(len(english), len(chinese)) {
			if i >= len(english) || i >= len(chinese) || english[i] != chinese[i] {
				t.Fatalf("block %d of %d in README.md and %d in README.zh-CN.md differs", i+1, len(english), len(chinese))
			}
		}
	}
}

// TestLinksOfTheDocumentsLead checks that the files and headings exist that the documents link to.
func TestLinksOfTheDocumentsLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#: ]*)(#[^)]*)?\)`)
	for _, file := range documents(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(withoutFences(string(text)), -1) {
			to := file
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(file), m[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", file, m[1])
				continue
			}
			if anchor := strings.TrimPrefix(m[2], "#"); anchor != "" && strings.HasSuffix(to, ".md") && !slices.Contains(anchors(t, to), anchor) {
				t.Errorf("%s: %s has no heading for the link to #%s", file, to, anchor)
			}
		}
	}
}

// withoutFences returns a document without its fenced blocks.
func withoutFences(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
}

// anchors returns the names that GitHub gives the headings of a document, in order.
func anchors(t *testing.T, file string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^#+ +(.+)$`).FindAllStringSubmatch(withoutFences(string(text)), -1) {
		heading := regexp.MustCompile(`\[([^\]]+)\]\([^)]*\)`).ReplaceAllString(m[1], "$1")
		name := strings.Map(func(c rune) rune {
			switch {
			case unicode.IsLetter(c), unicode.IsDigit(c), c == '-', c == '_':
				return unicode.ToLower(c)
			case c == ' ':
				return '-'
			}
			return -1
		}, heading)
		if slices.Contains(names, name) {
			t.Errorf("%s has the heading %q twice", file, m[1])
		}
		names = append(names, name)
	}
	return names
}

// TestNoHeadingTwice checks that no document except the changelog has a heading twice, because a link
// leads only to the first.
func TestNoHeadingTwice(t *testing.T) {
	for _, file := range documents(t) {
		if file != "CHANGELOG.md" {
			anchors(t, file)
		}
	}
}

// TestEventsAreDocumented checks that docs/events.md has every kind of event, every reason of a breaker
// and of an anomaly, and every detail, and that the API's documents have the kinds.
func TestEventsAreDocumented(t *testing.T) {
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	named := func(text, pattern string) (names []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		if len(names) == 0 {
			t.Errorf("nothing is like %s", pattern)
		}
		return names
	}
	document, api, openapi := read("docs/events.md"), read("docs/api.md"), read("docs/openapi.yaml")
	for _, kind := range named(read("internal/event/event.go"), `(?m)^\t\w+ += "([a-z_]+)"$`) {
		if !regexp.MustCompile("(?m)^\\| `"+kind+"` \\|").MatchString(document) || !strings.Contains(api, "`"+kind+"`") || !strings.Contains(openapi, "- "+kind+"\n") {
			t.Errorf("docs/events.md, docs/api.md or docs/openapi.yaml leave out the kind %s", kind)
		}
	}
	reasons := named(read("internal/breaker/breaker.go"), `(?mi)^\treason\w+ += "(\w+)"$`)
	for k := anomaly.Latency; k <= anomaly.Flapping; k++ {
		reasons = append(reasons, k.String())
	}
	var details []string
	for _, file := range sources(t) {
		text := read(file)
		for _, m := range regexp.MustCompile(`(?i)details(?:: +| :?= )map\[string\]any\{([^}]+)\}`).FindAllStringSubmatch(text, -1) {
			details = append(details, named(m[1], `"(\w+)":`)...)
		}
		for _, m := range regexp.MustCompile(`(?i)details\["(\w+)"\]`).FindAllStringSubmatch(text, -1) {
			details = append(details, m[1])
		}
	}
	if len(details) < 20 {
		t.Errorf("only these details were found: %v", details)
	}
	for _, name := range details {
		// in the log and for subscribers of Caddy's events they are beside these
		if slices.Contains([]string{"level", "ts", "logger", "msg", "id", "at", "kind", "pool", "endpoint", "scope", "to", "reason", "count"}, name) {
			t.Errorf("a detail has the name of a field that every event has: %s", name)
		}
	}
	for _, name := range append(reasons, details...) {
		if !strings.Contains(document, "`"+name+"`") {
			t.Errorf("docs/events.md leaves out %s", name)
		}
	}
}
