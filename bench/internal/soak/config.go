package soak

import (
	"fmt"
	"strings"
)

// ports are the ports of a trial's Caddy.
type ports struct{ http, https, admin int }

// endsSockets reports whether a reload ends WebSockets, as it does by default. In the plain
// build, stream_close_delay keeps them. The race build does not set it, because Caddy
// v2.11.9 has a data race there: methods with a value receiver copy Handler while its timer
// is set.
func (t *trial) endsSockets() bool { return t.Build == raceBuild }

// config returns the Caddyfile of the given load. The settings that a pool may change
// differ from load to load.
func (t *trial) config(load int) string {
	sockets := ""
	if !t.endsSockets() {
		sockets = "\tstream_close_delay 30s\n" // longer than any WebSocket lasts
	}
	return fmt.Sprintf(`{
	admin 127.0.0.1:%d
	persist_config off
	auto_https off
	grace_period 10s
	metrics
	log {
		output stderr
		level ERROR
	}
	servers {
		protocols h1 h2 h2c
	}
}
(routes) {
	bind 127.0.0.1
	handle /stream* {
		%s
	}
	handle {
		%s
	}
}
http://127.0.0.1:%d {
	import routes
}
https://127.0.0.1:%d {
	tls {{dir}}/cert.pem {{dir}}/key.pem
	import routes
}
`, t.ports.admin, t.pool(load, "\tflush_interval -1\n"), t.pool(load, "\tcommit complete\n"+sockets), t.ports.http, t.ports.https)
}

// poolName is the name of the pool that both handlers share.
const poolName = "soak"

// quota is a line of every valid configuration.
const quota = "quota endpoint"

// breakConfig makes a valid configuration invalid.
func breakConfig(good string) string { return strings.Replace(good, quota, "quota nobody", 1) }

// pool returns the directive with additional options.
func (t *trial) pool(load int, options string) string {
	var endpoints strings.Builder
	for i, a := range t.endpoints {
		fmt.Fprintf(&endpoints, "\tendpoint http://%s {\n\t\tname %s\n\t\tpriority %d\n\t\tweight %d\n\t\theader X-Load %d\n\t}\n",
			a.Address, a.Name, 1+i/2, 1+(load+i)%3, load)
	}
	return "failover {\n\tname " + poolName + "\n" + endpoints.String() + `	timeout 2s
	` + quota + `
	breaker {
		open_for 1s
		open_max 4s
	}
	retry {
		methods any
		budget 100% 1000
	}
	sla {
		availability 99.9%
	}
	health {
		uri /health
		method GET
		interval 2s
		fast_interval 500ms
		timeout 1s
	}
	transport http {
		keepalive 1s
	}
` + options + "}"
}
