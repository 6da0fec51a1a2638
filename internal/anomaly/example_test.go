package anomaly_test

import (
	"fmt"
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/anomaly"
)

// Latency doubles for 100 s after ten minutes of warm-up and five of watching.
func ExampleDetector() {
	var d anomaly.Detector
	var changes []anomaly.Change
	now := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range 120 {
		s := anomaly.Sample{Calls: 100, LatencyCount: 100, LogLatency: math.Log(0.25)}
		if i >= 90 && i < 100 {
			s.LogLatency = math.Log(0.5)
		}
		now = now.Add(anomaly.Step)
		changes = d.Add(changes[:0], now, s)
		for _, c := range changes {
			fmt.Printf("%s %v began=%v expected=%.2fs seen=%.2fs\n", c.At.Format(time.TimeOnly), c.Kind, c.Began, c.Expected, c.Seen)
		}
	}
	// Output:
	// 12:15:40 latency began=true expected=0.25s seen=0.50s
	// 12:17:40 latency began=false expected=0.25s seen=0.50s
}
