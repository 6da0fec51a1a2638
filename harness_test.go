package failover

import (
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// adapt turns a Caddyfile into JSON.
func adapt(t testing.TB, caddyfile string) []byte {
	t.Helper()
	config, err := tryAdapt(caddyfile)
	if err != nil {
		t.Fatalf("adapting: %v\n%s", err, caddyfile)
	}
	return config
}

// tryAdapt is adapt for a Caddyfile that may be wrong.
func tryAdapt(caddyfile string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}
