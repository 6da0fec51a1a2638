package endpoint

import (
	"testing"
	"time"
)

// TestVerdicts checks when failures of unknown cause are taken for the fault of requests.
func TestVerdicts(t *testing.T) {
	const request, endpoint = true, false
	for name, test := range map[string]struct {
		found []bool
		after time.Duration
		want  bool
	}{
		"nothing is known":                {nil, 0, false},
		"four requests":                   {[]bool{request, request, request, request}, 0, false},
		"five requests":                   {[]bool{request, request, request, request, request}, 0, true},
		"some time ago":                   {[]bool{request, request, request, request, request}, 10 * time.Second, true},
		"long ago":                        {[]bool{request, request, request, request, request}, time.Minute, false},
		"the endpoint was to blame since": {[]bool{request, request, request, request, request, endpoint}, 0, false},
		"both in turns":                   {[]bool{request, endpoint, request, endpoint, request, endpoint, request}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			var v verdicts
			now := time.Now()
			for _, one := range test.found {
				v.add(one, now)
			}
			if got := v.requestsFail(now.Add(test.after)); got != test.want {
				t.Errorf("requests fail: %v, want %v", got, test.want)
			}
		})
	}
}
