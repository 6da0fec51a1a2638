package failover

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestNotifyNeedsItsPackage checks that notify is an error in a build without its package, and that the
// error says how to build Caddy and does not show the URL.
func TestNotifyNeedsItsPackage(t *testing.T) {
	_, err := tryAdapt("{\nfailover {\n notify https://hooks.example.com/secret {\n on all_down\n }\n}\n}")
	for _, want := range []string{"caddy-failover/notify", "xcaddy build", "Caddyfile:3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error shows the URL: %v", err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	app := &App{NotifyRaw: []json.RawMessage{json.RawMessage(`{"notifier": "url", "url": "https://hooks.example.com/secret"}`)}}
	if err := app.Provision(ctx); err == nil || !strings.Contains(err.Error(), "xcaddy build") || strings.Contains(err.Error(), "secret") {
		t.Errorf("as JSON: %v", err)
	}
}

// TestTheLibraryOfNotifyIsInNoOtherBuild checks that a build without the package notify does not
// contain the packages that only notify needs.
func TestTheLibraryOfNotifyIsInNoOtherBuild(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"shoutrrr", module + "/notify"} {
		if strings.Contains(string(out), name) {
			t.Errorf("the root needs %s", name)
		}
	}
}
