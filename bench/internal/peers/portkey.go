package peers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/npm"
)

// PortkeyCommand returns the command of Portkey's gateway at a port, from the directory that
// npm.Install returns.
func PortkeyCommand(dir string, port int) []string {
	return []string{"node", filepath.Join(dir, "node_modules", npm.Gateway, "build/start-server.js"), fmt.Sprintf("--port=%d", port), "--headless"}
}

// portkeyMost is the largest number of endpoints whose configuration fits into the header of a
// request, of which node takes 16 KiB.
const portkeyMost = 30

// portkeyAsk says how requests to Portkey's gateway must look, so that it spreads them evenly over
// endpoints. It reads bodies, which must be JSON.
func portkeyAsk(endpoints []string) client.Ask {
	var targets []any
	for _, address := range endpoints {
		targets = append(targets, map[string]any{"provider": "openai", "api_key": "of-bench", "custom_host": "http://" + address, "weight": 1})
	}
	text, err := json.Marshal(map[string]any{"strategy": map[string]any{"mode": "loadbalance"}, "targets": targets})
	if err != nil {
		panic(err) // there is nothing in it that could fail
	}
	return client.Ask{Prefix: "/v1", JSON: true, Header: http.Header{"X-Portkey-Config": {string(text)}}}
}
