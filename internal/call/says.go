package call

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/grpc"
)

// says returns a refusal as an answer: as JSON in the form of the API's errors, as text, or to a gRPC
// call as a gRPC status.
func (c *Call) says(r *http.Request, refusal *dialect.Refusal, asJSON bool) *http.Response {
	resp := &http.Response{StatusCode: refusal.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header), Request: r}
	if refusal.RetryAfter > 0 {
		resp.Header.Set("Retry-After", strconv.Itoa(refusal.RetryAfter))
	}
	body := []byte(refusal.Message + "\n")
	switch {
	case c.grpc:
		saysGRPC(resp, refusal)
		body = nil
	case asJSON:
		if c.body != nil {
			refusal.Request = c.body.Whole()
		}
		resp.Header.Set("Content-Type", "application/json")
		body = c.Handler.API.Body(refusal)
	default:
		resp.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	resp.Status = fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp
}

// saysGRPC makes resp a trailers-only answer of gRPC with the status of a refusal.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
func saysGRPC(resp *http.Response, refusal *dialect.Refusal) {
	code := grpc.InvalidArgument
	switch {
	case refusal.Status == http.StatusTooManyRequests:
		code = grpc.ResourceExhausted
	case refusal.Status >= http.StatusInternalServerError:
		code = grpc.Unavailable
	}
	resp.StatusCode = http.StatusOK
	resp.Header.Set("Content-Type", "application/grpc")
	resp.Header.Set("Grpc-Status", strconv.Itoa(int(code)))
	resp.Header.Set("Grpc-Message", grpc.Escape(refusal.Message))
}
