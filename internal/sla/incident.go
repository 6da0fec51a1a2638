package sla

import (
	"slices"
	"time"
	"unicode/utf8"
)

const (
	maxIncidents = 256
	maxCause     = 96 // bytes
)

// Incident is a time in which an endpoint, or the whole pool, was down. Of a
// series the latest 256 are kept.
type Incident struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end,omitzero"` // zero while it lasts
	Cause string    `json:"cause"`        // at most 96 bytes

	// Calls is how many it affected: those that failed in a row right before it,
	// and those that failed while it lasted.
	Calls uint64 `json:"calls"`
}

// overlaps reports whether some of the incident is in [from, to).
func (i Incident) overlaps(from, to time.Time) bool {
	return i.Start.Before(to) && (i.End.IsZero() || i.End.After(from) || i.Start.Equal(from))
}

// appendIncident adds the newest incident, and drops the oldest if there are too
// many. One that is not over is the newest.
func appendIncident(s []Incident, in Incident) []Incident {
	if len(s) >= maxIncidents {
		s = slices.Delete(s, 0, len(s)-maxIncidents+1)
	}
	return append(s, in)
}

// mergeIncidents returns those of a and b by start, with the one of b that is not
// over at the end.
func mergeIncidents(a, b []Incident) []Incident {
	s := slices.Concat(a, b)
	slices.SortStableFunc(s, func(x, y Incident) int {
		if x.End.IsZero() != y.End.IsZero() {
			if x.End.IsZero() {
				return 1
			}
			return -1
		}
		return x.Start.Compare(y.Start)
	})
	return s
}

// clip returns the longest part of s of at most n bytes that ends with a whole
// character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
