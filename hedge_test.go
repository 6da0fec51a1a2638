package failover

import (
	"strings"
	"testing"
)

func TestHedgeIsChecked(t *testing.T) {
	for _, test := range []struct{ options, want string }{
		{"hedge", "a value is missing"},
		{"hedge soon", "want a duration"},
		{"hedge p100", "want a quantile"},
		{"hedge p", "want a quantile"},
		{"hedge 50ms 5%", "want max"},
		{"hedge 50ms max 105%", "want 0% to 100%"},
		{"hedge p95 max 5% x", "unexpected argument"},
	} {
		_, err := tryAdapt("http://:0 {\nfailover {\nendpoint http://a:1\nretry {\n" + test.options + "\n}\n}\n}")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.options, err)
		}
	}
	for h, want := range map[*Hedge]string{
		{}:                                 "either a delay or a quantile",
		{After: 1, Quantile: 0.5}:          "either a delay or a quantile",
		{Quantile: 1}:                      "between 0 and 1",
		{After: -1}:                        "must not be negative",
		{After: 1, Max: new(float64(1.5))}: "max must be",
	} {
		if err := h.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}
