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
// now. A limit below 1 is none, as is -1 left of an unknown limit: Azure OpenAI and others state so
// what they do not count.
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
			var policy string
			if policy, q.Limit, q.Left, wait, ok = parseRateLimit(value); !ok {
				continue
			}
			if q.Limit == 0 {
				q.Limit = limitOf(policy, h["Ratelimit-Policy"])
			}
		} else {
			if q.Left, ok = parseAmount(value[0]); !ok {
				continue
			}
			known := false
			if limit := h[f.Limit]; len(limit) > 0 {
				q.Limit, known = parseAmount(limit[0])
			}
			if q.Limit == 0 && (known || value[0] == "-1") {
				continue
			}
			if q.Left == 0 {
				wait, _ = parseReset(strings.TrimSpace(h.Get(f.Reset)), serverTime(h, now))
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
func parseRateLimit(lines []string) (policy string, limit, left int64, reset time.Duration, ok bool) {
	var one rateLimit
	ends := func() {
		if one.stated && !one.none && (!ok || one.left < left || one.left == left && one.reset > reset) {
			policy, limit, left, reset, ok = one.name, one.limit, one.left, one.reset, true
		}
	}
	for _, line := range lines {
		for rest := line; rest != ""; {
			var member string
			member, rest = cutUnquoted(rest, ',')
			if name, parameters := cutUnquoted(member, ';'); parameters != "" {
				ends()
				one = rateLimit{name: strings.TrimSpace(name)}
				one.read(name) // draft 07: limit=100;w=60
				member = parameters
			}
			one.readAll(member)
		}
	}
	ends()
	return policy, limit, left, reset, ok
}

// limitOf returns the limit of a policy as the lines of a RateLimit-Policy field state it; 0: unknown.
func limitOf(policy string, lines []string) int64 {
	for _, line := range lines {
		for rest := line; rest != ""; {
			var member string
			member, rest = cutUnquoted(rest, ',')
			if name, parameters := cutUnquoted(member, ';'); strings.TrimSpace(name) == policy {
				var one rateLimit
				one.readAll(parameters)
				return one.limit
			}
		}
	}
	return 0
}

// A rateLimit is one policy of a RateLimit field.
type rateLimit struct {
	name        string // as the field has it; empty: none
	limit, left int64
	reset       time.Duration
	stated      bool // left is known
	none        bool // the limit is 0
}

// readAll takes the parameters of the policy.
func (p *rateLimit) readAll(parameters string) {
	for parameters != "" {
		var parameter string
		parameter, parameters = cutUnquoted(parameters, ';')
		p.read(parameter)
	}
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
		p.limit, p.none = n, n == 0
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
