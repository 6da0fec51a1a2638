package command

import (
	"strconv"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
)

// hostileText controls a terminal: it writes from right to left, moves the cursor, hides text, and
// breaks lines.
const hostileText = "up\u202egrade\x1b[2J\u2066x\u200b\u2028\x9b\u0085\r\nz\u0007\U000e0041"

func TestEventsPrintNoControlCharacters(t *testing.T) {
	line := layout{columns: 10_000}.event(&event.Event{At: time.Now(), Kind: "operator", Pool: hostileText, Endpoint: hostileText, To: hostileText, Reason: hostileText,
		Details: map[string]any{hostileText: hostileText, "list": []any{hostileText}}})
	for _, r := range line {
		if !strconv.IsGraphic(r) {
			t.Errorf("%U in %q", r, line)
		}
	}
}
