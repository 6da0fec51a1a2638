package outcome

import (
	"math"
	"net/http"
	"slices"
	"testing"
	"time"
)

func TestReadQuotas(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	fields := []QuotaFields{
		{"requests", "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"},
		{"tokens", "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"},
		{"requests", "", "Ratelimit", ""},
	}
	in := func(wait time.Duration) time.Time { return now.Add(wait) }
	for _, test := range []struct {
		header http.Header
		want   []Quota
	}{
		{http.Header{}, nil},
		{http.Header{"X-Ratelimit-Remaining-Requests": {"0"}, "X-Ratelimit-Reset-Requests": {"120ms"}, "X-Ratelimit-Limit-Requests": {"60"}}, []Quota{{"requests", 60, 0, in(120 * time.Millisecond)}}},
		{http.Header{"X-Ratelimit-Remaining-Requests": {"59"}, "X-Ratelimit-Reset-Requests": {"1s"}, "X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"6m0s"}},
			[]Quota{{"requests", 0, 59, time.Time{}}, {"tokens", 0, 0, in(MaxHold)}}},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"2030-01-01T00:00:30Z"}}, []Quota{{"tokens", 0, 0, in(30 * time.Second)}}},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"1893456020"}}, []Quota{{"tokens", 0, 0, in(20 * time.Second)}}},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"2020-01-01T00:00:30Z"}}, []Quota{{Of: "tokens"}}},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"0"}}, []Quota{{Of: "tokens"}}},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"-3"}, "X-Ratelimit-Reset-Tokens": {"9999999999999999"}}, []Quota{{Of: "tokens"}}},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"none"}, "X-Ratelimit-Reset-Tokens": {"1s"}}, nil},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"NaN"}, "X-Ratelimit-Reset-Tokens": {"1s"}}, nil},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"0.4"}, "X-Ratelimit-Reset-Tokens": {"-1s"}}, []Quota{{Of: "tokens"}}},
		// A limit below 1, or -1 without a limit, is none.
		{http.Header{"X-Ratelimit-Limit-Requests": {"-1"}, "X-Ratelimit-Remaining-Requests": {"-1"}, "X-Ratelimit-Reset-Requests": {"60"}}, nil},
		{http.Header{"X-Ratelimit-Limit-Requests": {"0"}, "X-Ratelimit-Remaining-Requests": {"0"}, "X-Ratelimit-Reset-Requests": {"60"}}, nil},
		{http.Header{"X-Ratelimit-Remaining-Requests": {"-1"}, "X-Ratelimit-Reset-Requests": {"60"}}, nil},
		{http.Header{"X-Ratelimit-Limit-Requests": {"50"}, "X-Ratelimit-Remaining-Requests": {"-1"}, "X-Ratelimit-Reset-Requests": {"60"}}, []Quota{{"requests", 50, 0, in(time.Minute)}}},
		{http.Header{"Ratelimit": {`limit=0, remaining=0, reset=5`}}, nil},
		// Times by a clock that is not ours.
		{http.Header{"Date": {"Mon, 31 Dec 2029 23:00:00 GMT"}, "X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"2029-12-31T23:00:30Z"}}, []Quota{{"tokens", 0, 0, in(30 * time.Second)}}},
		{http.Header{"Date": {"Tue, 01 Jan 2030 01:00:00 GMT"}, "X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"1893459620"}}, []Quota{{"tokens", 0, 0, in(20 * time.Second)}}},
		{http.Header{"Date": {"Tue, 01 Jan 2030 01:00:00 GMT"}, "X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"Tue, 01 Jan 2030 01:00:40 GMT"}}, []Quota{{"tokens", 0, 0, in(40 * time.Second)}}},
		{http.Header{"Date": {"Tue, 01 Jan 2030 00:00:02 GMT"}, "X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"1893456020000"}}, []Quota{{"tokens", 0, 0, in(20 * time.Second)}}},
		{http.Header{"Date": {"yesterday"}, "X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"2030-01-01T00:00:30Z"}}, []Quota{{"tokens", 0, 0, in(30 * time.Second)}}},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"1d2h"}}, []Quota{{"tokens", 0, 0, in(MaxHold)}}},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"1893456020000000"}}, []Quota{{"tokens", 0, 0, in(20 * time.Second)}}},
		{http.Header{"X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"20 seconds"}}, []Quota{{Of: "tokens"}}},
		// The policy has the limit.
		{http.Header{"Ratelimit": {`"default";r=2;t=30`}, "Ratelimit-Policy": {`"burst";q=100;w=60,"default";q=1000;w=86400`}}, []Quota{{"requests", 1000, 2, time.Time{}}}},
		{http.Header{"Ratelimit": {`"default";r=0;t=5`}}, []Quota{{"requests", 0, 0, in(5 * time.Second)}}},
		{http.Header{"Ratelimit": {`limit=100, remaining=7, reset=5`}}, []Quota{{"requests", 100, 7, time.Time{}}}},
		{http.Header{"Ratelimit": {`"burst";r=0;t=2, "daily";r=50;t=3600`}}, []Quota{{"requests", 0, 0, in(2 * time.Second)}}},
		{http.Header{"Ratelimit": {`"burst";r=9;t=2, "daily";r=0;t=3600`}}, []Quota{{"requests", 0, 0, in(MaxHold)}}},
		{http.Header{"Ratelimit": {`"burst";r=0;t=1, "day";r=0;t=120`}}, []Quota{{"requests", 0, 0, in(2 * time.Minute)}}},
		{http.Header{"Ratelimit": {`"day";r=0;t=120,"burst";r=0;t=1`}}, []Quota{{"requests", 0, 0, in(2 * time.Minute)}}},
		{http.Header{"Ratelimit": {`"burst";r=0;t=1`, `"day";r=0;t=120`}}, []Quota{{"requests", 0, 0, in(2 * time.Minute)}}},
		{http.Header{"Ratelimit": {`"burst";r=0, "day";r=0;t=120, "week";r=8;t=240`}}, []Quota{{"requests", 0, 0, in(2 * time.Minute)}}},
		{http.Header{"Ratelimit": {`"burst";r=3;t=2, "day";r=50;t=120`}}, []Quota{{"requests", 0, 3, time.Time{}}}},
		{http.Header{"Ratelimit": {`"day";r=50;t=120, "burst";r=3;t=2`}}, []Quota{{"requests", 0, 3, time.Time{}}}},
		{http.Header{"Ratelimit": {`"default";r=50;t=30`}}, []Quota{{"requests", 0, 50, time.Time{}}}},
		{http.Header{"Ratelimit": {`"day";r=100;t=36000`}}, []Quota{{"requests", 0, 100, time.Time{}}}},
		{http.Header{"Ratelimit": {`"peruser";r=0;t=30;pk=:sdfjLJUOUH==:`}}, []Quota{{"requests", 0, 0, in(30 * time.Second)}}},
		{http.Header{"Ratelimit": {`"a, \"b\"; r=7";r=0;t=30, "c";r=1;t=1`}}, []Quota{{"requests", 0, 0, in(30 * time.Second)}}},
		{http.Header{"Ratelimit": {`protected;r=0;t=30, bot;r=2`}}, []Quota{{"requests", 0, 0, in(30 * time.Second)}}},
		{http.Header{"Ratelimit": {`limit=100;w=60, remaining=0, reset=30`}}, []Quota{{"requests", 100, 0, in(30 * time.Second)}}},
		{http.Header{"Ratelimit": {`limit=100`, `remaining=0`, `reset=30`}}, []Quota{{"requests", 100, 0, in(30 * time.Second)}}},
		{http.Header{"Ratelimit": {`"a";t=30, "b"`}}, nil},
		{http.Header{"Ratelimit": {`unlimited`}}, nil},
		{http.Header{"Ratelimit": {""}}, nil},
	} {
		got := ReadQuotas(nil, test.header, fields, now)
		if len(got) != len(test.want) {
			t.Errorf("%v: %v, want %v", test.header, got, test.want)
			continue
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%v: %v, want %v", test.header, got[i], test.want[i])
			}
		}
	}
}

// TestQuotasOfProviders: each quota of a response counts for itself.
func TestQuotasOfProviders(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	in := func(wait time.Duration) time.Time { return now.Add(wait) }
	for name, test := range map[string]struct {
		fields []QuotaFields
		header http.Header
		want   []Quota
		hold   time.Duration // after a 429
	}{
		"OpenAI": {
			[]QuotaFields{
				{"requests", "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"},
				{"tokens", "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"},
			},
			http.Header{
				"X-Ratelimit-Limit-Requests": {"60"}, "X-Ratelimit-Remaining-Requests": {"0"}, "X-Ratelimit-Reset-Requests": {"1s"},
				"X-Ratelimit-Limit-Tokens": {"150000"}, "X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"1m30s"},
			},
			[]Quota{{"requests", 60, 0, in(time.Second)}, {"tokens", 150000, 0, in(90 * time.Second)}},
			90 * time.Second,
		},
		"Anthropic": {
			[]QuotaFields{
				{"requests", "Anthropic-Ratelimit-Requests-Limit", "Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset"},
				{"input tokens", "Anthropic-Ratelimit-Input-Tokens-Limit", "Anthropic-Ratelimit-Input-Tokens-Remaining", "Anthropic-Ratelimit-Input-Tokens-Reset"},
			},
			http.Header{
				"Anthropic-Ratelimit-Requests-Limit": {"50"}, "Anthropic-Ratelimit-Requests-Remaining": {"49"}, "Anthropic-Ratelimit-Requests-Reset": {"2030-01-01T00:00:01Z"},
				"Anthropic-Ratelimit-Input-Tokens-Limit": {"40000"}, "Anthropic-Ratelimit-Input-Tokens-Remaining": {"0"}, "Anthropic-Ratelimit-Input-Tokens-Reset": {"2030-01-01T00:00:42Z"},
			},
			[]Quota{{"requests", 50, 49, time.Time{}}, {"input tokens", 40000, 0, in(42 * time.Second)}},
			42 * time.Second,
		},
		"IETF, draft 06": {
			[]QuotaFields{{"requests", "Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset"}},
			http.Header{"Ratelimit-Limit": {"10, 10;w=1, 50;w=60"}, "Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {"50"}},
			[]Quota{{"requests", 10, 0, in(50 * time.Second)}},
			50 * time.Second,
		},
		"IETF, draft 10": {
			[]QuotaFields{{Of: "requests", Left: "Ratelimit"}},
			http.Header{"Ratelimit-Policy": {`"burst";q=100;w=60,"daily";q=1000;w=86400`}, "Ratelimit": {`"burst";r=0;t=2, "daily";r=0;t=120, "month";r=4;t=1`}},
			[]Quota{{"requests", 1000, 0, in(2 * time.Minute)}},
			2 * time.Minute,
		},
		"Cerebras": {
			[]QuotaFields{{"tokens per minute", "X-Ratelimit-Limit-Tokens-Minute", "X-Ratelimit-Remaining-Tokens-Minute", "X-Ratelimit-Reset-Tokens-Minute"}},
			http.Header{"X-Ratelimit-Limit-Tokens-Minute": {"60000"}, "X-Ratelimit-Remaining-Tokens-Minute": {"0"}, "X-Ratelimit-Reset-Tokens-Minute": {"11.5"}, "X-Ratelimit-Reset-Requests-Day": {"33011.382867097855"}},
			[]Quota{{"tokens per minute", 60000, 0, in(11500 * time.Millisecond)}},
			11500 * time.Millisecond,
		},
		"Okta": {
			nil,
			http.Header{"X-Rate-Limit-Limit": {"600"}, "X-Rate-Limit-Remaining": {"0"}, "X-Rate-Limit-Reset": {"1893456017"}},
			nil,
			17 * time.Second,
		},
		"a clock an hour ahead": {
			nil,
			http.Header{"Date": {"Tue, 01 Jan 2030 01:00:00 GMT"}, "Anthropic-Ratelimit-Tokens-Remaining": {"0"}, "Anthropic-Ratelimit-Tokens-Reset": {"2030-01-01T01:00:08Z"}},
			nil,
			8 * time.Second,
		},
		"IETF, draft 10, nothing used up": {
			[]QuotaFields{{Of: "requests", Left: "Ratelimit"}},
			http.Header{"Ratelimit": {`"daily";r=9;t=120, "burst";r=4;t=2`}},
			[]Quota{{"requests", 0, 4, time.Time{}}},
			2 * time.Second,
		},
	} {
		if got := ReadQuotas(nil, test.header, test.fields, now); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
		if hold, _ := QuotaReset(test.header, now); hold != test.hold {
			t.Errorf("%s: a 429 holds for %v, want %v", name, hold, test.hold)
		}
	}
}

// FuzzReadQuotas: whatever a response says, no quota is negative, and each is back within MaxHold.
func FuzzReadQuotas(f *testing.F) {
	f.Add("0", "6m0s", "60")
	f.Add(`"default";r=0;t=5`, "1893456020", "1e300")
	f.Add("-1", "99999999999", "1d2h")
	f.Add("0", "18446744073709551615", "-1")
	f.Fuzz(func(t *testing.T, left, reset, limit string) {
		now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		h := http.Header{"Left": {left}, "Reset": {reset}, "Limit": {limit}}
		for _, q := range ReadQuotas(nil, h, []QuotaFields{{"x", "Limit", "Left", "Reset"}, {"x", "", "Left", ""}}, now) {
			if q.Left < 0 || q.Limit < 0 || q.Left > math.MaxInt64/2 || !q.Back.IsZero() && (!q.Back.After(now) || q.Back.Sub(now) > MaxHold) {
				t.Errorf("%q, %q, %q: %+v", left, reset, limit, q)
			}
		}
	})
}

func BenchmarkReadQuotas(b *testing.B) {
	fields := []QuotaFields{
		{"requests", "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"},
		{"tokens", "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"},
		{"requests", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"},
	}
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, h := range map[string]http.Header{
		"none": {"Content-Type": {"application/json"}, "Date": {"x"}, "Content-Length": {"3"}},
		"both": {"X-Ratelimit-Remaining-Requests": {"59"}, "X-Ratelimit-Reset-Requests": {"1s"}, "X-Ratelimit-Limit-Requests": {"60"},
			"X-Ratelimit-Remaining-Tokens": {"149984"}, "X-Ratelimit-Reset-Tokens": {"6m0s"}, "X-Ratelimit-Limit-Tokens": {"150000"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var room [4]Quota
			for b.Loop() {
				ReadQuotas(room[:0], h, fields, now)
			}
		})
	}
}
