package peers

import (
	"fmt"
	"os"

	"github.com/apifailover/caddy-failover/bench/internal/client"
)

// nginxConfig configures nginx with all its means against failing endpoints. It has no
// active checks. With backups, all endpoints but the first are backups.
func nginxConfig(at Listen, endpoints []string, backups bool) string {
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // so that its workers can use the peer's directory
	}
	options := map[client.Protocol]string{client.H2C: " http2", client.H2TLS: " ssl http2"}[at.Protocol]
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
`, user, lines(endpoints, func(i int, address string) string {
		backup := ""
		if backups && i > 0 {
			backup = " backup"
		}
		return fmt.Sprintf("\t\tserver %s max_fails=3 fail_timeout=2s%s;", address, backup)
	}), max(64, 2*len(endpoints)), at.Port, options)
}
