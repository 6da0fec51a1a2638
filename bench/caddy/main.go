// Command caddy is Caddy with the failover plugin. One binary serves the plugin's and stock
// configurations, so both come from the same build.
package main

import (
	_ "github.com/apifailover/caddy-failover"
	_ "github.com/apifailover/caddy-failover/redis"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
