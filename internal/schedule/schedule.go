// Package schedule says when planned times of an endpoint begin and end.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // small images have none of their own

	"github.com/robfig/cron/v3"
)

// A Window is a time that comes again and again. It is read-only.
type Window struct {
	starts cron.Schedule
	lasts  time.Duration
}

// MaxLasts bounds how long a window may be open, so that its beginning is never far to seek.
const MaxLasts = 366 * 24 * time.Hour

// Parse makes a window that opens as a cron expression of five fields says (minute, hour, day
// of the month, month, day of the week; or @hourly, @daily, @weekly, @monthly, @yearly), and
// closes after a while. The zone is one of the IANA database, Local or UTC; an empty one is
// Local.
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

// chained bounds how many openings that follow each other without a gap At looks through.
const chained = 1000

// At reports whether the window is open at a time, since when, and when that will change. A
// zero change never comes: an expression may fit no day. Where openings follow each other
// without a gap for long, it may be open longer than that.
func (w *Window) At(now time.Time) (open bool, since, change time.Time) {
	start := w.starts.Next(now.Add(-w.lasts))
	if start.IsZero() || start.After(now) {
		return false, time.Time{}, start
	}
	end := start
	for range chained {
		next := w.starts.Next(end)
		if next.IsZero() || next.After(end.Add(w.lasts)) {
			return true, start, end.Add(w.lasts)
		}
		end = next
	}
	return true, start, end
}
