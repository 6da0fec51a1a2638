package outcome

import (
	"net/http"
	"testing"
)

// TestUnusable checks which responses no client can get.
func TestUnusable(t *testing.T) {
	to := func(protocol string) http.Header {
		return http.Header{"Connection": {"keep-alive, Upgrade"}, "Upgrade": {protocol}}
	}
	for _, test := range []struct {
		code       int
		asked, got http.Header
		unusable   bool
	}{
		{101, to("websocket"), to("WebSocket"), false},
		{101, to("websocket"), to("h2c"), true},
		{101, to("websocket"), nil, true},
		{101, nil, to("websocket"), true},
		{101, http.Header{"Upgrade": {"websocket"}}, to("websocket"), true},
		{101, nil, nil, true},
		{-1, nil, nil, true},
		{0, nil, nil, true},
		{99, nil, nil, true},
		{100, nil, nil, true},
		{199, nil, nil, true},
		{200, nil, nil, false},
		{200, to("websocket"), nil, false},
		{600, nil, nil, false},
		{999, nil, nil, false},
		{1000, nil, nil, true},
	} {
		err := Unusable(&http.Request{Header: test.asked}, &http.Response{StatusCode: test.code, Header: test.got})
		if (err != nil) != test.unusable {
			t.Errorf("%d, asked %v, got %v: %v", test.code, test.asked, test.got, err)
		}
	}
}
