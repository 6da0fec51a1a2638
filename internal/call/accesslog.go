package call

import (
	"context"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// addToAccessLog adds the field `failover` to the request's entry in the access log, if its
// server keeps one. Caddy writes the entry after the request, and reads the field then. It shows
// the latest call of the request.
func (c *Call) addToAccessLog(ctx context.Context) {
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || server.Logs == nil {
		return
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Add(zap.Object("failover", c))
	}
}

// MarshalLogObject implements zapcore.ObjectMarshaler for the first call of a request.
func (c *Call) MarshalLogObject(to zapcore.ObjectEncoder) error {
	latest, endpoint := c.before, ""
	if a := latest.Current; a != nil {
		endpoint = a.Target.Name
	}
	to.AddString("pool", latest.Handler.Name)
	to.AddString("endpoint", endpoint)
	to.AddInt("attempts", int(latest.Attempts))
	to.AddString("outcome", latest.result())
	to.AddDuration("waited", latest.waited())
	return nil
}

// result returns why a call was refused, or the outcome of its latest attempt. It is empty
// before the first attempt.
func (c *Call) result() string {
	x := c.extras
	switch {
	case x != nil && x.refused != nil:
		return x.refused.kind.String()
	case x != nil && x.wait.left:
		return outcome.Cancelled.String()
	case c.Current != nil:
		return c.Current.known().String()
	case c.finished && c.Request.Context().Err() != nil:
		return outcome.Cancelled.String()
	case c.finished:
		return outcome.Unsent.String()
	}
	return ""
}

var _ zapcore.ObjectMarshaler = (*Call)(nil)
