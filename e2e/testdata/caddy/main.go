// Caddy with the plugin and the engine redis, for tests that need several processes.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/apifailover/caddy-failover"
	_ "github.com/apifailover/caddy-failover/redis"
)

func main() { caddycmd.Main() }
