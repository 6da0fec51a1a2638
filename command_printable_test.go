package failover

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// hostileText steers a terminal: it writes from right to left, moves the cursor,
// hides, and breaks lines.
const hostileText = "up\u202egrade\x1b[2J\u2066x\u200b\u2028\x9b\u0085\r\nz\u0007\U000e0041"

func TestCommandsPrintNothingThatSteers(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	_, a := startWithAdmin(t, pooled("hostile", "", one, two))
	reason, _ := json.Marshal(map[string]string{"reason": hostileText})
	a.order("POST", "hostile/endpoints/one/drain", string(reason))
	for _, args := range [][]string{
		{"status"}, {"status", "--json"}, {"events"}, {"events", "--json"}, {"drain", "one", "--reason", hostileText},
		{"drain", "one", "--reason", hostileText, "--json"}, {"status", "no" + hostileText}, {"drain", "no" + hostileText},
		{"set", "one", "--weight", "2", "--reason", hostileText},
	} {
		var out, errs bytes.Buffer
		runCommand(t.Context(), t, &out, &errs, append(args, "--address", a.address)...)
		for _, text := range []string{out.String(), errs.String()} {
			for _, r := range text {
				if !strconv.IsGraphic(r) && r != '\n' && r != '\t' {
					t.Errorf("%q: %U in %q", args, r, text)
					break
				}
			}
		}
		if args[0] == "status" && len(args) == 1 && !strings.Contains(out.String(), `up\u202egrade\x1b[2J`) {
			t.Errorf("the reason is not shown: %s", out.String())
		}
	}
}

// FuzzRedactURL: of a base URL nothing is shown that may be a credential: user, password,
// query, fragment, and segments that look like keys; all else is.
func FuzzRedactURL(f *testing.F) {
	f.Add("https://user:pass@api.example:8443/v1/AbCdEfGh12345678?key=x#y")
	f.Add("http://[::1]/a%2Fb/0123456789abcdef0123/")
	f.Add("https://h/v3/%41bcdefgh1234567890")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.Opaque != "" {
			return
		}
		const user, password, query, fragment = "Us3rOfTheTest", "P4ssOfTheTest", "Qu3ryOfTheTest", "Fr4gOfTheTest"
		if strings.Contains(raw, "OfTheTest") {
			return
		}
		u.User, u.RawQuery, u.Fragment = url.UserPassword(user, password), query, fragment
		u.Path, u.RawPath = u.Path+"/K3yOfTheTest0000/x", ""
		shown := redactURL(u)
		if strings.Contains(shown, "OfTheTest") || strings.Contains(shown, "@"+u.Host) {
			t.Fatalf("%q: %q", raw, shown)
		}
		read, err := url.Parse(shown)
		if err != nil || read.User != nil || read.RawQuery != "" || read.Fragment != "" || read.Host != u.Host {
			t.Fatalf("%q: %q is read as %v (%v)", raw, shown, read, err)
		}
		for segment := range strings.SplitSeq(read.EscapedPath(), "/") {
			if looksLikeKey(segment) {
				t.Fatalf("%q: %q shows %q", raw, shown, segment)
			}
			if name, err := url.PathUnescape(segment); err == nil && looksLikeKey(name) {
				t.Fatalf("%q: %q shows %q, escaped", raw, shown, name)
			}
		}
	})
}
