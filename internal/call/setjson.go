package call

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/replay"
	"github.com/apifailover/caddy-failover/internal/target"
)

// prepareJSON reads the whole body of a call at a pool some of whose endpoints have
// it edited, and finds out whether it can be. The error is that of the body.
func (c *Call) prepareJSON(patience time.Duration) error {
	rec := c.body
	limit := c.Handler.Retry.Buffer
	if c.Request.ContentLength > limit {
		c.extra().unfit = tooLarge(limit)
		return nil
	}
	body, whole, err := rec.ReadAhead(patience)
	x := c.extra()
	switch {
	case err != nil:
		return err
	case !whole && rec.Lacks():
		x.unfit = &unfit{http.StatusServiceUnavailable, "there is no memory now for the request's body, which the endpoints of this API have edited"}
	case !whole:
		x.unfit = tooLarge(limit)
	case len(body) > 0:
		x.unfit = notAnObject(body)
	}
	if x.whole = x.unfit == nil && len(body) > 0; x.whole && c.Handler.Models {
		x.model = target.ModelIn(body)
	}
	return nil
}

// notAnObject says why a body cannot be edited; nil: it can.
func notAnObject(body []byte) *unfit {
	err := jsondoc.Check(body, jsondoc.MaxDepth)
	switch {
	case err == jsondoc.ErrDepth:
		return &unfit{http.StatusUnsupportedMediaType,
			fmt.Sprintf("the request's body is JSON that is nested more than %d deep, which the endpoints of this API do not take", jsondoc.MaxDepth)}
	case err != nil || !jsondoc.IsObject(body):
		return &unfit{http.StatusUnsupportedMediaType, "the request's body is not a JSON object, which the endpoints of this API need"}
	}
	return nil
}

func tooLarge(limit int64) *unfit {
	return &unfit{http.StatusRequestEntityTooLarge,
		fmt.Sprintf("the request's body is larger than %d bytes, which the endpoints of this API take at most", limit)}
}

// edit puts the body that goes to the attempt's endpoint into the request.
func (a *Attempt) edit(out *http.Request) *unfit {
	repl, _ := out.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if repl == nil {
		repl = caddy.NewReplacer()
	}
	body, err := a.Target.SetJSON(a.Call.body.Whole(), a.Call.model(), repl)
	if err != nil {
		return &unfit{http.StatusUnsupportedMediaType, err.Error()}
	}
	a.Call.body.Take(int64(len(body)))
	if _, ok := out.Header["Content-Length"]; ok {
		out.Header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	for _, digest := range [...]string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest"} {
		out.Header.Del(digest)
	}
	out.ContentLength, out.TransferEncoding = int64(len(body)), nil
	out.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) > replay.LargeWhole {
		s := &sending{at: new(atomic.Int64)}
		out.Body = replay.Counted(bytes.NewReader(body), s.at)
		a.sending.Store(s)
	}
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return nil
}
