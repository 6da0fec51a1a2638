package endpoint

import "time"

// lost are the HTTP/2 connections that died since the latest success. All requests in flight on a
// connection fail with it, which is one failure. If a second connection dies and nothing has succeeded
// meanwhile, the endpoint is at fault, and each failure counts. HTTP/1 connections that had been idle count
// as one connection. The zero value has none.
type lost struct {
	n  int
	at time.Time // when the latest died
}

// isOne takes a failure of an attempt whose connection died. It reports whether the failure counts no
// more, because another one on the same connection has. served is the time of the latest success.
func (l *lost) isOne(t *Ticket, served, now time.Time) bool {
	if served.After(l.at) {
		l.n = 0
	}
	if !t.DiedAgain {
		l.n, l.at = l.n+1, now
	}
	return t.DiedAgain && l.n < 2
}
