// Package schedule computes when planned times of an endpoint begin and end.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // small container images have no time zone database

	"github.com/robfig/cron/v3"
)

// A Window is a period that recurs. It is immutable.
type Window struct {
	starts cron.Schedule
	lasts  time.Duration
}

// MaxLasts is the longest time that a window may stay open. It bounds the search for its start.
const MaxLasts = 366 * 24 * time.Hour

// Parse returns a window that opens by a cron expression and closes after lasts, which is longer
// than 0 and at most [MaxLasts]. The expression has five fields (minute, hour, day of the month,
// month, day of the week), or is @hourly, @daily, @weekly, @monthly or @yearly. The zone is a name
// of the IANA database, UTC or Local; empty means Local.
func Parse(expression, zone string, lasts time.Duration) (*Window, error) {
	if strings.Contains(expression, "TZ=") || strings.HasPrefix(expression, "@every") {
		return nil, fmt.Errorf("%q: want five fields, as in 0 3 * * *, and the zone as an option of its own", expression)
	}
	if lasts <= 0 || lasts > MaxLasts {
		return nil, errors.New("the duration must be longer than 0 and at most a year")
	}
	if zone == "" {
		zone = "Local"
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("zone %q: want a name of the IANA time zone database, as Europe/Berlin: %w", zone, err)
	}
	starts, err := cron.ParseStandard(expression)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", expression, err)
	}
	if spec, ok := starts.(*cron.SpecSchedule); ok {
		spec.Location = location
	}
	return &Window{starts, lasts}, nil
}

// maxChained is the largest number of openings without a gap that At follows.
const maxChained = 1000

// At reports whether the window is open at now, and when it opens or closes next. change is zero
// if it never opens: an expression may match no day. While it is open, since is the start of its
// earliest opening that has not ended; otherwise since is zero. If more than 1000 openings follow
// without a gap, the window closes later than change.
func (w *Window) At(now time.Time) (open bool, since, change time.Time) {
	start := w.starts.Next(now.Add(-w.lasts))
	if start.IsZero() || start.After(now) {
		return false, time.Time{}, start
	}
	end := start
	for range maxChained {
		next := w.starts.Next(end)
		if next.IsZero() || next.After(end.Add(w.lasts)) {
			return true, start, end.Add(w.lasts)
		}
		end = next
	}
	return true, start, end
}
