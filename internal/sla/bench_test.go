package sla

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// filled returns a full history of endpoints and its end time. It has calls every few
// seconds for 40 days, 1 % of them failures, with a long tail of latency.
func filled(endpoints int, every time.Duration) (*History, time.Time) {
	h := new(History)
	r := rand.New(rand.NewPCG(3, 4))
	end := noon.Add(40 * 24 * time.Hour)
	var b Batch
	for now := noon; now.Before(end); now = now.Add(every) {
		b.Reset()
		for range 20 {
			o := Outcome{Latency: time.Duration(float64(50*time.Millisecond) * (0.5 + r.ExpFloat64()))}
			if r.IntN(100) == 0 {
				o = Outcome{Kind: Dial + Kind(r.IntN(int(Stalled-Dial)+1))}
			}
			b.Add(o)
		}
		h.Pool().RecordBatch(now, &b)
		for i := range endpoints {
			h.Endpoint(fmt.Sprint("endpoint ", i)).RecordBatch(now, &b)
		}
	}
	return h, end
}

func BenchmarkRecord(b *testing.B) {
	b.ReportAllocs()
	var s Series
	o := ok(42 * time.Millisecond)
	for b.Loop() {
		s.Record(noon, o)
	}
}

// BenchmarkReport reports on 30 days of 50 endpoints.
func BenchmarkReport(b *testing.B) {
	h, end := filled(50, time.Minute)
	s := h.Snapshot(end)
	q := Query{Pool: "pool", From: end.Add(-30 * 24 * time.Hour), To: end, Now: end, Objective: Objective{Availability: 0.999, LatencyTarget: time.Second}}
	for b.Loop() {
		NewReport(q, s)
	}
}

// BenchmarkMemory measures size, not time: a full history of one endpoint in memory and as
// a snapshot, and the part saved each minute.
func BenchmarkMemory(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	h, end := filled(9, 10*time.Second)
	runtime.GC()
	runtime.ReadMemStats(&after)
	s := h.Snapshot(end)
	perSeries := float64(after.HeapAlloc-before.HeapAlloc) / 10
	b.ReportMetric(perSeries/1024, "KiB/endpoint")
	b.ReportMetric(float64(len(s.Encode()))/10/1024, "KiB-snapshot/endpoint")
	recent := s.part(levels[hours].indexAt(unixMilli(end))-1, forever)
	b.ReportMetric(float64(len(recent.Encode()))/10/1024, "KiB-a-minute/endpoint")
	if perSeries > 2<<20 {
		b.Errorf("a series takes %.0f bytes, more than 2 MiB", perSeries)
	}
	runtime.KeepAlive(h)
}
