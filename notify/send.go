package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// patience is how long a receiver may take for a notice.
const patience = 10 * time.Second

// A sender delivers notices to one URL. Its errors may show the URL.
type sender interface {
	send(ctx context.Context, n *Notice) error
}

// A target is where notices go.
type target struct {
	sender
	shown   string // may be shown to everybody
	secrets secrets
}

// newSender returns what delivers notices to a URL. Its errors do not show the URL.
func newSender(to string) (*target, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, errors.New("the URL cannot be read; characters such as % or a space in it must be escaped")
	}
	t := &target{shown: u.Scheme, secrets: secretsOf(u)}
	switch u.Scheme {
	case "":
		return nil, errors.New("the URL has no scheme; write https:// before it, or the scheme of a service, such as slack://")
	case "http", "https":
		if u.Hostname() == "" {
			return nil, errors.New("the URL has no host")
		}
		t.shown = u.Scheme + "://" + u.Host
		t.sender = newPoster(u)
		return t, nil
	}
	one, err := t.check(u)
	if err != nil {
		return nil, err
	}
	if s, ok := one.(*telegram.Service); ok {
		if t.sender, err = newBot(s); err != nil {
			return nil, errors.New("the URL has no token that Telegram would know")
		}
		return t, nil
	}
	name, _, _ := strings.Cut(u.Scheme, "+")
	t.sender = &service{to, slices.Contains(titled, name), make(chan struct{}, mostHanging)}
	return t, nil
}

// check returns the service of a URL, nil for one that making connects to, and what is wrong with the
// URL.
func (t *target) check(u *url.URL) (types.Service, error) {
	name, _, _ := strings.Cut(u.Scheme, "+")
	if _, err := new(router.ServiceRouter).NewService(name); err != nil {
		services := new(router.ServiceRouter).ListServices()
		return nil, fmt.Errorf("there is no service %q; use https://, http:// or one of %s", name, listedAll(services))
	}
	if name == "matrix" { // making it logs in
		if u.Host == "" {
			return nil, errors.New("the URL has no host")
		}
		return nil, nil
	}
	one, err := locate(u.String())
	if err != nil {
		return nil, fmt.Errorf("the URL is not complete for %s; shoutrrr's documentation has its form", name)
	}
	return one, nil
}

// A failure is why a notice was not delivered, as far as known.
type failure struct {
	final          bool          // to try it again is of no use
	mayHaveArrived bool          // the receiver may have got it
	after          time.Duration // how long the receiver asks to wait
}

// failureOf reads the error of a sender.
func failureOf(err error) failure {
	var f failure
	if s, ok := errors.AsType[*statusError](err); ok {
		f.after = s.after
		f.final = s.status < 500 && s.status != http.StatusRequestTimeout && s.status != http.StatusTooEarly && s.status != http.StatusTooManyRequests
	}
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	f.mayHaveArrived = ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errPartly)
	return f
}

// errPartly says that some of several people have got the notice.
var errPartly = errors.New("not all have got it")

// A statusError is a response that says that the receiver did not take a notice.
type statusError struct {
	status int
	after  time.Duration
}

// Error implements error.
func (e *statusError) Error() string { return fmt.Sprintf("status %d", e.status) }

// A poster posts JSON.
type poster struct {
	url    *url.URL
	client *http.Client
}

func newPoster(to *url.URL) *poster {
	return &poster{to, &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// send implements sender.
func (p *poster) send(ctx context.Context, n *Notice) error {
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encoding the notice: %w", err)
	}
	return p.post(ctx, body)
}

// post posts a body. It follows no redirects.
func (p *poster) post(ctx context.Context, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	r.Close = true // a notice is rare
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "caddy-failover")
	resp, err := p.client.Do(r)
	if err != nil {
		return fmt.Errorf("posting the notice: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode/100 == 2 {
		return nil
	}
	return &statusError{resp.StatusCode, retryAfter(resp.Header, time.Now())}
}

// retryAfter reads Retry-After (RFC 9110, section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// mostHanging is how many tries of a service may hang at the same time. The library offers no way to
// end one.
const mostHanging = 3

// titled are the services whose messages have a title.
var titled = []string{"bark", "discord", "gotify", "join", "ntfy", "opsgenie", "pushbullet", "pushover", "slack", "teams"}

// A service is one of shoutrrr's.
type service struct {
	url     string
	titled  bool
	hanging chan struct{} // has one for each try that has not returned
}

// send implements sender.
func (s *service) send(ctx context.Context, n *Notice) error {
	select {
	case s.hanging <- struct{}{}:
	default:
		return errHanging
	}
	result := make(chan error, 1)
	go func() {
		defer func() { <-s.hanging }()
		defer func() {
			if r := recover(); r != nil {
				result <- fmt.Errorf("the service panicked: %v", r)
			}
		}()
		one, err := locate(s.url) // of its own, since an earlier one may hang
		if err == nil {
			text, params := n.Text, types.Params{}
			if title, rest, ok := strings.Cut(text, "\n"); ok && s.titled {
				params.SetTitle(title)
				text = rest
			}
			err = one.Send(text, &params)
		}
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errHanging = errors.New("earlier tries have not returned")

// locate returns the service of a URL. Its errors may show the URL.
func locate(to string) (types.Service, error) { return new(router.ServiceRouter).Locate(to) }
