package memory

import "testing"

func TestParse(t *testing.T) {
	for text, want := range map[string]int64{
		"max\n": 0, "": 0, "1073741824\n": 1 << 30, "9223372036854775807\n": 1<<63 - 1, "-1": 0, "0": 0,
		"MemTotal:       16384 kB\nMemFree: 1 kB\n": 16 << 20, "MemTotal: x kB": 0,
	} {
		if got, ok := parse([]byte(text)); ok != (want > 0) || ok && got != want {
			t.Errorf("%q: got %d, %v", text, got, ok)
		}
	}
	if n := Default(); n <= 0 {
		t.Errorf("by default bodies may take %d bytes", n)
	}
}
