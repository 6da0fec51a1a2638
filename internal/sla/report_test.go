package sla

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// twoInstances returns the records of two instances of a pool over three hours. They have an
// endpoint that fails and is down for a minute, failovers, and a slow hour.
func twoInstances() (Query, []*Snapshot) {
	var snapshots []*Snapshot
	for instance := range 2 {
		h := new(History)
		for minute := range 180 {
			now := noon.Add(time.Duration(minute) * time.Minute)
			switch {
			case minute == 31 && instance == 0:
				h.Endpoint("api|one").SetDown(now, true, "consecutive_failures, last: timeout")
			case minute == 32 && instance == 0:
				h.Endpoint("api|one").SetDown(now, false, "")
			}
			for second := range 20 {
				at := now.Add(time.Duration(second) * time.Second)
				latency := 80 * time.Millisecond
				if minute/60 == 1 {
					latency = 3 * time.Second
				}
				switch {
				case minute == 30 && second >= 15 && instance == 0:
					h.Endpoint("api|one").Record(at, Outcome{Kind: Timeout})
					h.Endpoint("two").Record(at, ok(latency))
					h.RecordFailovers(at, "api|one", "two", 1)
					h.Pool().Record(at, ok(latency))
				case minute == 31:
					h.Endpoint("two").Record(at, Outcome{Kind: Status})
					h.Pool().Record(at, Outcome{Kind: Status})
				default:
					h.Endpoint("api|one").Record(at, ok(latency))
					h.Pool().Record(at, ok(latency))
				}
			}
		}
		h.Pool().Record(noon.Add(170*time.Minute), Outcome{Kind: Cancelled})
		snapshots = append(snapshots, h.Snapshot(noon.Add(3*time.Hour)))
	}
	return Query{
		Pool: "=cmd <b>llm</b>", From: noon, To: noon.Add(3 * time.Hour), Now: noon.Add(3 * time.Hour),
		Objective: Objective{Availability: 0.999, LatencyTarget: 2 * time.Second},
	}, snapshots
}

// TestReport compares a report in each format with a golden file. -update rewrites the
// files.
func TestReport(t *testing.T) {
	q, snapshots := twoInstances()
	rep := NewReport(q, snapshots...)
	for name, write := range map[string]func(io.Writer) error{
		"report.md": rep.WriteMarkdown, "report.html": rep.WriteHTML, "report.json": rep.WriteJSON, "report.csv": rep.WriteCSV,
	} {
		var got bytes.Buffer
		if err := write(&got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s differs from the golden file; it is now:\n%s", name, got.String())
		}
	}
	// The golden files must show:
	if rep.Total.Calls != 7200 || rep.Total.Failed != 40 || rep.Total.Cancelled != 2 || rep.Instances != 2 {
		t.Errorf("total: %+v", rep.Total)
	}
	if want := []Failover{{"api|one", "two", 5}}; !reflect.DeepEqual(rep.Failovers, want) {
		t.Errorf("failovers: %+v", rep.Failovers)
	}
	if rep.Total.Availability.Met || rep.Total.Latency.Met || len(rep.Incidents) != 1 || rep.Total.Down != 0 || rep.Endpoints[0].Down != Duration(time.Minute) || rep.Incidents[0].Calls != 5 {
		t.Errorf("met: %v, %v; incidents: %+v", rep.Total.Availability.Met, rep.Total.Latency.Met, rep.Incidents)
	}
	var text bytes.Buffer
	if err := rep.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	rep.Timeline, rep.Budget, rep.ChartStep = nil, nil, 0 // JSON does not contain them
	var again Report
	if err := json.Unmarshal(text.Bytes(), &again); err != nil || !reflect.DeepEqual(again, rep) {
		t.Errorf("read from JSON (%v):\n got %+v\nwant %+v", err, again, rep)
	}
}

// TestSnapshotEncoding checks that an encoded snapshot decodes unchanged, and that Decode detects
// every damage.
func TestSnapshotEncoding(t *testing.T) {
	q, snapshots := twoInstances()
	b := snapshots[0].Encode()
	s, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := NewReport(q, s), NewReport(q, snapshots[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("decoded:\n got %+v\nwant %+v", got, want)
	}
	for i := 0; i < len(b); i += 1 + len(b)/500 {
		damaged := bytes.Clone(b)
		damaged[i] ^= 0x10
		if _, err := Decode(damaged); err == nil {
			t.Errorf("byte %d of %d is damaged: no error", i, len(b))
		}
		if _, err := Decode(b[:i]); err == nil {
			t.Errorf("the first %d of %d bytes: no error", i, len(b))
		}
	}
}

// FuzzDecode checks that accepted input can be encoded, decoded unchanged, restored and
// reported on, and that Decode returns ErrDamaged for all other input. It corrects the checksum,
// because mutated input would never pass it.
func FuzzDecode(f *testing.F) {
	_, snapshots := twoInstances()
	f.Add(snapshots[0].Encode())
	f.Add(new(History).Snapshot(noon).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(repaired(b))
		if err != nil {
			if s != nil || !errors.Is(err, ErrDamaged) {
				t.Fatalf("%v and %v", s, err)
			}
			return
		}
		encoded := s.Encode()
		again, err := Decode(encoded)
		if err != nil {
			t.Fatalf("encoded again: %v", err)
		}
		if !bytes.Equal(again.Encode(), encoded) {
			t.Fatal("encoded twice, the bytes differ")
		}
		h := new(History)
		h.Restore(noon, s)
		if _, err := Decode(h.Snapshot(noon).Encode()); err != nil {
			t.Fatalf("restored and encoded: %v", err)
		}
		rep := NewReport(Query{From: noon.Add(-time.Hour), To: noon, Now: noon}, s)
		if failed := rep.Total.Failures.Total(); rep.Total.Calls < failed {
			t.Fatalf("%d failures of %d calls", failed, rep.Total.Calls)
		}
	})
}

// repaired returns an encoded snapshot with a correct header and checksum.
func repaired(b []byte) []byte {
	b = append([]byte(magic), b...)
	if len(b) > 2*len(magic) && string(b[len(magic):2*len(magic)]) == magic {
		b = b[len(magic):]
	}
	body := max(len(b)-crcSize, len(magic)+1)
	if len(b) < body {
		b = append(b, version)
	}
	b = b[:body:body]
	b[len(magic)] = version
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// TestAlert checks that an alert needs volume and burning in both windows, and 5 quiet
// minutes to end.
func TestAlert(t *testing.T) {
	o := Objective{Availability: 0.999}
	var s Series
	var a Alert
	now := noon
	run := func(d, step time.Duration, good, bad int) (changes []Change) {
		for end := now.Add(d); now.Before(end); now = now.Add(step) {
			for range good {
				s.Record(now, ok(time.Millisecond))
			}
			for range bad {
				s.Record(now, fail(Reset))
			}
			changes = a.Update(changes, now, o.Standing(&s, now))
		}
		return changes
	}
	if c := run(10*time.Second, 10*time.Second, 2, 1); len(c) > 0 {
		t.Errorf("one failure of three calls: %+v", c)
	}
	if c := run(4*time.Hour, time.Minute, 60, 0); len(c) > 0 {
		t.Errorf("while all is well: %+v", c)
	}
	c := run(10*time.Minute, 10*time.Second, 0, 10)
	if len(c) != 1 || !c[0].Began || c[0].SLI != Availability || !a.Burning(Availability) {
		t.Fatalf("while all fails: %+v", c)
	}
	c = run(4*24*time.Hour, 10*time.Minute, 600, 0)
	if len(c) != 1 || c[0].Began || a.Burning(Availability) {
		t.Errorf("when all is well again: %+v", c)
	}
}
