package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// hinting sends informational responses with these codes before then runs.
func hinting(name string, then http.HandlerFunc, codes ...int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, code := range codes {
			w.Header().Set("Link", fmt.Sprintf("</%s-%d>", name, code))
			w.WriteHeader(code)
		}
		w.Header().Del("Link")
		then(w, r)
	}
}

// TestInformationalAnswers checks that the client gets the informational responses of the attempt whose response it
// gets, in order, and no others.
func TestInformationalAnswers(t *testing.T) {
	down := status(http.StatusServiceUnavailable)
	for _, test := range []struct {
		name, options string
		one, two      http.HandlerFunc
		want          []string
		body          string
	}{
		{"of the one that serves", "", hinting("one", named("one"), 102, 103, 103), named("two"), []string{"102 </one-102>", "103 </one-103>", "103 </one-103>"}, "one"},
		{"not of one that fails", "", hinting("one", down, 103), hinting("two", named("two"), 103), []string{"103 </two-103>"}, "two"},
		{"not of one that hangs up", "", hinting("one", cut, 103, 102), named("two"), nil, "two"},
		{"not of one that the call leaves", "next_on 404", hinting("one", status(404), 103), hinting("two", named("two"), 104), []string{"104 </two-104>"}, "two"},
		{"of the last attempt, which fails", "retry {\nattempts 1\n}", hinting("one", down, 103), named("two"), []string{"103 </one-103>"}, ""},
		{"held back", "commit complete", hinting("one", named("one"), 103), named("two"), []string{"103 </one-103>"}, "one"},
	} {
		for _, body := range []string{"", "a body"} {
			t.Run(fmt.Sprintf("%s, %d bytes", test.name, len(body)), func(t *testing.T) {
				one, two := newAPI(t, "one"), newAPI(t, "two")
				one.behave(test.one)
				two.behave(test.two)
				p := startCaddy(t, site(test.options, one, two))
				var got []string
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
					Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
						got = append(got, fmt.Sprint(code, " ", header.Get("Link")))
						return nil
					},
				})
				r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://api.test/", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := p.client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if text, err := io.ReadAll(resp.Body); err != nil || string(text) != test.body || !slices.Equal(got, test.want) {
					t.Errorf("got %q and then %q (%v), want %q", got, text, err, test.want)
				}
				if link := resp.Header.Get("Link"); link != "" {
					t.Errorf("the final response has Link %s", link)
				}
			})
		}
	}
}
