package failover

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// words are the known words of each block of a Caddyfile, by the block's name in errors. init
// sets them, because functions that read options use them.
var words map[string][]string

func init() {
	words = map[string][]string{
		"failover": append(slices.Collect(maps.Keys(poolOptions)), "endpoint"),
		"endpoint": slices.Collect(maps.Keys(endpointOptions)),
		"breaker":  slices.Collect(maps.Keys(breakerOptions)),
		"health":   slices.Collect(maps.Keys(healthOptions)),
		"retry":    slices.Collect(maps.Keys(retryOptions)),
		"sla":      slices.Collect(maps.Keys(slaOptions)),
	}
}

// ofProxy are the options of reverse_proxy. The directive accepts them, too.
var ofProxy = strings.Fields(`dynamic lb_retries lb_try_duration lb_try_interval lb_retry_match health_uri health_path health_upstream health_port
	health_interval health_passes health_fails health_timeout health_status health_body health_method health_request_body
	health_follow_redirects health_headers max_fails fail_duration unhealthy_request_count unhealthy_status unhealthy_latency flush_interval
	request_buffers response_buffers stream_buffer_size stream_timeout stream_close_delay trusted_proxies header_up header_down method rewrite
	transport handle_response replace_status verbose_logs proxy_status_name`)

// otherNames maps options of other proxies and other blocks to the options here.
var otherNames = map[string]string{
	"status": "expect_status", "health_status": "expect_status", "health_body": "expect_body", "headers": "header",
	"health_headers": "header", "request_body": "body", "health_request_body": "body", "health_uri": "uri", "health_path": "uri", "path": "uri",
	"health_port": "port", "health_interval": "interval", "health_timeout": "timeout", "health_passes": "passes", "health_fails": "fails",
	"api_key": "key", "provider": "api", "dialect": "api",
	"health_method": "method", "retries": "attempts", "lb_retries": "attempts",
}

// whatIsMeant returns the end of an error, which suggests a known word for an unknown one. It
// returns "" if no word is near.
func whatIsMeant(word, of string, known iter.Seq[string]) string {
	candidates := slices.Collect(known)
	if other := otherNames[word]; slices.Contains(candidates, other) {
		return fmt.Sprintf("; did you mean %s?", other)
	}
	if near := nearest(word, candidates); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	for _, block := range []string{"endpoint", "failover", "breaker", "health", "retry", "sla"} {
		if slices.Contains(words[block], word) && block != of && !(block == "endpoint" && of == "upstream") && word != "url" {
			place := "the block " + block
			switch block {
			case "failover":
				place = "the pool, outside the block " + of
			case "endpoint":
				place = "an endpoint"
			}
			return fmt.Sprintf("; it is an option of %s", place)
		}
	}
	return ""
}

// meant is whatIsMeant for a value with a few possible words.
func meant(word string, known ...string) string {
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return ""
}

// nearest returns the known word with the fewest edits, if they are at most a third of its
// letters. Among equally near words it returns the first in alphabetical order. A part of a
// known word counts as near if it has at least four letters.
func nearest(word string, known []string) string {
	type near struct {
		word  string
		edits int
	}
	var found []near
	lower := strings.ToLower(word)
	for _, k := range known {
		if n := edits(lower, k); n <= max(1, len(k)/3) && len(k) > 2 && len(word) > 1 {
			found = append(found, near{k, n})
		} else if len(lower) >= 4 && strings.Contains(k, lower) {
			found = append(found, near{k, len(k)})
		}
	}
	if len(found) == 0 {
		return ""
	}
	return slices.MinFunc(found, func(a, b near) int { return cmp.Or(cmp.Compare(a.edits, b.edits), cmp.Compare(a.word, b.word)) }).word
}

// edits returns the number of insertions, deletions, substitutions and swaps of neighbours that
// turn one word into the other (optimal string alignment).
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
