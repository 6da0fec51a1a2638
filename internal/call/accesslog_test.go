package call

import (
	"context"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestNoAccessLogCostsNothing checks that a call allocates nothing for the access log if the server
// keeps none.
func TestNoAccessLogCostsNothing(t *testing.T) {
	c, extra := new(Call), new(caddyhttp.ExtraLogFields)
	ctx := context.WithValue(t.Context(), caddyhttp.ServerCtxKey, new(caddyhttp.Server))
	ctx = context.WithValue(ctx, caddyhttp.ExtraLogFieldsCtxKey, extra)
	if n := testing.AllocsPerRun(100, func() { c.addToAccessLog(ctx) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
