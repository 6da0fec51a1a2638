package call

import "net/http"

// rewrite returns a copy of the request for the attempt's endpoint. It shares URL and headers with
// r if the endpoint does not change them. unfit is not nil if the endpoint cannot get the request.
func (a *Attempt) rewrite(r *http.Request) (*http.Request, *unfit) {
	t, c := a.Target, a.Call
	edits := t.EditsBody() && c.extras != nil && c.extras.whole
	strip := t.Strip && !c.Handler.StripsAll
	out := r.WithContext(a)
	if c.body != nil && r.Body != nil && !edits {
		a.sent = c.body.Send(out, a.Began)
	}
	if a.dial() != nil {
		a.direct(out, t.Scheme(r.URL))
	}
	if path := t.Path(r.URL, c.model()); path != r.URL {
		out.URL = path
	}
	if t.URL != nil {
		if a.hedge != nil || !c.Handler.Plain || !t.Keeps(out.URL) {
			out.URL = t.Join(out.URL)
		}
		out.Host = t.Host
	} else if a.race() != nil {
		own := *out.URL // the proxy's transport writes to it while the rival reads r's URL
		out.URL = &own
	}
	if strip && out.URL.RawQuery != "" {
		if query := c.withoutCredentials(out.URL.RawQuery); query != out.URL.RawQuery {
			clean := *out.URL
			clean.RawQuery = query
			out.URL = &clean
		}
	}
	if strip || t.Headers != nil || c.Handler.Looks || edits || c.traced {
		out.Header = r.Header.Clone()
		if c.Handler.Looks {
			readable(out.Header)
		}
		if strip {
			c.Handler.Screen.HeaderOf(c.ownCredentials(), out.Header)
		}
		if c.traced {
			a.propagate(out.Header)
		}
		if t.Headers != nil {
			t.Headers.ApplyToRequest(out)
		}
	}
	if edits {
		return out, a.edit(out)
	}
	return out, nil
}

// ownCredentials returns the credentials that the client itself sent, without those that
// header_up sets.
func (c *Call) ownCredentials() http.Header {
	if c.extras == nil {
		return nil
	}
	return c.extras.own
}
