// Package spelling finds the known word that a misspelt one stands for.
package spelling

import (
	"cmp"
	"slices"
	"strings"
)

// Nearest returns the known word with the fewest edits, if they are at most a third of its
// letters. Among equally near words it returns the first in alphabetical order. A part of a
// known word counts as near if it has at least four letters.
func Nearest(word string, known []string) string {
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
