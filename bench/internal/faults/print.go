package faults

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// print writes the table to standard output.
func (t Table) print() {
	fmt.Printf("\n%s: %s\n", t.Fault, t.About)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "proxy\tcalls\tfailed\tfirst s\tafter heal\tp50 ms\tp99 ms\tmax ms\tat primary\trefused\tserved\tattempts/call\trefused later\tchecks\tback s\twhat\t")
	for _, r := range t.Results {
		if r.Cannot != "" {
			fmt.Fprintf(w, "%s\tn/a: %s\n", r.Proxy, r.Cannot)
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.0f\t%d\t%d\t%.0f %%\t%.2f\t%d\t%d\t%v\t%s\t\n", r.Proxy, r.Calls, r.Failed, r.FirstSecond,
			r.AfterHeal, r.P50, r.P99, r.Max, r.AtFaulty, r.RefusedDuring, 100*r.Served, r.PerCall, r.RefusedAfter, r.Checks, r.Back, listed(r.What))
	}
	w.Flush()
}

// listed formats failures and their counts, most frequent first.
func listed(what map[string]int) string {
	words := slices.SortedFunc(maps.Keys(what), func(x, y string) int {
		return cmp.Or(what[y]-what[x], strings.Compare(x, y))
	})
	for i, w := range words {
		words[i] = fmt.Sprintf("%s ×%d", w, what[w])
	}
	return strings.Join(words, ", ")
}
