// Package breakers benchmarks other circuit breakers in the same way as the plugin
// benchmarks its own.
package breakers

import (
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"
)

// BenchmarkCompareBreaker asks a closed breaker for a permit and reports a success, on many
// goroutines at once. Like the plugin's breaker, they use a failure ratio over a sliding
// window of 10 s.
func BenchmarkCompareBreaker(b *testing.B) {
	b.Run("breaker=gobreaker", func(b *testing.B) {
		breaker := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			Interval:     10 * time.Second,
			BucketPeriod: time.Second,
			ReadyToTrip: func(c gobreaker.Counts) bool {
				return c.ConsecutiveFailures >= 5 || c.Requests >= 20 && 2*c.TotalFailures >= c.Requests
			},
		})
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				done, err := breaker.Allow()
				if err != nil {
					b.Fail()
				}
				done(nil)
			}
		})
	})
	b.Run("breaker=failsafe", func(b *testing.B) {
		breaker := circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.5, 20, 10*time.Second).Build()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if !breaker.TryAcquirePermit() {
					b.Fail()
				}
				breaker.RecordSuccess()
			}
		})
	})
}
