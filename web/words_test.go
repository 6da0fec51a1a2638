package web_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWordsInBothLanguages checks that every text exists in both languages with the same
// placeholders, and that every key of the page exists.
func TestWordsInBothLanguages(t *testing.T) {
	source, err := os.ReadFile("page/words.js")
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	english, rest, ok := strings.Cut(text, "const zh = {")
	if !ok {
		t.Fatal("no Chinese")
	}
	chinese, _, _ := strings.Cut(rest, "\n};")
	entry := regexp.MustCompile(`(?m)^  (?:'([^']+)'|(\w+)): '(.*)',$`)
	words := func(block string) map[string]string {
		found := make(map[string]string)
		for _, m := range entry.FindAllStringSubmatch(block, -1) {
			key := m[1] + m[2]
			if found[key] != "" {
				t.Errorf("%s appears twice", key)
			}
			found[key] = m[3]
		}
		return found
	}
	en, zh := words(english), words(chinese)
	if len(en) < 100 {
		t.Fatalf("found only %d texts", len(en))
	}
	placeholder := regexp.MustCompile(`\{\w+\}`)
	singular := regexp.MustCompile(`\.1$`)
	for key, text := range en {
		translated, ok := zh[key]
		if !ok {
			if !singular.MatchString(key) {
				t.Errorf("%s has no Chinese text", key)
			}
			continue
		}
		for _, name := range placeholder.FindAllString(text, -1) {
			if !strings.Contains(translated, name) {
				t.Errorf("%s: the Chinese text lacks %s", key, name)
			}
		}
	}
	for key := range zh {
		if en[key] == "" {
			t.Errorf("%s has no English text", key)
		}
	}
	used := regexp.MustCompile(`\bt\('([\w.-]+)'`)
	files, err := filepath.Glob("page/*.js")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range used.FindAllStringSubmatch(string(script), -1) {
			if en[m[1]] == "" {
				t.Errorf("%s uses %s, which has no words", file, m[1])
			}
		}
	}
}

// TestErrorsAreTranslated checks that the page has words for each text of an error in internal/outcome.
func TestErrorsAreTranslated(t *testing.T) {
	words, err := os.ReadFile("page/words.js")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../internal/outcome/short.go")
	if err != nil {
		t.Fatal(err)
	}
	texts := regexp.MustCompile(`return "([^"]+[^" :])"`).FindAllStringSubmatch(string(source), -1)
	if len(texts) < 12 {
		t.Fatalf("found only %d texts", len(texts))
	}
	texts = append(texts, []string{"", "connection refused"}, []string{"", "connection reset by peer"}, []string{"", "unexpected body"})
	for _, m := range texts {
		if !strings.Contains(string(words), "'error."+m[1]+"': ") {
			t.Errorf("the page has no words for %q", m[1])
		}
	}
}

// TestEventsHaveWords checks that the page has words for each kind of event, and for each reason in docs/events.md.
func TestEventsHaveWords(t *testing.T) {
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	words := read("page/words.js")
	kinds := regexp.MustCompile(`(?m)^\t[A-Z]\w+ += "(\w+)"$`).FindAllStringSubmatch(read("../internal/event/event.go"), -1)
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| [^|]+ \\| ([^|]+) \\|$").FindAllStringSubmatch(read("../docs/events.md"), -1)
	if len(kinds) < 15 || len(rows) < 15 {
		t.Fatalf("found %d kinds and %d rows", len(kinds), len(rows))
	}
	for _, m := range kinds {
		if m[1] != "operator" && !strings.Contains(words, "'event."+m[1]+"': ") {
			t.Errorf("the page has no words for the event %s", m[1])
		}
	}
	for _, row := range rows {
		for _, m := range regexp.MustCompile("(^|[,;] |: )`([a-z_]+)`").FindAllStringSubmatch(row[2], -1) {
			if row[1] != "operator" && row[1] != "fleet_lost" && !strings.Contains(words, "'reason."+m[2]+"': ") {
				t.Errorf("the page has no words for the reason %s of %s", m[2], row[1])
			}
		}
	}
}

// TestGlossary checks that the page uses the Chinese words of the glossary.
func TestGlossary(t *testing.T) {
	glossary, err := os.ReadFile("../docs/glossary.zh-CN.md")
	if err != nil {
		t.Fatal(err)
	}
	words, err := os.ReadFile("page/words.js")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| [\w ,/]+ \| ([^|]+) \|`).FindAllStringSubmatch(string(glossary), -1)
	if len(rows) < 40 {
		t.Fatalf("found only %d words", len(rows))
	}
	// Words of the documents that the page does not use.
	elsewhere := "上游 对冲 救援 时限 结果 试探 复发 过时 监控页面 SLA、目标 中位数、95 分位 重试、重试预算 强制断开 / 强制闭合 排空 熔断器"
	for _, row := range rows {
		if word := row[1]; word != "中文" && !strings.Contains(string(words), word) && !strings.Contains(elsewhere, word) {
			t.Errorf("the page does not say %s", word)
		}
	}
}
