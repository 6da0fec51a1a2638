package sla

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestCausesHaveWords checks that the report and the dashboard use the same words for the cause of
// an incident, in both languages.
func TestCausesHaveWords(t *testing.T) {
	page, err := os.ReadFile("../../web/page/words.js")
	if err != nil {
		t.Fatal(err)
	}
	english, translated, _ := strings.Cut(string(page), "const zh = {")
	for name := range reasons {
		for language, words := range map[Language]string{English: english, Chinese: translated} {
			m := regexp.MustCompile(`(?m)^  'reason\.` + name + `': '(.*)',$`).FindStringSubmatch(words)
			if got := formatCause(name, language); m == nil || got != m[1] {
				t.Errorf("%s in %s: the report says %q, the page %q", name, language, got, m)
			}
		}
	}
	for cause, want := range map[string][2]string{
		"consecutive_failures, last: status": {"failures in a row, last: failure status", "连续失败，最后一次：失败状态码"},
		"failure_ratio, last: rate_limited":  {"many failures, last: rate limited", "失败率过高，最后一次：被限流"},
		"scopes, last: denied":               {"out for all its scopes, last: credentials refused", "所有范围均已摘除，最后一次：凭据被拒"},
		"operator":                           {"by an operator", "运维操作"},
		"something new, last: 100%d of it":   {"something new, last: 100%d of it", "something new，最后一次：100%d of it"},
		"":                                   {"", ""},
	} {
		for i, language := range []Language{English, Chinese} {
			if got := formatCause(cause, language); got != want[i] {
				t.Errorf("%q in %s: %q, want %q", cause, language, got, want[i])
			}
		}
	}
}
