package outcome

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// QuotaFields are the header fields, in canonical form, in which an API states a quota of Of. If
// Reset is empty, Left states all three, as in RateLimit (see parseRateLimit).
type QuotaFields struct{ Of, Limit, Left, Reset string }

// A Quota is a quota as a response states it.
type Quota struct {
	Of    string    // what it counts
	Limit int64     // 0: unknown
	Left  int64     // at least 0
	Back  time.Time // when a used-up quota is available again; zero: it is not used up, or unknown
}

// UsedUp reports whether nothing of the quota is left until Back.
func (q *Quota) UsedUp(now time.Time) bool { return q.Left == 0 && now.Before(q.Back) }

// ReadQuotas appends the quotas that a response states to list. Each Back is at most MaxHold from
// now.
func ReadQuotas(list []Quota, h http.Header, fields []QuotaFields, now time.Time) []Quota {
	for i := range fields {
		f := &fields[i]
		value, ok := h[f.Left]
		if !ok || len(value) == 0 {
			continue
		}
		q := Quota{Of: f.Of}
		var wait time.Duration
		if f.Reset == "" {
			if q.Limit, q.Left, wait, ok = parseRateLimit(value); !ok {
				continue
			}
		} else {
			if q.Left, ok = parseAmount(value[0]); !ok {
				continue
			}
			if limit := h[f.Limit]; len(limit) > 0 {
				q.Limit, _ = parseAmount(limit[0])
			}
			if q.Left == 0 {
				wait, _ = parseReset(strings.TrimSpace(h.Get(f.Reset)), now)
			}
		}
		if wait > 0 && q.Left == 0 {
			q.Back = now.Add(min(wait, MaxHold))
		}
		list = append(list, q)
	}
	return list
}

// parseAmount reads a number, rounded down and at least 0, or the first number of a list.
func parseAmount(value string) (int64, bool) {
	if n, err := strconv.ParseUint(value, 10, 53); err == nil {
		return int64(n), true
	}
	value, _, _ = strings.Cut(value, ",")
	value, _, _ = strings.Cut(value, ";")
	n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || n != n {
		return 0, false
	}
	return int64(max(0, min(n, 1<<53))), true
}

// parseRateLimit reads the lines of a RateLimit field: `"policy";r=0;t=5` or, as up to draft 07,
// `limit=100, remaining=0, reset=5`. Of several policies, the one with the least left counts. If several
// have that, the one that is back last counts.
// https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-10.txt
func parseRateLimit(lines []string) (limit, left int64, reset time.Duration, ok bool) {
	var one rateLimit
	ends := func() {
		if one.stated && (!ok || one.left < left || one.left == left && one.reset > reset) {
			limit, left, reset, ok = one.limit, one.left, one.reset, true
		}
	}
	for _, line := range lines {
		for rest := line; rest != ""; {
			var member string
			member, rest = cutUnquoted(rest, ',')
			if name, parameters := cutUnquoted(member, ';'); parameters != "" {
				ends()
				one = rateLimit{}
				one.read(name) // draft 07: limit=100;w=60
				member = parameters
			}
			for member != "" {
				var parameter string
				parameter, member = cutUnquoted(member, ';')
				one.read(parameter)
			}
		}
	}
	ends()
	return limit, left, reset, ok
}

// A rateLimit is one policy of a RateLimit field.
type rateLimit struct {
	limit, left int64
	reset       time.Duration
	stated      bool // left is known
}

// read takes a parameter of the policy.
func (p *rateLimit) read(parameter string) {
	name, text, _ := strings.Cut(strings.TrimSpace(parameter), "=")
	n, valid := parseAmount(text)
	if !valid {
		return
	}
	switch strings.ToLower(name) {
	case "limit", "q":
		p.limit = n
	case "remaining", "r":
		p.left, p.stated = n, true
	case "reset", "t":
		p.reset = time.Duration(min(n, int64(MaxHold/time.Second))) * time.Second
	}
}

// cutUnquoted cuts text at the first separator that is outside of quoted strings (RFC 9651, section
// 3.3.3).
func cutUnquoted(text string, separator byte) (before, after string) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == separator && !quoted:
			return text[:i], text[i+1:]
		}
	}
	return text, ""
}
