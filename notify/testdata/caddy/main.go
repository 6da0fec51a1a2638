// Command caddy is a Caddy with the plugin and the package notify, as xcaddy builds it.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/apifailover/caddy-failover"
	_ "github.com/apifailover/caddy-failover/notify"
)

func main() { caddycmd.Main() }
