package failover

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

func TestDashboardDirective(t *testing.T) {
	for _, c := range []struct{ line, path, matched string }{
		{"failover_dashboard", "", `["/failover","/failover/*"]`},
		{"failover_dashboard /ops/llm", "/ops/llm", `["/ops/llm","/ops/llm/*"]`},
		{"failover_dashboard /", "/", ""},
		{"failover_dashboard {\nlevers\n}", "levers {http.auth.user.id}", `["/failover","/failover/*"]`},
		{"failover_dashboard {\nlevers {http.request.header.Remote-User}\n}", "levers {http.request.header.Remote-User}", ""},
	} {
		config := string(adapt(t, "http://x {\n\trespond all\n\t"+c.line+"\n}"))
		handler := `{"handler":"failover_dashboard"}`
		if c.path != "" {
			handler = `{"handler":"failover_dashboard","path":"` + c.path + `"}`
		}
		if user, ok := strings.CutPrefix(c.path, "levers "); ok {
			handler = `{"handler":"failover_dashboard","levers":"` + user + `"}`
		}
		at, answers := strings.Index(config, handler), strings.Index(config, `"static_response"`)
		if at < 0 || answers < at {
			t.Errorf("%s: the handler is not before respond: %s", c.line, config)
		}
		if c.matched != "" && !strings.Contains(config, handler+`],"match":[{"path":`+c.matched) {
			t.Errorf("%s: matches otherwise: %s", c.line, config)
		}
	}
	for line, want := range map[string]string{
		"failover_dashboard failover":    "dashboard path \"failover\": must begin with a slash, at Caddyfile:2",
		"failover_dashboard /a/":         "dashboard path \"/a/\": write it as /a, at Caddyfile:2",
		"failover_dashboard /a/*":        "must be a plain path",
		"failover_dashboard @lan":        "takes a path, no matcher: @lan",
		"failover_dashboard /a /b":       "wrong argument count",
		"failover_dashboard /a {\n x\n}": `unknown option "x" of failover_dashboard; there is levers`,

		"failover_dashboard {\n levers a b\n}":       "wrong argument count",
		"failover_dashboard {\n levers \"\"\n}":      "levers: the user is empty",
		"failover_dashboard {\n levers\n levers\n}":  "levers: given twice",
		"failover_dashboard {\n levers {\n x\n }\n}": "levers has no block",
	} {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("http://x {\n\t"+line+"\n}"), map[string]any{"filename": "Caddyfile"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}
