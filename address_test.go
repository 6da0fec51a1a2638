package failover

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loadError returns the error of loading a site; "" if there is none.
func loadError(t *testing.T, site string) string {
	t.Helper()
	if err := validates(t, site); err != nil {
		return err.Error()
	}
	return ""
}

// TestASchemeIsRequiredForCredentials checks that a scheme is required if a key would go out in plain
// text, in each form of the configuration, unless the proxy's transport uses TLS.
func TestASchemeIsRequiredForCredentials(t *testing.T) {
	const key = "{\nheader Authorization \"Bearer k\"\n}"
	directive := func(address, block, rest string) string {
		return "failover {\nendpoint " + address + " " + block + "\n" + rest + "\n}\n"
	}
	policy := func(address, block, rest string) string {
		return "reverse_proxy " + address + " {\nlb_policy failover {\nupstream " + address + " " + block + "\n}\n" + rest + "\n}\n"
	}
	cures := []string{"endpoint \"api.example:80\": ", "https://api.example", "plain text"}
	for name, c := range map[string]struct {
		site string
		want []string // nil: it loads
	}{
		"a key, no scheme":                {directive("api.example", key, ""), append(cures, "Caddyfile:7: ")},
		"with a port":                     {directive("api.example:8443", key, ""), []string{"https://api.example:8443", "Caddyfile:7: "}},
		"another field":                   {directive("api.example", "{\nheader X-Custom {env.FAILOVER_TEST_KEY}\n}", ""), cures},
		"of the proxy":                    {directive("api.example", "", "header_up Authorization \"Bearer k\""), cures},
		"an address of the network":       {directive("10.0.0.1:80", key, ""), []string{"http://10.0.0.1"}},
		"in a policy":                     {policy("api.example:80", key, ""), append(cures, "Caddyfile:8: ")},
		"in a policy, a port with no TLS": {policy("api.example:80", key, "transport http {\ntls\ntls_except_ports 80\n}"), cures},
		"a path":                          {directive("api.example/v1", key, ""), []string{"https://api.example/v1", "a scheme is missing"}},
		"no key":                          {directive("api.example", "", ""), nil},
		"a scheme":                        {directive("http://api.example", key, ""), nil},
		"this machine":                    {directive("127.0.0.1:9000", key, ""), nil},
		"its name":                        {directive("localhost:9000", key, ""), nil},
		"a socket":                        {directive("unix//run/api.sock", key, ""), nil},
		"TLS by the transport":            {directive("api.example:443", key, "transport http {\ntls\n}"), nil},
		"TLS by the policy's proxy":       {policy("api.example:443", key, "transport http {\ntls\n}"), nil},
		"a url":                           {policy("api.example:443", "{\nurl https://api.example\nheader Authorization \"Bearer k\"\n}", ""), nil},
		"a url without a scheme":          {policy("api.example:443", "{\nurl api.example\n}", ""), []string{"https://api.example", "Caddyfile:9"}},
		"one slash":                       {directive("https:/api.example", "", ""), []string{"write https://api.example"}},
		"no address":                      {directive("\"\"", "", ""), []string{"the address is empty", "Caddyfile:7"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("FAILOVER_TEST_KEY", "k")
			got := loadError(t, c.site+"\n")
			if (got == "") != (c.want == nil) {
				t.Fatalf("got %q", got)
			}
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in %q", want, got)
				}
			}
		})
	}
}

// TestPlaceholdersOfAnAddress checks that addresses and base URLs can come from the environment and from
// files.
func TestPlaceholdersOfAnAddress(t *testing.T) {
	t.Setenv("FAILOVER_TEST_URL", "https://api.example/v1")
	t.Setenv("FAILOVER_TEST_HOST", "api.example")
	t.Setenv("FAILOVER_TEST_EMPTY", " ")
	t.Setenv("FAILOVER_TEST_SECRET", "https://ann:pa/ss@api.example")
	dir := t.TempDir()
	file, empty := filepath.Join(dir, "url"), filepath.Join(dir, "empty")
	for name, text := range map[string]string{file: "http://api.example:81\n", empty: "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		site string
		want string // "" if it loads; with a space: the error; else the URL or address
	}{
		"a URL":              {"failover {\nendpoint {env.FAILOVER_TEST_URL}\n}", ""},
		"a host":             {"failover {\nendpoint {env.FAILOVER_TEST_HOST}\n}", ""},
		"a part":             {"failover {\nendpoint https://{env.FAILOVER_TEST_HOST}/v1 {\nheader X-Api-Key k\n}\n}", ""},
		"a file":             {"failover {\nendpoint {file." + file + "} {\nheader X-Api-Key k\n}\n}", ""},
		"in a proxy":         {"reverse_proxy {env.FAILOVER_TEST_URL} {\nlb_policy failover\n}", ""},
		"in a block":         {"reverse_proxy {env.FAILOVER_TEST_URL} {\nlb_policy failover {\nupstream {env.FAILOVER_TEST_URL} {\nheader X-Api-Key k\n}\n}\n}", ""},
		"a url":              {"reverse_proxy api.example:443 {\nlb_policy failover {\nupstream api.example:443 {\nurl {env.FAILOVER_TEST_URL}\n}\n}\n}", ""},
		"a host and a key":   {"failover {\nendpoint {env.FAILOVER_TEST_HOST} {\nheader X-Api-Key k\n}\n}", "write endpoint https://api.example,"},
		"unset":              {"failover {\nendpoint {env.FAILOVER_TEST_UNSET}\n}", "Caddyfile:7: endpoint \"{env.FAILOVER_TEST_UNSET}\": {env.FAILOVER_TEST_UNSET}: the environment variable is not set"},
		"unset, in part":     {"failover {\nendpoint https://{env.FAILOVER_TEST_UNSET}/v1\n}", "{env.FAILOVER_TEST_UNSET}: the environment variable is not set"},
		"empty":              {"failover {\nendpoint {env.FAILOVER_TEST_EMPTY}\n}", "{env.FAILOVER_TEST_EMPTY}: the value is empty"},
		"no file":            {"failover {\nendpoint {file." + dir + "/none}\n}", "reading the file: no such file"},
		"an empty file":      {"failover {\nendpoint {file." + empty + "}\n}", "the value is empty"},
		"a malformed secret": {"failover {\nendpoint {env.FAILOVER_TEST_SECRET}\n}", "{env.FAILOVER_TEST_SECRET}: malformed base URL"},
		"unset in a proxy":   {"reverse_proxy {env.FAILOVER_TEST_UNSET} {\nlb_policy failover\n}", "Caddyfile:7: failover: upstream {env.FAILOVER_TEST_UNSET}: "},
		"a key":              {"failover {\nendpoint http://api.example {\nheader Authorization \"Bearer {env.FAILOVER_TEST_UNSET}\"\n}\n}", "Caddyfile:7: endpoint \"api.example:80\": header Authorization: {env.FAILOVER_TEST_UNSET}: the environment variable is not set"},
		"an empty key":       {"failover {\nendpoint http://api.example {\nheader X-Custom {env.FAILOVER_TEST_EMPTY}\n}\n}", "header X-Custom: {env.FAILOVER_TEST_EMPTY}: the value is empty"},
		"a key's file":       {"failover {\nendpoint http://api.example {\nheader +X-Custom {file./none}\n}\n}", "header X-Custom: {file./none}: reading the file: no such file"},
		"no key":             {"failover {\nendpoint http://api.example {\nheader Authorization \"Bearer \"\n}\n}", "has no credential"},
		"of a check":         {"failover {\nendpoint http://api.example\nhealth {\nheader Authorization {env.FAILOVER_TEST_UNSET}\n}\n}", "health: header Authorization: {env.FAILOVER_TEST_UNSET}"},
		"of a body":          {"failover {\nendpoint http://api.example {\nset_json user.key {env.FAILOVER_TEST_UNSET}\n}\n}", "set_json user.key: {env.FAILOVER_TEST_UNSET}"},
	} {
		t.Run(name, func(t *testing.T) {
			got := loadError(t, c.site+"\n")
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if strings.Contains(got, "pa/ss") {
				t.Error("the error shows a password")
			}
		})
	}
}
