package command

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/api"
)

const (
	// responseTimeout is how long Caddy may take to start a response.
	responseTimeout = 30 * time.Second
	// maxBody is the maximum size of a response body, in bytes.
	maxBody = 64 << 20
	// sendTries is how often a client sends a request at most.
	sendTries = 3
)

// client is a client of Caddy's admin endpoint.
type client struct {
	ctx     context.Context
	address string // as the user gave it
	origin  string // scheme and host of request URLs
	network bool   // false means a Unix socket
	http    *http.Client
}

// newClient returns a client for a Caddy network address.
func newClient(ctx context.Context, address string) (*client, error) {
	if _, host, ok := strings.Cut(address, "://"); ok {
		return nil, fmt.Errorf("the admin address %q has a scheme: write %s", address, strings.TrimRight(host, "/"))
	}
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return nil, fmt.Errorf("reading the admin address %q: %w", address, err)
	}
	if parsed.PortRangeSize() > 1 {
		return nil, fmt.Errorf("the admin address %q has several ports", address)
	}
	if parsed.StartPort == 0 && !parsed.IsUnixNetwork() && !parsed.IsFdNetwork() {
		return nil, fmt.Errorf("the admin address %q has no port: write %s:2019", address, address)
	}
	if parsed.IsFdNetwork() {
		return nil, fmt.Errorf("the admin address %q is a file descriptor of Caddy's own; give another with --address", address)
	}
	if ctx == nil {
		ctx = context.Background()
	}
	c := &client{ctx: ctx, address: address, network: !parsed.IsUnixNetwork()}
	if c.network {
		c.origin = "http://" + parsed.JoinHostPort(0)
	} else {
		c.origin = "http://127.0.0.1"
		parsed.Host, _, _ = strings.Cut(parsed.Host, "|") // without the socket's permissions
	}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, parsed.Network, parsed.JoinHostPort(0))
		},
		ResponseHeaderTimeout: responseTimeout,
		DisableKeepAlives:     true, // a reload replaces the admin endpoint
	}}
	return c, nil
}

// send sends a request with body as JSON, or without a body if it is nil. header alternates names and
// values. It returns a commandError if the status is not a success. Otherwise the caller closes the
// response's body.
func (c *client) send(method, uri string, body any, header ...string) (*http.Response, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(c.ctx, method, c.origin+uri, bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	if c.network {
		req.Header.Set("Origin", c.origin) // the admin endpoint may enforce it
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	for tries := 1; tries < sendTries && dropped(err); tries++ {
		// A reload drops connections to the old admin endpoint. All requests may be repeated.
		req.Body, _ = req.GetBody()
		resp, err = c.http.Do(req)
	}
	if err != nil {
		if c.ctx.Err() != nil {
			return nil, c.ctx.Err()
		}
		return nil, &commandError{exitUnreachable, fmt.Errorf("no Caddy responds at %s: %w\n"+
			"is it running, with its admin endpoint on? --address or --config set another address", c.address, plainCause(err))}
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.statusError(resp)
}

// dropped reports whether an error says that the connection was closed before a response.
func dropped(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// plainCause returns an error of http.Client without its prefix, which repeats the request.
func plainCause(err error) error { return cmp.Or(errors.Unwrap(err), err) }

// statusError returns the error for a response whose status is not a success.
func (c *client) statusError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var body struct {
		Error string `json:"error"`
	}
	explained := json.Unmarshal(text, &body) == nil && body.Error != ""
	switch {
	case resp.StatusCode == http.StatusNotFound && explained:
		return &commandError{exitUnknown, errors.New(api.Printable(body.Error))}
	case resp.StatusCode == http.StatusNotFound:
		return &commandError{exitUnreachable, fmt.Errorf("%s is not the admin endpoint of a Caddy with the failover plugin", c.address)}
	case explained:
		return &commandError{exitRefused, errors.New(api.Printable(body.Error))}
	}
	return &commandError{exitRefused, fmt.Errorf("the Caddy at %s responded with %s", c.address, resp.Status)}
}

// exchange sends a request, decodes the response into into, and returns its text.
func (c *client) exchange(method, uri string, body, into any) (string, error) {
	resp, err := c.send(method, uri, body)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return "", &commandError{exitUnreachable, fmt.Errorf("reading the response of %s: %w", c.address, err)}
	}
	if err := json.Unmarshal(text, into); err != nil {
		return "", fmt.Errorf("reading the response of %s: %w", c.address, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// follow reads a stream that contains a status at each interval, and passes the text of each to take
// once. It ends when the stream ends or take returns an error.
func (c *client) follow(uri string, every time.Duration, take func(text string) error) error {
	resp, err := c.send(http.MethodGet, uri+"?"+url.Values{api.Every: {every.String()}}.Encode(), nil, "Accept", "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var takeErr error
	err = messages(resp.Body, func(m message) bool {
		if m.data != "" {
			takeErr = take(m.data)
		}
		return takeErr == nil
	})
	if takeErr != nil || c.ctx.Err() != nil {
		return takeErr
	}
	if err != nil {
		return &commandError{exitUnreachable, fmt.Errorf("reading the response of %s: %w", c.address, plainCause(err))}
	}
	return nil
}

// pause waits for d. It returns false at once if the command ends.
func (c *client) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// poolOf returns the first of args, or the name of the only pool if there are no args.
func (c *client) poolOf(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	var all []api.PoolStatus
	if _, err := c.exchange(http.MethodGet, api.Root+"pools", nil, &all); err != nil {
		return "", err
	}
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.Name
	}
	switch len(names) {
	case 0:
		return "", &commandError{exitUnknown, fmt.Errorf("the Caddy at %s has no pool", c.address)}
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("which pool? there are %s", api.ListNames(names))
}

// A message is one message of a stream of server-sent events.
type message struct{ name, id, data string }

// messages reads a stream of server-sent events until it ends or take returns false.
func messages(r io.Reader, take func(message) bool) error {
	var m message
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		if lines.Text() == "" {
			if (m.data != "" || m.id != "") && !take(m) {
				return nil
			}
			m = message{}
			continue
		}
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			m.name = value
		case "id":
			m.id = value
		case "data":
			m.data = value
		}
	}
	return lines.Err()
}
