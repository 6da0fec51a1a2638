package e2e

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// hostileText has control characters for terminals: right-to-left text, cursor movements, invisible characters,
// line breaks.
const hostileText = "up\u202egrade\x1b[2J\u2066x\u200b\u2028\x9b\u0085\r\nz\u0007\U000e0041"

func TestCommandsPrintNoControlCharacters(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, pooled("hostile", "", one, two))
	reason, _ := json.Marshal(map[string]string{"reason": hostileText})
	p.order("POST", "hostile/endpoints/one/drain", string(reason))
	for _, args := range [][]string{
		{"status"}, {"status", "--json"}, {"events"}, {"events", "--json"}, {"drain", "one", "--reason", hostileText},
		{"drain", "one", "--reason", hostileText, "--json"}, {"status", "no" + hostileText}, {"drain", "no" + hostileText},
		{"set", "one", "--weight", "2", "--reason", hostileText},
	} {
		var out, errs bytes.Buffer
		runCommand(t.Context(), t, &out, &errs, append(args, p.at()...)...)
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
