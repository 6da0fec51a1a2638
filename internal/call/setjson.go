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

// prepareJSON reads the whole body of a call that some endpoint of the pool gets edited, and notes
// whether it can be edited. It returns only errors of reading.
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
		x.unfit = &unfit{http.StatusServiceUnavailable, "there is not enough memory now to edit the request's body for the endpoints of this API"}
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

// notAnObject returns why a body cannot be edited; nil: it can.
func notAnObject(body []byte) *unfit {
	err := jsondoc.Check(body, jsondoc.MaxDepth)
	switch {
	case err == jsondoc.ErrDepth:
		return &unfit{http.StatusUnsupportedMediaType,
			fmt.Sprintf("the request's body is JSON that is nested more than %d deep; the endpoints of this API take no such body", jsondoc.MaxDepth)}
	case err != nil || !jsondoc.IsObject(body):
		return &unfit{http.StatusUnsupportedMediaType, "the request's body is not a JSON object; the endpoints of this API need one"}
	}
	return nil
}

func tooLarge(limit int64) *unfit {
	return &unfit{http.StatusRequestEntityTooLarge,
		fmt.Sprintf("the request's body is larger than %d bytes; the endpoints of this API take no larger one", limit)}
}

// edit puts the body for the attempt's endpoint into the request. The result is not nil if the body
// cannot be edited.
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
