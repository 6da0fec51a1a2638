package main

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A peer is a proxy to compare: how it is configured for a set of upstreams,
// and how it is started.
type peer struct {
	name   string
	about  string // what its configuration is
	binary string // caddy, haproxy or nginx
	config func(at listen, upstreams []string) string
}

// available tells whether the peer can be run here, with a notice where not.
func (p peer) available() bool {
	if p.binary == "caddy" {
		return true
	}
	if _, err := exec.LookPath(p.binary); err != nil {
		say("notice: %s is skipped: %s is not installed", p.name, p.binary)
		return false
	}
	return true
}

// The protocols of clients.
const (
	h1    = "h1"
	h2c   = "h2c"   // HTTP/2 without TLS, by prior knowledge
	h2tls = "h2tls" // HTTP/2 over TLS
)

// listen is where a proxy listens, and for which protocol. A certificate is in
// {{dir}}, see certify.
type listen struct {
	port     int
	protocol string
}

// A running peer.
type running struct {
	peer
	*process
	address  string
	protocol string
	roots    *x509.CertPool // of its certificate
	pids     []int
}

// start runs a peer in front of upstreams and waits until it listens.
func (b *bench) start(p peer, protocol, caddy string, upstreams []string) (*running, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, strings.ReplaceAll(p.name, " ", "-")+"-")
	if err != nil {
		return nil, err
	}
	// nginx's workers may run as another user
	_ = os.Chmod(dir, 0o755)
	roots, err := certify(dir)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	path := filepath.Join(dir, "config")
	config := strings.ReplaceAll(p.config(listen{port, protocol}, upstreams), "{{dir}}", dir)
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, err
	}
	var argv []string
	switch p.binary {
	case "caddy":
		argv = []string{caddy, "run", "--adapter", "caddyfile", "--config", path}
	case "haproxy":
		argv = []string{"haproxy", "-db", "-f", path}
	case "nginx":
		argv = []string{"nginx", "-p", dir, "-e", "stderr", "-c", path}
	}
	proc, err := startProcess(p.binary, dir, argv)
	if err != nil {
		return nil, err
	}
	r := &running{peer: p, process: proc, address: fmt.Sprintf("127.0.0.1:%d", port), protocol: protocol, roots: roots}
	if err := proc.await(b.ctx, r.address); err != nil {
		proc.stop()
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	r.pids = proc.members()
	return r, nil
}

// client is one for what the peer speaks, and url where it is.
func (r *running) client() (client *http.Client, url string) {
	return newClient(r.protocol, r.roots), schemes[r.protocol] + r.address
}

// caddyfile is a Caddy configuration around a site's directives.
func caddyfile(at listen, site string) string {
	scheme := "http"
	if at.protocol == h2tls {
		scheme = "https"
		site = "tls {{dir}}/cert.pem {{dir}}/key.pem\n" + site
	}
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	grace_period 1s
	log {
		output discard
		level PANIC
	}
	servers {
		protocols h1 h2 h2c
	}
}
%s://127.0.0.1:%d {
	bind 127.0.0.1
	%s
}
`, scheme, at.port, strings.ReplaceAll(strings.TrimSpace(site), "\n", "\n\t"))
}

// each writes a line for every upstream.
func each(upstreams []string, line func(i int, address string) string) string {
	var b strings.Builder
	for i, u := range upstreams {
		b.WriteString(line(i, u))
		b.WriteByte('\n')
	}
	return b.String()
}

// speedPeers are the proxies compared while all is well: traffic in equal parts
// to all upstreams. The first is what the others are compared with.
var speedPeers = []peer{{
	name:   "stock",
	about:  "Caddy, `lb_policy round_robin`, no checks, no retries",
	binary: "caddy",
	config: func(at listen, upstreams []string) string {
		return caddyfile(at, "reverse_proxy "+strings.Join(upstreams, " ")+" {\n\tlb_policy round_robin\n}")
	},
}, {
	name:   "control",
	about:  "the same as stock: how far its ratio is from 1 is what the machine's noise comes to",
	binary: "caddy",
	config: func(at listen, upstreams []string) string {
		return caddyfile(at, "reverse_proxy "+strings.Join(upstreams, " ")+" {\n\tlb_policy round_robin\n}")
	},
}, {
	name:   "stock+",
	about:  "Caddy, `round_robin` with retries on statuses and transport errors for every method, passive and active checks, and `request_buffers`, without which a body is gone after the first attempt",
	binary: "caddy",
	config: func(at listen, upstreams []string) string {
		return caddyfile(at, "reverse_proxy "+strings.Join(upstreams, " ")+stockOptions("round_robin"))
	},
}, {
	name:   "failover",
	about:  "the `failover` directive, all defaults, equal priorities",
	binary: "caddy",
	config: func(at listen, upstreams []string) string {
		return caddyfile(at, "failover {\n"+each(upstreams, func(_ int, address string) string {
			return "\tendpoint http://" + address + " {\n\t\tpriority 1\n\t}"
		})+"}")
	},
}, {
	name:   "failover=",
	about:  "the `failover` directive with `methods any` and checks: what compares with stock+, as both send a POST with a body of up to 1 MiB again",
	binary: "caddy",
	config: func(at listen, upstreams []string) string {
		return retryingFailover(at, upstreams, "")
	},
}, {
	name:   "failover+",
	about:  "failover= with whole answers (`commit complete`): an answer of up to 1 MiB that breaks off is asked for elsewhere too, which none of the other proxies does",
	binary: "caddy",
	config: func(at listen, upstreams []string) string {
		return retryingFailover(at, upstreams, "\tcommit complete\n")
	},
}, {
	name:   "policy",
	about:  "stock `reverse_proxy` with `lb_policy failover`, equal priorities",
	binary: "caddy",
	config: func(at listen, upstreams []string) string {
		return caddyfile(at, "reverse_proxy "+strings.Join(upstreams, " ")+" {\n\tlb_policy failover {\n"+
			each(upstreams, func(_ int, address string) string {
				return "\t\tupstream " + address + " {\n\t\t\tpriority 1\n\t\t}"
			})+"\t}\n}")
	},
}, {
	name:   "HAProxy",
	about:  "`balance roundrobin`, retries on responses for every method, checks; what it sends again has to fit into its buffer, here 16 KiB, so larger bodies are sent once",
	binary: "haproxy",
	config: func(at listen, upstreams []string) string {
		return haproxyConfig(at, upstreams, "balance roundrobin")
	},
}, {
	name:   "nginx",
	about:  "round robin, `proxy_next_upstream` for every method, `max_fails`; bodies of any size are buffered and sent again",
	binary: "nginx",
	config: func(at listen, upstreams []string) string {
		return nginxConfig(at, upstreams, false)
	},
}}

// retryingFailover is the directive with all that is sent again, and more options.
func retryingFailover(at listen, upstreams []string, options string) string {
	return caddyfile(at, "failover {\n"+each(upstreams, func(_ int, address string) string {
		return "\tendpoint http://" + address + " {\n\t\tpriority 1\n\t}"
	})+options+`	retry {
		methods any
	}
	health {
		uri /health
		method GET
		interval 1s
	}
}`)
}

// stockOptions are what a stock Caddy can be given against failing upstreams.
func stockOptions(policy string) string {
	return ` {
	lb_policy ` + policy + `
	lb_retries 3
	lb_retry_match {
		expression ` + "`{rp.status_code} in [429, 500, 502, 503, 504] || {rp.is_transport_error}`" + `
	}
	fail_duration 5s
	max_fails 1
	unhealthy_status 429 5xx
	unhealthy_latency 500ms
	health_uri /health
	health_interval 1s
	health_timeout 1s
	health_fails 2
	health_passes 2
	request_buffers 1048577 # a body that fills it counts as larger, and is sent once
	transport http {
		dial_timeout 1s
		response_header_timeout 1s
	}
}`
}

// haproxyConfig is HAProxy with what it has against failing upstreams. In 2.6
// it cannot retry on 429.
func haproxyConfig(at listen, upstreams []string, balance string) string {
	bind := map[string]string{h1: "", h2c: " proto h2", h2tls: " ssl crt {{dir}}/both.pem alpn h2 prefer-client-ciphers"}[at.protocol]
	return fmt.Sprintf(`global
	maxconn 4096
	tune.bufsize 16384
defaults
	mode http
	timeout client 30s
	timeout connect 1s
	timeout server 1s
	timeout http-request 10s
	timeout http-keep-alive 30s
	option http-buffer-request
	option redispatch 1
	retries 3
	retry-on all-retryable-errors
frontend in
	bind 127.0.0.1:%d%s
	default_backend api
backend api
	%s
	http-reuse always
	option httpchk GET /health
	default-server check inter 1s fall 2 rise 2 maxconn 2000 slowstart 3s observe layer7 error-limit 5 on-error mark-down
%s`, at.port, bind, balance, each(upstreams, func(i int, address string) string {
		return fmt.Sprintf("\tserver s%d %s", i, address)
	}))
}

// nginxConfig is nginx with what it has against failing upstreams: passive
// checks only. With backups, all upstreams but the first are such.
func nginxConfig(at listen, upstreams []string, backups bool) string {
	user := "" // workers that can use the temporary directory
	if os.Getuid() == 0 {
		user = "user root;"
	}
	options := map[string]string{h1: "", h2c: " http2", h2tls: " ssl http2"}[at.protocol]
	return fmt.Sprintf(`daemon off;
%s
master_process on;
worker_processes auto;
worker_rlimit_nofile 8192;
pid {{dir}}/pid;
error_log stderr crit;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path {{dir}}/body;
	proxy_temp_path {{dir}}/proxy;
	fastcgi_temp_path {{dir}}/fastcgi;
	uwsgi_temp_path {{dir}}/uwsgi;
	scgi_temp_path {{dir}}/scgi;
	client_body_buffer_size 2m;
	client_max_body_size 0;
	proxy_max_temp_file_size 0;
	keepalive_requests 1000000;
	upstream api {
		zone api 1m;
%s		keepalive %d;
		keepalive_requests 1000000;
	}
	server {
		listen 127.0.0.1:%d%s;
		ssl_certificate {{dir}}/cert.pem;
		ssl_certificate_key {{dir}}/key.pem;
		ssl_protocols TLSv1.2 TLSv1.3;
		location / {
			proxy_pass http://api;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_connect_timeout 1s;
			proxy_read_timeout 1s;
			proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504 http_429 non_idempotent;
			proxy_next_upstream_tries 3;
		}
	}
}
`, user, each(upstreams, func(i int, address string) string {
		backup := ""
		if backups && i > 0 {
			backup = " backup"
		}
		return fmt.Sprintf("\t\tserver %s max_fails=3 fail_timeout=2s%s;", address, backup)
	}), max(64, 2*len(upstreams)), at.port, options)
}
