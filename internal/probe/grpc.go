package probe

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/grpc"
	"github.com/apifailover/caddy-failover/internal/target"
)

// askGRPC asks grpc.health.v1, as a client of gRPC does. See
// github.com/grpc/grpc/blob/master/doc/health-checking.md.
func (p *Probe) askGRPC(ctx context.Context, w *way) (result endpoint.CheckResult) {
	cfg := p.cfg
	var on connection
	asked := *cfg
	asked.Path, asked.RawPath, asked.Query, asked.Body = grpc.CheckPath, "", "", ""
	r, err := p.request(on.traced(ctx), w, &asked, http.MethodPost)
	if err != nil {
		return endpoint.CheckResult{Why: err.Error()}
	}
	message := grpc.CheckRequest(cfg.Service)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(message)), int64(len(message))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(message)), nil }
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	defer func() {
		if result.Cause.What != "" {
			result.Cause.Method, result.Cause.Path = target.ShownMethod(r.Method), target.ShownPath(r.URL)
		}
	}()
	began := time.Now()
	resp, err := p.trip.RoundTrip(r)
	if err != nil {
		on.retireIfDead(ctx)
		return failed(target.OutcomeOf(err).String()+": ", short(err, cfg.Timeout))
	}
	defer resp.Body.Close()
	result.Latency = max(1, time.Since(began))
	not := func(what string) endpoint.CheckResult {
		result.Why, result.Cause.What = what, what
		return result
	}
	if resp.StatusCode != http.StatusOK {
		return not("status " + strconv.Itoa(resp.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		result.Why, result.Cause.What = "body: "+target.OutcomeOf(err).String(), short(err, cfg.Timeout)
		return result
	}
	code, ok := grpc.Status(resp.Header)
	if !ok {
		code, ok = grpc.Status(resp.Trailer)
	}
	if !ok {
		return not("no gRPC status; does the proxy's transport speak HTTP/2?")
	}
	if code != grpc.OK {
		return not("gRPC " + code.String())
	}
	health, err := grpc.CheckAnswer(body)
	if err != nil {
		return not("gRPC: " + err.Error())
	}
	if health != grpc.Serving {
		return not("gRPC " + health.String())
	}
	result.Passed, result.Why = true, endpoint.CheckPassed
	return result
}
