package web

import (
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// actionField is a header that a form cannot send, and that a script of another site can only
// send after a preflight, which the page refuses.
const actionField = "Failover-Action"

// foreign says why a request for an action does not come from this page; "" means that it does.
// A browser names the page that sends a POST in Origin, and newer ones compare it with the
// destination in Sec-Fetch-Site. Scripts cannot set either field. Every browser sends Origin, so
// a request without it does not come from the page.
func foreign(r *http.Request) string {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	origins, sites := r.Header.Values("Origin"), r.Header.Values("Sec-Fetch-Site")
	switch {
	case err != nil || mediaType != "application/json":
		return "want Content-Type: application/json"
	case r.Header.Get(actionField) != "1":
		return "want " + actionField + ": 1"
	case len(sites) > 1 || len(sites) == 1 && sites[0] != "same-origin":
		return "the request comes from another site"
	case len(origins) != 1:
		return "want one Origin"
	}
	origin, err := url.Parse(origins[0])
	switch {
	case err != nil || origin.Host == "" || origin.User != nil || origin.Path != "" || origin.RawQuery != "":
		return "the request comes from another site"
	case !strings.EqualFold(origin.Host, r.Host):
		return "the request comes from another site"
	case origin.Scheme != "https" && (origin.Scheme != "http" || r.TLS != nil): // a proxy in front may have ended TLS
		return "the request comes from another site"
	}
	return ""
}
