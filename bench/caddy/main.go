// Command caddy is Caddy with the failover plugin: one binary that serves this
// project's configurations and stock ones, so that both are built alike.
package main

import (
	_ "github.com/apifailover/caddy-failover"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
