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

// Incident is a period in which an endpoint or the whole pool was down. A series keeps the
// latest 256.
type Incident struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end,omitzero"` // zero while it lasts
	Cause string    `json:"cause"`        // at most 96 bytes

	// Calls counts the affected calls: the consecutive failures right before the incident
	// and all failures during it.
	Calls uint64 `json:"calls"`
}

// overlaps reports whether any part of the incident is in [from, to).
func (i Incident) overlaps(from, to time.Time) bool {
	return i.Start.Before(to) && (i.End.IsZero() || i.End.After(from) || i.Start.Equal(from))
}

// appendIncident appends the newest incident and drops the oldest beyond the limit. An
// incident that goes on must be the newest.
func appendIncident(s []Incident, in Incident) []Incident {
	if len(s) >= maxIncidents {
		s = slices.Delete(s, 0, len(s)-maxIncidents+1)
	}
	return append(s, in)
}

// mergeIncidents returns the incidents of a and b by start. An open incident of b comes
// last.
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

// clip returns the longest prefix of s that has at most n bytes and ends with a whole
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
