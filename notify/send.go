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

// sendTimeout is how long one try to send a notice may take.
const sendTimeout = 10 * time.Second

// A sender delivers notices to one URL. Its errors may show the URL.
type sender interface {
	send(ctx context.Context, n *Notice) error
}

// A target is a URL to which notices go.
type target struct {
	sender
	label   string // names it without secrets
	secrets secrets
}

// newTarget returns the target for a URL. Its errors do not show the URL.
func newTarget(to string) (*target, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, errors.New("the URL cannot be read; characters such as % or a space in it must be escaped")
	}
	t := &target{label: u.Scheme, secrets: secretsOf(u)}
	switch u.Scheme {
	case "":
		return nil, errors.New("the URL has no scheme; write https:// before it, or the scheme of a service, such as slack://")
	case "http", "https":
		if u.Hostname() == "" {
			return nil, errors.New("the URL has no host")
		}
		t.label = u.Scheme + "://" + u.Host
		t.sender = newPoster(u)
		return t, nil
	}
	one, err := serviceFor(u)
	if err != nil {
		return nil, err
	}
	if s, ok := one.(*telegram.Service); ok {
		if t.sender, err = newBot(s); err != nil {
			return nil, errors.New("the URL has no valid token for Telegram")
		}
		return t, nil
	}
	name, _, _ := strings.Cut(u.Scheme, "+")
	t.sender = &service{to, slices.Contains(titled, name), make(chan struct{}, maxHanging)}
	return t, nil
}

// serviceFor returns the service for a URL, or an error that does not show the URL. It returns nil
// for Matrix, because making that service connects to it.
func serviceFor(u *url.URL) (types.Service, error) {
	name, _, _ := strings.Cut(u.Scheme, "+")
	if _, err := new(router.ServiceRouter).NewService(name); err != nil {
		services := new(router.ServiceRouter).ListServices()
		return nil, fmt.Errorf("there is no service %q; use https://, http:// or one of %s", name, joinNames(services))
	}
	if name == "matrix" {
		if u.Host == "" {
			return nil, errors.New("the URL has no host")
		}
		return nil, nil
	}
	one, err := locate(u.String())
	if err != nil {
		return nil, fmt.Errorf("the URL is not complete for %s; see its form in shoutrrr's documentation", name)
	}
	return one, nil
}

// A failure says what an error of a sender means for another try.
type failure struct {
	final          bool          // another try is of no use
	mayHaveArrived bool          // the notice may have arrived
	retryAfter     time.Duration // how long the receiver asks to wait; 0: it does not ask
}

// failureOf returns the failure for the error of a sender.
func failureOf(err error) failure {
	var f failure
	if s, ok := errors.AsType[*statusError](err); ok {
		f.retryAfter = s.retryAfter
		f.final = s.status < 500 && s.status != http.StatusRequestTimeout && s.status != http.StatusTooEarly && s.status != http.StatusTooManyRequests
	}
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	f.mayHaveArrived = ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errPartly)
	return f
}

// errPartly means that the notice arrived at some of several chats.
var errPartly = errors.New("some chats have got it")

// A statusError is the error for a response whose status is not a success.
type statusError struct {
	status     int
	retryAfter time.Duration
}

// Error implements error.
func (e *statusError) Error() string {
	if e.status/100 == 3 {
		return fmt.Sprintf("status %d; redirects are not followed, so use the URL to which it leads", e.status)
	}
	return fmt.Sprintf("status %d", e.status)
}

// A poster posts JSON. It follows no redirects.
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

// post posts a body.
func (p *poster) post(ctx context.Context, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	r.Close = true // notices are rare
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

// retryAfter reads Retry-After (RFC 9110, section 10.2.3). It returns 0 without one.
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

// maxHanging is how many tries of a service may hang at the same time. The library cannot end a try.
const maxHanging = 3

// titled are the services whose messages have a title.
var titled = []string{"bark", "discord", "gotify", "join", "ntfy", "opsgenie", "pushbullet", "pushover", "slack", "teams"}

// A service sends messages through a service of shoutrrr.
type service struct {
	url    string
	titled bool
	tries  chan struct{} // has an element for each try that has not returned
}

// send implements sender.
func (s *service) send(ctx context.Context, n *Notice) error {
	select {
	case s.tries <- struct{}{}:
	default:
		return errHanging
	}
	result := make(chan error, 1)
	go func() {
		defer func() { <-s.tries }()
		defer func() {
			if r := recover(); r != nil {
				result <- fmt.Errorf("the service panicked: %v", r)
			}
		}()
		one, err := locate(s.url) // a new one, because an earlier one may hang
		if err == nil {
			text, params := noMentions.Replace(n.Text), types.Params{}
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

// noMentions breaks what chat services read as a mention, such as @everyone or <!channel>. A client's path or scope may contain it.
var noMentions = strings.NewReplacer("@", "@\u200b", "<", "<\u200b")

var errHanging = errors.New("earlier tries have not returned")

// locate returns the service for a URL. Its errors may show the URL.
func locate(to string) (types.Service, error) { return new(router.ServiceRouter).Locate(to) }
