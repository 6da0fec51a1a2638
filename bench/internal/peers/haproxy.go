package peers

import (
	"fmt"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/client"
)

// haproxyBuffer is how many bytes of a request HAProxy keeps for a retry.
const haproxyBuffer = 16 << 10

// haproxyConfig configures HAProxy with all its means against failing endpoints. HAProxy
// 2.6 cannot retry on 429. Options apply to each server.
func haproxyConfig(at Listen, endpoints []string, balance string, options ...string) string {
	bind := map[client.Protocol]string{
		client.H2C:   " proto h2",
		client.H2TLS: " ssl crt {{dir}}/both.pem alpn h2 prefer-client-ciphers",
	}[at.Protocol]
	return fmt.Sprintf(`global
	maxconn 4096
	tune.bufsize %d
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
%s`, haproxyBuffer, at.Port, bind, balance, lines(endpoints, func(i int, address string) string {
		return strings.Join(append([]string{fmt.Sprintf("\tserver s%d %s", i, address)}, options...), " ")
	}))
}
