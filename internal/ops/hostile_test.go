package ops

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

func TestAdminBodiesAreRead(t *testing.T) {
	for _, test := range []struct{ action, body, want string }{
		{api.Drain, `{"for":"1m","for":"1m"}`, "for: given twice"},
		{api.Drain, `{"reason":"a","re\u0061son":"b"}`, "reason: given twice"},
		{api.Set, `{"weight":1,"priority":1,"weight":2}`, "weight: given twice"},
		{api.Set, `{"weight":null,"weight":null}`, "weight: given twice"},
		{api.Set, `{"weight":1e308}`, "weight: must be from 0 to 3.4e+38"},
		{api.Set, `{"weight":-1e-9}`, "weight: must be 0 or more"},
		{api.Set, `{"Weight":1}`, "Weight: unknown field"},
		{api.Drain, `{"reason":"` + strings.Repeat("x", 501) + `"}`, "reason: must be at most 500 bytes"},
		{api.Drain, `{"` + strings.Repeat("x", 9000) + `":1}`, "xxx..."},
		{api.Drain, `{"reason":` + strings.Repeat("[", 8000), "nested too deeply"},
		{api.Drain, "{\"reason\":\"\xff\"}", "body: want a JSON object: not JSON"},
		{api.Drain, `{"reason":`, "unexpected end of JSON input"},
		{api.Drain, `null`, "body: want a JSON object, not null"},
		{api.Drain, strings.Repeat(" ", maxOrder+1), "body: more than 16384 bytes"},
	} {
		_, err := readCommandOf(test.action, test.body)
		if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 300 {
			t.Errorf("%s %.60s: %v, want %s", test.action, test.body, err, test.want)
		}
	}
}

func readCommandOf(action, body string) (api.Order, error) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	return readOrder(httptest.NewRecorder(), r, action)
}

// FuzzCommandBody checks that every body is either refused with a 4xx that names the fault,
// or consists of known fields, each given once and within its range.
func FuzzCommandBody(f *testing.F) {
	for _, body := range []string{``, `{"for":"10m","reason":"x"}`, `{"weight":3,"priority":null}`, `{"weight":1,"w\u0065ight":2}`,
		`{"weight":1e308}`, `{"for":"1000d"}`, `[[[[`} {
		for _, action := range []string{api.Drain, api.Set, api.Reset} {
			f.Add(action, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, action string, body []byte) {
		if !slices.Contains(api.Actions, action) && action != api.Set {
			return
		}
		c, err := readCommandOf(action, string(body))
		if err != nil {
			failed, ok := err.(caddy.APIError)
			if !ok || failed.HTTPStatus < 400 || failed.HTTPStatus > 499 || failed.Err.Error() == "" {
				t.Fatalf("%s %q: %#v", action, body, err)
			}
			return
		}
		if c.Lasts < 0 || c.Lasts > api.MaxLasts || len(c.Reason) > api.MaxReason || !utf8.ValidString(c.Reason) {
			t.Fatalf("%s %q: %+v", action, body, c)
		}
		if w := c.Weight.Value; w != nil && (action != api.Set || !(*w >= 0 && *w <= math.MaxFloat32)) {
			t.Fatalf("%s %q: weight %v", action, body, *w)
		}
		if n := c.Priority.Value; n != nil && (action != api.Set || *n < 1) {
			t.Fatalf("%s %q: priority %v", action, body, *n)
		}
		seen := map[string]bool{}
		for name := range jsondoc.Members(orEmpty(body)) {
			if seen[name] || !slices.Contains([]string{"for", "reason", "weight", "priority"}, name) {
				t.Fatalf("%s %q: %q was accepted", action, body, name)
			}
			seen[name] = true
		}
	})
}

func orEmpty(body []byte) []byte {
	if len(body) == 0 {
		return []byte("{}")
	}
	return body
}

// FuzzAdminPath checks that a path names what its segments say, and that a path that
// Caddy's access control would read differently is refused.
func FuzzAdminPath(f *testing.F) {
	for _, p := range []string{"", "api", "api/endpoints/a%2Fb", "a/endpoints/b/drain", "%2e%2e/x", "..%2fx", "a%252f/endpoints/%00", "//", "a/../b"} {
		f.Add(p)
	}
	a := new(AdminAPI)
	f.Fuzz(func(t *testing.T, rest string) {
		const prefix = api.Root + "pools/"
		u, err := url.ParseRequestURI(prefix + rest)
		if err != nil || !strings.HasPrefix(u.EscapedPath(), prefix) {
			return
		}
		segments, err := pathSegments(&http.Request{URL: u}, prefix)
		if err == nil {
			if joined := prefix + strings.Join(segments, "/"); joined != u.Path {
				t.Fatalf("%q: %q is not %q", rest, segments, u.Path)
			}
			for part := range strings.SplitSeq(u.Path, "/") {
				if part == ".." || part == "." {
					t.Fatalf("%q: %q", rest, segments)
				}
			}
		}
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch} {
			w := httptest.NewRecorder()
			r := &http.Request{Method: method, URL: u, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}
			err := a.pool(w, r)
			if failed, ok := err.(caddy.APIError); err != nil && (!ok || failed.HTTPStatus < 400 || failed.HTTPStatus > 499) {
				t.Fatalf("%s %q: %v", method, rest, err)
			}
			if err == nil && !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%s %q: %q", method, rest, w.Body)
			}
		}
	})
}

// FuzzParseMoment checks that a moment is the written time, or lies before now by the given
// duration, and that formatting and parsing it again gives the same moment.
func FuzzParseMoment(f *testing.F) {
	for _, text := range []string{"2026-01-31T08:00:00Z", "2026-01-31T08:00:00.123456789+01:00", "2026-01-31", "15m", "7d", "1.5d", "-1h", "0", "9223372036854775807ns", "200000d"} {
		f.Add(text)
	}
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseMoment(text, now)
		if err != nil {
			if !at.IsZero() || len(err.Error()) == 0 {
				t.Fatalf("%q: %v and %v", text, at, err)
			}
			return
		}
		_, dateErr := time.Parse(time.DateOnly, text)
		_, timeErr := time.Parse(time.RFC3339Nano, text)
		if dateErr != nil && timeErr != nil {
			d, err := caddy.ParseDuration(text)
			if err != nil || at.After(now) || now.Sub(at) != d {
				t.Fatalf("%q: %v, %v before now (%v)", text, at, now.Sub(at), err)
			}
			return
		}
		if at.Year() < 0 || at.Year() > 9999 {
			return
		}
		again, err := parseMoment(at.Format(time.RFC3339Nano), now)
		if err != nil || !again.Equal(at) {
			t.Fatalf("%q: %v, again %v (%v)", text, at, again, err)
		}
	})
}
