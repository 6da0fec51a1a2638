package sla

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"
)

// Duration is a time.Duration that JSON holds as a number of seconds.
type Duration time.Duration

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).Seconds()) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s float64
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("reading seconds: %w", err)
	}
	*d = Duration(math.Round(s * float64(time.Second)))
	return nil
}

// MarshalJSON implements json.Marshaler. It writes an object of counts by kind, without
// kinds whose count is 0.
func (f Failures) MarshalJSON() ([]byte, error) {
	m := map[string]uint64{}
	for i, n := range f {
		if n > 0 {
			m[(Dial + Kind(i)).String()] = n
		}
	}
	return json.Marshal(m)
}

// UnmarshalJSON implements json.Unmarshaler. An unknown kind is an error.
func (f *Failures) UnmarshalJSON(b []byte) error {
	var m map[string]uint64
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("reading failures: %w", err)
	}
	*f = Failures{}
	for i := range f {
		name := (Dial + Kind(i)).String()
		f[i] = m[name]
		delete(m, name)
	}
	for name := range m {
		return fmt.Errorf("reading failures: unknown kind %q", name)
	}
	return nil
}

type objectiveJSON struct {
	Availability    float64  `json:"availability,omitempty"`
	LatencyQuantile float64  `json:"latency_quantile,omitempty"`
	LatencyTarget   Duration `json:"latency_target_seconds,omitempty"`
	Window          Duration `json:"window_seconds,omitempty"`
}

// MarshalJSON implements json.Marshaler. Durations are in seconds.
func (o Objective) MarshalJSON() ([]byte, error) {
	return json.Marshal(objectiveJSON{o.Availability, o.LatencyQuantile, Duration(o.LatencyTarget), Duration(o.Window)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *Objective) UnmarshalJSON(b []byte) error {
	var j objectiveJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("reading objective: %w", err)
	}
	*o = Objective{j.Availability, j.LatencyQuantile, time.Duration(j.LatencyTarget), time.Duration(j.Window)}
	return nil
}

// WriteJSON writes the report as an indented JSON object. Times are RFC 3339 in UTC,
// durations and latencies are seconds, and ratios are 0 to 1.
func (rep Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(rep); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}
