package faults

import (
	"testing"

	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// TestPut replaces a table of an earlier run and keeps the order of the scripts.
func TestPut(t *testing.T) {
	var r Report
	for i, name := range []string{"503", "crash", "all down", "503"} {
		r.put(Table{Fault: name, Machine: &run.Machine{}, Calls: i})
	}
	var names []string
	for _, table := range r.Tables {
		names = append(names, table.Fault)
	}
	if len(names) != 3 || names[0] != "crash" || names[1] != "503" || names[2] != "all down" || r.Tables[1].Calls != 3 {
		t.Errorf("tables %v: %+v", names, r.Tables)
	}
}
