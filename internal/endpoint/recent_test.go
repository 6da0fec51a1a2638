package endpoint

import (
	"strconv"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

func TestRecentFailuresAreTheNewestFirst(t *testing.T) {
	for _, n := range []int{0, 1, failuresKept, failuresKept + 7} {
		s := new(State)
		start := time.Unix(1_800_000_000, 0)
		for i := range n {
			s.failures.add(outcome.FailedStatus, Cause{What: strconv.Itoa(i), Method: "POST", Path: "/v1"}, start.Add(time.Duration(i)*time.Second))
		}
		got := s.RecentFailures()
		if len(got) != min(n, failuresKept) {
			t.Fatalf("%d of %d failures are kept", len(got), n)
		}
		for i, f := range got {
			if want := n - 1 - i; f.What != strconv.Itoa(want) || !f.At.Equal(start.Add(time.Duration(want)*time.Second)) || f.Outcome != "status" || f.Path != "/v1" {
				t.Errorf("after %d failures, number %d is %+v", n, i, f)
			}
		}
	}
}
