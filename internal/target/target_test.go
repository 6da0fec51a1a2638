package target

import (
	"net/url"
	"testing"
)

func TestJoinURL(t *testing.T) {
	for _, test := range []struct{ base, request, want string }{
		{"https://api.example", "http://10.0.0.1/", "https://api.example/"},
		{"https://api.example", "http://10.0.0.1", "https://api.example"},
		{"https://api.example/", "http://10.0.0.1/chat", "https://api.example/chat"},
		{"https://api.example/v1", "http://10.0.0.1/chat", "https://api.example/v1/chat"},
		{"https://api.example/v1/", "http://10.0.0.1/chat", "https://api.example/v1/chat"},
		{"https://api.example/v1//", "http://10.0.0.1//chat", "https://api.example/v1//chat"},
		{"https://api.example/v1", "http://10.0.0.1", "https://api.example/v1"},
		{"https://api.example/v1", "http://10.0.0.1/", "https://api.example/v1/"},
		{"https://api.example/v1", "http://10.0.0.1/chat?q=a%2Fb&r", "https://api.example/v1/chat?q=a%2Fb&r"},
		{"https://api.example/v1", "http://10.0.0.1/chat?", "https://api.example/v1/chat?"},
		{"https://api.example/v1", "http://10.0.0.1/a%2Fb/c", "https://api.example/v1/a%2Fb/c"},
		{"https://api.example/a%2Fb", "http://10.0.0.1/c", "https://api.example/a%2Fb/c"},
		{"https://api.example/a%2F", "http://10.0.0.1/c", "https://api.example/a%2F/c"},
		{"https://api.example/a%2Fb/", "http://10.0.0.1/c%2Fd/", "https://api.example/a%2Fb/c%2Fd/"},
		{"https://api.example/a b", "http://10.0.0.1/c%20d", "https://api.example/a%20b/c%20d"},
		{"https://api.example/v1", "http://10.0.0.1/%C3%A4/%2e%2e/x", "https://api.example/v1/%C3%A4/%2e%2e/x"},
		{"https://user:secret@api.example:8443/v1", "http://10.0.0.1/x", "https://api.example:8443/v1/x"},
		{"http://[::1]:8080/v1", "http://10.0.0.1/x", "http://[::1]:8080/v1/x"},
	} {
		base, request := mustParse(t, test.base), mustParse(t, test.request)
		before := *request
		if got := JoinURL(base, request).String(); got != test.want {
			t.Errorf("%s before %s: got %s, want %s", test.base, test.request, got, test.want)
		}
		if *request != before {
			t.Errorf("%s before %s: the request's URL was changed", test.base, test.request)
		}
	}
}

func mustParse(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
