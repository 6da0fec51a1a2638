package micro

import (
	"slices"
	"testing"
)

func TestMedians(t *testing.T) {
	got := medians(`BenchmarkSelect/n=3/policy=failover 	 1000 	 30.0 ns/op 	 8 B/op 	 1 allocs/op
BenchmarkSelect/n=3/policy=failover-2 	 1000 	 20.0 ns/op
BenchmarkBreaker/breaker=gobreaker 	 1000 	 5.0 ns/op 	 8 B/op 	 2 allocs/op
BenchmarkSelect/n=3/policy=failover 	 1000 	 10.0 ns/op 	 8 B/op 	 1 allocs/op
PASS
`)
	want := []Row{
		{"Select/n=3/policy=failover", 1, 20, 1},
		{"Select/n=3/policy=failover", 2, 20, 0},
		{"Breaker/breaker=gobreaker", 1, 5, 2},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
