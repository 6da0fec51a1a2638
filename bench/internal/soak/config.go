package soak

import (
	"fmt"
	"strings"
)

// Names of the pools. The requests of both go to all instances.
const (
	mixedPool  = "mixed"  // three endpoints, of which one never fails
	lonelyPool = "lonely" // one endpoint, whose requests wait while it is out or full
)

var pools = []string{mixedPool, lonelyPool}

// models are the scopes of the mixed pool. Every request to it names one.
var models = []string{"one", "two", "three", "four", "five", "six"}

// lonelyPrefix begins the paths of requests to the lonely pool.
const lonelyPrefix = "/lonely"

// ports are the ports of an instance.
type ports struct{ http, https, admin int }

// endsSockets reports whether a reload ends WebSockets, as it does by default. In the plain
// build, stream_close_delay keeps them. The race build does not set it, because Caddy
// v2.11.9 has a data race there: methods with a value receiver copy Handler while its timer
// is set.
func (t *trial) endsSockets() bool { return t.Build == raceBuild }

// config returns the Caddyfile of the given load of an instance. The settings that a pool may
// change differ from load to load.
func (i *instance) config(load int) string {
	t := i.trial
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
	failover {
		fleet soak {
			redis redis://%s
			secret soak
			instance %s
		}
	}
}
(routes) {
	bind 127.0.0.1
	handle /stream* {
		%s
	}
	handle_path %s/* {
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
`, i.ports.admin, t.engineLine.Address, i.name, t.mixed(load, "\tflush_interval -1\n"), lonelyPrefix, t.lonely(load),
		t.mixed(load, "\tcommit complete\n"+sockets), i.ports.http, i.ports.https)
}

// quota is a line of every valid configuration.
const quota = "quota endpoint"

// breakConfig makes a valid configuration invalid.
func breakConfig(good string) string { return strings.Replace(good, quota, "quota nobody", 1) }

// mixed returns the directive of the mixed pool with more options.
func (t *trial) mixed(load int, options string) string {
	var endpoints strings.Builder
	for i, a := range t.endpoints {
		more := ""
		switch i {
		case 0:
			more = "\t\tlimit 60 requests per 1s burst 20\n"
		case len(t.endpoints) - 1: // it is out only if the machine stands still
			more = "\t\ttimeout 20s\n\t\thealth off\n"
		}
		fmt.Fprintf(&endpoints, "\tendpoint http://%s {\n\t\tname %s\n\t\tpriority %d\n\t\tweight %d\n\t\theader X-Load %d\n%s\t}\n",
			a.Address, a.Name, 1+i/2, 1+(load+i)%3, load, more)
	}
	return pool(mixedPool, endpoints.String(), "\tscope {header.X-Model}\n"+options)
}

// lonely returns the directive of the lonely pool.
func (t *trial) lonely(load int) string {
	endpoint := fmt.Sprintf("\tendpoint http://%s {\n\t\tname %s\n\t\theader X-Load %d\n\t\tmax_requests 3\n\t\tlimit 40 requests per 1s burst 20\n\t}\n",
		t.alone.Address, t.alone.Name, load)
	return pool(lonelyPool, endpoint, "\tall_down wait 25s\n\tcommit complete\n")
}

// pool returns the directive of a pool with its endpoints and more options.
func pool(name, endpoints, options string) string {
	return "failover {\n\tname " + name + "\n" + endpoints + `	timeout 2s
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
