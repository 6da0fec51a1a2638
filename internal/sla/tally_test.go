package sla

import (
	"bytes"
	"testing"
)

// TestStepsKeepTheirFormat: what was written before there were calls refused as full is read as it was.
func TestStepsKeepTheirFormat(t *testing.T) {
	old := tally{Counts: Counts{Calls: 3, Cancelled: 2}}
	old.Failures[AllDown-Dial] = 1
	with := old
	with.Failures[Full-Dial] = 1
	for _, c := range []struct {
		name  string
		tally tally
		bytes []byte
	}{
		{"before", old, []byte{0x80, 0x0c, 3, 1, 2}},
		{"since", with, []byte{0x80, 0x8c, 0x01, 3, 1, 2, 1}},
	} {
		if got := c.tally.encode(nil, 100); !bytes.Equal(got, c.bytes) {
			t.Errorf("%s: encoded as % x, want % x", c.name, got, c.bytes)
		}
		var read tally
		if err := read.add(c.bytes, nil, true); err != nil || read.Counts != c.tally.Counts {
			t.Errorf("%s: read %+v, %v", c.name, read.Counts, err)
		}
	}
	var read tally
	if read.add([]byte{0x80, 0x80, 0x01, 1, 2}, nil, true) == nil {
		t.Error("a step with more failures than calls is read")
	}
}
