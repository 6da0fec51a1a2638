package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answering listens on n free ports and answers every request with 200, using hardly any CPU time.
func answering(tb testing.TB, n int) (addresses []string) {
	tb.Helper()
	for range n {
		addresses = append(addresses, listening(tb, func(conn net.Conn) {
			for r := bufio.NewReader(conn); ; {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == "\r\n" {
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}
		}))
	}
	return addresses
}

// hundred returns a pool of these endpoints, each checked once a second.
func hundred(addresses []string) string {
	var b strings.Builder
	b.WriteString("failover {\nname api\n")
	for i, address := range addresses {
		fmt.Fprintf(&b, "endpoint http://%s {\nname e%d\n}\n", address, i)
	}
	b.WriteString("health {\ninterval 1s\nfast_interval 1s\n}\n}")
	return b.String()
}

// checksSent returns how many checks were sent, and how many endpoints failed their last one.
func (p *proxy) checksSent() (sent, failed uint64) {
	p.t.Helper()
	for _, e := range p.pool("api").Endpoints {
		if e.Check == nil {
			continue
		}
		sent += e.Check.Sent
		if r := e.Check.LastResult; r != "" && r != "passed" {
			failed++
		}
	}
	return sent, failed
}

// TestChecksLeaveNothingRunning checks that 100 checks a second leave no goroutines behind.
func TestChecksLeaveNothingRunning(t *testing.T) {
	p := startCaddy(t, hundred(answering(t, 100)))
	eventually(t, "two checks each", func() bool { sent, _ := p.checksSent(); return sent >= 200 })
	before := runtime.NumGoroutine()
	eventually(t, "two checks more each", func() bool { sent, _ := p.checksSent(); return sent >= 400 })
	// On a machine that pauses, many checks are under way at once.
	eventually(t, "there are as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before+20 })
	eventually(t, "all endpoints have passed their last check", func() bool { _, failed := p.checksSent(); return failed == 0 })
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHundredChecks measures the CPU time of 100 checks a second, including that of the endpoints.
func BenchmarkHundredChecks(b *testing.B) {
	p := startCaddy(b, hundred(answering(b, 100)))
	eventually(b, "a check each", func() bool { sent, _ := p.checksSent(); return sent >= 100 })
	for b.Loop() {
		before, began := cpuTime(b), time.Now()
		sentBefore, _ := p.checksSent()
		pause(b.Context(), 5*time.Second)
		took, cpu := time.Since(began), cpuTime(b)-before
		sent, _ := p.checksSent()
		b.ReportMetric(float64(sent-sentBefore)/took.Seconds(), "checks/s")
		b.ReportMetric(100*float64(cpu)/float64(took), "%core")
	}
}

// BenchmarkHundredRequests measures the same for 100 requests a second of a plain http.Transport.
func BenchmarkHundredRequests(b *testing.B) {
	addresses := answering(b, 100)
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	one := func(address string) {
		r, err := http.NewRequest(http.MethodHead, "http://"+address+"/", nil)
		if err != nil {
			b.Error(err)
			return
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			b.Error(err)
			return
		}
		resp.Body.Close()
	}
	for _, address := range addresses {
		one(address)
	}
	for b.Loop() {
		before, began := cpuTime(b), time.Now()
		ticker := time.NewTicker(10 * time.Millisecond)
		for i := range 500 {
			<-ticker.C
			go one(addresses[i%100])
		}
		ticker.Stop()
		took := time.Since(began)
		b.ReportMetric(500/took.Seconds(), "requests/s")
		b.ReportMetric(100*float64(cpuTime(b)-before)/float64(took), "%core")
	}
}
