package schedule

import (
	"testing"
	"time"
)

func at(t *testing.T, zone, text string) time.Time {
	t.Helper()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	moment, err := time.ParseInLocation("2006-01-02 15:04:05", text, location)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

func TestWindow(t *testing.T) {
	for _, test := range []struct {
		cron, zone string
		lasts      time.Duration
		now        string
		open       bool
		change     string // empty: none
	}{
		{"0 3 * * *", "UTC", time.Hour, "2030-01-01 02:59:59", false, "2030-01-01 03:00:00"},
		{"0 3 * * *", "UTC", time.Hour, "2030-01-01 03:00:00", true, "2030-01-01 04:00:00"},
		{"0 3 * * *", "UTC", time.Hour, "2030-01-01 03:59:59", true, "2030-01-01 04:00:00"},
		{"0 3 * * *", "UTC", time.Hour, "2030-01-01 04:00:00", false, "2030-01-02 03:00:00"},
		{"30 22 * * 5", "UTC", 50 * time.Hour, "2030-01-06 12:00:00", true, "2030-01-07 00:30:00"}, // since Friday
		{"*/15 * * * *", "UTC", 5 * time.Minute, "2030-01-01 00:17:00", true, "2030-01-01 00:20:00"},
		{"*/15 * * * *", "UTC", 20 * time.Minute, "2030-01-01 00:17:00", true, "2030-01-11 10:00:00"}, // no gap: At follows 1000 openings
		{"0,30 8-9 * * *", "UTC", 30 * time.Minute, "2030-01-01 08:10:00", true, "2030-01-01 10:00:00"},
		{"0 3 30 2 *", "UTC", time.Hour, "2030-01-01 00:00:00", false, ""},
		{"@daily", "UTC", time.Hour, "2030-01-01 00:30:00", true, "2030-01-01 01:00:00"},
		// in Berlin, summer time begins at 2:00 and ends at 3:00
		{"30 2 * * *", "Europe/Berlin", time.Hour, "2030-03-30 12:00:00", false, "2030-04-01 02:30:00"},
		{"0 1 * * *", "Europe/Berlin", 2 * time.Hour, "2030-03-31 01:30:00", true, "2030-03-31 04:00:00"},
		{"0 1 * * *", "Europe/Berlin", 2 * time.Hour, "2030-10-27 01:30:00", true, "2030-10-27 02:00:00"},
	} {
		w, err := Parse(test.cron, test.zone, test.lasts)
		if err != nil {
			t.Errorf("%s: %v", test.cron, err)
			continue
		}
		open, since, change := w.At(at(t, test.zone, test.now))
		var want time.Time
		if test.change != "" {
			want = at(t, test.zone, test.change)
		}
		// clocks show 2:00 twice that night: the window closes at the second one
		if test.now == "2030-10-27 01:30:00" {
			want = at(t, test.zone, "2030-10-27 01:00:00").Add(2 * time.Hour)
		}
		if open != test.open || !change.Equal(want) || open == since.IsZero() {
			t.Errorf("%s %s for %v at %s: open %v since %v, change at %v, want %v and %v", test.cron, test.zone, test.lasts, test.now, open, since, change, test.open, want)
		}
	}
}

func TestBadWindows(t *testing.T) {
	for _, test := range []struct {
		cron, zone string
		lasts      time.Duration
	}{
		{"", "", time.Hour},
		{"0 3 * *", "", time.Hour},
		{"0 0 3 * * *", "", time.Hour},
		{"61 3 * * *", "", time.Hour},
		{"@every 1m", "", time.Hour},
		{"CRON_TZ=UTC 0 3 * * *", "", time.Hour},
		{"0 3 * * *", "Mars/Olympus", time.Hour},
		{"0 3 * * *", "", 0},
		{"0 3 * * *", "", 2 * MaxLasts},
	} {
		if _, err := Parse(test.cron, test.zone, test.lasts); err == nil {
			t.Errorf("%+v: no error", test)
		}
	}
}
