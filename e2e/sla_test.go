package e2e

import (
	"strings"
	"testing"
)

// TestHandlersOfAPoolAgreeOnItsSLA checks that handlers of a pool with different SLAs are an error.
func TestHandlersOfAPoolAgreeOnItsSLA(t *testing.T) {
	one := newAPI(t, "one")
	with := func(block string) string { return site("sla "+block, one) }
	p := startCaddy(t, with(""))
	both := func(a, b string) string {
		return strings.Replace(with(a), "failover {", "failover /a* {", 1) + "\n" + with(b)
	}
	if err := p.load(both("{\n\t\tavailability 99%\n\t}", "{\n\t\tavailability 99.9%\n\t}")); err == nil || !strings.Contains(err.Error(), "different SLAs") {
		t.Errorf("different SLAs: %v", err)
	}
	if err := p.load(both("{\n\t\tavailability 99%\n\t}", "{\n\t\tavailability 99%\n\t\twindow 30d\n\t}")); err != nil {
		t.Errorf("the same SLA, with and without its default: %v", err)
	}
	var report struct {
		Objective struct{ Availability float64 }
	}
	if p.read("/failover/report", &report); report.Objective.Availability != 0.99 {
		t.Errorf("the objective is %+v", report)
	}
}
