package target

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestScreenRemovesCredentialsFromHeaders(t *testing.T) {
	s := NewScreen([]string{"X-Tenant-Secret", "content-type", "User-Agent", "Accept-Language", "x_own"})
	h := http.Header{}
	for _, field := range credentialFields {
		h.Set(field, "secret")
	}
	for _, field := range []string{
		"x_api_key", "X_Api_Key", "X-Api_Key", "XI_API_KEY", "xi-api-key", "authorization", "X-Tenant-Secret", "X_TENANT_SECRET", "X-Own",
	} {
		h[field] = []string{"secret"}
	}
	kept := http.Header{
		"Content-Type": {"text/plain"}, "User-Agent": {"client"}, "Accept-Language": {"de"}, "X-Api-Key-Id": {"1"}, "X-Keep": {"yes"},
		"Referer": {"https://h/p?a=1&b=2#c"}, "Sec-Websocket-Protocol": {"realtime, v1"}, "Idempotency-Key": {"k"}, "Api_version": {"2"},
	}
	want := kept.Clone()
	maps.Copy(h, kept)
	own := s.Own(h)
	all := h.Clone()
	s.Header(h)
	if fmt.Sprint(h) != fmt.Sprint(want) {
		t.Errorf("left %v, want %v", h, want)
	}
	all.Set("Authorization", "of the proxy")
	s.HeaderOf(own, all)
	want.Set("Authorization", "of the proxy")
	if fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("of the client's own left %v, want %v", all, want)
	}
}

func TestScreenCleansURLsAndProtocols(t *testing.T) {
	s := NewScreen(nil)
	for field, cases := range map[string]map[string]string{
		"Referer": {
			"https://ann:secret@h/p?key=secret&b=2": "https://h/p?b=2", "https://h/p?key=secret": "https://h/p?", "/p?b;token=secret#access_token=secret": "/p?b#",
			"https://h@x": "https://x", "https://h/a@b?c": "https://h/a@b?c", "about:blank": "about:blank",
		},
		"X-Original-URL":  {"/v1?api_key=secret&a=1": "/v1?a=1"},
		"X_Rewrite_Url":   {"/v1?%6bey=secret": "/v1?"},
		"X-Forwarded-Uri": {"/v1?a=1": "/v1?a=1"},
		"Sec-WebSocket-Protocol": {
			"realtime, openai-insecure-api-key.secret, openai-beta.realtime-v1": "realtime, openai-beta.realtime-v1",
			"OpenAI-Insecure-API-Key.secret":                                    "", "realtime,v2": "realtime,v2", "a, base64url.bearer.authorization.k8s.io.secret": "a",
		},
	} {
		for value, want := range cases {
			h := http.Header{}
			h.Set(field, value)
			before := h[http.CanonicalHeaderKey(field)]
			s.Header(h)
			if got := h.Get(field); got != want || before[0] != value {
				t.Errorf("%s: %s: got %q, want %q", field, value, got, want)
			}
		}
	}
}

func TestScreenRemovesCredentialsFromQueries(t *testing.T) {
	s := NewScreen(nil)
	for query, want := range map[string]string{
		"": "", "a=1&b=2": "a=1&b=2", "a=%2F&b=+&&c": "a=%2F&b=+&&c", "key": "", "key=": "", "key=s": "", "key=s&a=1": "a=1", "a=1&key=s": "a=1", "a=1&key=s&b=2": "a=1&b=2",
		"key=s&key=t&a=1&key=u": "a=1", "a=1;key=s;b=2": "a=1;b=2", "a=1;key=s": "a=1", "key=s;a=1": "a=1", "KEY=s&Api_Key=s&ACCESS_TOKEN=s&Token=s": "",
		"api-key=s&apikey=s&x-api-key=s&x_goog_api_key=s&subscription-key=s&authorization=s": "", "%6b%65%79=s&%6Bey=t&api%5Fkey=u&%256bey=v&a": "a",
		"api.key=s&key[]=s&key%5B0%5D=s&+key=s&key%20=s&key%00x=s&token[a]=s": "", "keys=1&monkey=2&key_id=3&tokens=4&next_token=5&page_token=6&cookie=7&max_tokens=8": "keys=1&monkey=2&key_id=3&tokens=4&next_token=5&page_token=6&cookie=7&max_tokens=8",
		"a=key=s&b=%26key%3Ds": "a=key=s&b=%26key%3Ds", "&key=s&": "", "%": "%", "%zz=1&key=s": "%zz=1",
	} {
		if got := s.Query(query, nil); got != want {
			t.Errorf("%q: got %q, want %q", query, got, want)
		}
	}
	for _, c := range []struct{ client, query, want string }{
		{"key=s&a=1", "key=s&a=1&key=ours", "a=1&key=ours"}, {"a=1", "key=ours", "key=ours"}, {"key=%73", "key=s&b", "b"},
		{"Key=a+b", "x&key=a%20b", "x&key=a%20b"[:1]}, {"key=s", "api_key=s", "api_key=s"},
	} {
		if got := s.QueryOf(c.client, c.query); got != c.want {
			t.Errorf("%q of %q: got %q, want %q", c.query, c.client, got, c.want)
		}
	}
}

// FuzzScreenQuery checks that no parameter remains that is a credential for Go or for a
// server that splits at semicolons, that all others stay, and that a second run changes nothing.
func FuzzScreenQuery(f *testing.F) {
	for _, q := range []string{"a=1&key=2;b", "%6bey=1&", "key[]=1&;&k%65y", "+token=1"} {
		f.Add(q)
	}
	s := NewScreen(nil)
	f.Fuzz(func(t *testing.T, raw string) {
		got := s.Query(raw, nil)
		if again := s.Query(got, nil); again != got {
			t.Fatalf("%q is %q, and then %q", raw, got, again)
		}
		left, _ := url.ParseQuery(strings.ReplaceAll(got, ";", "&"))
		was, _ := url.ParseQuery(strings.ReplaceAll(raw, ";", "&"))
		for name := range left {
			switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
			case "key", "api-key", "token", "access-token":
				t.Fatalf("%q left %q", raw, got)
			}
		}
		for name, values := range was {
			if !s.params[plainParameter(url.QueryEscape(name))] && fmt.Sprint(left[name]) != fmt.Sprint(values) {
				t.Fatalf("%q lost %q: %q", raw, name, got)
			}
		}
	})
}

func BenchmarkScreen(b *testing.B) {
	s := NewScreen([]string{"Authorization"})
	h := http.Header{
		"Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "Content-Type": {"application/json"}, "Content-Length": {"42"}, "User-Agent": {"client"},
		"X-Forwarded-For": {"10.0.0.1"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"https"}, "Via": {"1.1 Caddy"},
	}
	b.Run("header", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Header(h)
		}
	})
	b.Run("deletes", func(b *testing.B) { // of six fields each, from a header and a trailer
		b.ReportAllocs()
		var none http.Header
		for b.Loop() {
			for _, field := range []string{"Authorization", "Api-Key", "X-Api-Key", "X-Goog-Api-Key", "Proxy-Authorization", "Cookie"} {
				delete(h, field)
				delete(none, field)
			}
		}
	})
	b.Run("query", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Query("model=gpt&limit=20&after=abc", nil)
		}
	})
}
